"""Preview 4D where things go wrong or get large, what it hands on, and whether its pictures are the rasteriser's."""

import math

import numpy
import pytest
import torch
import viewer_page as vp

HOSTILE = '<img src=x onerror="window.hacked = true"><script>window.hacked = true</script>'


@pytest.fixture(scope="module")
def flower(server):
    return vp.place_file(server.base, "flower.safetensors", vp.flower(1500))


@pytest.fixture
def view(page, flower):
    """A fresh viewer with a flower."""
    vp.open_viewers(page)
    vp.tell(page, "1", flower, "1,500 Gaussians, 6 times")
    return vp.View(page).wait()


def words(view) -> str:
    return view.root.locator(".b4d-say").inner_text()


# -- pictures -------------------------------------------------------------------------------------------------------------------


def turned_cloud(count: int = 400) -> "vp.Gaussians4D":
    """Long, turned, half transparent Gaussians that move, turn, grow and fade between two times."""
    generator = torch.Generator().manual_seed(5)
    rotations = torch.nn.functional.normalize(torch.randn(2, count, 4, generator=generator), dim=-1)
    rotations[1] = torch.nn.functional.normalize(rotations[0] + 0.6 * rotations[1], dim=-1) * torch.tensor([1.0, -1.0]).repeat(count // 2)[:, None]
    return vp.Gaussians4D(
        positions=torch.rand(2, count, 3, generator=generator) * 1.2 - 0.6,
        rotations=rotations,
        scales=torch.exp(torch.rand(2, count, 3, generator=generator) * 3 - 5.5),
        opacities=torch.rand(2, count, generator=generator),
        harmonics=vp.harmonics_of(torch.rand(2, count, 3, generator=generator)),
        times=torch.tensor([0.0, 1.0]),
    )


@pytest.mark.parametrize(("frame", "right"), [(1, 0), (1.5, 60), (2, -150)])
def test_a_picture_is_the_rasterisers(page, server, frame, right):
    """Of the very Gaussians in the file at least 44 dB where anything is seen, of those it was made from 36: the file rounds.

    The frame 1.5 shows that positions, turns along the shorter way, logarithmic scales, opacities and colours are mixed alike.
    """
    from bloom4d.models.formats.viewer_file import read_viewer_file
    from bloom4d.models.geometry.cameras import Cameras, orbit
    from bloom4d.models.render.splats import render_gaussians

    made = turned_cloud()
    file = vp.place_file(server.base, "turned.safetensors", made)
    vp.open_viewers(page)
    vp.tell(page, "1", file)
    view = vp.View(page).wait()
    view.seek(frame)
    height = view.canvas.bounding_box()["height"]
    if right:
        view.drag(right, 0)
    seen = view.drawn()
    read = read_viewer_file(server.base / "temp" / "bloom4d" / "turned.safetensors")
    stored = vp.Gaussians4D(read.positions, read.rotations, read.scales, read.opacities, vp.harmonics_of(read.colours), read.times)
    pose = orbit(torch.tensor([-right * math.pi / height]), torch.tensor([math.radians(15)]), torch.tensor([2.9]))
    cameras = Cameras(pose, torch.tensor([math.radians(42)]), torch.tensor([frame - 1.0]))
    for gaussians, least in ((stored, 44), (made, 36)):
        drawn = render_gaussians(gaussians, cameras, *seen.shape[:2])
        expected = torch.cat([drawn.rgb[0], drawn.alpha[0, ..., None]], dim=-1).numpy()
        shown = numpy.concatenate([seen[..., :3] * seen[..., 3:], seen[..., 3:]], axis=-1)
        touched = expected[..., 3] > 0
        assert 0.1 < touched.mean() and vp.decibels(shown[touched], expected[touched]) >= least
    mirrored = expected[:, ::-1]
    assert vp.decibels(shown[touched], mirrored[touched]) < 25, "the control: a mirrored picture"


# -- what it hands on -----------------------------------------------------------------------------------------------------------


def sent_view(page):
    return page.evaluate("async () => (await window.app.graphToPrompt()).output['1'].inputs.view")


def test_only_a_sent_view_is_part_of_the_prompt(page, view):
    assert not sent_view(page)
    view.drag(80, 0)
    assert not sent_view(page), "looking around makes nothing run again"
    view.press("Send this view")
    send = view.root.get_by_role("button", name="Send this view")
    camera = sent_view(page)
    height = view.canvas.bounding_box()["height"]
    assert math.isclose(math.atan2(camera["position"]["x"], camera["position"]["z"]), -80 * math.pi / height, abs_tol=1e-3) and camera["fov"] == pytest.approx(42)
    assert send.get_attribute("aria-pressed") == "true"
    view.drag(30, 0)
    assert send.get_attribute("aria-pressed") == "false" and sent_view(page) == camera, "what was sent stays sent"
    view.press("Send this view")
    assert sent_view(page) != camera
    view.press("Send this view")
    assert not sent_view(page), "pressed again it is taken back"


def test_a_sent_view_is_kept_with_the_workflow(page, view):
    view.press("Send this view")
    camera = sent_view(page)
    saved = page.evaluate("() => window.app.rootGraph.serialize()")
    page.evaluate("saved => window.app.loadGraphData(saved, true, true, 'again')", saved)
    again = vp.View(page).wait()
    assert sent_view(page) == camera and again.root.get_by_role("button", name="Send this view").get_attribute("aria-pressed") == "true"


def test_a_given_camera_is_where_the_view_begins_and_returns_to(page, view, flower):
    side = {"position": {"x": 3, "y": 0, "z": 0}, "target": {"x": 0, "y": 0, "z": 0}, "fov": 42, "zoom": 1, "cameraType": "perspective"}
    front = view.drawn()
    vp.tell(page, "1", {**flower, "camera": side}, "1,500 Gaussians, 6 times")
    page.wait_for_timeout(300)
    given = view.drawn()
    assert abs(given - front).max() > 0.3
    view.drag(50, 20)
    view.press("Reset the view")
    assert (view.drawn() == given).all()


# -- forming --------------------------------------------------------------------------------------------------------------------


def test_what_forms_is_shown_until_the_result_comes(page, view, flower, server):
    young = vp.place_file(server.base, "forming_5.safetensors", vp.flower(200, 3))
    before = view.drawn()
    page.evaluate("file => window.app.api.dispatchCustomEvent('bloom4d.forming', { viewers: ['1', '77', '1:2'], file })", {**young, "stamp": "1"})
    badge = view.root.locator(".b4d-badge")
    page.wait_for_function("badge => badge.textContent === 'forming'", arg=badge.element_handle())
    forming = view.drawn()
    assert abs(forming - before).max() > 0.3
    stored = page.evaluate("() => window.app.rootGraph.nodes[0].properties.bloom4d_view.file.filename")
    assert stored == flower["filename"], "what is still forming is not stored with the workflow"
    vp.tell(page, "1", flower, "done")
    page.wait_for_function("badge => badge.textContent === ''", arg=badge.element_handle())
    assert (view.drawn() == before).all()


# -- faults ---------------------------------------------------------------------------------------------------------------------


def test_a_file_that_is_gone_is_told_calmly(page, view, flower):
    page.problems.clear()
    vp.tell(page, "1", {**flower, "filename": "gone.safetensors"})
    view.wait("failed")
    assert "Run the workflow again" in words(view) and "404" not in words(view)
    assert page.locator(".p-toast-message").count() == 0 and page.problems == []
    vp.tell(page, "1", flower)
    assert view.wait() and vp.coloured(view.pixels()) > 0.02, "and the next run is shown"


def test_a_shared_workflow_without_its_file_opens_calmly(page, view):
    saved = page.evaluate("() => window.app.rootGraph.serialize()")
    saved["nodes"][0]["properties"]["bloom4d_view"]["file"]["filename"] = "theirs.safetensors"
    page.evaluate("saved => window.app.loadGraphData(saved, true, true, 'theirs')", saved)
    theirs = vp.View(page).wait("failed")
    assert "Run the workflow again" in words(theirs) and page.locator(".p-toast-message").count() == 0


@pytest.mark.parametrize(("data", "said"), [(b"", "empty or cut off"), (b"\x10" + b"\0" * 7 + b"{" * 40, "no readable JSON"), (b"\xff" * 64, "cut off, or no viewer file")])
def test_a_damaged_file_is_told_in_words(page, view, server, data, said):
    vp.tell(page, "1", vp.place_bytes(server.base, "damaged.safetensors", data))
    view.wait("failed")
    assert said in words(view)


def test_markup_stays_text_wherever_it_comes_from(page, view, server):
    file = vp.place_file(server.base, "hostile.safetensors", vp.flower(100, 2), metadata={"note": HOSTILE, "prompt": HOSTILE})
    page.evaluate("() => delete window.hacked")
    vp.tell(page, "1", file, HOSTILE)
    page.wait_for_timeout(300)
    view.wait()
    assert view.root.locator(".b4d-note").inner_text() == HOSTILE
    stored = {"file": {**file, "filename": HOSTILE}, "text": HOSTILE, "view": {"azimuth": HOSTILE}, "settings": {"background": HOSTILE, "colour": f"red;{HOSTILE}"}}
    saved = page.evaluate("() => window.app.rootGraph.serialize()")
    saved["nodes"][0]["properties"]["bloom4d_view"] = stored
    page.evaluate("saved => window.app.loadGraphData(saved, true, true, 'hostile')", saved)
    vp.View(page).wait("failed")
    assert page.locator(".bloom4d-viewer img, .bloom4d-viewer script").count() == 0
    assert page.evaluate("() => window.hacked") is None


def test_a_large_file_is_asked_about_first(page, view, flower):
    page.evaluate("""() => { const api = window.app.api, fetchApi = api.fetchApi; window.restoreFetch = () => { api.fetchApi = fetchApi; };
        api.fetchApi = async (...request) => { const response = await fetchApi.apply(api, request);
            return new Response(response.body, { headers: { 'content-length': '334000000' } }); }; }""")
    try:
        vp.tell(page, "1", flower)
        view.wait("asking")
        assert "334 MB" in words(view)
        view.press("Load 334 MB")
        view.wait()
        assert vp.coloured(view.pixels()) > 0.02
    finally:
        page.evaluate("() => window.restoreFetch()")


def test_lost_graphics_come_back(page, view):
    before = view.drawn()
    page.evaluate("""() => { const draw = WebGL2RenderingContext.prototype.drawArraysInstanced;
        WebGL2RenderingContext.prototype.drawArraysInstanced = function (...all) { window.ours = this.getExtension('WEBGL_lose_context');
            WebGL2RenderingContext.prototype.drawArraysInstanced = draw; return draw.apply(this, all); }; }""")
    view.seek(2)
    page.evaluate("() => window.ours.loseContext()")
    badge = view.root.locator(".b4d-badge")
    page.wait_for_function("badge => badge.textContent.includes('interrupted')", arg=badge.element_handle())
    view.seek(3)
    page.evaluate("() => window.ours.restoreContext()")
    page.wait_for_function("badge => badge.textContent === ''", arg=badge.element_handle())
    view.seek(1)
    assert (view.drawn() == before).all()


def test_eighteen_viewers_all_show_something(page, flower):
    """Browsers keep sixteen WebGL contexts and blank the oldest: all viewers draw with one."""
    page.evaluate("() => { window.contexts = 0; const get = HTMLCanvasElement.prototype.getContext; HTMLCanvasElement.prototype.getContext = function (kind, ...more) { if (/webgl/.test(kind)) window.contexts += 1; return get.call(this, kind, ...more); }; }")
    vp.open_viewers(page, 18, size=(460, 520))
    vp.look(page, 0.34, 80, 100)
    for node in range(18):
        vp.tell(page, str(node + 1), flower)
    for index in range(18):
        picture = vp.View(page, index).wait().pixels()
        assert vp.coloured(picture) > 0.02 and picture.mean() < 128, f"viewer {index}: neither empty nor white"
    assert page.evaluate("() => window.contexts") <= 1


def test_a_removed_viewer_lets_go(page, view):
    page.evaluate("""() => { window.freed = 0; const remove = WebGL2RenderingContext.prototype.deleteTexture;
        WebGL2RenderingContext.prototype.deleteTexture = function (texture) { window.freed += 1; return remove.call(this, texture); }; }""")
    page.evaluate("() => window.app.rootGraph.remove(window.app.rootGraph.nodes[0])")
    assert page.evaluate("() => window.freed") == 4 and page.locator(".bloom4d-viewer").count() == 0


def test_the_console_stays_quiet(page):
    assert page.problems == []
