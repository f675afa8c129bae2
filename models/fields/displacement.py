"""Where every point of a moving scene lies in its canonical scene: features of space and time decoded to a displacement."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .hash_grid import FEATURES, HashGrid, HashGridConfig
from .mlp import MLP, check_decoder

PAPER_GRID = HashGridConfig(dimensions=4, levels=12, base_resolution=4)  # 4 -> 234
DEMO_GRID = HashGridConfig(dimensions=4, levels=6, base_resolution=4, growth=8.0 ** (1 / 5), log2_table=15, time_cap=8)  # 4 -> 32


@dataclass(frozen=True)
class DisplacementConfig:
    """Shape of the network; the defaults are Dream-in-4D's: a 4D hash grid of 12 levels, then four hidden layers of 64.

    Without a grid, sines and cosines of `frequencies` octaves of position and time stand in its place: the ablation
    "w/o multi-resolution grid" (six octaves are our choice).
    """

    grid: HashGridConfig | None = PAPER_GRID
    frequencies: int = 6
    hidden: int = 64
    layers: int = 4

    def __post_init__(self):
        if self.grid is not None and self.grid.dimensions != 4:
            raise ValueError("A displacement is read from a grid over space and time. Set the grid's dimensions to 4.")
        if not 1 <= self.frequencies <= 16:
            raise ValueError(f"A positional encoding has 1 to 16 frequencies, not {self.frequencies}. Change frequencies.")
        check_decoder(self.hidden, self.layers)


PAPER_DISPLACEMENT = DisplacementConfig()
DEMO_DISPLACEMENT = DisplacementConfig(grid=DEMO_GRID, hidden=32, layers=2)


class Displacement(nn.Module):
    """Displacements d (M, 3) in (-1, 1), in units of the cube's side, of points (M, 3) in [0, 1]^3 at times (M,) in [0, 1].

    d = 2 sigmoid(o) - 1 of the decoder's output o. The decoder has no bias and its last layer starts at zero, so that nothing
    moves at first, exactly (the published code starts near to that only).
    """

    def __init__(self, config: DisplacementConfig, generator: torch.Generator):
        super().__init__()
        self.config = config
        self.grid = None if config.grid is None else HashGrid(config.grid, generator)
        width = 8 * config.frequencies if config.grid is None else FEATURES * config.grid.levels
        self.decoder = MLP((width, *[config.hidden] * config.layers, 3), generator)
        self.active = float(self.levels)
        with torch.no_grad():
            self.decoder.weights[-1].zero_()

    @property
    def levels(self) -> int:
        """Levels of the grid; none of a positional encoding."""
        return 0 if self.config.grid is None else self.config.grid.levels

    def set_levels(self, active: float) -> None:
        """How many levels of the grid take part; a fraction fades one in."""
        self.active = max(0.0, min(float(active), self.levels))

    def is_still(self) -> bool:
        """Whether nothing moves now: the last layer is zero and no gradient is wanted for it, or no level takes part."""
        last = self.decoder.weights[-1]
        if self.grid is not None and self.active == 0:
            return True
        return not (last.requires_grad and torch.is_grad_enabled()) and not last.any()

    def forward(self, points: Tensor, times: Tensor) -> Tensor:
        """(M, 3), (M,) -> (M, 3)."""
        place = torch.cat([points, times.to(points.dtype)[:, None]], dim=1).clamp(0.0, 1.0)  # (M, 4)
        features = sinusoids(place, self.config.frequencies) if self.grid is None else self.grid(place, self.active)
        return 2.0 * torch.sigmoid(self.decoder(features)) - 1.0


def sinusoids(place: Tensor, frequencies: int) -> Tensor:
    """Sines, then cosines (M, 2 d frequencies) of pi 2^k times each coordinate of `place` (M, d) (NeRF's positional encoding)."""
    octaves = math.pi * 2.0 ** torch.arange(frequencies, dtype=place.dtype, device=place.device)
    angles = (place[..., None] * octaves).flatten(1)
    return torch.cat([angles.sin(), angles.cos()], dim=1)
