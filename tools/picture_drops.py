"""Pictures of files that were dropped into a fresh browser: `python tools/picture_drops.py` writes docs/browser_drop_KIND.png.

Text to 4D is run at smoke size in a browser; its mesh, field and video are each dropped into another browser that shares
nothing with that one. Needs Chromium and playwright.
"""

import io
import shutil
import sys
import tempfile
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
    """The page after the file was dropped, in 256 colours."""
    workflow_page.drop(page, file)
    page.wait_for_function("() => window.app.rootGraph.nodes.some(node => node.title === 'Prior')", timeout=HOUR * 1000)
    workflow_page.look_at(page, "Prior", SCALE)
    page.wait_for_timeout(2000)
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)


def main() -> int:
    pack.load_pack()
    with tempfile.TemporaryDirectory() as folder:
        server = real_host.start(host.tree(), real_host.prepare_base(Path(folder) / "base", ROOT))
        demo.give_prior(server.base)
        try:
            with browser.open_page(server.url, Path(folder) / "profile") as page:
                for file in made(page, server.base, Path(folder)):
                    target = ROOT / "docs" / f"browser_drop_{file.suffix[1:]}.png"
                    with browser.fresh_page(page, server.url, Path(folder) / file.stem) as fresh:
                        picture(fresh, file).save(target, optimize=True)
                        print(target.relative_to(ROOT), flush=True)
        finally:
            server.host.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
