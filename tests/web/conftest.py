"""One browser page for the whole suite."""

import pytest


@pytest.fixture(scope="session")
def page(request, tmp_path_factory):
    """The host's page in a headless Chromium; tests load their own graph into it. Asked first, so that CI without a browser fails."""
    import browser

    browser.require_browser()
    server = request.getfixturevalue("server")
    with browser.open_page(server.url, tmp_path_factory.mktemp("profile")) as opened:
        yield opened
