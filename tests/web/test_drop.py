"""Files that a shipped workflow leaves, dropped into a fresh browser: the graph opens again with equal values."""

import browser
import demo_workflows as demo
import pytest
import workflow_page
from safetensors.torch import load_file, save_file

LONG = 240  # seconds; shared machines are slow
CHANGED = {"Field": {"seed": 53}, "Prompt": {"text": 'a "white" daisy, blooming – 花'}}
KINDS = {"glb": "Save mesh", "safetensors": "Save field", "mp4": "Save video"}


@pytest.fixture(scope="module")
def made(page, server):
    """(the prompt that the browser queued, kind -> the file that came of it)."""
    demo.give_prior(server.base)
    workflow_page.open_workflow(page, "text_to_4d_demo", {**demo.smoke_changes(demo.load("text_to_4d_demo")), **CHANGED})
    prompt = workflow_page.queued_prompt(page)
    workflow_page.press_run(page)
    assert workflow_page.wait_for_end(page, LONG) == "execution_success", page.evaluate("() => window.bloomSeen.text")
    return prompt, {kind: workflow_page.saved_file(page, server.base, title) for kind, title in KINDS.items()}


@pytest.fixture
def fresh(page, server, tmp_path):
    """Another browser, once it has stopped drawing its first graph: the frontend stumbles over a second one in the middle of that."""
    with browser.fresh_page(page, server.url, tmp_path / "profile") as other:
        workflow_page.settle(other)
        yield other


@pytest.mark.parametrize("kind", KINDS)
def test_a_dropped_file_opens_its_graph_with_equal_values(made, fresh, kind):
    prompt, files = made
    assert files[kind].suffix == f".{kind}"
    before = workflow_page.queued_prompt(fresh)
    assert not demo.of_class(before, "Bloom4DHashField"), "a fresh page shows another graph"
    workflow_page.drop(fresh, files[kind])
    fresh.wait_for_function("() => window.app.rootGraph.nodes.some(node => node.type === 'Bloom4DHashField')", timeout=LONG * 1000)
    assert workflow_page.queued_prompt(fresh) == prompt
    assert workflow_page.unknown_nodes(fresh) == [] and fresh.problems == []
    assert fresh.locator('[data-testid="error-overlay"]').count() == 0


def test_a_file_without_metadata_opens_nothing(made, fresh, tmp_path):
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(made[1]["safetensors"]), bare)
    before = workflow_page.queued_prompt(fresh)
    workflow_page.drop(fresh, bare)
    fresh.locator(".p-toast-message", has_text="bare.safetensors").wait_for()
    assert workflow_page.queued_prompt(fresh) == before
