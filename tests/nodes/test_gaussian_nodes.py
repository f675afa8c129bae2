"""The nodes that convert and edit Gaussians, run as the host runs them, with the host's own splat nodes around them."""

import math
from dataclasses import replace

import pytest
import torch
from bloom4d.models.gaussians.gaussians import Gaussians4D, harmonics_of, sample_times
from bloom4d.models.geometry.cameras import orbit, project
from bloom4d.models.geometry.frames import to_load3d_camera
from test_field_nodes import call, defaults

COLOURS = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
CORNERS = {f"{axis}_{end}": limit for end, limit in (("min", -1.0), ("max", 1.0)) for axis in "xyz"}


@pytest.fixture(scope="module")
def nodes(comfy):
    import importlib

    names = ("gaussians", "gaussian_tools")
    return {name: importlib.import_module(f"bloom4d.nodes.{name}") for name in names}


@pytest.fixture
def host(comfy):
    from comfy_extras import nodes_gaussian_splat

    return nodes_gaussian_splat


def lamp(frames: int = 3) -> Gaussians4D:
    """An object like no mirror image or turn of itself: white above, red at its side on +X, blue in front on +Z, which rises with time."""
    places = torch.tensor([[0.0, 0.6, 0.0], [0.5, 0.0, 0.0], [0.0, -0.3, 0.5]]).expand(frames, 3, 3).clone()
    times = torch.arange(frames) / max(frames - 1, 1)
    places[:, 2, 1] += 0.5 * times
    unturned = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(1, 3, 4).clone()
    return Gaussians4D(places, unturned, torch.full((1, 3, 3), 0.05), torch.full((1, 3), 0.95), harmonics_of(COLOURS)[None], times)


def heavy(count: int, frames: int) -> Gaussians4D:
    """As many Gaussians as wanted, in no memory: one number seen through strides."""
    one = torch.zeros(1)
    shapes = ((frames, count, 3), (frames, count, 4), (1, count, 3), (1, count), (1, count, 1, 3))
    return Gaussians4D(*(one.view([1] * len(shape)).expand(shape) for shape in shapes), torch.arange(frames) / max(frames - 1, 1))


def camera(azimuth: float, elevation: float) -> tuple[torch.Tensor, torch.Tensor]:
    angles = [torch.tensor([math.radians(angle)]) for angle in (azimuth, elevation)]
    return orbit(*angles, torch.tensor([2.9])), torch.tensor([math.radians(42.0)])


def spots(picture: torch.Tensor) -> torch.Tensor:
    """Centres (3, 2) in pixels of what is white, red and blue in a picture (H, W, 3) over black."""
    red, green, blue = picture.unbind(-1)
    weights = torch.stack([green, red - green, blue - green]).clamp_min(0.02) - 0.02
    rows, columns = (torch.arange(size) + 0.5 for size in picture.shape[:2])
    total = weights.sum((1, 2))
    return torch.stack([(weights.sum(1) * columns).sum(1) / total, (weights.sum(2) * rows).sum(1) / total], -1)


def render(host, splat, view, size=96) -> torch.Tensor:
    """The host's own pictures (B, H, W, 3) of a splat batch."""
    info = to_load3d_camera(view[0][0], view[1][0])
    settings = {"splat_scale": 1.0, "sharpen": 1.0, "headlight_shading": 0.0, "opacity_threshold": 0.0, "render_style": "color", "background": "#000000"}
    return host.RenderSplat.execute(splat=splat, width=size, height=size, frames=1, camera_info=info, **settings).args[0]


@pytest.mark.parametrize("view", [(0.0, 0.0), (35.0, 20.0), (-140.0, -30.0)])
def test_the_host_shows_it_upright_from_every_side_at_every_time(nodes, host, view):
    splat, = call(nodes["gaussians"].Bloom4DGaussiansToSplat, gaussians=lamp())
    pictures = render(host, splat, camera(*view))
    assert len(pictures) == 3
    for picture, places in zip(pictures, lamp().positions):
        wanted, _ = project(places[None], *camera(*view), 96, 96)
        assert (spots(picture) - wanted[0]).norm(dim=-1).max() < 1.0


def test_a_mirrored_or_unturned_object_would_be_noticed(host, nodes):
    splat, = call(nodes["gaussians"].Bloom4DGaussiansToSplat, gaussians=lamp(1))
    wanted, _ = project(lamp(1).positions, *camera(35.0, 20.0), 96, 96)
    for signs in ((1.0, -1.0, -1.0), (-1.0, 1.0, 1.0), (1.0, 1.0, -1.0)):
        splat.positions = splat.positions * torch.tensor(signs)
        assert (spots(render(host, splat, camera(35.0, 20.0))[0]) - wanted[0]).norm(dim=-1).max() > 4.0
        splat.positions = splat.positions * torch.tensor(signs)


def test_frames_are_interpolated_and_the_host_counts_them(nodes, host):
    splat, = call(nodes["gaussians"].Bloom4DGaussiansToSplat, gaussians=lamp(), frames=7)
    assert splat.positions.shape == (7, 3, 3) and splat.opacities.shape == (7, 3, 1) and splat.sh.shape == (7, 3, 1, 3) and splat.counts is None
    assert torch.allclose(splat.positions[3], lamp().positions[1] * torch.tensor([1.0, -1.0, -1.0]))
    one, = call(nodes["gaussians"].Bloom4DGaussiansToSplat, gaussians=lamp(), frames=1)
    assert one.positions.shape[0] == 1


@pytest.mark.parametrize("format", ["ply", "ksplat", "spz"])
def test_the_hosts_exporters_take_an_instant_and_give_it_back(nodes, host, format):
    instant, = call(nodes["gaussian_tools"].Bloom4DPickTime, gaussians=lamp(), time=0.75)
    splat, = call(nodes["gaussians"].Bloom4DGaussiansToSplat, gaussians=instant)
    file, = host.SplatToFile3D.execute(splat=splat, format=format).args
    read, = host.File3DToSplat.execute(model_3d=file).args
    again, = call(nodes["gaussians"].Bloom4DSplatToGaussians, splat=read)
    wanted = sample_times(lamp(), torch.tensor([0.75]))
    for name, error in (("positions", 2e-4), ("scales", 4e-3), ("opacities", 3e-3), ("harmonics", 0.02)):
        assert (getattr(again, name) - getattr(wanted, name)[:1]).abs().max() < error, name
    assert again.frames == 1


def test_a_batch_of_the_host_comes_back_as_it_went(nodes, host):
    splat, = call(nodes["gaussians"].Bloom4DGaussiansToSplat, gaussians=lamp(4))
    moved, = host.TransformSplat.execute(splat, 0.5, 0, 0, 0, 0, 90, 2, 2, 2).args
    back, = call(nodes["gaussians"].Bloom4DSplatToGaussians, splat=moved)
    ours, = call(nodes["gaussian_tools"].Bloom4DTransformGaussians, gaussians=lamp(4), scale=2.0, rotate_z=-90.0, translate_x=0.5)
    assert back.frames == 4 and torch.allclose(back.positions, ours.positions, atol=1e-5), "a turn about z is the other way round seen from behind"
    merged, = host.MergeSplat.execute(splats={"splat0": splat, "splat1": splat}).args
    twice, = call(nodes["gaussians"].Bloom4DSplatToGaussians, splat=merged)
    wanted, = call(nodes["gaussian_tools"].Bloom4DMergeGaussians, clouds={"cloud0": lamp(4), "cloud1": lamp(4)})
    assert torch.allclose(twice.positions, wanted.positions, atol=1e-6) and twice.count == wanted.count == 6


def test_tools_chain(nodes):
    tools = nodes["gaussian_tools"]
    trimmed, = call(tools.Bloom4DTrimGaussians, gaussians=lamp(), time_start=0.5, box={"box": "box", **CORNERS, "x_max": 0.4})
    assert trimmed.count == 2 and trimmed.frames == 2
    retimed, = call(tools.Bloom4DRetimeGaussians, gaussians=trimmed, frames=5, reverse=True)
    assert torch.allclose(retimed.positions[0, 1], lamp().positions[2, 2])
    fitted, = call(tools.Bloom4DTransformGaussians, gaussians=retimed, fit=True)
    assert math.isclose(float(fitted.positions.norm(dim=-1).amax()), 1.0, rel_tol=1e-5)


def test_unknown_choices_and_wrong_ranges_are_named(nodes):
    tools = nodes["gaussian_tools"]
    with pytest.raises(ValueError, match='"box" was set to none of its options'):
        call(tools.Bloom4DTrimGaussians, gaussians=lamp(), box=None)
    with pytest.raises(ValueError, match="lower corner must lie below"):
        call(tools.Bloom4DTrimGaussians, gaussians=lamp(), box={"box": "box", **CORNERS, "y_min": 2.0})
    with pytest.raises(ValueError, match="Swap them"):
        call(tools.Bloom4DTrimGaussians, gaussians=lamp(), time_start=0.8, time_end=0.2, box={"box": "none"})
    with pytest.raises(ValueError, match="nothing to merge"):
        call(tools.Bloom4DMergeGaussians, clouds={})


def spoiled(value: float, reach: float = 1.0) -> Gaussians4D:
    positions = lamp().positions * reach
    positions[1, 0, 0] = value
    return replace(lamp(), positions=positions)


@pytest.mark.parametrize(("gaussians", "message"), [
    (lamp().chosen(torch.zeros(3, dtype=torch.bool)), "an empty cloud"),
    (spoiled(float("nan")), "positions that are not finite: 1 of 3 Gaussians"),
    (spoiled(1e9), "exploded: 33.3%"),
])
def test_useless_clouds_are_refused_by_every_node(nodes, gaussians, message):
    tools = nodes["gaussian_tools"]
    takers = [
        lambda: call(nodes["gaussians"].Bloom4DGaussiansToSplat, gaussians=gaussians),
        lambda: call(tools.Bloom4DRetimeGaussians, gaussians=gaussians),
        lambda: call(tools.Bloom4DTransformGaussians, gaussians=gaussians),
        lambda: call(tools.Bloom4DMergeGaussians, clouds={"cloud0": lamp(), "cloud1": gaussians}),
        lambda: call(tools.Bloom4DPickTime, gaussians=gaussians),
    ]
    for taker in takers:
        with pytest.raises(ValueError, match=message):
            taker()


def test_a_cloud_with_a_few_broken_gaussians_can_be_cured(nodes):
    cured, = call(nodes["gaussian_tools"].Bloom4DTrimGaussians, gaussians=spoiled(float("nan")), box={"box": "none"})
    assert cured.count == 2 and torch.isfinite(cured.positions).all()


def test_two_million_gaussians_are_estimated_before_anything_is_done(nodes, monkeypatch):
    from bloom4d.nodes.host import estimates

    monkeypatch.setattr(estimates, "free_bytes", lambda device: 4_000_000_000)
    large = heavy(2_000_000, 240)
    tools, clouds = nodes["gaussian_tools"], {"cloud0": large, "cloud1": large}
    for node, values in ((tools.Bloom4DRetimeGaussians, {"gaussians": large}), (tools.Bloom4DMergeGaussians, {"clouds": clouds}), (nodes["gaussians"].Bloom4DGaussiansToSplat, {"gaussians": large})):
        unwatched = getattr(node.execute, "__wrapped__", node.execute)  # to compare its bytes before and after they would have to exist
        with pytest.raises(ValueError, match=r"(2,000,000 Gaussians at 240 times take about 13.5 GB|4,000,000 Gaussians at 480 times take about 53.9 GB), and 4.0 GB are free. Ask for fewer frames"):
            unwatched(**{**defaults(node), **values})


def test_splats_that_are_none_are_refused(nodes, host):
    splat, = call(nodes["gaussians"].Bloom4DGaussiansToSplat, gaussians=lamp())
    splat.counts = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match="The splat is empty: 0 Gaussians in 3 items"):
        call(nodes["gaussians"].Bloom4DSplatToGaussians, splat=splat)
    splat.counts, splat.opacities = None, splat.opacities * float("nan")
    with pytest.raises(ValueError, match="opacities are not finite"):
        call(nodes["gaussians"].Bloom4DSplatToGaussians, splat=splat)


WHOLE = {"path": "together", "time_start": 0.0, "time_end": 1.0}


def shot(nodes, **values) -> list[torch.Tensor]:
    return call(nodes["gaussians"].Bloom4DRenderGaussians, **{"gaussians": lamp(), "path": WHOLE, "frames": 6, "width": 96, "height": 96, "colour": "#000000", **values})


def places(picture: torch.Tensor, time: float, view) -> float:
    """How far, in pixels, the parts are from where they should be."""
    wanted, _ = project(sample_times(lamp(), torch.tensor([time])).positions, *view, 96, 96)
    return float((spots(picture) - wanted[0]).norm(dim=-1).max())


def test_our_pictures_are_the_hosts(nodes, host):
    view = camera(35.0, 20.0)
    ours = shot(nodes, frames=3, turns=0.0, azimuth=35.0, elevation=20.0)[0]
    splat, = call(nodes["gaussians"].Bloom4DGaussiansToSplat, gaussians=lamp())
    half = 0.5  # the host has whole numbers at its pixels' centres, we have halves there
    assert (spots_of(ours) - (spots_of(render(host, splat, view)) - half)).abs().max() < 0.2
    for picture, time in zip(ours, (0.0, 0.5, 1.0)):
        assert places(picture, time, view) < 0.3


def spots_of(pictures: torch.Tensor) -> torch.Tensor:
    return torch.stack([spots(picture) for picture in pictures])


@pytest.mark.parametrize(("path", "turns", "seen"), [
    (WHOLE, 1.0, [(0.0, 0.0), (0.4, 120.0), (1.0, 300.0)]),
    ({"path": "frozen", "time": 0.8}, 1.0, [(0.8, 0.0), (0.8, 120.0), (0.8, 300.0)]),
    ({"path": "ping-pong", "time_start": 0.0, "time_end": 1.0, "cycles": 1.0}, 0.0, [(0.0, 0.0), (2 / 3, 0.0), (1 / 3, 0.0)]),
    ({"path": "ping-pong", "time_start": 0.0, "time_end": 1.0, "cycles": 1.0}, -1.0, [(0.0, 0.0), (2 / 3, -120.0), (1 / 3, -300.0)]),
    ({"path": "free orbit", "time_start": 0.0, "time_end": 1.0, "cycles": 2.0}, 0.5, [(0.0, 0.0), (1.0, 60.0), (1.0, 150.0)]),
])
def test_camera_and_time_run_as_told(nodes, path, turns, seen):
    pictures = shot(nodes, path=path, turns=turns)[0]
    for number, (time, azimuth) in zip((0, 2, 5), seen):
        assert places(pictures[number], time, camera(azimuth, 15.0)) < 0.3, number


def test_cameras_of_ours_and_of_the_host_are_taken(nodes, host):
    from bloom4d.models.geometry.cameras import CameraPath

    path = CameraPath(frames=4, azimuth_degrees=20.0, turns=0.5, times=(1.0, 0.0))
    pictures = shot(nodes, cameras=path)[0]
    assert len(pictures) == 4 and places(pictures[0], 1.0, camera(20.0, 15.0)) < 0.3
    frozen = shot(nodes, cameras=path, path={"path": "frozen", "time": 0.25})[0]
    assert places(frozen[2], 0.25, camera(20.0 + 90.0, 15.0)) < 0.3
    info, = host.CreateCameraInfo.execute({"mode": "orbit", "yaw": 50.0, "pitch": 10.0, "distance": 2.9}, 0.0, 0.0, 0.0, 0.0, 42.0).args
    turned = shot(nodes, camera_info=info, turns=0.5)[0]
    assert places(turned[0], 0.0, camera(50.0, 10.0)) < 0.3 and places(turned[5], 1.0, camera(50.0 + 150.0, 10.0)) < 0.3
    with pytest.raises(ValueError, match="Connect one of them"):
        shot(nodes, cameras=path, camera_info=info)
    with pytest.raises(ValueError, match="orthographic"):
        shot(nodes, camera_info={**info, "cameraType": "orthographic"})


def test_mask_depth_and_flow_mean_what_they_say(nodes):
    image, mask, depth, flow = shot(nodes, gaussians=replace(lamp(), opacities=torch.full((1, 3), 0.99)), frames=1, turns=0.0, elevation=0.0, colour="#00ff00", path={"path": "frozen", "time": 0.0})
    centre = project(lamp().positions[:1], *camera(0.0, 0.0), 96, 96)[0][0].long()
    white, red, blue = ((index[1], index[0]) for index in centre)
    assert torch.allclose(mask[0][blue], torch.tensor(0.98), atol=0.03) and float(mask[0, 2, 2]) == 0.0
    assert torch.allclose(image[0, 2, 2], torch.tensor([0.0, 1.0, 0.0])) and image[0][red][0] > 0.9
    assert float(depth[0][blue][0]) > 0.95 * float(mask[0][blue]) and float(depth[0][white][0]) < 0.3, "blue is in front"
    assert float(depth[0, 2, 2, 0]) == 0.0
    assert torch.allclose(flow[0][white], torch.ones(3), atol=0.02), "it stands still"
    from torchvision.utils import flow_to_image

    upwards = flow_to_image(torch.tensor([0.0, -1.0])[:, None, None]).flatten() / 255.0
    assert (flow[0][blue] - upwards).abs().max() < 0.1


def test_a_cloud_out_of_sight_gives_empty_pictures(nodes):
    far = replace(lamp(), positions=lamp().positions + 500.0)
    image, mask, depth, flow = shot(nodes, gaussians=far, frames=2)
    assert not mask.any() and not image.any() and not depth.any() and (flow > 0.99).all()
    one, = shot(nodes, gaussians=lamp(1), frames=1)[:1]
    assert places(one[0], 0.0, camera(0.0, 15.0)) < 0.3, "a single frame stands still"


def test_a_splat_renderer_brings_its_settings_and_another_is_refused(nodes):
    from bloom4d.models.render.splat_projection import SplatSettings
    from bloom4d.models.render.splat_renderer import SplatRenderer
    from bloom4d.models.render.volume import VolumeRenderer

    plain, wide = shot(nodes, frames=1)[1], shot(nodes, frames=1, renderer=SplatRenderer(SplatSettings(dilation=4.0)))[1]
    assert (wide > 0.02).sum() > 1.3 * (plain > 0.02).sum()
    with pytest.raises(ValueError, match="The renderer draws volumes, and these are Gaussians"):
        shot(nodes, renderer=VolumeRenderer())


@pytest.mark.parametrize(("change", "message"), [
    ({"colour": "red"}, "is no colour"),
    ({"path": None}, '"path" was set to none of its options'),
    ({"gaussians": spoiled(float("nan"))}, "not finite"),
    ({"gaussians": lamp().chosen(torch.zeros(3, dtype=torch.bool))}, "an empty cloud"),
])
def test_bad_renders_are_refused(nodes, change, message):
    with pytest.raises(ValueError, match=message):
        shot(nodes, **change)
