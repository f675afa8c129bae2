"""The splat rasteriser against closed forms, a second rasteriser, and symmetries (acceptance checks F1)."""

import math
from dataclasses import replace

import pytest
import torch
from splat_scenes import FOV, cloud, dense, front, single, stacked

from bloom4d.models.geometry.cameras import orbit
from bloom4d.models.render.backend import rows
from bloom4d.models.render.splat_projection import SplatSettings
from bloom4d.models.gaussians.gaussians import SH_DC, Gaussians4D
from bloom4d.models.geometry.cameras import Cameras
from bloom4d.models.render.splats import rasterise, render_gaussians, sh_colours

EXACT = SplatSettings(max_alpha=0.999)
ATTRIBUTES = ("positions", "rotations", "scales", "opacities", "colours")


def cameras(batch=1, dtype=torch.float64):
    numbers = torch.arange(batch, dtype=dtype)
    return orbit(0.4 + 1.3 * numbers, 0.2 - 0.15 * numbers, 2.9 + 0.0 * numbers), torch.full((batch,), FOV, dtype=dtype)


def picture_of(scene, pose, height=33, width=33, settings=EXACT, **more):
    return rasterise(*scene, *pose, height, width, settings, **{"backend": "torch", **more})


def test_one_round_gaussian_has_its_colour_at_the_centre_and_its_width_in_pixels():
    size, scale, opacity = 65, 0.1, 0.8
    seen = picture_of(single(scale=scale, opacity=opacity), front(), size, size)
    middle = size // 2  # the optical axis meets this pixel's centre
    assert seen.alpha[0, middle, middle] == pytest.approx(opacity, abs=1e-6)
    behind = torch.tensor([0.1, 0.9, 0.4], dtype=torch.float64)
    expected = opacity * torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64) + (1 - opacity) * behind
    assert (seen.over(behind)[0, middle, middle] - expected).abs().max() < 1e-3
    focal = 0.5 * size / math.tan(FOV / 2)
    row = seen.alpha[0, middle]
    offsets = torch.arange(size, dtype=torch.float64) - middle
    drawn = row > 0
    fitted = (offsets[drawn].square().sum() / (-2 * (row[drawn] / opacity).log()).sum()).sqrt()
    assert fitted == pytest.approx(math.hypot(focal * scale / 2.9, math.sqrt(0.3)), rel=1e-3)  # with the dilation: exact
    thin = picture_of(single(scale=scale, opacity=opacity), front(), size, size, replace(EXACT, dilation=0.0)).alpha[0, middle]
    drawn = thin > 0
    fitted = (offsets[drawn].square().sum() / (-2 * (thin[drawn] / opacity).log()).sum()).sqrt()
    assert fitted == pytest.approx(focal * scale / 2.9, rel=1e-3)  # f s / z
    assert seen.depth[0, middle, middle] == pytest.approx(2.9 * opacity)


@pytest.mark.parametrize("nearer, colour", [(0.5, (1.0, 0.0, 0.0)), (-0.5, (0.0, 0.0, 1.0))])
def test_the_nearer_of_two_opaque_gaussians_hides_the_other(nearer, colour):
    red = single((0.0, 0.0, nearer), 0.2, 1.0, (1.0, 0.0, 0.0))
    blue = single((0.0, 0.0, 0.0), 0.2, 1.0, (0.0, 0.0, 1.0))
    seen = picture_of(stacked(red, blue), front())
    assert (seen.rgb[0, 16, 16] - torch.tensor(colour, dtype=torch.float64)).abs().max() < 2e-3


def test_gradients_of_all_fourteen_numbers_are_those_of_finite_differences():
    scene = [value.requires_grad_() for value in cloud(5, seed=3, size=0.2)]
    pose = cameras()
    later = scene[0].detach() + 0.1
    weights = torch.randn(9, 12, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def measured(*values):
        seen = rasterise(*values, *pose, 9, 12, EXACT, later=later)
        maps = torch.cat([seen.rgb[0], seen.alpha[0, ..., None], seen.depth[0, ..., None], seen.flow[0], seen.alpha[0, ..., None] ** 2], dim=-1)
        return (maps * weights).sum()

    assert torch.autograd.gradcheck(measured, scene, eps=1e-6, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("height, width, batch, channels", [(24, 24, 1, 3), (17, 40, 2, 5), (40, 17, 3, 1)])
def test_every_channel_and_gradient_is_that_of_the_second_rasteriser(height, width, batch, channels):
    scene, pose = cloud(70, seed=2, batch=batch, channels=channels), cameras(batch)
    later = scene[0] + 0.05 * torch.randn(scene[0].shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    weights = torch.randn(batch, height, width, channels + 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    results = []
    for render in (lambda *values: dense(*values, *pose, height, width, later=later), lambda *values: _maps(rasterise(*values, *pose, height, width, EXACT, later=later))):
        leaves = [value.clone().requires_grad_() for value in scene]
        rgb, alpha, depth, flow = render(*leaves)
        maps = torch.cat([rgb, alpha[..., None], depth[..., None], flow], dim=-1)
        (maps * weights).sum().backward()
        results.append([maps.detach(), *(leaf.grad for leaf in leaves)])
    assert results[0][0][..., channels].max() > 0.5
    for name, wanted, found in zip(("maps", *ATTRIBUTES), *results):
        assert (found - wanted).abs().max() <= 1e-9 * wanted.abs().max().clamp_min(1.0), name


def _maps(seen):
    return seen.rgb, seen.alpha, seen.depth, seen.flow


@pytest.mark.parametrize("backend", [row.name for row in rows("splats") if row.usable])
def test_single_precision_is_that_of_the_second_rasteriser_in_double(backend):
    scene, pose = cloud(400, seed=4, size=0.06), cameras()
    wanted = dense(*scene, *pose, 48, 48)
    found = picture_of([value.float() for value in scene], [value.float() for value in pose], 48, 48, backend=backend)
    assert (found.rgb - wanted[0]).abs().max() < 2e-5 and (found.alpha - wanted[1]).abs().max() < 2e-5


@pytest.mark.parametrize("budget", [1, 5_000, 60_000])
def test_the_budget_changes_neither_picture_nor_gradient(budget):
    scene, pose, results = cloud(200, seed=6, batch=2), cameras(2), []
    for bytes_at_once in (1 << 30, budget):
        leaves = [value.clone().requires_grad_() for value in scene]
        seen = picture_of(leaves, pose, 20, 31, replace(EXACT, bytes_at_once=bytes_at_once))
        (seen.rgb.square().sum() + seen.depth.square().sum()).backward()
        results.append([seen.rgb, seen.alpha, seen.depth, *(leaf.grad for leaf in leaves)])
    for whole, banded in zip(*results):
        assert (whole - banded).abs().max() <= 1e-11 * whole.abs().max()


def test_a_picture_does_not_depend_on_the_others_of_its_batch():
    scene, pose = cloud(60, seed=13, batch=150, dtype=torch.float32), cameras(150, torch.float32)  # line 9600 of 64-pixel pictures
    alone = picture_of([value[149:] for value in scene], [value[149:] for value in pose], 64, 16)
    assert (picture_of(scene, pose, 64, 16).rgb[149:] - alone.rgb).abs().max() < 1e-6


def test_the_order_of_the_gaussians_does_not_matter():
    scene, pose = cloud(300, seed=7, dtype=torch.float32), cameras(dtype=torch.float32)
    shuffled = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    assert (picture_of(scene, pose).rgb - picture_of([value[:, shuffled] for value in scene], pose).rgb).abs().max() < 1e-5


def test_turning_world_and_camera_together_changes_nothing():
    scene, (pose, fov) = cloud(200, seed=8), cameras()
    turn = torch.tensor([0.5, -0.3, 0.7, 0.41], dtype=torch.float64)
    turn = turn / turn.norm()
    w, x, y, z = turn.tolist()
    matrix = torch.tensor([[1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]], dtype=torch.float64)
    whole = torch.eye(4, dtype=torch.float64)
    whole[:3, :3], whole[:3, 3] = matrix, torch.tensor([0.3, -0.2, 0.5])
    a, v = scene[1][..., :1], scene[1][..., 1:]
    product = torch.cat([w * a - (turn[1:] * v).sum(-1, keepdim=True), w * v + a * turn[1:] + torch.linalg.cross(turn[1:].expand_as(v), v)], dim=-1)
    moved = [scene[0] @ matrix.T + whole[:3, 3], product, *scene[2:]]
    before, after = picture_of(scene, (pose, fov)), picture_of(moved, (whole @ pose, fov))
    assert (before.rgb - after.rgb).abs().max() < 1e-4 and (before.depth - after.depth).abs().max() < 1e-4


def test_flow_is_the_projected_displacement():
    size, shift = 65, torch.tensor([0.05, -0.08, 0.0], dtype=torch.float64)
    scene = single(scale=0.2, opacity=0.9)
    seen = picture_of(scene, front(), size, size, later=scene[0] + shift)
    focal = 0.5 * size / math.tan(FOV / 2)
    expected = focal / 2.9 * torch.tensor([0.05, 0.08], dtype=torch.float64)  # y grows downwards in pictures
    covered = seen.alpha[0] > 0
    assert (seen.flow[0][covered] / seen.alpha[0][covered][:, None] - expected).abs().max() < 1e-9
    assert picture_of(scene, front(), size, size).flow is None
    gone = picture_of(scene, front(), size, size, later=torch.full_like(scene[0], 5.0))  # behind the camera then
    assert (gone.flow == 0).all()


def test_depth_is_along_the_axis_and_not_along_the_ray():
    seen = picture_of(single((0.6, 0.5, 0.4), 0.1, 0.9), front())
    covered = seen.alpha > 0
    assert covered.any() and (seen.depth[covered] / seen.alpha[covered] - 2.5).abs().max() < 1e-9


def test_alpha_below_the_threshold_does_not_count():
    faint = picture_of(single(scale=0.3, opacity=0.99 / 255), front())
    assert (faint.alpha == 0).all() and (faint.radii == 0).all()
    seen = picture_of(single(scale=0.3, opacity=0.5), front(), 65, 65).alpha
    assert seen[seen > 0].min() >= 1 / 255
    focal = 0.5 * 65 / math.tan(FOV / 2)
    variance = (focal * 0.3 / 2.9) ** 2 + 0.3
    ys, xs = torch.meshgrid(torch.arange(65.0) - 32, torch.arange(65.0) - 32, indexing="ij")
    inside = 0.5 * torch.exp(-(xs**2 + ys**2).double() / (2 * variance)) >= 1 / 255
    assert ((seen[0] > 0) == inside).all()


def test_alpha_is_capped_and_the_capped_part_has_no_gradient():
    for cap in (0.999, 0.99, 0.9):
        scene = [value.requires_grad_() for value in single(scale=0.3, opacity=1.0)]
        seen = picture_of(scene, front(), settings=replace(EXACT, max_alpha=cap))
        assert float(seen.alpha[0, 16, 16].detach()) == pytest.approx(cap)
        seen.alpha[0, 16, 16].backward()
        assert scene[3].grad.abs().max() == 0 and scene[2].grad.abs().max() == 0


def test_compositing_stops_before_the_transmittance_reaches_the_stop():
    layers = stacked(*(single((0.0, 0.0, 0.5 - 0.1 * layer), 0.5, 0.9, (float(layer == shown), 0.0, 0.0)) for layer in range(6) for shown in (layer,)))
    layers[4] = torch.eye(6, dtype=torch.float64)[None]
    weights = picture_of(layers, front()).rgb[0, 16, 16]
    # 1 - alpha is 0.1 at the centre: after four layers 1e-4 of the light would be left, so the fourth is not drawn
    expected = torch.tensor([0.9, 0.09, 0.009, 0.0, 0.0, 0.0], dtype=torch.float64)
    assert (weights - expected).abs().max() < 1e-9
    layers[3] = torch.full_like(layers[3], 0.9 - 1e-9)
    assert picture_of(layers, front()).rgb[0, 16, 16, 3] == pytest.approx(0.0009, rel=1e-5)


def test_equal_depths_are_drawn_in_the_order_of_their_numbers():
    layers = stacked(*(single((0.0, 0.0, 0.0), 0.3, 0.5) for _ in range(3)))
    layers[4] = torch.eye(3, dtype=torch.float64)[None]
    assert torch.allclose(picture_of(layers, front()).rgb[0, 16, 16], torch.tensor([0.5, 0.25, 0.125], dtype=torch.float64))


def test_far_outside_the_picture_the_footprint_is_that_of_the_margin():
    position, scale = (1.0, 0.0, 2.0), 0.4  # x / z = 1.11, the margin ends at 1.3 tan(21 deg) = 0.499
    seen = picture_of(single(position, scale, 1.0), front(), 64, 64)
    focal, z = 32 / math.tan(FOV / 2), 0.9
    slope = 1.3 * math.tan(FOV / 2)
    deviation = math.sqrt((focal * scale / z) ** 2 * (1 + slope * slope) + 0.3)
    assert seen.radii[0, 0] == pytest.approx(3.33 * deviation, rel=1e-9)
    assert seen.means2d[0, 0, 0] == pytest.approx(32 + focal * 1.0 / z)  # the centre itself stays


@pytest.mark.parametrize("count, batch", [(0, 1), (0, 2), (3, 0)])
def test_an_empty_cloud_is_an_empty_picture_with_a_gradient_path(count, batch):
    scene = [value.requires_grad_() for value in cloud(count, batch=batch)]
    seen = picture_of(scene, cameras(batch), 5, 7, later=scene[0].detach())
    assert seen.rgb.shape == (batch, 5, 7, 3) and seen.flow.shape == (batch, 5, 7, 2) and seen.radii.shape == (batch, count)
    assert not seen.rgb.any() and not seen.alpha.any()
    (seen.rgb.sum() + seen.alpha.sum() + seen.means2d.sum()).backward()
    assert all(value.grad is not None and not value.grad.any() for value in scene)


def test_what_lies_beside_or_behind_is_not_drawn_and_has_no_gradient():
    scene = stacked(single(), single((50.0, 0.0, 0.0)), single((0.0, 0.0, 4.0)), single((0.0, 0.0, 2.9)), single((0.0, 0.0, 2.895)), single((float("nan"), 0.0, 0.0)),
                    single(scale=float("inf")), single(opacity=float("nan")), single(colour=(float("inf"), 0.0, 0.0)))
    leaves = [value.requires_grad_() for value in scene]
    seen = picture_of(leaves, front())
    alone = picture_of(single(), front())
    assert torch.equal(seen.rgb, alone.rgb) and (seen.radii[0, 1:] == 0).all() and seen.radii[0, 0] > 0
    (seen.rgb.sum() + seen.depth.sum()).backward()
    assert all(torch.isfinite(leaf.grad).all() and not leaf.grad[0, 1:].any() for leaf in leaves)


def test_gradients_stay_finite_without_rotation_and_without_size():
    scene = cloud(40, seed=9)
    scene[1][:, :10] = 0.0
    scene[2][:, 5:15] = 0.0
    leaves = [value.clone().requires_grad_() for value in scene]
    seen = picture_of(leaves, cameras())
    seen.rgb.square().sum().backward()
    assert all(torch.isfinite(leaf.grad).all() for leaf in leaves) and leaves[0].grad[:, 5:15].abs().max() > 0
    scene[1][:, :10, 0] = 1.0  # no rotation at all is what a quaternion of zero means
    assert torch.equal(picture_of(scene, cameras()).rgb, seen.rgb)


def test_a_quaternions_length_means_nothing():
    scene, pose = cloud(50, seed=10), cameras()
    leaf = (scene[1] * 7.0).requires_grad_()
    seen = picture_of([scene[0], leaf, *scene[2:]], pose)
    assert torch.allclose(seen.rgb, picture_of(scene, pose).rgb, atol=1e-12)
    seen.rgb.square().sum().backward()
    assert (leaf.grad * leaf).sum(-1).abs().max() < 1e-9 * leaf.grad.norm()


def test_gradients_of_the_projected_centres_can_be_read_in_two_ways():
    scene, pose = [value.requires_grad_() for value in cloud(60, seed=11, batch=2)], cameras(2)
    zeros = torch.zeros(2, 60, 2, dtype=torch.float64, requires_grad=True)
    seen = picture_of(scene, pose, screen_gradients=zeros)
    seen.means2d.retain_grad()
    seen.rgb.square().sum().backward()
    assert torch.equal(seen.means2d.grad, zeros.grad) and zeros.grad.abs().max() > 0
    number = int(zeros.grad[0].norm(dim=-1).argmax())
    moved = []
    for step in (1e-5, -1e-5):
        shift = torch.zeros_like(zeros)
        shift[0, number, 0] = step
        moved.append(picture_of(scene, pose, screen_gradients=shift).rgb.square().sum())
    assert float((moved[0] - moved[1]).detach() / 2e-5) == pytest.approx(float(zeros.grad[0, number, 0]), rel=1e-5)


def test_settings_that_mean_nothing_are_refused():
    for wrong in ({"max_alpha": 1.0}, {"alpha_threshold": 0.0}, {"alpha_threshold": 0.9995}, {"dilation": -0.1}, {"near": 0.0}, {"bytes_at_once": 0}, {"transmittance_stop": 1.0}):
        with pytest.raises(ValueError, match="splat renderer"):
            SplatSettings(**wrong)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_spherical_harmonics_are_orthonormal_and_have_the_signs_of_3dgs(degree):
    draws = torch.Generator().manual_seed(0)
    count = (degree + 1) ** 2
    directions = torch.nn.functional.normalize(torch.randn(1, 30_000, 3, generator=draws, dtype=torch.float64), dim=-1)
    basis = torch.stack([sh_colours(_one_coefficient(place, count, directions), directions, low=None)[0, :, 0] - 0.5 for place in range(count)])
    products = 4 * math.pi * (basis @ basis.T) / directions.shape[1]
    assert (products - torch.eye(count, dtype=torch.float64)).abs().max() < 0.06
    somewhere = torch.nn.functional.normalize(torch.tensor([[[1.0, 2.0, 3.0]]], dtype=torch.float64), dim=-1)
    signs = [float(sh_colours(_one_coefficient(place, count, somewhere), somewhere, low=None)[0, 0, 0] - 0.5 > 0) for place in range(count)]
    assert signs == [float(sign == "+") for sign in "+-+-+-+--++-+--+"[:count]]
    if degree:
        axes = torch.eye(3, dtype=torch.float64)[None]
        first = torch.stack([sh_colours(_one_coefficient(place, count, axes), axes, low=None)[0, :, 0] - 0.5 for place in (1, 2, 3)])
        signs = torch.tensor([[0, -1, 0], [0, 0, 1], [-1, 0, 0]], dtype=torch.float64)  # -y, z, -x
        assert (first - 0.4886025119 * signs).abs().max() < 1e-9


def _one_coefficient(place, count, directions):
    harmonics = torch.zeros(1, directions.shape[1], count, 3, dtype=torch.float64)
    harmonics[:, :, place] = 1.0
    return harmonics


def test_colours_below_zero_are_black():
    directions = torch.tensor([[[0.0, 1.0, 0.0]]], dtype=torch.float64)
    harmonics = torch.zeros(1, 1, 4, 3, dtype=torch.float64)
    harmonics[..., 1, :] = 5.0
    assert sh_colours(harmonics, directions).max() == 0.0
    assert sh_colours(-harmonics, directions).min() > 2.0


def moving(frames=3, count=30, degree=1):
    positions, rotations, scales, opacities, _ = cloud(count, seed=12, batch=frames)
    rotations = torch.nn.functional.normalize(rotations, dim=-1)
    harmonics = 0.3 * torch.randn(1, count, (degree + 1) ** 2, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return Gaussians4D(positions, rotations[:1], scales[:1], opacities[:1], harmonics, torch.linspace(0, 1, frames, dtype=torch.float64))


def test_gaussians_over_time_are_drawn_at_each_cameras_time():
    gaussians, (pose, fov) = moving(), cameras(4)
    times = torch.tensor([1.0, 0.0, 0.25, 0.5], dtype=torch.float64)  # in any order
    seen = render_gaussians(gaussians, Cameras(pose, fov, times), 20, 24, EXACT, flow=True)
    centre = {0.0: gaussians.positions[0], 0.25: gaussians.positions[:2].mean(0), 0.5: gaussians.positions[1], 1.0: gaussians.positions[2]}
    later = {0.0: gaussians.positions[1], 0.25: gaussians.positions[1:].mean(0), 0.5: gaussians.positions[2], 1.0: gaussians.positions[2]}
    for number, time in enumerate(times.tolist()):
        towards = centre[time] - pose[number, :3, 3]
        colours = sh_colours(gaussians.harmonics, torch.nn.functional.normalize(towards, dim=-1)[None])
        still = (gaussians.rotations, gaussians.scales, gaussians.opacities)
        wanted = dense(centre[time][None], *still, colours, pose[number : number + 1], fov[number : number + 1], 20, 24, later=later[time][None])
        for name, expected in zip(("rgb", "alpha", "depth", "flow"), wanted):
            assert (getattr(seen, name)[number] - expected[0]).abs().max() < 1e-9, name


def test_many_cameras_are_drawn_in_parts_and_give_the_same():
    gaussians, (pose, fov) = moving(), cameras(5)
    path = Cameras(pose, fov, torch.linspace(0, 1, 5, dtype=torch.float64))
    whole, parts = (render_gaussians(gaussians, path, 16, 16, replace(EXACT, bytes_at_once=budget)) for budget in (1 << 30, 20_000))
    assert whole.means2d.shape == parts.means2d.shape == (5, 30, 2)
    assert torch.allclose(whole.rgb, parts.rgb, atol=1e-12) and torch.allclose(whole.radii, parts.radii)


def test_constant_colour_is_the_one_of_the_container():
    gaussians = moving(frames=1, degree=0)
    bright = SH_DC * gaussians.harmonics[..., 0, :] + 0.5
    pose, fov = cameras()
    seen = render_gaussians(gaussians, Cameras(pose, fov, torch.zeros(1, dtype=torch.float64)), 16, 16, EXACT)
    wanted = rasterise(gaussians.positions, gaussians.rotations, gaussians.scales, gaussians.opacities, bright, pose, fov, 16, 16, EXACT)
    assert torch.allclose(seen.rgb, wanted.rgb, atol=1e-12)
