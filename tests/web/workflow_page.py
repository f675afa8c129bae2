"""Shipped workflows on the frontend's page: open, change, run, look."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
RUN, CANCEL = '[data-testid="queue-button"]', 'button[aria-label="Cancel current run"]'
BATCH_COUNT = 'input[aria-label="Batch Count"]'

FIND = "const find = title => window.app.rootGraph.nodes.find(node => node.title === title);"
CHANGE = f"""changes => {{ {FIND} for (const [title, inputs] of Object.entries(changes))
    for (const [name, value] of Object.entries(inputs)) find(title).widgets.find(widget => widget.name === name).value = value; }}"""
CENTER = f"""([title, scale]) => {{ {FIND} const node = find(title), view = window.app.canvas.ds; view.scale = scale;
    view.offset = [340 / scale - node.pos[0], 130 / scale - node.pos[1]]; window.app.canvas.setDirty(true, true); }}"""
WATCH = """() => { window.bloomSeen = { steps: {}, end: '', text: '', ends: [] };
    if (window.bloomWatches) return;
    window.bloomWatches = true;
    const ends = ['execution_success', 'execution_error', 'execution_interrupted'];
    for (const kind of ends) window.app.api.addEventListener(kind, event => {
        window.bloomSeen.end = kind; window.bloomSeen.ends.push(kind); window.bloomSeen.text = event.detail?.exception_message ?? ''; });
    window.app.api.addEventListener('progress_state', event => {
        for (const [id, state] of Object.entries(event.detail.nodes)) {
            const told = (window.bloomSeen.steps[id] ??= []);
            if (state.value > 0 && told.at(-1) !== state.value) told.push(state.value); } }); }"""
HAS_PREVIEW = f"title => {{ {FIND} return (window.app.nodePreviewImages[find(title).id] ?? []).length > 0 && find(title).imgs?.length > 0; }}"

QUIET = """() => new Promise(resolve => { let timer = setTimeout(resolve, 1000); setTimeout(resolve, 30000);
    new MutationObserver(() => { clearTimeout(timer); timer = setTimeout(resolve, 1000); }).observe(document.body, { childList: true, subtree: true }); })"""


def settle(page):
    """Wait until a fresh page has stopped drawing its first graph: the frontend stumbles over a change in the middle of that."""
    page.wait_for_load_state("networkidle")
    page.evaluate(QUIET)


def read(name: str) -> dict:
    """A shipped workflow in the browser's format."""
    return json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))


def open_workflow(page, name: str, changes: dict | None = None):
    """Load it as a user does, then set {title: {widget: value}}."""
    page.evaluate("workflow => window.app.loadGraphData(workflow, true, true, 'shipped')", read(name))
    page.evaluate(CHANGE, changes or {})


def set_batch_count(page, count: int):
    """As a user types it beside Run."""
    page.locator(BATCH_COUNT).fill(str(count))
    page.locator(BATCH_COUNT).press("Enter")
    assert page.locator(BATCH_COUNT).input_value() == str(count)


def press_run(page):
    """Watch the run that the Run button starts."""
    page.evaluate(WATCH)
    page.locator(RUN).click()


def wait_for_end(page, seconds: float) -> str:
    """How the run ended: execution_success, execution_error or execution_interrupted."""
    page.wait_for_function("() => window.bloomSeen.end", timeout=seconds * 1000)
    return page.evaluate("() => window.bloomSeen.end")


def wait_for_ends(page, count: int, seconds: float):
    """Wait until so many queued prompts have ended."""
    page.wait_for_function("count => window.bloomSeen.ends.length >= count", arg=count, timeout=seconds * 1000)


def wait_for_preview(page, title: str, seconds: float):
    page.wait_for_function(HAS_PREVIEW, arg=title, timeout=seconds * 1000)


def wait_for_step(page, title: str, step: int, seconds: float):
    page.wait_for_function(f"([title, step]) => {{ {FIND} return window.bloomSeen.steps[find(title).id]?.at(-1) >= step; }}", arg=[title, step], timeout=seconds * 1000)


def steps(page, title: str) -> list[int]:
    """The steps that the page heard of, in order."""
    return page.evaluate(f"title => {{ {FIND} return window.bloomSeen.steps[find(title).id] ?? []; }}", title)


def look_at(page, title: str, scale: float = 0.9):
    """Bring a node to the upper left of the view and let it be drawn."""
    page.evaluate(CENTER, [title, scale])
    page.wait_for_timeout(700)


def unknown_nodes(page) -> list[str]:
    """Types of nodes that the page does not have."""
    return page.evaluate("() => window.app.rootGraph.nodes.map(node => node.type).filter(type => !(type in window.LiteGraph.registered_node_types))")


def picture_area(page, title: str) -> dict:
    """Where the page draws the picture below a node's widgets: x, y, width, height on the screen."""
    return page.evaluate(f"""title => {{ {FIND} const node = find(title), view = window.app.canvas.ds, last = node.widgets?.at(-1);
        const top = last ? last.last_y + 30 : 40, frame = window.app.canvas.canvas.getBoundingClientRect();
        return {{ x: frame.x + (node.pos[0] + view.offset[0] + 4) * view.scale, y: frame.y + (node.pos[1] + view.offset[1] + top) * view.scale,
                  width: (node.size[0] - 8) * view.scale, height: (node.size[1] - top) * view.scale }}; }}""", title)


def drop(page, path: Path):
    """Drop a file onto the canvas, as the browser itself describes it (name and type)."""
    page.evaluate("() => document.body.append(Object.assign(document.createElement('input'), { type: 'file', id: 'bloom-dropped', hidden: true }))")
    page.locator("#bloom-dropped").set_input_files(str(path))
    held = page.evaluate_handle("""() => { const input = document.getElementById('bloom-dropped'), held = new DataTransfer();
        held.items.add(input.files[0]); input.remove(); return held; }""")
    page.dispatch_event("#graph-canvas", "drop", {"dataTransfer": held})


def queued_prompt(page) -> dict:
    """What Run would queue now."""
    return page.evaluate("async () => (await window.app.graphToPrompt()).output")


def saved_file(page, base: Path, title: str) -> Path:
    """The first file that a node saved, in the host's output folder."""
    entry = page.evaluate(f"""title => {{ {FIND} const output = window.app.nodeOutputs[find(title).id];
        return Object.values(output).flat().find(entry => entry?.filename); }}""", title)
    return base / "output" / entry["subfolder"] / entry["filename"]
