"""Toy objects: tracks against closed forms of their motions."""

import math

import pytest
import torch

from bloom4d.models.data.styles import PALETTE
from bloom4d.models.data.toy_motion import KINDS, Toy
from bloom4d.models.gaussians.gaussians import srgb
from bloom4d.models.geometry.rotations import quaternion_to_matrix

TIMES = torch.linspace(0, 1, 9)


def tracks(kind, **options):
    return Toy(kind, seed=5, **options).gaussians(TIMES)


def matrices(gaussians):
    """Rotations as matrices (T, N, 3, 3)."""
    wxyz = gaussians.expanded()["rotations"].double()
    return quaternion_to_matrix(wxyz[..., [1, 2, 3, 0]].reshape(-1, 4)).view(*wxyz.shape[:2], 3, 3)


def covariances(gaussians):
    axes = matrices(gaussians) * gaussians.expanded()["scales"].double()[..., None, :]
    return axes @ axes.transpose(-1, -2)


def test_there_are_at_least_twelve_kinds_and_each_says_what_it_does():
    captions = {Toy(kind, seed=5).caption() for kind in KINDS}
    assert len(captions) == len(KINDS) >= 12
    assert all(caption.endswith(" object") and any(word in caption for word in PALETTE) for caption in captions)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_still_one_rests_and_everything_stays_in_the_unit_ball(kind):
    first, second = tracks(kind), Toy(kind, seed=5).gaussians(TIMES[2:3])
    moved = [name for name, value in first.attributes().items() if (value - value[:1]).abs().max() > 1e-3]
    assert bool(moved) == (kind != "static")
    assert all(torch.equal(value[:1] if value.shape[0] == 1 else value[2:3], second.attributes()[name]) for name, value in first.attributes().items())
    assert first.positions.norm(dim=-1).max() < 1 and first.scales.max() < 0.2
    assert (first.rotations.norm(dim=-1) - 1).abs().max() < 1e-5


def test_the_seed_decides_and_the_kind_does_not_draw():
    assert torch.equal(tracks("spin").positions, tracks("spin").positions)
    assert torch.equal(tracks("spin").positions[0], tracks("pulse").positions[0])
    assert not torch.equal(tracks("spin").positions[0], Toy("spin", seed=6).gaussians(TIMES).positions[0])


def test_a_slide_is_a_sine_along_one_horizontal_direction():
    offset = tracks("translate").positions - tracks("static").positions
    size = 0.3 * torch.sin(2 * math.pi * TIMES)
    assert (offset.norm(dim=-1) - size.abs()[:, None]).abs().max() < 1e-6
    assert offset[..., 1].abs().max() == 0 and (offset[2] + offset[6]).abs().max() < 1e-6


@pytest.mark.parametrize(("speed", "cycles"), [(1.0, 1), (0.5, 0.5), (3.0, 3)])
def test_speed_is_cycles_and_a_spin_turns_towards_plus_x(speed, cycles):
    moved = Toy("spin", seed=5, speed=speed).gaussians(torch.tensor([0.0, 0.1])).positions.double()
    angle = torch.atan2(moved[..., 0], moved[..., 2])  # azimuth grows from +Z to +X
    turned = torch.remainder(angle[1] - angle[0] + math.pi, 2 * math.pi) - math.pi
    expected = math.remainder(0.1 * 2 * math.pi * cycles, 2 * math.pi)
    assert torch.remainder(turned - expected + math.pi, 2 * math.pi).sub(math.pi).abs().max() < 1e-4


def test_a_swing_is_rigid_about_its_pivot():
    moved = tracks("swing").positions.double()
    pivot = torch.tensor((0.0, 0.7, 0.0)).double()
    assert ((moved - pivot).norm(dim=-1) - (moved[0] - pivot).norm(dim=-1)).abs().max() < 1e-6
    distances = torch.cdist(moved, moved)
    assert (distances - distances[0]).abs().max() < 1e-5
    low = moved[:, moved[0, :, 1].argmin()] - pivot
    angle = torch.atan2(low[:, 0], -low[:, 1])
    assert (angle - angle[0] - 0.6 * torch.sin(2 * math.pi * TIMES)).abs().max() < 1e-5


@pytest.mark.parametrize(("kind", "plane", "pivot"), [("bend", (0, 1), -0.55), ("twist", (2, 0), 0.0)])
def test_bend_and_twist_turn_in_proportion_to_the_height(kind, plane, pivot):
    moved = tracks(kind).positions.double()
    moved[..., 1] -= pivot
    angle = torch.atan2(moved[..., plane[1]], moved[..., plane[0]])
    turned = torch.remainder(angle[1] - angle[0] + math.pi, 2 * math.pi) - math.pi
    height = moved[0, :, 1]
    slope = torch.stack((height, torch.ones_like(height)), 1)
    fit = torch.linalg.lstsq(slope, turned[:, None])
    assert (slope @ fit.solution - turned[:, None]).abs().max() < 1e-5 and fit.solution[0].abs() > 0.5


def test_a_squash_keeps_the_volume_and_moves_covariances_as_the_stretch_says():
    moved = tracks("squash")
    ratio = moved.positions.double() / moved.positions[:1].double()
    stretch = torch.diag_embed(ratio[:, 0])
    assert (ratio - ratio[:, :1]).abs().max() < 1e-4
    assert (moved.scales.prod(-1) / moved.scales[0].prod(-1) - 1).abs().max() < 1e-5
    expected = stretch[:, None] @ covariances(moved)[:1] @ stretch[:, None]
    assert (covariances(moved) - expected).abs().max() < 1e-7
    assert (expected - covariances(moved)[:1]).abs().max() > 1e-3


def test_a_pulse_scales_places_and_parts_alike():
    moved, factor = tracks("pulse"), 1 + 0.3 * torch.sin(2 * math.pi * TIMES)
    for name in ("positions", "scales"):
        value = getattr(moved, name)
        assert (value - value[:1] * factor[:, None, None]).abs().max() < 1e-6


def test_walking_legs_are_out_of_phase_and_a_fold_is_symmetric():
    limbs = Toy("walk", seed=5).body().limbs
    moved = tracks("walk").positions[2].double() - torch.tensor((0.0, 0.03, 0.0)).double()  # the trunk bobs twice in a cycle
    rest = tracks("walk").positions[0].double()
    turned = torch.atan2(moved[:, 2], -moved[:, 1]) - torch.atan2(rest[:, 2], -rest[:, 1])
    assert (turned[limbs == 1] + 0.55).abs().max() < 1e-5 and (turned[limbs == 2] - 0.55).abs().max() < 1e-5
    plate = tracks("fold").positions
    assert plate[4, :, 1].min() > plate[0, :, 1].min() and (plate[4, :, 1] > 0.2).sum() > 8  # both halves rise
    assert (plate[0] - plate[8]).abs().max() < 1e-6 and (plate[4, :, 0].abs() < plate[0, :, 0].abs() + 0.05).all()


def test_only_the_satellite_goes_round():
    moved = tracks("orbit").positions
    assert (moved[:, 1:] - moved[:1, 1:]).abs().max() < 1e-6
    assert (moved[:, 0].norm(dim=-1) - 0.8).abs().max() < 1e-5 and (moved[4, 0] + moved[0, 0]).abs().max() < 1e-5


def test_parts_appear_once_and_colours_change_and_return():
    opacity = tracks("appear").opacities
    assert (opacity[0] == 0).any() and (opacity[-1] > 0.89).all() and (opacity.diff(dim=0) >= 0).all()
    colours = srgb(tracks("recolour"))
    assert (colours[0] - colours[8]).abs().max() < 1e-6 and (colours[0] - colours[4]).abs().amax(-1).min() > 0.1


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("squash", "pulse")])
def test_bands_are_halves_of_one_part_that_turn_with_it(kind):
    moved = tracks(kind, bands=True)
    count = moved.count // 2
    assert count == 24 and (srgb(moved)[0, :count] - srgb(moved)[0, count:]).abs().amax(-1).min() > 0.1
    between = (moved.positions[:, count:] - moved.positions[:, :count]).double()
    turn = matrices(moved)[:, :count] @ matrices(moved)[:1, :count].transpose(-1, -2)
    between = between.expand(len(TIMES), -1, -1)
    assert (between - (turn @ between[:1, ..., None])[..., 0]).abs().max() < 1e-5
    assert between.norm(dim=-1).min() > 0.05


def test_many_parts_are_smaller_and_nonsense_is_refused():
    assert tracks("spin", parts=4000).scales.max() < 0.13 / 4
    with pytest.raises(ValueError, match="choose one of translate, "):
        Toy("fly")
    with pytest.raises(ValueError, match="give at least 1"):
        Toy("spin", parts=0)
