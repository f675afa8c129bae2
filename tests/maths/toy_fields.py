"""Scenes with known answers: constant density, and a solid ball that moves with time."""

import torch
from torch import nn


class ConstantField(nn.Module):
    """One density and one colour everywhere, both parameters."""

    def __init__(self, density=1.5, colour=(0.2, 0.5, 0.9), dtype=torch.float64):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(density, dtype=dtype))
        self.colour = nn.Parameter(torch.tensor(colour, dtype=dtype))

    def forward(self, positions, times):
        return self.density(positions, times), self.colour.expand(positions.shape[0], 3)

    def density(self, positions, times):
        return self.value.expand(positions.shape[0])

    def is_static(self):
        return True

    def roles(self):
        return {"static": [self.value], "decoder": [self.colour]}


class SlopingFog(nn.Module):
    """Density base + slope . x, so that every normal is minus the slope's direction; one colour."""

    def __init__(self, base=0.4, slope=(0.0, 0.0, 0.1), dtype=torch.float64):
        super().__init__()
        self.base = nn.Parameter(torch.tensor(base, dtype=dtype))
        self.slope = nn.Parameter(torch.tensor(slope, dtype=dtype))

    def forward(self, positions, times):
        return self.density(positions, times), positions.new_full((positions.shape[0], 3), 0.5)

    def density(self, positions, times):
        return self.base + positions @ self.slope

    def is_static(self):
        return True

    def roles(self):
        return {"static": [self.base, self.slope]}


class MovingBall(nn.Module):
    """A ball of radius .2 and density 60 that travels from x = -.6 to x = +.6; red, greener with time."""

    radius, value = 0.2, 60.0

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.strength = nn.Parameter(torch.ones((), dtype=dtype))

    def centre(self, times):
        return torch.stack([-0.6 + 1.2 * times, torch.zeros_like(times), torch.zeros_like(times)], dim=-1)

    def forward(self, positions, times):
        red = torch.ones_like(times)
        return self.density(positions, times), torch.stack([red, times, 0 * red], dim=-1)

    def density(self, positions, times):
        inside = (positions - self.centre(times)).norm(dim=-1) < self.radius
        return self.strength * self.value * inside

    def is_static(self):
        return False

    def roles(self):
        return {"dynamic": [self.strength]}
