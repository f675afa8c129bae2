"""Gaussians that ride on a moving surface."""

import math

import torch
from bloom4d.models.gaussians.gaussians import srgb
from bloom4d.models.gaussians.riding import RidingGaussians, discs, tracks_of
from bloom4d.models.geometry.rotations import quaternion_to_matrix


def about_z(degrees: float) -> torch.Tensor:
    angle = math.radians(degrees)
    return torch.tensor([[math.cos(angle), -math.sin(angle), 0.0], [math.sin(angle), math.cos(angle), 0.0], [0.0, 0.0, 1.0]])


CORNERS = torch.tensor([[0.1, 0.0, 0.0], [0.9, 0.1, 0.0], [0.2, 0.8, 0.3]])
FACE = torch.tensor([[0, 1, 2]])
MIDDLE = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [0.6, 0.3, 0.1]])


def riding(vertices: torch.Tensor, colours: torch.Tensor | None = None) -> RidingGaussians:
    count = len(vertices)
    colours = torch.full((count, 2, 3), 0.25) if colours is None else colours
    times = torch.arange(count) / max(count - 1, 1)
    tracks = tracks_of(vertices, FACE, colours, torch.tensor([0, 0]), MIDDLE, times)
    normal = torch.nn.functional.normalize(torch.linalg.cross(CORNERS[1] - CORNERS[0], CORNERS[2] - CORNERS[0]), dim=0)
    return RidingGaussians(discs(tracks, normal.expand(2, 3), 0.05, 0.9, 0), tracks)


def covariances(gaussians, frame: int) -> torch.Tensor:
    axes = quaternion_to_matrix(gaussians.rotations[frame].roll(-1, -1)) @ torch.diag_embed(gaussians.scales[frame])
    return axes @ axes.mT


def test_a_rigid_motion_moves_and_turns_them_exactly():
    turn, step = about_z(70.0), torch.tensor([0.3, -0.1, 0.2])
    rider = riding(torch.stack([CORNERS, CORNERS @ turn.T + step]))
    with torch.no_grad():
        rider.positions += 0.02  # beside the surface, and turned against it
        rider.quaternions.copy_(torch.nn.functional.normalize(torch.randn(2, 4, generator=torch.Generator().manual_seed(0)), dim=-1))
    moved = rider.at(torch.tensor([0.0, 1.0]))
    assert torch.allclose(moved.positions[1], moved.positions[0] @ turn.T + step, atol=1e-5)
    assert torch.allclose(covariances(moved, 1), turn @ covariances(moved, 0) @ turn.T, atol=1e-6)
    assert torch.allclose(moved.scales[1], moved.scales[0], atol=1e-6)


def test_they_grow_and_vanish_with_their_face():
    rider = riding(torch.stack([CORNERS * 0.5, CORNERS, CORNERS * 1e-4]))
    at = rider.at(torch.tensor([0.0, 0.5, 1.0]))
    assert torch.allclose(at.scales[1, 0], torch.tensor([0.05, 0.05, 0.01]), atol=1e-5), "rest is where the face is largest"
    assert torch.allclose(at.scales[0], 0.5 * at.scales[1], rtol=1e-4)
    assert at.scales[2].max() < 1e-5
    assert torch.allclose(at.positions[0], 0.5 * at.positions[1], atol=1e-6)


def test_stretching_along_one_axis_stretches_along_it():
    wide = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    rider = riding(torch.stack([wide, wide * torch.tensor([3.0, 1.0, 1.0])]))
    with torch.no_grad():
        rider.quaternions.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(2, 4))
        rider.log_scales.fill_(math.log(0.06))
    at = rider.at(torch.tensor([0.0, 1.0]))
    assert torch.allclose(at.scales[1] / at.scales[0], torch.tensor([3.0, 1.0, math.sqrt(3.0)]), rtol=1e-4), "the thickness follows the area"


def test_a_collapsed_face_makes_no_nan_and_gradients_are_finite():
    rider = riding(torch.stack([CORNERS[:1].expand(3, 3), CORNERS]))
    at = rider.at(torch.tensor([0.0, 0.4, 1.0]))
    total = sum(value.square().sum() for value in at.attributes().values())
    total.backward()
    assert all(torch.isfinite(value).all() for value in at.attributes().values())
    assert all(torch.isfinite(value.grad).all() for value in rider.raw().values() if value.grad is not None)
    assert rider.positions.grad.abs().sum() > 0


def test_colours_follow_the_surface_and_are_halved_between():
    colours = torch.stack([torch.full((2, 3), 0.2), torch.full((2, 3), 0.6)])
    rider = riding(torch.stack([CORNERS, CORNERS * 1.5]), colours)
    assert torch.allclose(srgb(rider.at(torch.tensor([0.0, 0.5, 1.0])))[:, 0, 0], torch.tensor([0.2, 0.4, 0.6]), atol=1e-5)


def test_baking_and_copying_are_faithful():
    rider = riding(torch.stack([CORNERS, CORNERS + 1.0]))
    baked = rider.bake(5)
    assert baked.frames == 5 and torch.allclose(baked.positions[4] - baked.positions[0], torch.ones(2, 3), atol=1e-6)
    other = rider.clone()
    with torch.no_grad():
        other.positions += 1.0
    assert not torch.equal(other.positions, rider.positions)
    other.load_state_dict(rider.state_dict())
    assert torch.equal(other.at(torch.tensor([0.3])).positions, rider.at(torch.tensor([0.3])).positions)
