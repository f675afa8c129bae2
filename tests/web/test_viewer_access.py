"""Preview 4D for everybody: by keyboard and touch, on a phone, in light and dark, without WebGL2, after a reload."""

from pathlib import Path

import axe_playwright_python
import browser
import pytest
import viewer_page as vp

AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")
PALETTE = "Comfy.ColorPalette"


@pytest.fixture(scope="module")
def flower(server):
    return vp.place_file(server.base, "flower.safetensors", vp.flower(1500))


@pytest.fixture
def view(page, flower):
    vp.open_viewers(page)
    vp.tell(page, "1", flower, "1,500 Gaussians, 6 times")
    return vp.View(page).wait()


@pytest.fixture(params=["dark", "light"])
def palette(request, page):
    vp.set_setting(page, PALETTE, request.param)
    page.wait_for_timeout(300)
    yield request.param
    vp.set_setting(page, PALETTE, "dark")


def violations(page) -> list[str]:
    """What axe-core finds in the viewers: rule, what is wrong, and where."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("async () => (await window.axe.run('.bloom4d-viewer')).violations")
    return [f"{entry['id']}: {node['failureSummary']} {node['html'][:120]}" for entry in found for node in entry["nodes"]]


def test_axe_finds_nothing_in_either_theme(page, view, palette):
    view.press("More settings")
    assert violations(page) == []
    background = view.root.evaluate("root => getComputedStyle(root).backgroundColor")
    brightness = sum(int(part) for part in background.strip("rgba()").split(",")[:3]) / 3
    assert (brightness > 128) == (palette == "light") and vp.coloured(view.pixels()) > 0.02


def test_axe_finds_a_control_without_a_name(page, view):
    view.time.evaluate("slider => { slider.removeAttribute('aria-label'); slider.title = ''; }")
    assert any("label" in line for line in violations(page))


def test_everything_has_a_name_and_is_large_enough_to_touch(page, view):
    view.press("More settings")
    controls = view.root.locator("button, select, input")
    for index in range(controls.count()):
        box = controls.nth(index).bounding_box()
        assert box["height"] >= 32 and box["width"] >= 32, controls.nth(index).get_attribute("aria-label")
    assert view.root.get_attribute("role") == "group" and view.canvas.get_attribute("aria-label").startswith("4D view of 14")
    assert view.root.locator("[role=status][aria-live=polite]").count() == 2


def test_the_keyboard_reaches_everything_and_leaves_again(page, view):
    view.focus()
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        inside = page.evaluate("() => document.activeElement.closest('.bloom4d-viewer') ? document.activeElement.getAttribute('aria-label') : null")
        if inside is None:
            break
        reached.append(inside)
    assert reached == ["Frame before", "Play", "Frame after", "Time", "At the end", "Speed", "More settings", "Reset the view", "Save a picture (PNG)", reached[9], "Full screen"]
    assert reached[9].startswith("Send this view")


def test_the_graphs_own_shortcuts_still_work_from_inside(page, view):
    view.focus()
    page.evaluate("() => { window.asked = 0; window.app.queuePromptBefore = window.app.queuePrompt; window.app.queuePrompt = () => { window.asked += 1; }; }")
    try:
        page.keyboard.press("Control+Enter")
        page.wait_for_timeout(200)
        assert page.evaluate("() => window.asked") == 1
    finally:
        page.evaluate("() => { window.app.queuePrompt = window.app.queuePromptBefore; }")


def test_long_words_wrap(page, view, flower):
    vp.tell(page, "1", flower, "x" * 600)
    view.root.get_by_text("xxx").wait_for()
    vp.tell(page, "1", {**flower, "filename": "gone" + "x" * 150})
    view.wait("failed")
    for part in (view.root, view.root.locator(".b4d-note"), view.root.locator(".b4d-say")):
        assert part.evaluate("element => element.scrollWidth <= element.clientWidth + 1")


# -- another page: what would spoil the shared one ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def other(page, server, tmp_path_factory):
    with browser.fresh_page(page, server.url, tmp_path_factory.mktemp("access") / "profile") as opened:
        yield opened


def test_without_webgl2_it_says_so_and_where_the_file_is(other, flower):
    other.evaluate("""() => { const get = HTMLCanvasElement.prototype.getContext; window.restoreContext = () => { HTMLCanvasElement.prototype.getContext = get; };
        HTMLCanvasElement.prototype.getContext = function (kind, ...more) { return kind === 'webgl2' ? null : get.call(this, kind, ...more); }; }""")
    vp.open_viewers(other)
    vp.tell(other, "1", flower)
    said = vp.View(other).wait("failed").root.locator(".b4d-say").inner_text()
    assert "WebGL2" in said and "The run itself is not affected" in said and flower["filename"] in said
    other.evaluate("() => window.restoreContext()")
    vp.tell(other, "1", flower)
    assert vp.coloured(vp.View(other).wait().pixels()) > 0.02 and other.problems == []


def test_a_reload_shows_it_again(other, flower):
    view = vp.View(other).wait()
    view.drag(70, 0)
    before = view.drawn()
    other.mouse.click(900, 700)  # as always after something was done, the page notes what is open
    other.wait_for_timeout(1500)
    other.reload()
    other.wait_for_function(browser.READY, timeout=60000)
    vp.look(other)
    after = vp.View(other).wait().drawn()
    assert after.shape == before.shape and abs(after - before).max() < 0.02


def test_nothing_moves_by_itself(other, flower):
    other.emulate_media(reduced_motion="reduce")
    vp.open_viewers(other)
    vp.tell(other, "1", flower)
    view = vp.View(other).wait()
    before = view.drawn()
    other.wait_for_timeout(400)
    assert (view.drawn() == before).all() and view.root.evaluate("root => root.getAnimations({ subtree: true }).length") == 0


@pytest.fixture
def touch(other):
    """Fingers on the screen, as the browser's driver makes them."""
    session = other.context.new_cdp_session(other)

    def send(kind: str, *points):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y, "id": index} for index, (x, y) in enumerate(points)]})

    yield send
    session.detach()


def test_on_a_phone_it_fits_and_two_fingers_zoom(other, flower, touch):
    other.set_viewport_size({"width": 390, "height": 844})
    vp.open_viewers(other, size=(320, 620))
    vp.look(other, 0.9, 80, 120)
    vp.tell(other, "1", flower, "1,500 Gaussians, 6 times")
    view = vp.View(other).wait()
    frame = view.root.bounding_box()
    for control in view.root.locator("button:visible, select:visible, input:visible, output").all():
        box = control.bounding_box()
        assert box["x"] >= frame["x"] and box["x"] + box["width"] <= frame["x"] + frame["width"] + 1
    graph, before = vp.graph_state(other), vp.coloured(view.pixels())
    x, y = view.middle()
    touch("touchStart", (x - 20, y), (x + 20, y))
    for reach in (30, 40, 50):
        touch("touchMove", (x - reach, y), (x + reach, y))
    touch("touchEnd")
    assert vp.coloured(view.pixels()) > 1.5 * before and vp.graph_state(other) == graph
    view.press("Reset the view")
    turned = view.drawn()
    touch("touchStart", (x, y))
    touch("touchMove", (x + 60, y))
    touch("touchEnd")
    assert abs(view.drawn() - turned).max() > 0.2 and vp.graph_state(other) == graph
