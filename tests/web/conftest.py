"""One browser page for the whole suite, and where its screenshots go."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def page(request, tmp_path_factory):
    """The host's page in a headless Chromium; tests load their own graph into it. Asked first, so that CI without a browser fails."""
    import browser

    browser.require_browser()
    server = request.getfixturevalue("server")
    with browser.open_page(server.url, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Folder of the screenshots: BLOOM4D_SCREENSHOTS, else a temporary one."""
    folder = Path(os.environ.get("BLOOM4D_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
