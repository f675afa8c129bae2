"""Presets in the real frontend: offered by a right click on the canvas, they set the widgets that the command line sets."""

import json
from pathlib import Path

import browser
import presets
import workflow

ROOT = Path(__file__).resolve().parent.parent.parent
TOAST = ".p-toast-message"


def load(page, name: str) -> dict:
    page.evaluate("() => window.app.extensionManager.toast.removeAll()")
    return browser.to_api(page, json.loads((ROOT / "workflows" / f"{name}.json").read_text()))


def offered(page) -> list[str]:
    """What the canvas menu lists under our entry."""
    return page.evaluate("""() => window.app.canvas.getCanvasMenuOptions().filter(Boolean)
        .filter(item => item.content === 'Bloom4D presets').flatMap(item => item.submenu.options.map(option => option.content))""")


def choose(page, name: str):
    page.evaluate("""name => window.app.canvas.getCanvasMenuOptions().filter(Boolean).find(item => item.content === 'Bloom4D presets')
        .submenu.options.find(option => option.content === name).callback()""", name)
    page.wait_for_function(f"() => [...document.querySelectorAll('{TOAST}')].some(toast => toast.innerText.includes('Preset {name}'))", timeout=20000)


def prompt_of(page) -> dict:
    return page.evaluate("async () => (await window.app.graphToPrompt()).output")


def test_a_preset_sets_in_the_browser_what_it_sets_on_the_command_line(page, tmp_path):
    before = load(page, "text_to_4d_demo")
    assert offered(page) == ["quick look", "demo"]
    choose(page, "quick look")
    expected = workflow.load("text_to_4d_demo")
    presets.apply(expected, ["quick look"], presets.of_workflow("text_to_4d_demo"))
    after = prompt_of(page)
    assert {node: content["inputs"] for node, content in after.items()} == {node: content["inputs"] for node, content in expected.items()} and after != before
    said = page.locator(TOAST).all_inner_texts()
    page.screenshot(path=str(tmp_path / "preset.png"))
    assert any("Optimize stage 3: steps 280" in text for text in said), said
    choose(page, "demo")
    assert prompt_of(page) == before


def test_a_graph_without_presets_offers_none_and_a_removed_node_is_named(page):
    load(page, "four_d_metrics_demo")
    assert offered(page) == []
    load(page, "text_to_4d_demo")
    page.evaluate("() => { const graph = window.app.rootGraph; graph.remove(graph.nodes.find(node => node.title === 'Polish')); }")
    choose(page, "quick look")
    assert any("Not in this graph any more" in text and "steps 96" in text for text in page.locator(TOAST).all_inner_texts())
    assert page.problems == []
