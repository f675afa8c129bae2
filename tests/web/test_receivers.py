"""What somebody sees who opens a shared graph and lacks something: the pack, its weights, a file of the author, an old node."""

import browser
import demo_workflows as demo
import pytest
import real_host
import workflow_page

TOAST, OVERLAY, DETAILS = ".p-toast-message", '[data-testid="error-overlay"]', '[data-testid="error-overlay-see-errors"]'
SWAP = '[data-testid="error-group-swap-nodes"]'


def toast(page, words: str) -> str:
    """The first message that holds these words, waited for."""
    found = page.locator(TOAST, has_text=words).first
    found.wait_for(timeout=60000)
    return found.inner_text()


@pytest.fixture(scope="module")
def without_weights(page, bare_server, tmp_path_factory):
    with browser.fresh_page(page, bare_server.url, tmp_path_factory.mktemp("weights") / "profile") as other:
        yield other


@pytest.fixture(scope="module")
def without_pack(page, host_tree, tmp_path_factory):
    base = tmp_path_factory.mktemp("no_pack") / "base"
    server = real_host.start(host_tree, real_host.prepare_base(base))
    try:
        with browser.fresh_page(page, server.url, base.parent / "profile", browser.FRONTEND) as other:
            yield other
    finally:
        server.host.stop()


@pytest.mark.parametrize("name", demo.NAMES)
def test_without_the_pack_its_name_is_told(without_pack, name):
    workflow_page.open_workflow(without_pack, name)
    without_pack.locator(OVERLAY).wait_for()
    without_pack.locator(DETAILS).click()
    card = without_pack.locator('[data-testid="missing-node-card"]')
    card.wait_for()
    ours = sum(node["type"].startswith("Bloom4D") for node in workflow_page.read(name)["nodes"])
    assert card.inner_text().split()[-2:] == ["bloom4d", str(ours)], "all of ours, and nothing else, is missing"


def test_without_the_weights_run_says_which_file_and_where_it_belongs(without_weights):
    workflow_page.open_workflow(without_weights, "text_to_4d_demo")
    workflow_page.press_run(without_weights)
    assert workflow_page.wait_for_end(without_weights, 120) == "execution_error"
    said = toast(without_weights, "embedded_prior.safetensors is missing from")
    assert "weights" in said and "Apache-2.0" in said and "reinstall the pack" in said


def test_a_prior_that_only_the_author_has_is_named(without_weights):
    workflow = workflow_page.read("text_to_4d_demo")
    next(node for node in workflow["nodes"] if node["title"] == "Prior")["widgets_values"] = ["mine.safetensors"]
    without_weights.evaluate("workflow => window.app.loadGraphData(workflow, true, true, 'theirs')", workflow)
    assert "mine.safetensors is missing" in without_weights.locator(OVERLAY).inner_text(), "the host's own notice, on opening"
    without_weights.locator(workflow_page.RUN).click()
    assert "There is no prior file mine.safetensors. Put it into" in toast(without_weights, "mine.safetensors")


def test_an_old_node_id_is_replaced_with_all_its_values(page):
    workflow = workflow_page.read("text_to_4d_demo")
    for node in workflow["nodes"]:
        node["type"] = node["type"].replace("HybridSDSOptimizer", "HybridSDSOptimiser")
    page.evaluate("workflow => window.app.loadGraphData(workflow, true, true, 'old')", workflow)
    page.locator(DETAILS).click()
    page.locator(SWAP).get_by_role("button", name="Replace All").click()
    page.wait_for_function("() => window.app.rootGraph.nodes.every(node => node.type !== 'Bloom4DHybridSDSOptimiser')")
    assert workflow_page.queued_prompt(page) == demo.load("text_to_4d_demo")
