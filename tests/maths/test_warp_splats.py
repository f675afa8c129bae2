"""The warp twin of splat compositing against the reference twin: values to 1e-5, gradients to 1e-4, the same bytes always."""

from dataclasses import replace

import pytest
import torch
from splat_scenes import FOV, cloud, front, single, stacked

from bloom4d.models.geometry.cameras import orbit
from bloom4d.models.render import splats_torch, splats_warp
from bloom4d.models.render.splat_projection import SplatSettings, Splats, project
from bloom4d.models.render.splats import rasterise

pytest.importorskip("warp")
EXACT = SplatSettings(max_alpha=0.999)
LEAVES = ("centre", "conic", "opacity", "features")
NEAR_A_THRESHOLD = 1e-5  # relative: single precision decides it either way


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def cameras(batch=1):
    numbers = torch.arange(batch, dtype=torch.float32)
    return orbit(0.4 + 1.3 * numbers, 0.2 - 0.15 * numbers, 2.9 + 0.0 * numbers), torch.full((batch,), FOV)


def projected(count=400, height=33, width=40, batch=2, channels=3, size=0.08, seed=2):
    scene = cloud(count, seed=seed, batch=batch, channels=channels, dtype=torch.float32, size=size)
    return project(*scene, *cameras(batch), height, width, EXACT).splats


def doubtful(splats: Splats, views, height, width, settings=EXACT):
    """Pixels (B, H, W) with a pair whose alpha or light lies within 1e-5 of a threshold, by a loop in double."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    light, found = torch.ones(views, height, width, dtype=torch.float64), torch.zeros(views, height, width, dtype=torch.bool)

    def near(value, threshold):
        return (value / threshold - 1.0).abs() < NEAR_A_THRESHOLD

    for view, centre, conic, opacity in zip(splats.view.tolist(), splats.centre.double(), splats.conic.double(), splats.opacity.double()):
        dx, dy = x - centre[0], y - centre[1]
        alpha = opacity * torch.exp(-0.5 * (conic[0] * dx * dx + conic[2] * dy * dy) - conic[1] * dx * dy)
        counts = (alpha >= settings.alpha_threshold) & (light[view] > settings.transmittance_stop)
        after = light[view] * (1.0 - alpha.clamp(max=settings.max_alpha))
        found[view] |= near(alpha, settings.alpha_threshold) | counts & (near(alpha, settings.max_alpha) | near(after, settings.transmittance_stop))
        light[view] = torch.where(counts, after, light[view])
    return found


def outcome(twin, splats, views, height, width, weights, settings=EXACT, dtype=torch.float32):
    """Sums and weights as one picture, and the gradients of its random linear loss, in double."""
    moved = Splats(**{name: value.to(dtype) if value.is_floating_point() else value for name, value in vars(splats).items()})
    leaves = [getattr(moved, name).clone().requires_grad_(True) for name in LEAVES]
    sums, alpha = twin(replace(moved, **dict(zip(LEAVES, leaves))), views, height, width, settings)
    maps = torch.cat([sums, alpha[..., None]], dim=-1)
    return maps.detach().double(), [value.double() for value in torch.autograd.grad((maps * weights.to(dtype)).sum(), leaves)]


def error(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize(("count", "height", "width", "batch", "channels", "size"), [
    (2000, 64, 64, 1, 3, 0.04), (400, 33, 40, 2, 3, 0.08), (300, 17, 9, 3, 5, 0.3), (40, 64, 48, 1, 1, 0.6), (1, 5, 5, 1, 3, 0.2),
])  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_equal_the_reference(count, height, width, batch, channels, size, dtype, record_property):
    splats = projected(count, height, width, batch, channels, size)
    unsure = doubtful(splats, batch, height, width)
    record_property("share_near_a_threshold", float(unsure.double().mean()))
    assert unsure.double().mean() < 1e-3
    weights = torch.randn(batch, height, width, channels + 2, generator=seeded(1)) * ~unsure[..., None]
    maps, gradients = outcome(splats_warp.composite, splats, batch, height, width, weights)
    expected, wanted = outcome(splats_torch.composite, splats, batch, height, width, weights, dtype=dtype)
    assert error(maps[~unsure], expected[~unsure]) < 1e-5
    assert [error(*pair) < 1e-4 for pair in zip(gradients, wanted)] == [True] * 4


def test_the_comparison_sees_a_forgotten_splat():
    splats = projected()
    fewer = Splats(**{name: value[:, 1:] if name == "box" else value[1:] for name, value in vars(splats).items()})
    weights = torch.ones(2, 33, 40, 5)
    maps, _ = outcome(splats_warp.composite, fewer, 2, 33, 40, weights)
    assert error(maps, outcome(splats_torch.composite, splats, 2, 33, 40, weights)[0]) > 1e-3


def test_the_light_stops_and_the_maximum_alpha_has_no_slope():
    wall = single((0.0, 0.0, 0.5), 0.5, 1.0, (1.0, 0.0, 0.0))
    behind = [single((0.0, 0.0, 0.1 * -index), 0.5, 0.8, (0.0, 1.0, 0.0)) for index in range(4)]
    scene = [value.float() for value in stacked(wall, *behind)]
    for backend in ("warp", "torch"):
        leaves = [value.clone().requires_grad_(True) for value in scene]
        seen = rasterise(*leaves, *(value.float() for value in front()), 33, 33, EXACT, backend=backend)
        middle = seen.rgb[0, 16, 16]
        assert middle.tolist() == pytest.approx([0.999, 0.001 * 0.8, 0.0], rel=1e-3)  # one more passes, then it is too dark
        middle.sum().backward()
        opacity, colour = leaves[3].grad[0], leaves[4].grad[0, :, 0]
        assert opacity[0] == 0 and opacity[1] != 0 and colour.tolist() == pytest.approx([0.999, 0.0008, 0.0, 0.0, 0.0], rel=1e-3)


def test_a_whole_render_with_flow_and_screen_gradients_equals_the_reference():
    scene, pose = cloud(300, seed=4, batch=2, dtype=torch.float32), cameras(2)
    later, results = scene[0] + 0.05, []
    for backend in ("warp", "torch"):
        leaves, shifts = [value.clone().requires_grad_(True) for value in scene], torch.zeros(2, 300, 2, requires_grad=True)
        seen = rasterise(*leaves, *pose, 31, 29, EXACT, later=later, screen_gradients=shifts, backend=backend)
        maps = torch.cat([seen.rgb, seen.alpha[..., None], seen.depth[..., None], seen.flow], dim=-1)
        weights = torch.randn(maps.shape, generator=seeded(3))
        results.append((maps.detach(), torch.autograd.grad((maps * weights).sum(), [*leaves, shifts]), seen.radii))
    (maps, gradients, radii), (expected, wanted, _) = results
    assert error(maps, expected) < 1e-5 and radii.any()
    assert all(error(*pair) < 1e-3 for pair in zip(gradients, wanted))  # a pair near a threshold may count in one only


def test_nothing_to_see_is_black_and_has_a_gradient_path():
    empty = [value[:, :0].clone().requires_grad_(True) for value in cloud(3, dtype=torch.float32)]
    seen = rasterise(*empty, *cameras(), 8, 9, EXACT, backend="warp")
    assert seen.rgb.shape == (1, 8, 9, 3) and not seen.rgb.any()
    seen.rgb.sum().backward()


def test_the_picture_does_not_depend_on_the_tiles():
    """A small budget makes tiles larger; values stay, gradients are summed in another order."""
    splats, weights = projected(), torch.randn(2, 33, 40, 5, generator=seeded(1))
    lists = [splats_warp._Lists.of(splats, 2, 33, 40, settings) for settings in (EXACT, replace(EXACT, bytes_at_once=1))]
    assert lists[0].tile == 8 and lists[1].tile > 8 and lists[1].pair.numel() < lists[0].pair.numel()
    maps, gradients = outcome(splats_warp.composite, splats, 2, 33, 40, weights)
    larger, again = outcome(splats_warp.composite, splats, 2, 33, 40, weights, replace(EXACT, bytes_at_once=1))
    assert torch.equal(maps, larger) and all(error(*pair) < 1e-5 for pair in zip(again, gradients))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_bytes_do_not_depend_on_the_number_of_threads(threads):
    splats, weights, before = projected(), torch.randn(2, 33, 40, 5, generator=seeded(1)), torch.get_num_threads()
    alone = outcome(splats_warp.composite, splats, 2, 33, 40, weights)
    try:
        torch.set_num_threads(threads)
        maps, gradients = outcome(splats_warp.composite, splats, 2, 33, 40, weights)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(maps, alone[0]) and all(torch.equal(*pair) for pair in zip(gradients, alone[1]))


def test_it_renders_under_inference_mode_and_double_precision_goes_to_the_reference():
    scene, pose = cloud(50, dtype=torch.float32), cameras()
    with torch.inference_mode():
        seen = rasterise(*scene, *pose, 16, 16, EXACT, backend="warp")
    assert error(seen.rgb, rasterise(*scene, *pose, 16, 16, EXACT, backend="torch").rgb) < 1e-5
    double = [[value.double() for value in values] for values in (scene, pose)]
    both = [rasterise(*double[0], *double[1], 16, 16, EXACT, backend=backend).rgb for backend in ("warp", "torch")]
    assert torch.equal(*both)


def test_a_name_that_is_no_backend_of_splats_is_refused():
    with pytest.raises(ValueError, match='splats can not run by "fortran". Choose gsplat or warp or torch'):
        rasterise(*cloud(3), *(value.double() for value in cameras()), 8, 8, EXACT, backend="fortran")
