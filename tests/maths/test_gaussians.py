"""The container of Gaussians over time: selection, interpolation, frames."""

import math

import pytest
import torch
from bloom4d.models.gaussians.frames import turned
from bloom4d.models.gaussians.gaussians import Gaussians4D, harmonics_of, sample_times, srgb


def moving(frames=3, count=4, degree=0, seed=0) -> Gaussians4D:
    """Random Gaussians with positions and rotations of their own at each time."""
    draws = torch.Generator().manual_seed(seed)
    random = lambda *shape: torch.randn(*shape, generator=draws)  # noqa: E731
    return Gaussians4D(
        random(frames, count, 3),
        torch.nn.functional.normalize(random(frames, count, 4), dim=-1),
        random(1, count, 3).exp(),
        random(1, count).sigmoid(),
        random(1, count, (degree + 1) ** 2, 3),
        torch.arange(frames) / max(frames - 1, 1),
    )


def test_at_its_own_times_it_is_itself():
    gaussians = moving(5)
    again = sample_times(gaussians, gaussians.times)
    for name, value in gaussians.attributes().items():
        sign = torch.sign((value * getattr(again, name)).sum(-1, keepdim=True)) if name == "rotations" else 1.0
        assert torch.allclose(getattr(again, name) * sign, value, atol=1e-6), name


def test_half_way_between_two_frames():
    turn = lambda angle: torch.tensor([math.cos(angle / 2), 0.0, 0.0, math.sin(angle / 2)])  # noqa: E731
    two = Gaussians4D(
        torch.tensor([[[0.0, 0.0, 0.0]], [[2.0, 4.0, 6.0]]]), torch.stack([turn(0.0)[None], -turn(1.0)[None]]),
        torch.tensor([[[1.0, 1.0, 1.0]], [[4.0, 4.0, 9.0]]]), torch.tensor([[0.0], [1.0]]), torch.zeros(1, 1, 1, 3), torch.tensor([0.0, 1.0]),
    )  # fmt: skip
    middle = sample_times(two, torch.tensor([0.5]))
    assert torch.allclose(middle.positions[0, 0], torch.tensor([1.0, 2.0, 3.0]))
    assert torch.allclose(middle.scales[0, 0], torch.tensor([2.0, 2.0, 3.0]))
    assert torch.allclose(middle.opacities, torch.tensor([[0.5]]))
    assert torch.allclose(middle.rotations[0, 0], turn(0.5), atol=1e-6), "the shorter arc, though the second quaternion has the other sign"


def test_beyond_the_range_and_with_one_frame_the_nearest_is_kept():
    gaussians = moving(3)
    beyond = sample_times(gaussians, torch.tensor([-1.0, 2.0]))
    assert torch.equal(beyond.positions, gaussians.positions[[0, 2]])
    one = sample_times(moving(1), torch.tensor([0.0, 0.3, 1.0]))
    assert one.frames == 3 and torch.equal(one.expanded()["positions"][2], moving(1).positions[0])


def test_frames_and_members_are_chosen():
    gaussians = moving(4, 5)
    assert torch.equal(gaussians.at_frames([1, 3]).positions, gaussians.positions[[1, 3]])
    few = gaussians.chosen(torch.tensor([True, False, False, True, False]))
    assert few.count == 2 and torch.equal(few.scales, gaussians.scales[:, [0, 3]])


def test_attributes_of_other_lengths_are_refused():
    with pytest.raises(AssertionError, match="scales"):
        Gaussians4D(torch.zeros(3, 2, 3), torch.zeros(3, 2, 4), torch.zeros(2, 2, 3), torch.zeros(1, 2), torch.zeros(1, 2, 1, 3), torch.zeros(3))


def test_colours_and_harmonics_are_inverse():
    colours = torch.rand(1, 6, 3, generator=torch.Generator().manual_seed(1))
    gaussians = moving(2, 6)
    assert torch.allclose(srgb(Gaussians4D(**{**gaussians.attributes(), "harmonics": harmonics_of(colours)}, times=gaussians.times)), colours, atol=1e-6)


def test_half_a_turn_is_its_own_inverse_and_turns_covariances():
    from bloom4d.models.geometry.rotations import quaternion_to_matrix

    gaussians = moving(2, 3, degree=3)
    there = turned(gaussians)
    for name, value in turned(there).attributes().items():
        assert torch.equal(value, getattr(gaussians, name))
    spread = lambda g: (m := quaternion_to_matrix(g.rotations[0][:, [1, 2, 3, 0]])) @ torch.diag_embed(g.scales[0].square()) @ m.mT  # noqa: E731
    half = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    assert torch.allclose(spread(there), half @ spread(gaussians) @ half, atol=1e-5)
