"""Preview 4D in both kinds of nodes: what is drawn, how it moves, and that nothing done inside reaches the graph around it."""

import pytest
import viewer_page as vp

MODES = {"classic": False, "nodes 2.0": True}


@pytest.fixture(scope="module", params=MODES)
def view(request, page, server):
    """A viewer with a flower, in each kind of nodes; the classic ones come back afterwards."""
    vp.set_setting(page, "Comfy.VueNodes.Enabled", MODES[request.param])
    file = vp.place_file(server.base, "flower.safetensors", vp.flower())
    other = {"2": {"class_type": "Bloom4DEnvironment", "inputs": {}}}
    vp.open_viewers(page, name=f"viewer {request.param[0]}", more=other)
    vp.tell(page, "1", file, "2,500 Gaussians, 6 times")
    yield vp.View(page).wait()
    vp.set_setting(page, "Comfy.VueNodes.Enabled", False)


@pytest.fixture(autouse=True)
def whole(view):
    """Each test begins with the same view, at the last frame, standing still."""
    if view.root.get_by_role("button", name="Play").get_attribute("aria-pressed") == "true":
        view.press("Play")
    view.press("Reset the view")
    view.seek(6)


def test_the_object_is_drawn(view):
    assert vp.coloured(view.pixels()) > 0.05
    assert view.root.locator(".b4d-note").inner_text() == "2,500 Gaussians, 6 times"


def test_the_slider_moves_time_also_between_the_frames(view):
    pictures = []
    for frame in (1, 1.5, 2, 6):
        view.seek(frame)
        pictures.append(view.pixels())
    first, between, second, last = pictures
    assert vp.differing(first, last) > 0.05
    assert vp.differing(first, between) > 0.002 and vp.differing(between, second) > 0.002
    assert vp.differing(first, second) > vp.differing(first, between)


def test_dragging_orbits_and_leaves_the_graph_alone(view, page):
    before, graph = view.pixels(), vp.graph_state(page)
    view.drag(90, 0)
    assert vp.differing(before, view.pixels()) > 0.02
    assert vp.graph_state(page) == graph, "node and graph stay where they are"


def test_a_drag_there_and_back_is_the_same_view(view):
    before = view.pixels()
    view.drag(70, 30)
    view.drag(-70, -30)
    assert vp.differing(before, view.pixels()) < 0.002


def test_the_right_button_moves_the_view(view, page):
    before, graph = vp.middle_of(view.pixels()), vp.graph_state(page)
    view.drag(60, -30, button="right")
    right, down = vp.middle_of(view.pixels()) - before
    assert abs(right - 60) < 5 and abs(down + 30) < 5, "the object goes with the pointer"
    assert vp.graph_state(page) == graph and page.locator(".litecontextmenu").count() == 0


def test_the_wheel_zooms_the_view_and_not_the_graph(view, page):
    view.focus()
    before, graph = view.pixels(), vp.graph_state(page)
    page.mouse.wheel(0, -240)
    view.settle()
    assert vp.coloured(view.pixels()) > 1.2 * vp.coloured(before)
    assert vp.graph_state(page) == graph


def test_keys_turn_zoom_and_reset(view, page):
    view.focus()
    first = view.drawn()
    for key in ("ArrowLeft", "ArrowUp", "Shift+ArrowRight", "+", "-"):
        before = view.drawn()
        page.keyboard.press(key)
        page.keyboard.press(key)
        assert abs(view.drawn() - before).max() > 0.2, key
    page.keyboard.press("0")
    assert (view.drawn() == first).all()


@pytest.mark.parametrize("key", ["Delete", "Backspace"])
def test_delete_keeps_the_node(view, page, key):
    page.evaluate("() => window.app.canvas.selectNode(window.app.rootGraph.nodes[0])")
    view.focus()
    page.keyboard.press(key)
    view.root.get_by_role("button", name="Reset the view").focus()
    page.keyboard.press(key)
    page.wait_for_timeout(100)
    assert page.evaluate("() => window.app.rootGraph.nodes.length") == 2


def test_keys_step_by_frames(view, page):
    view.seek(2.5)
    view.focus()
    seen = []
    for key in ("PageUp", "PageUp", "PageDown"):
        page.keyboard.press(key)
        view.settle()
        seen.append(view.frame())
    assert seen == [3, 4, 3]
    view.press("Frame after", "Frame before", "Frame before")
    assert view.frame() == 2
    view.time.focus()
    page.keyboard.press("ArrowRight")
    view.settle()
    assert view.frame() == 2.25 and view.time.get_attribute("aria-valuetext") == "frame 2.25 of 6"


def frames_while(view, seconds: float, press: str = "") -> list[float]:
    """The frame at every picture for some time, from the moment on that a button is pressed."""
    return view.root.evaluate("""(root, [seconds, press]) => new Promise(done => { const seen = [], end = performance.now() + 1000 * seconds;
        const look = () => { seen.push(Number(root.querySelector('output').value.split('/')[0])); performance.now() < end ? requestAnimationFrame(look) : done(seen); };
        look(); if (press) root.querySelector(`button[aria-label="${press}"]`).click(); })""", [seconds, press])


def test_space_plays_and_stops(view, page):
    view.choose("Speed", "0.5")
    view.seek(1)
    view.focus()
    page.keyboard.press(" ")
    seen = frames_while(view, 0.8)
    assert view.root.get_by_role("button", name="Play").get_attribute("aria-pressed") == "true"
    assert max(seen) > 1.5 and len(set(seen)) > 2
    page.keyboard.press(" ")
    view.settle()
    stopped = frames_while(view, 0.3)
    assert len(set(stopped)) == 1
    assert page.evaluate("() => window.app.canvas.read_only") is False, "space is the graph's hand tool"


def turns(seen: list[float]) -> list[str]:
    """Directions in the order in which they were seen."""
    signs = ["up" if later > earlier else "down" for earlier, later in zip(seen, seen[1:]) if later != earlier]
    return [sign for index, sign in enumerate(signs) if not index or signs[index - 1] != sign]


def test_ping_pong_turns_at_the_end_and_a_loop_begins_anew(view, page):
    view.choose("Speed", "0.25")
    for mode, jump in (("ping-pong", False), ("loop", True)):
        view.choose("At the end", mode)
        view.seek(5.5)
        seen = frames_while(view, 1.5, press="Play")
        view.press("Play")
        assert turns(seen)[:2] == ["up", "down"], seen
        assert (min(later - earlier for earlier, later in zip(seen, seen[1:])) < -2.5) == jump, seen


def test_once_stops_at_the_end(view, page):
    view.choose("At the end", "once")
    view.choose("Speed", "4")
    view.seek(5)
    view.press("Play")
    page.wait_for_timeout(600)
    view.settle()
    assert view.frame() == 6 and view.root.get_by_role("button", name="Play").get_attribute("aria-pressed") == "false"
    view.choose("At the end", "loop")


def test_point_size_opacity_and_background_change_the_picture(view, page):
    view.press("More settings")
    try:
        whole = vp.coloured(view.pixels())
        slide(view, "Point size", 0.3)
        assert vp.coloured(view.pixels()) < 0.8 * whole
        slide(view, "Point size", 1)
        slide(view, "Least opacity", 0.95)
        assert vp.coloured(view.pixels()) < 0.001, "every Gaussian of the flower is fainter"
        slide(view, "Least opacity", 0.5)
        assert abs(vp.coloured(view.pixels()) - whole) < 0.02
        slide(view, "Background colour", "#3366cc")
        assert view.pixels()[20, 20].tolist() == [0x33, 0x66, 0xCC]
        view.choose("Background", "checker")
        assert len({tuple(colour) for colour in view.pixels()[8:48, 8:48].reshape(-1, 3).tolist()}) == 2
    finally:
        slide(view, "Least opacity", 0)
        view.choose("Background", "theme")
        view.press("More settings")


def slide(view, label: str, value):
    view.root.get_by_label(label, exact=True).evaluate("(input, value) => { input.value = value; input.dispatchEvent(new Event('input', { bubbles: true })); }", value)
    view.settle()


def test_a_picture_is_saved_without_background_where_there_is_none(view, page, tmp_path):
    from PIL import Image

    saved = {}
    for background in ("checker", "theme"):
        view.press("More settings")
        view.choose("Background", background)
        view.press("More settings")
        with page.expect_download() as download:
            view.press("Save a picture (PNG)")
        download.value.save_as(tmp_path / f"{background}.png")
        saved[background] = Image.open(tmp_path / f"{background}.png").convert("RGBA")
    alpha = saved["checker"].getchannel("A")
    assert min(saved["checker"].size) >= 1000 and alpha.getextrema() == (0, 255)
    assert saved["theme"].getchannel("A").getextrema() == (255, 255)


def test_the_open_panel_does_not_squeeze_it(view, page):
    page.evaluate("() => window.app.canvas.selectNode(window.app.rootGraph.nodes[0])")
    before = view.root.bounding_box()
    page.get_by_role("button", name="Toggle properties panel").first.click()
    try:
        page.wait_for_timeout(800)
        after = view.root.bounding_box()
        assert abs(after["width"] - before["width"]) < 2 and page.locator(".bloom4d-viewer").count() == 1
    finally:
        page.get_by_role("button", name="Toggle properties panel").first.click()
        page.wait_for_timeout(300)


def test_another_tab_and_back_shows_it_again_from_the_same_side(view, page):
    view.drag(80, 0)
    before = view.pixels()
    name = page.evaluate("() => window.app.extensionManager.workflow.activeWorkflow.filename")
    page.evaluate("() => window.app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    page.wait_for_function("() => window.app.rootGraph.nodes.length === 0")
    page.locator(".workflow-tabs").get_by_text(name).first.click()
    page.wait_for_function("() => window.app.rootGraph.nodes.length === 2")
    vp.look(page)
    view.wait()
    view.seek(6)
    assert vp.differing(before, view.pixels()) < 0.01


def test_another_graph_with_the_same_numbers_shows_its_own_object(view, page, server):
    """The page of "Nodes 2.0" would leave the element of the node that is gone in its place."""
    first = view.pixels()
    other = vp.place_file(server.base, "other.safetensors", vp.flower(1500, seed=4))
    vp.open_viewers(page, name="other", more={"2": {"class_type": "Bloom4DEnvironment", "inputs": {}}})
    vp.tell(page, "1", other, "another")
    view.root.get_by_text("another").wait_for()
    view.wait()
    view.seek(6)
    assert vp.differing(first, view.pixels()) > 0.01
    view.drag(60, 0)
    view.press("Play", "Play")


def test_the_console_stays_quiet(page):
    assert page.problems == []


def test_inside_a_subgraph_it_shows_what_it_showed_and_what_forms(view, page, server):
    young = vp.place_file(server.base, "forming_6.safetensors", vp.flower(200, 3))
    inner = page.evaluate("""() => { const { app } = window, node = app.rootGraph.nodes.find(node => node.comfyClass === 'Bloom4DPreview4D');
        const { subgraph, node: outer } = app.rootGraph.convertToSubgraph(new Set([node])); app.canvas.setGraph(subgraph);
        return [outer.id, subgraph.nodes[0].id]; }""")
    vp.look(page)
    page.wait_for_function(vp.IN_PLACE)
    view.wait()
    assert vp.coloured(view.pixels()) > 0.02
    page.evaluate("([id, file]) => window.app.api.dispatchCustomEvent('bloom4d.forming', { viewers: [id], file })", [":".join(map(str, inner)), {**young, "stamp": "2"}])
    page.wait_for_function("badge => badge.textContent === 'forming'", arg=view.root.locator(".b4d-badge").element_handle())
    page.evaluate("() => window.app.canvas.setGraph(window.app.rootGraph)")
