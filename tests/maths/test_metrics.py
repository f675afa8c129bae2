"""Scores of pictures, motion and views: closed forms, and what each of them must refuse."""

import math

import pytest
import torch
from torch.nn import functional

from bloom4d.models.geometry.cameras import view_time_grid
from bloom4d.models.metrics import motion, nearest, pictures, views

SIZE = 32


def solid(colour, alpha=1.0, size=SIZE):
    """One picture of a colour everywhere (1, 4, size, size), premultiplied."""
    rgba = torch.tensor([*colour, 1.0]) * alpha
    return rgba.view(1, 4, 1, 1).expand(1, 4, size, size).clone()


def disc(x, y, radius, colour=(1.0, 0.0, 0.0), size=SIZE):
    """A hard disc (1, 4, size, size) on nothing."""
    centre = torch.arange(size) + 0.5
    inside = (centre[None, :] - x) ** 2 + (centre[:, None] - y) ** 2 < radius**2
    return inside * solid(colour, size=size)


def blurred(picture):
    return functional.avg_pool2d(functional.pad(picture, (2, 2, 2, 2)), 5, 1)


def test_psnr_is_twenty_for_an_error_of_a_tenth_over_white():
    assert pictures.psnr(solid((0.5, 0.5, 0.5)), solid((0.6, 0.6, 0.6))).item() == pytest.approx(20.0, abs=1e-4)
    assert pictures.psnr(solid((0.5, 0.5, 0.5)), solid((0.5, 0.5, 0.5))).item() == 100.0
    assert pictures.psnr(solid((0.0, 0.0, 0.0), 0.1), solid((0, 0, 0), 0.0)).item() == pytest.approx(20.0, abs=1e-4), "black haze darkens the white behind"


def test_laplacian_of_one_bright_pixel():
    spot = torch.zeros(1, 1, 7, 7)
    spot[..., 3, 3] = 1.0
    assert pictures.laplacian(spot).sum().item() == 8.0  # 4 in the middle, 1 at each neighbour
    ramp = torch.arange(7.0).expand(1, 1, 7, 7)
    assert pictures.laplacian(ramp).sum().item() == 0.0


def test_sharpness_is_linear_in_contrast_and_falls_by_blur():
    grey, black = disc(16, 16, 9, (0.5, 0.5, 0.5)), disc(16, 16, 9, (0.0, 0.0, 0.0))
    assert pictures.sharpness(grey, black) == pytest.approx(0.5)
    assert pictures.fine_detail(grey, black) == pytest.approx(0.25), "an energy: quadratic in contrast"
    assert pictures.sharpness(blurred(black), black) < 0.5
    assert pictures.fine_detail(blurred(black), black) < 0.2
    assert pictures.sharpness(torch.cat([black, black]), black) == pytest.approx(1.0), "sets of different size compare"


def test_inner_sharpness_ignores_the_silhouette():
    stripes = (torch.arange(SIZE) % 2).float().expand(SIZE, SIZE)
    plain, striped = disc(16, 16, 12, (0.5, 0.5, 0.5)), disc(16, 16, 12, (1.0, 1.0, 1.0))
    striped[:, :3] *= stripes
    assert pictures.inner_sharpness(plain, striped) == 0.0
    half = striped.clone()
    half[:, :3] = 0.5 * striped[:, :3] + 0.25 * striped[:, 3:]
    assert pictures.inner_sharpness(half, striped) == pytest.approx(0.5)
    assert math.isnan(pictures.inner_sharpness(striped, plain)), "nothing to compare with"


def test_haze_counts_faint_pixels_only():
    picture = solid((1.0, 1.0, 1.0), 0.0)
    picture[..., :8, :] = 0.1
    picture[..., 8:16, :] = 0.5
    assert pictures.haze(picture) == pytest.approx(0.25)


def test_background_error_is_the_mean_alpha_outside():
    ever = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    ever[: SIZE // 2] = True
    floater = solid((1.0, 1.0, 1.0), 0.0)
    floater[..., SIZE // 2 : SIZE // 2 + 4, :] = 0.5  # white, so invisible over white
    assert pictures.background_error(floater, ever) == pytest.approx(0.5 * 4 / 16)
    assert pictures.background_error(solid((1, 0, 0)) * ever, ever) == 0.0


def test_motion_of_a_moving_disc_against_a_frozen_one():
    moving = torch.stack([disc(8 + 2 * step, 16, 5) for step in range(6)])
    half = torch.stack([disc(8 + 2 * (step // 2), 16, 5) for step in range(6)])
    assert motion.motion_ratio(moving, moving) == 1.0
    assert motion.motion_ratio(moving[:1].expand_as(moving), moving) == 0.0
    assert motion.motion_ratio(half, moving) == pytest.approx(2 / 5, rel=0.01)
    assert motion.motion_ratio(moving[motion.scrambled(6)], moving) > 1.5


def test_flicker_is_measured_where_the_real_object_stands_still():
    pot = disc(16, 24, 6, (0.0, 0.0, 1.0))
    truth = torch.stack([torch.maximum(pot, disc(8 + 3 * step, 6, 4)) for step in range(5)])
    assert motion.flicker(truth, truth) == 0.0
    shaking = truth.clone()
    shaking[1::2, :, :3] *= 0.8
    second = motion.flicker(shaking, truth)
    assert second == pytest.approx(2 * 0.2 / 3, rel=1e-4), "blue alternates between 1 and .8: |.8 - 2 + .8| in one of three channels"
    elsewhere = truth.clone()
    elsewhere[1::2, :, :, :10] *= 0.5
    assert motion.flicker(elsewhere, truth) == 0.0
    assert math.isnan(motion.flicker(truth, torch.stack([disc(4 + 5 * step, 6, 2) for step in range(5)]))), "nothing stands still"


def test_correlation_with_time():
    times = torch.arange(6) / 5
    assert motion.time_correlation(0.2 + 0.5 * times, times) == pytest.approx(1.0)
    assert motion.time_correlation((1 - times)[:, None].expand(6, 4), times) == pytest.approx(-1.0)
    assert motion.time_correlation(torch.full((6, 4), 0.3), times) == 0.0
    assert abs(motion.time_correlation(times[motion.scrambled(6)], times)) < 0.1


@pytest.mark.parametrize("count", [4, 6, 8, 16])
def test_scrambled_is_an_order(count):
    assert sorted(motion.scrambled(count).tolist()) == list(range(count))


def ring(angles, radius=0.18, distance=0.6, size=64):
    """Level views of a ball off the axis, at the object's azimuth `angles` (V,) as each of four cameras believes."""
    cameras = view_time_grid(len(angles), 1, elevation_degrees=0.0)
    from bloom4d.models.geometry.cameras import project

    shown = []
    for index, angle in enumerate(angles):
        centre = torch.tensor([[[distance * math.sin(angle), 0.0, distance * math.cos(angle)]]])
        pixel, depth = project(centre, cameras.camera_to_world[index : index + 1], cameras.fov_y[:1], size, size)
        scale = 0.5 * size / math.tan(0.5 * float(cameras.fov_y[0])) / float(depth)
        shown.append(disc(*pixel[0, 0].tolist(), radius * scale, size=size))
    return torch.cat(shown), cameras


def test_one_ball_has_a_hull_and_four_different_ones_have_not():
    same, cameras = ring([0.4] * 4)
    assert views.hull_agreement(same[:, 3], cameras) > 0.97
    turned, _ = ring([0.4, 0.4, 0.4, 0.4 + math.pi / 3])
    assert views.hull_agreement(turned[:, 3], cameras) < 0.8
    assert views.hull_agreement(torch.zeros(4, 64, 64), cameras) == 0.0


def test_opposite_views_of_one_object_are_mirrored_silhouettes():
    front, back = disc(10, 16, 6, (1.0, 0.0, 0.0)), disc(SIZE - 10, 16, 6, (0.0, 0.0, 1.0))
    side = disc(16, 16, 6)
    circle = torch.cat([front, side, back, side])
    assert views.opposite_silhouettes(circle) == 1.0
    area = float(front[:, 3].mean())
    assert views.opposite_difference(circle) == pytest.approx(0.5 * area * 2 / 3, rel=1e-4), "red against blue in one of two pairs"
    assert views.opposite_silhouettes(torch.cat([front, side, front, side])) < 0.6, "the same picture from behind is no object"


def test_a_face_on_both_sides_is_found():
    def face(visible):
        head = disc(16, 16, 12, (0.8, 0.6, 0.5))
        eyes = disc(11, 13, 2.5, (0.0, 0.0, 0.0)) + disc(21, 13, 2.5, (0.0, 0.0, 0.0))
        return torch.cat([head[:, :3] * (1 - eyes[:, 3:]), head[:, 3:]], 1) if visible else head

    assert views.multi_face(torch.cat([face(True)] * 4)) == pytest.approx(1.0)
    assert views.multi_face(torch.cat([face(True), face(True), face(False), face(False)])) < 0.1


def test_the_nearest_instance_and_what_real_objects_score():
    bank = torch.stack([solid((0.1 * step,) * 3).expand(3, 4, SIZE, SIZE) for step in range(5)])
    best = nearest.nearest_instance(solid((0.21,) * 3).expand(3, 4, SIZE, SIZE), bank)
    assert best.index == 2 and best.decibels == pytest.approx(40.0, abs=1e-3)
    assert nearest.leave_one_out(bank) == pytest.approx(20.0, abs=1e-3)


def test_views_of_different_instances_do_not_agree():
    bank = torch.stack([torch.cat([disc(8 + 4 * instance, 16, 5)] * 4) for instance in range(4)])
    soft = 0.9 * bank[1]
    one = nearest.instance_agreement(soft, bank)
    assert one.gap == pytest.approx(0.0, abs=1e-5)
    mixed = nearest.instance_agreement(torch.stack([soft[0], bank[0, 1], bank[3, 2], soft[3]]), bank)
    assert mixed.apart > one.apart and mixed.gap > 3.0, "each view is as real, together they are no object"


def test_ever_covered_joins_instances_and_times():
    bank = torch.stack([torch.stack([disc(6, 6, 3), disc(20, 6, 3)]), torch.stack([disc(6, 20, 3), disc(6, 20, 3)])])  # (K, T, V, ...)
    assert torch.equal(nearest.ever_covered(bank)[0], bank.sum((0, 1))[0, 3] > 0)
