"""A headless Chromium on the host's page, and the few things tests do there."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
FRONTEND = """() => window.app?.vueAppReady && window.app?.extensionManager && window.app?.graph
    && !document.querySelector('#splash-loader')"""
READY = FRONTEND + " && window.app.extensions.some(extension => extension.name === 'bloom4d')"
EXPECTED_NOISE = ("ERR_NAME_NOT_RESOLVED", "ERR_INTERNET_DISCONNECTED", "404", "graph accessed before initialization", "deprecat",
                  "Failed to fetch release", "ERR_CONNECTION", "Content Security Policy")  # the last: sizes of models in the host's own first graph


def find_chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return os.environ.get("BLOOM4D_BROWSER") or next((path for name in names if (path := shutil.which(name))), None)


def require_browser() -> str:
    """Path of a Chromium. Without one the test is skipped, in CI (BLOOM4D_REQUIRE_BROWSER=1) it fails."""
    path = find_chromium()
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        path = None
    if path is None:
        reason = "no Chromium (or no playwright): install chromium, or name a browser in BLOOM4D_BROWSER"
        if os.environ.get("BLOOM4D_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@contextmanager
def open_page(url: str, profile: Path, ready: str = READY):
    """A page with the host's frontend ready and our extension set up; `page.problems` collects unexpected console errors."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver, _launched(driver, url, profile, ready) as page:
        page.driver = driver
        yield page


@contextmanager
def fresh_page(page, url: str, profile: Path, ready: str = READY):
    """Another browser beside an open page: it shares nothing with that one but the server."""
    with _launched(page.driver, url, profile, ready) as other:
        yield other


@contextmanager
def _launched(driver, url: str, profile: Path, ready: str = READY):
    context = driver.chromium.launch_persistent_context(str(profile), executable_path=require_browser(), headless=True, args=FLAGS,
                                                        viewport={"width": 1280, "height": 800})
    try:
        page = context.pages[0]
        page.problems = []
        page.on("console", lambda message: _note(page, message))
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.goto(url)
        page.wait_for_function(ready, timeout=60000)
        yield page
    finally:
        context.close()


def _note(page, message):
    if message.type == "error" and not any(noise in message.text + str(message.location) for noise in EXPECTED_NOISE):
        page.problems.append(f"{message.text} {message.location.get('url', '')}".strip())


def to_api(page, workflow: dict) -> dict:
    """Load a workflow in the browser's format and return the prompt that the browser would queue."""
    page.evaluate("workflow => window.app.loadGraphData(workflow, true, true, 'test')", workflow)
    return page.evaluate("async () => (await window.app.graphToPrompt()).output")


def queue(page, timeout: int = 60000) -> list:
    """Queue the open graph as the Run button does; [name of the event that ended it, its detail]."""
    return page.evaluate("""timeout => new Promise(async resolve => {
        for (const kind of ['execution_success', 'execution_error', 'execution_interrupted'])
            window.app.api.addEventListener(kind, event => resolve([kind, event.detail]), { once: true });
        setTimeout(() => resolve(['timeout', null]), timeout);
        if (!await window.app.queuePrompt(0, 1)) resolve(['rejected', window.app.lastNodeErrors]);
    })""", timeout)
