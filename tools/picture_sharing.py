"""Pictures of what somebody sees who got a file of ours: `python tools/picture_sharing.py [drops | missing]`.

drops: text to 4D is run at smoke size in a browser; its mesh, field and video are each dropped into another browser that
shares nothing with that one (docs/browser_drop_KIND.png). missing: the shipped workflow in a ComfyUI without the pack
(docs/browser_missing_pack.png). Needs Chromium and playwright.
"""

import argparse
import io
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "web"), str(ROOT / "tests" / "host")]

import browser  # noqa: E402
import demo_workflows as demo  # noqa: E402
import host  # noqa: E402
import pack  # noqa: E402
import real_host  # noqa: E402
import workflow_page  # noqa: E402
from PIL import Image  # noqa: E402

HOUR = 3600.0
KINDS = {"Save mesh": "mesh.glb", "Save field": "field.safetensors", "Save video": "video.mp4"}
"""What saves a file, and the name under which it is dropped: the tab shows it."""
NAME, SCALE = "text_to_4d_demo", 0.66  # at which values can be read
CHANGED = {"Prompt": {"text": "a white daisy blooming"}, "Field": {"seed": 53}}


def made(page, base: Path, folder: Path) -> list[Path]:
    """The files of a run at smoke size whose prompt and seed are not the shipped ones."""
    workflow_page.open_workflow(page, NAME, {**demo.smoke_changes(demo.load(NAME)), **CHANGED})
    workflow_page.press_run(page)
    assert workflow_page.wait_for_end(page, HOUR) == "execution_success"
    return [Path(shutil.copy(workflow_page.saved_file(page, base, title), folder / name)) for title, name in KINDS.items()]


def picture(page, file: Path) -> Image.Image:
    """The page after the file was dropped."""
    workflow_page.drop(page, file)
    page.wait_for_function("() => window.app.rootGraph.nodes.some(node => node.title === 'Prior')", timeout=HOUR * 1000)
    return look(page)


def look(page) -> Image.Image:
    """The page around the loader, in 256 colours."""
    workflow_page.look_at(page, "Prior", SCALE)
    page.wait_for_timeout(2000)
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)


def write(image: Image.Image, name: str):
    image.save(ROOT / "docs" / f"browser_{name}.png", optimize=True)
    print(f"docs/browser_{name}.png", flush=True)


@contextmanager
def opened(folder: Path, pack_folder: Path | None, ready: str):
    """(server, page) of a host of its own, with or without the pack."""
    server = real_host.start(host.tree(), real_host.prepare_base(folder / "base", pack_folder))
    try:
        with browser.open_page(server.url, folder / "profile", ready) as page:
            yield server, page
    finally:
        server.host.stop()


def drops(folder: Path):
    with opened(folder, ROOT, browser.READY) as (server, page):
        demo.give_prior(server.base)
        page.reload()  # it has listed the priors already
        page.wait_for_function(browser.READY)
        for file in made(page, server.base, folder):
            with browser.fresh_page(page, server.url, folder / file.stem) as fresh:
                write(picture(fresh, file), f"drop_{file.suffix[1:]}")


def missing(folder: Path):
    with opened(folder, None, browser.FRONTEND) as (_, page):
        workflow_page.open_workflow(page, NAME)
        page.locator('[data-testid="error-overlay-see-errors"]').click()
        page.locator('[data-testid="missing-node-card"]').wait_for()
        write(look(page), "missing_pack")


PICTURES = {"drops": drops, "missing": missing}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(PICTURES), help=f"which (default all: {', '.join(PICTURES)})")
    pack.load_pack()
    for name in parser.parse_args().names:
        with tempfile.TemporaryDirectory() as folder:
            PICTURES[name](Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
