"""The toy ablations (specification 4): the closed-form scene, the exact priors, and the cheapest directions at one seed."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parent.parent))

from toys import fourdfy, oracles, scores, spheres  # noqa: E402

SIZE = 24
SHORT = (50, 50, 160)


def test_a_sphere_in_the_middle_covers_the_disc_of_its_silhouette():
    """tan of the half angle under which a sphere of radius r is seen from distance d is r / sqrt(d^2 - r^2)."""
    alone = spheres.Spheres(parts=(spheres.BODY,))
    camera = spheres.rig(torch.zeros(1), torch.zeros(1))
    size, radius = 96, 0.5
    centre = torch.tensor([0.0, -0.12, 0.0])
    distance = (camera.camera_to_world[0, :3, 3] - centre).norm()
    focal = 0.5 * size / torch.tan(0.5 * camera.fov_y[0])
    expected = torch.pi * (focal * radius / (distance**2 - radius**2).sqrt()) ** 2
    assert float(alone.render(camera, size)[0, 3].sum()) == pytest.approx(float(expected), rel=0.02)


def test_scores_of_the_truth_are_perfect_and_each_ruin_is_found():
    real = scores.truth(SIZE)
    of_truth = scores.scores(real)
    assert of_truth["PSNR"] > 100 and of_truth["sharpness"] == pytest.approx(1) and of_truth["motion"] == pytest.approx(1) and of_truth["flicker"] == 0
    soft = scores.scores(spheres.softened(real, 1.5, 0.0))
    frozen = scores.scores(real[:1].expand_as(real))
    faced = scores.scores(real[:, :1].expand_as(real))
    topless = scores.scores(spheres.Spheres((spheres.BODY, spheres.MOVING)).render(scores.cameras(), SIZE).view_as(real))
    trembling = scores.scores(real * (1 - 0.1 * (torch.arange(scores.TIMES) % 2)).view(-1, 1, 1, 1, 1))
    assert soft["sharpness"] < 0.4 and frozen["motion"] == 0 and faced["multi-face"] > 0.99 > of_truth["multi-face"] + 0.5
    assert topless["upper sphere"] < 0.3 < 0.9 < of_truth["upper sphere"] and trembling["flicker"] > 0.05


def test_each_prior_answers_the_truth_without_noise_and_its_mean_in_pure_noise():
    scene = spheres.Spheres()
    cameras = spheres.rig(torch.arange(4) * torch.pi / 2, torch.full((4,), 0.4), frames=4)
    views = oracles.Views(scene, SIZE, oracles.ANY_MOMENT)
    known = views.known(cameras)  # (moments, views, 4, h, w)
    small, large = torch.full((4,), 1e-4), torch.full((4,), 1e4)
    near = views(known[2], torch.ones(4), small, cameras)
    far = views(torch.randn(known[2].shape, generator=torch.Generator().manual_seed(0)) * 1e4, torch.ones(4), large, cameras)
    assert (near - known[2]).abs().max() < 1e-3
    assert (far - known.mean(0)).abs().mean() < 0.02


@pytest.fixture(scope="module")
def rows():
    return {name: fourdfy.make(name, 0, SHORT)[1] for name in ("full", "no 3D", "no video")}


def test_without_the_3d_term_every_side_has_a_face(rows):
    assert rows["no 3D"]["multi-face"] > rows["full"]["multi-face"] + 0.2 and rows["no 3D"]["back PSNR"] < rows["full"]["back PSNR"] - 1


def test_without_the_video_term_nothing_moves(rows):
    assert rows["no video"]["motion"] < 0.02 < 0.1 < rows["full"]["motion"]
