"""Preview 4D in a run: what the node gives is seen, a sent view reaches the host's own renderer, and what an optimiser makes is seen forming."""

import browser
import pytest
import viewer_page as vp

LONG = 240  # seconds; shared machines are slow
OUTPUT = "id => window.app.nodeOutputs[id]?.images?.[0].filename"


def prompt(steps: int) -> dict:
    """Toy Motion into a viewer and on into the host's Render Splat; its pictures into a construction with a viewer of its own."""
    toy = {"motion": "swing", "parts": 24, "bands": False, "speed": 1.0, "seed": 3, "times": 6, "views": 4, "azimuth": 0.0, "elevation": 15.0, "size": 32}
    fit = {"images": ["1", 1], "mask": ["1", 2], "cameras": ["1", 3], "coarse": steps, "fine": steps, "initial_gaussians": 150, "max_gaussians": 300, "filename_prefix": "viewer_run"}
    render = {"splat": ["5", 0], "camera_info": ["3", 1], "width": 64, "height": 64, "frames": 1, "splat_scale": 1.0, "sharpen": 1.0, "headlight_shading": 0.0,
              "opacity_threshold": 0.0, "render_style": "color", "background": "#000000"}  # fmt: skip
    nodes = {"1": ("Bloom4DToyMotion", toy), "2": ("Bloom4DGaussiansFromOrbitVideo", fit), "3": (vp.NODE, {"gaussians": ["1", 0], "fps": 8, "megabytes": 64}),
             "4": (vp.NODE, {"gaussians": ["2", 0], "fps": 8, "megabytes": 64}), "5": ("Bloom4DGaussiansToSplat", {"gaussians": ["3", 0], "frames": 1}),
             "6": ("RenderSplat", render), "7": ("PreviewImage", {"images": ["6", 0]})}  # fmt: skip
    return {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()}


@pytest.fixture(scope="module")
def run(page):
    """The page after the run; it kept what it heard of forming objects."""
    page.problems.clear()
    page.evaluate("prompt => window.app.loadApiJson(prompt, 'run')", prompt(40))
    page.evaluate("""() => { window.formed = []; window.app.api.addEventListener('bloom4d.forming', event => window.formed.push(event.detail));
        for (const node of window.app.rootGraph.nodes) for (const widget of node.widgets ?? []) if (widget.name === 'control_after_generate') widget.value = 'fixed';
        window.app.rootGraph.nodes.filter(node => node.bloom4dViewer).forEach((node, index) => { node.pos = [index * 480, 0]; node.setSize([460, 560]); });
        window.app.rootGraph.nodes.filter(node => !node.bloom4dViewer).forEach((node, index) => { node.pos = [index * 400, 900]; }); }""")
    vp.look(page)
    ended, detail = browser.queue(page, 1000 * LONG)
    assert ended == "execution_success", detail
    return page


def viewers(page) -> list:
    return [vp.View(page, index).wait() for index in range(2)]


def test_both_objects_are_seen_and_described(run):
    for view, words in zip(viewers(run), ("24 Gaussians, 6 times", "Gaussians, 16 times")):
        assert vp.coloured(view.pixels()) > 0.02 and words in view.root.locator(".b4d-note").inner_text()


def test_the_construction_was_seen_forming_in_its_viewer_alone(run):
    formed = run.evaluate("() => window.formed")
    assert formed and all(detail["viewers"] == ["4"] for detail in formed)
    assert run.request.get(f"{run.url.split('#')[0]}view?filename={formed[-1]['file']['filename']}&subfolder=bloom4d&type=temp").ok


def test_a_sent_view_reaches_the_hosts_renderer_and_runs_nothing_else_again(run):
    front = run.evaluate(OUTPUT, "7")
    run.evaluate("() => { window.ran = []; window.app.api.addEventListener('executing', event => event.detail && window.ran.push(String(event.detail))); }")
    view = vp.View(run, 0).wait()
    view.drag(90, 0)
    assert browser.queue(run, 1000 * LONG)[0] == "execution_success"
    assert run.evaluate(OUTPUT, "7") == front and run.evaluate("() => window.ran") == [], "looking around changes nothing"
    view.press("Send this view")
    assert browser.queue(run, 1000 * LONG)[0] == "execution_success"
    assert run.evaluate(OUTPUT, "7") != front
    assert {"1", "2"}.isdisjoint(run.evaluate("() => window.ran")) and run.problems == []
