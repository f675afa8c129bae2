"""Run the shipped workflows at full size in a browser and take their pictures: `python tools/picture_workflows.py [NAME ...]`.

Writes workflows/NAME.jpg (the card that ComfyUI shows), docs/browser_NAME_result.png and, of the long one,
docs/browser_NAME_running.png. Needs Chromium and playwright. With --video the card alone is made, from what a run has saved; the
card of a graph with real models, which nobody has run here, is its demo's with words that say so.
"""

import argparse
import io
import shutil
import sys
import tempfile
import urllib.parse
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "web"), str(ROOT / "tests" / "host")]

import av  # noqa: E402
import browser  # noqa: E402
import demo_workflows as demo  # noqa: E402
import host  # noqa: E402
import real_host  # noqa: E402
import workflow_page  # noqa: E402
from PIL import Image, ImageDraw  # noqa: E402

HOUR = 3600.0
CARD = 512
WATCHED = {"text_to_4d_demo": "Optimize stage 3"}
"""The node whose preview is waited for, where a run takes long enough for a picture of it."""
SHOWN = {"text_to_4d_demo": ("Fine renderer", 0.62), "embedded_prior_sampling_demo": ("Image: empty", 0.36), "four_d_metrics_demo": ("Measure: another object", 0.72), "orbit_video_to_4d_gaussians_demo": ("Construct", 0.5), "text_to_4d_gaussians_demo": ("Gaussians", 0.5), "text_to_4d_4dfy_demo": ("Optimize stage 3", 0.7), "text_to_4d_dream_in_4d_demo": ("Optimize stage 2", 0.7), "reanimate_4d_demo": ("Optimize stage 2", 0.7), "image_to_4d_demo": ("Optimize stage 2", 0.7), "personalised_4d_demo": ("Optimize stage 2", 0.7)}
"""The node that the picture of the result begins with, and its scale."""
CARDS = {
    "text_to_4d_demo": ("Save video",),
    "embedded_prior_sampling_demo": ("Image: save", "Views: save", "Clip: save", "What follows: save"),
    "four_d_metrics_demo": ("Save plot",),
    "orbit_video_to_4d_gaussians_demo": ("Save video",),
    "text_to_4d_gaussians_demo": ("Save video",),
    "text_to_4d_4dfy_demo": ("Save video",),
    "text_to_4d_dream_in_4d_demo": ("Save video",),
    "reanimate_4d_demo": ("Save video",),
    "image_to_4d_demo": ("Save video",),
    "personalised_4d_demo": ("Save video",),
}
"""Nodes whose pictures become the card: four of a single one, else one of each."""
CORNERS = {"four_d_metrics_demo": 800}
"""Pixels of the square in the upper left corner that becomes the card where one large picture is saved."""


def pictures_of(page, url: str, title: str) -> list[Image.Image]:
    """What a node saved, as pictures; all frames of a video."""
    entries = page.evaluate(f"title => {{ {workflow_page.FIND} return window.app.nodeOutputs[find(title).id].images; }}", title)
    found = []
    for entry in entries:
        query = urllib.parse.urlencode({key: entry[key] for key in ("filename", "subfolder", "type")})
        content = io.BytesIO(page.request.get(f"{url}/view?{query}").body())
        found += frames(content) if entry["filename"].endswith(".mp4") else [Image.open(content).convert("RGB")]
    return found


def frames(content: io.BytesIO) -> list[Image.Image]:
    with av.open(content) as container:
        return [frame.to_image() for frame in container.decode(video=0)]


def spread(pictures: list, count: int) -> list:
    """`count` of them, evenly, the last one included."""
    return [pictures[round((place + 1) * len(pictures) / count) - 1] for place in range(count)]


def card(pictures: list[Image.Image]) -> Image.Image:
    """Four pictures in a square."""
    half, sheet = CARD // 2, Image.new("RGB", (CARD, CARD), "white")
    for place, picture in enumerate(pictures):
        sheet.paste(picture.resize((half, half), Image.LANCZOS), (place % 2 * half, place // 2 * half))
    return sheet


def written(name: str, picture: Image.Image):
    """Save a card, and that of the graph on real models where the workflow has such a twin."""
    picture.save(ROOT / "workflows" / f"{name}.jpg", quality=88)
    print(f"workflows/{name}.jpg", flush=True)
    twin = name.removesuffix("_demo")
    if twin in demo.REAL:
        real = picture.convert("L").convert("RGB")
        ImageDraw.Draw(real).rectangle((0, CARD - 92, CARD, CARD), fill=(58, 80, 104))
        words = ImageDraw.Draw(real)
        words.text((16, CARD - 82), "The same graph on real models", fill="white", font_size=28)
        words.text((16, CARD - 42), "the pictures are the demo's; files in its note", fill="white", font_size=20)
        real.save(ROOT / "workflows" / f"{twin}.jpg", quality=88)
        print(f"workflows/{twin}.jpg", flush=True)


def corner(picture: Image.Image, side: int) -> Image.Image:
    """The upper left corner as a card."""
    sheet = Image.new("RGB", (side, side), "white")
    sheet.paste(picture)
    return sheet.resize((CARD, CARD), Image.LANCZOS)


def picture_while_running(page, name: str):
    """Half-way through the watched stage."""
    title = WATCHED[name]
    half = demo.load(name)[demo.titled(demo.load(name), title)]["inputs"]["steps"] // 2
    workflow_page.look_at(page, title, 0.9)
    workflow_page.wait_for_step(page, title, half, HOUR)
    workflow_page.wait_for_preview(page, title, HOUR)
    page.screenshot(path=str(ROOT / "docs" / f"browser_{name}_running.png"))


def take(page, url: str, name: str, changes: dict):
    """Run one workflow and write its pictures."""
    titles = CARDS[name]
    workflow_page.open_workflow(page, name, changes)
    workflow_page.press_run(page)
    if name in WATCHED:
        picture_while_running(page, name)
    assert workflow_page.wait_for_end(page, HOUR) == "execution_success"
    workflow_page.look_at(page, *SHOWN[name])
    page.wait_for_timeout(3000)
    page.screenshot(path=str(ROOT / "docs" / f"browser_{name}_result.png"))
    if name in CORNERS:
        picture = corner(pictures_of(page, url, titles[0])[0], CORNERS[name])
    else:
        picture = card([picture for title in titles for picture in spread(pictures_of(page, url, title), 4 // len(titles))])
    written(name, picture)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(CARDS), help=f"workflows (default all: {', '.join(CARDS)})")
    parser.add_argument("--prior", type=Path, help="a prior file to use instead of the shipped one")
    parser.add_argument("--video", type=Path, help="make the card of the one named workflow from this video instead of running it")
    options = parser.parse_args()
    if options.video:
        name, = options.names
        written(name, card(spread(frames(io.BytesIO(options.video.read_bytes())), 4)))
        return 0
    changes = {"Prior": {"prior": options.prior.name}} if options.prior else {}
    with tempfile.TemporaryDirectory() as folder:
        base = real_host.prepare_base(Path(folder) / "base", ROOT)
        if options.prior:
            (base / "models" / "bloom4d").mkdir(parents=True)
            shutil.copy(options.prior, base / "models" / "bloom4d")
        server = real_host.start(host.tree(), base, ["--preview-method", "latent2rgb"])
        try:
            with browser.open_page(server.url, Path(folder) / "profile") as page:
                page.set_viewport_size({"width": 1600, "height": 1000})
                for name in options.names:
                    assert name in demo.NAMES
                    take(page, server.url, name, changes)
        finally:
            server.host.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
