"""What Save 4D writes, in the host's own Preview 3D & Animation: it plays, and the files dropped on the canvas open their graph."""

import io

import browser
import numpy
import pytest
import workflow_page
from PIL import Image

LONG = 240  # seconds; shared machines are slow
MODES = ("morph", "stepped")
SHARES = (0.02, 0.4, 0.85)
# left of where a side panel lies that an earlier test left open
PLACE = """() => { const places = { Object: [0, 0], Save: [360, 0], Preview: [820, 0] };
    for (const node of window.app.rootGraph.nodes) { node.pos = places[node.title]; if (node.title === 'Preview') node.setSize([440, 500]); }
    window.app.canvas.ds.scale = 0.92; window.app.canvas.ds.offset = [-330, 130]; window.app.canvas.setDirty(true, true); }"""
QUIET = """() => new Promise(resolve => { let timer = setTimeout(resolve, 1000); setTimeout(resolve, 30000);
    new MutationObserver(() => { clearTimeout(timer); timer = setTimeout(resolve, 1000); }).observe(document.body, { childList: true, subtree: true }); })"""


def prompt(mode: str) -> dict:
    """A candle that burns down, saved and previewed."""
    thing = {"phenomenon": "candle burning", "species": "any", "colour": "red", "seed": 5, "times": 5, "views": 1, "azimuth": 0.0, "elevation": 15.0, "size": 32}
    save = {"filename_prefix": f"bloom4d/browser_{mode}", "master": True, "ply": False, "spz": False, "glb": True, "viewer": False, "fps": 5.0, "glb_mode": mode, "spz_axes": "Y up", "mesh": ["1", 2]}
    return {
        "1": {"class_type": "Bloom4DProcedural4DObject", "inputs": thing, "_meta": {"title": "Object"}},
        "2": {"class_type": "Bloom4DSave4D", "inputs": save, "_meta": {"title": "Save"}},
        "3": {"class_type": "Preview3D", "inputs": {"model_file": ["2", 1]}, "_meta": {"title": "Preview"}},
    }  # fmt: skip


def opened(page, mode: str):
    """The graph on the page, its nodes side by side."""
    page.evaluate("prompt => window.app.loadApiJson(prompt, 'preview')", prompt(mode))
    page.evaluate(PLACE)


def seek(page, share: float) -> str:
    """Click into the time slider until the clock stands there, as a busy page may miss a click; the words beside it."""
    box = page.locator('[role="slider"]').first.locator("xpath=ancestor::span[@data-orientation][last()]").bounding_box()
    clock = ""
    for _ in range(20):
        page.mouse.click(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
        page.wait_for_timeout(1200)  # drawn by software
        clock = page.get_by_text("s / ").first.inner_text()
        now, whole = (float(part.strip().rstrip("s")) for part in clock.split("/"))
        if abs(now / whole - share) < 0.15:
            break
    return clock


def red(page, path) -> numpy.ndarray:
    """Which pixels of the 3D view show the candle's wax."""
    box = page.locator("canvas").last.bounding_box()
    shot = page.screenshot(path=str(path), clip={"x": box["x"], "y": box["y"] + 80, "width": box["width"], "height": box["height"] - 150})
    pixels = numpy.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)
    return pixels[..., 0] > pixels[..., 1:].max(-1) + 60


def play(page, mode: str, pictures) -> dict:
    """Run the graph on the page, then move through time: what was queued, the files, the clock and the wax at three times."""
    opened(page, mode)
    queued = workflow_page.queued_prompt(page)
    workflow_page.press_run(page)
    assert workflow_page.wait_for_end(page, LONG) == "execution_success", page.evaluate("() => window.bloomSeen.text")
    page.locator('[role="slider"]').first.wait_for(timeout=LONG * 1000)
    page.wait_for_timeout(1200)
    clocks, wax = [], []
    for share in SHARES:
        clocks.append(seek(page, share))
        page.screenshot(path=str(pictures / f"glb_{mode}_{len(wax)}.png"))
        wax.append(red(page, pictures / f"glb_{mode}_{len(wax)}_view.png"))
    return {"queued": queued, "clocks": clocks, "wax": wax}


@pytest.fixture(scope="module")
def played(page, server, pictures):
    """How both kinds of GLB played."""
    page.problems.clear()
    return {mode: play(page, mode, pictures) for mode in MODES}


@pytest.mark.parametrize("mode", MODES)
def test_the_glb_plays_in_the_hosts_preview(page, played, mode):
    clocks, wax = played[mode]["clocks"], played[mode]["wax"]
    assert page.problems == [] and len(set(clocks)) == 3, clocks
    sizes = [int(part.sum()) for part in wax]
    assert sizes[0] > 1.3 * sizes[2] > 1000, f"the candle does not burn down: {sizes} pixels of wax"
    assert all((one != other).mean() > 0.005 for one, other in zip(wax, wax[1:])), "two times look the same"


def test_dropped_files_open_the_graph_that_made_them(page, played, server, tmp_path):
    folder = server.base / "output" / "bloom4d"
    files = {"morph": folder / "browser_morph_00001_.glb", "stepped": folder / "browser_stepped_00001_.bloom4d.safetensors"}
    with browser.fresh_page(page, server.url, tmp_path / "profile") as fresh:
        fresh.wait_for_load_state("networkidle")
        fresh.evaluate(QUIET)
        for mode, path in files.items():
            workflow_page.drop(fresh, path)
            fresh.wait_for_function("mode => window.app.rootGraph.nodes.some(node => node.widgets?.some(widget => widget.value === mode))", arg=mode, timeout=LONG * 1000)
            assert workflow_page.queued_prompt(fresh) == played[mode]["queued"]
            fresh.evaluate(QUIET)
        assert fresh.problems == [] and workflow_page.unknown_nodes(fresh) == []
