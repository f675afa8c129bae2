"""A field so far as Gaussians: where it is filled, when, and in which colour."""

import torch
from bloom4d.models.gaussians.dynamic import DynamicGaussians
from bloom4d.models.gaussians.gaussians import srgb
from bloom4d.models.optimize.forming import coarse_cloud
from torch import nn


class MovingBall(nn.Module):
    """A red ball of radius 0.4 that goes from the left to the right; its right half is blue at the end."""

    def __init__(self, density: float = 60.0):
        super().__init__()
        self.height = nn.Parameter(torch.tensor(density))

    def forward(self, positions, times):
        centre = torch.stack([times - 0.5, 0 * times, 0 * times], dim=-1)
        inside = (positions - centre).norm(dim=-1) < 0.4
        blue = (positions[:, 0] > centre[:, 0]) & (times > 0.99)
        colours = torch.where(blue[:, None], torch.tensor([0.0, 0.0, 1.0]), torch.tensor([1.0, 0.0, 0.0]))
        return self.height * inside, colours


def test_it_is_where_the_field_is_filled_and_moves_with_it():
    cloud = coarse_cloud(MovingBall(), resolution=20, times=5)
    middle = (cloud.opacities[..., None] * cloud.positions).sum(1) / cloud.opacities.sum(1)[:, None]
    assert torch.allclose(middle, torch.tensor([[-0.5, 0, 0], [-0.25, 0, 0], [0, 0, 0], [0.25, 0, 0], [0.5, 0, 0]]), atol=0.02)
    volume = (cloud.opacities > 0.5).sum(1) * 0.1**3
    assert torch.allclose(volume, torch.full((5,), 4 / 3 * torch.pi * 0.4**3), rtol=0.08)
    assert not cloud.opacities.requires_grad


def test_opacity_is_that_of_a_cell_and_colour_changes_over_time():
    cloud = coarse_cloud(MovingBall(density=5.0), resolution=10, times=2)
    assert torch.allclose(cloud.opacities.amax(), 1 - torch.exp(torch.tensor(-5.0 * 0.2)))
    right = cloud.positions[0, :, 0] > 0.5
    filled = cloud.opacities[1] > 0
    assert torch.allclose(srgb(cloud)[1, right & filled], torch.tensor([0.0, 0.0, 1.0]), atol=1e-6)
    assert torch.allclose(srgb(cloud)[1, ~right & filled], torch.tensor([1.0, 0.0, 0.0]), atol=1e-6)


def test_an_empty_field_is_an_empty_cloud():
    assert coarse_cloud(MovingBall(density=0.0)).count == 0


def test_dynamic_gaussians_are_taken_as_they_are():
    field = DynamicGaussians(count=7, generator=torch.Generator().manual_seed(0))
    cloud = coarse_cloud(field, times=3)
    assert cloud.count == 7 and cloud.times.tolist() == [0, 0.5, 1]
    assert torch.equal(cloud.expanded()["positions"][1], field.at(torch.tensor([0.5])).positions[0].detach())
