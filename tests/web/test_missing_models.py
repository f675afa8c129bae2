"""A graph on real models, opened in a ComfyUI that has none of its files: the browser's own list of missing models has them all."""

import browser
import pytest
import workflow_page
from demo_workflows import REAL
from graphs.shipped import GRAPHS

OVERLAY, MISSING, ROWS = "error-overlay-see-errors", "error-group-missing-model", "missing-model-download"
OFFERED = ("https://huggingface.co/", "https://civitai.com/", "http://localhost:")
"""Where the frontend offers downloads from; of other files it knows nothing until the graph is queued."""


@pytest.fixture(scope="module")
def empty_page(page, bare_server, tmp_path_factory):
    """The page of a host without any model."""
    with browser.fresh_page(page, bare_server.url, tmp_path_factory.mktemp("empty") / "profile") as other:
        workflow_page.settle(other)
        yield other


def by_test_id(page, name: str):
    return page.locator(f'[data-testid="{name}"]')


@pytest.mark.parametrize("name", REAL)
def test_opening_a_real_graph_lists_its_files_with_folders_and_downloads(empty_page, pictures, name):
    workflow_page.open_workflow(empty_page, name)
    by_test_id(empty_page, OVERLAY).click()
    group = by_test_id(empty_page, MISSING)
    group.wait_for()
    wanted = {file for files in GRAPHS[name]().files.values() for file in files}
    offered = {file for file in wanted if file.url.startswith(OFFERED)}
    told = group.inner_text()
    empty_page.screenshot(path=str(pictures / f"missing_{name}.png"))
    for file in offered:
        assert file.name in told, (file.name, told)
        assert file.folder in told[told.index(file.name) :].splitlines()[1], told
    assert by_test_id(empty_page, ROWS).count() == len(offered) >= 2
