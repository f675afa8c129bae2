"""The pack's subgraph blueprints: as their source says, offered by the host, inserted by a user, and they run."""

import json
from pathlib import Path

import demo_workflows as demo
import pytest
import workflow_page
import write_blueprints
from graphs.blueprints import BLUEPRINTS

LONG = 240  # seconds; shared machines are slow
FOLDER = Path(write_blueprints.ROOT) / "subgraphs"
SEARCH, FOUND = "input[role=combobox][placeholder='Add a node...']", '[data-testid="result-item"]'
AROUND = {
    "1": {"class_type": "Bloom4DEmbeddedPriorLoader", "inputs": {"prior": demo.PRIOR}, "_meta": {"title": "Prior"}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red rose blooming", "clip": ["1", 1]}, "_meta": {"title": "Prompt"}},
    "3": {"class_type": "Bloom4DHashField", "inputs": {"size": "demo", "background": "none", "blob_radius": 0.5, "seed": 71}, "_meta": {"title": "Field"}},
    "4": {"class_type": "Bloom4DVolumeRenderer", "inputs": {"samples": 12, "occupancy_resolution": 8, "time_slabs": 2}, "_meta": {"title": "Renderer"}},
}
LINKS = [
    ("Prior", "MODEL", "4D distillation stage", "model"), ("Prior", "VAE", "4D distillation stage", "vae"),
    ("Prompt", "CONDITIONING", "4D distillation stage", "positive"), ("Prompt", "CONDITIONING", "4D distillation stage", "negative"),
    ("Field", "field", "4D distillation stage", "field"), ("Renderer", "renderer", "4D distillation stage", "renderer"),
    ("4D distillation stage", "field", "4D render and save", "field"), ("Renderer", "renderer", "4D render and save", "renderer"),
]  # fmt: skip
CONNECT = f"""links => {{ {workflow_page.FIND} for (const [from, output, to, input] of links)
    find(from).connect(find(from).outputs.findIndex(slot => slot.name === output), find(to), find(to).inputs.findIndex(slot => slot.name === input)); }}"""
SMALL = {"4D distillation stage": {"steps": 1}, "4D render and save": {"frames": 2, "width": 16, "height": 16, "threshold": 0.1}}


def without_places(value):
    """Without what depends on the fonts of whoever wrote the file."""
    if isinstance(value, dict):
        return {name: without_places(entry) for name, entry in value.items() if name not in ("pos", "size", "bounding")}
    return [without_places(entry) for entry in value] if isinstance(value, list) else value


def insert(page, name: str, x: int, y: int):
    """As a user does: the search box, the name, Enter, a click where the block shall stand."""
    page.evaluate("() => window.app.extensionManager.command.execute('Workspace.SearchBox.Toggle')")
    page.locator(SEARCH).wait_for()
    page.locator(SEARCH).fill(name)
    page.locator(FOUND, has_text=name).first.wait_for()
    page.keyboard.press("Enter")
    page.wait_for_function("name => window.app.rootGraph.nodes.some(node => node.title === name)", arg=name)
    page.locator(SEARCH).wait_for(state="hidden")
    page.mouse.move(x, y, steps=4)
    page.mouse.click(x, y)
    page.wait_for_function("() => window.app.rootGraph.nodes.every(node => !node.flags.ghost)")


def test_these_are_all():
    assert {path.stem for path in FOLDER.glob("*.json")} == BLUEPRINTS.keys()


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_the_file_is_what_its_source_and_the_nodes_say(page, name):
    """After a change of a node: `python tools/write_blueprints.py`."""
    committed = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    assert without_places(json.loads(write_blueprints.build(page, BLUEPRINTS[name]))) == without_places(json.loads(committed))


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_every_node_inside_says_which_pack_it_comes_from(name):
    definition, = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["definitions"]["subgraphs"]
    for node in definition["nodes"]:
        assert node["properties"]["cnr_id"] == ("bloom4d" if node["type"].startswith("Bloom4D") else "comfy-core")


def test_the_host_offers_them(server):
    offered = [entry for entry in json.loads(server.get_text("/global_subgraphs")).values() if entry["info"]["node_pack"] == "custom_nodes.bloom4d"]
    assert {entry["name"] for entry in offered} == BLUEPRINTS.keys()


def test_inserted_and_connected_they_run(page, server):
    demo.give_prior(server.base)
    page.evaluate("prompt => window.app.loadApiJson(prompt, 'blocks')", AROUND)
    page.evaluate("() => { window.app.canvas.ds.scale = 0.4; window.app.canvas.ds.offset = [200, 200]; }")
    for place, name in enumerate(BLUEPRINTS):
        insert(page, name, 300 + 350 * place, 550)
    page.evaluate(CONNECT, LINKS)
    page.evaluate(workflow_page.CHANGE, SMALL)
    prompt = workflow_page.queued_prompt(page)
    assert demo.of_class(prompt, "Bloom4DHybridSDSOptimizer") == ["Optimize"] and prompt[demo.titled(prompt, "Optimize")]["inputs"]["steps"] == 1
    assert prompt[demo.titled(prompt, "Render")]["inputs"]["width"] == 16, "a widget on the block reaches the node inside"
    assert prompt[demo.titled(prompt, "Render")]["inputs"]["background"] == "field"
    workflow_page.press_run(page)
    assert workflow_page.wait_for_end(page, LONG) == "execution_success", page.evaluate("() => window.bloomSeen.text || JSON.stringify(window.app.lastNodeErrors)")
    made = page.evaluate("() => JSON.stringify(window.app.nodeOutputs)")
    assert all(kind in made for kind in (".mp4", ".glb", ".safetensors")) and page.problems == []
