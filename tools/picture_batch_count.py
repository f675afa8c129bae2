"""One click on Run with batch count 3 and a seed that moves, in a browser, as a picture: `python tools/picture_batch_count.py`.

Writes docs/browser_batch_count.png: text to 4D while the first prompt runs and two wait. Needs Chromium and playwright.
"""

import io
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "web"), str(ROOT / "tests" / "host")]

import browser  # noqa: E402
import demo_workflows as demo  # noqa: E402
import host  # noqa: E402
import real_host  # noqa: E402
import workflow_page  # noqa: E402
from PIL import Image  # noqa: E402

COUNT, HOUR, COLOURS = 3, 3600.0, 128
STEPS = dict(zip((*demo.STAGES, "Polish"), (45, 8, 24, 8)))


def small() -> dict:
    """Fewer and smaller steps, the shipped prior, and a seed of stage 1 that grows by one with each prompt."""
    changes = demo.smoke_changes(demo.load("text_to_4d_demo"))
    changes |= {title: {"width": 32, "height": 32} for title in demo.of_class(demo.load("text_to_4d_demo"), "Bloom4DMultiViewGuidance")}
    changes |= {title: {**changes[title], "steps": steps} for title, steps in STEPS.items()}
    changes[demo.STAGES[0]] |= {"control_after_generate": "increment"}
    return {**changes, "Prior": {"prior": "embedded_prior.safetensors"}, "Renderer": {}, "Fine renderer": {}, "Render": {"width": 128, "height": 128}}


def take(page) -> Image.Image:
    """While the first prompt runs and two wait."""
    workflow_page.open_workflow(page, "text_to_4d_demo", small())
    workflow_page.set_batch_count(page, COUNT)
    workflow_page.look_at(page, demo.STAGES[0], 0.8)
    workflow_page.press_run(page)
    workflow_page.wait_for_preview(page, demo.STAGES[0], HOUR)
    return Image.open(io.BytesIO(page.screenshot()))


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        server = real_host.start(host.tree(), real_host.prepare_base(Path(folder) / "base", ROOT))
        try:
            with browser.open_page(server.url, Path(folder) / "profile") as page:
                page.set_viewport_size({"width": 1500, "height": 900})
                picture = take(page)
        finally:
            server.host.stop()
    target = ROOT / "docs" / "browser_batch_count.png"
    picture.convert("RGB").quantize(COLOURS).save(target, optimize=True)
    print(target.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
