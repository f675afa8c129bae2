"""Six feature planes over space and time (HexPlane, as 4D Gaussian Splatting and K-planes use it), and what keeps them smooth."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

SPATIAL = ((0, 1), (0, 2), (1, 2))  # xy, xz, yz; the time planes are xt, yt, zt
MOST_CELLS = 1 << 28  # numbers of all planes of a level


@dataclass(frozen=True)
class HexPlaneConfig:
    """Shape of the planes. Defaults: 4D Gaussian Splatting's (32 channels, 64 x 64, levels 1 and 2, 12 rows for 24 frames).

    `levels` multiply the spatial resolution, never the one along time. Spatial planes start uniform in [0.1, 0.5], time
    planes at 1, so that the features start without time.
    """

    channels: int = 32
    resolution: int = 64
    levels: tuple[int, ...] = (1, 2)
    times: int = 12

    def __post_init__(self):
        if not (1 <= self.channels <= 256 and 2 <= self.resolution <= 4096 and 2 <= self.times <= 4096 and 1 <= len(self.levels) <= 8):
            raise ValueError(
                f"Feature planes of {self.channels} channels, {self.resolution} nodes, {self.times} times and {len(self.levels)} levels are out of "
                "range. Give 1 to 256 channels, 2 to 4096 nodes and times, 1 to 8 levels."
            )
        if min(self.levels) < 1 or self.channels * 3 * (self.resolution * max(self.levels)) ** 2 > MOST_CELLS:
            raise ValueError(f"Feature planes of levels {self.levels} at {self.resolution} nodes are too large or too small. Lower the resolution or the levels.")

    @property
    def width(self) -> int:
        """Features of a point."""
        return self.channels * len(self.levels)


class HexPlane(nn.Module):
    """Features of points in the box [-1, 1]^3 over time: per level the product of six bilinear samples, levels concatenated.

    Spatial planes (3, C, R, R) are indexed [plane, channel, second axis, first axis], time planes (3, C, T, R) [axis, channel,
    time, position]: nodes lie on the box's faces and on the first and last instant, beyond them the border counts.
    """

    def __init__(self, config: HexPlaneConfig, generator: torch.Generator):
        super().__init__()
        self.config = config
        sides = [config.resolution * level for level in config.levels]
        self.spatial = nn.ParameterList(0.1 + 0.4 * torch.rand(3, config.channels, side, side, generator=generator) for side in sides)
        self.temporal = nn.ParameterList(torch.ones(3, config.channels, config.times, side) for side in sides)

    def still(self, points: Tensor) -> Tensor:
        """D_s (N, width): the product of the three spatial samples at `points` (N, 3) in [-1, 1]."""
        grid = torch.stack([points[:, pair] for pair in SPATIAL])[:, :, None]  # (3, N, 1, 2)
        levels = [_product(planes, grid)[..., 0] for planes in self.spatial]
        return torch.cat(levels).t()

    def moving(self, points: Tensor, times: Tensor) -> Tensor:
        """D_t (M, N, width): the product of the three time samples at `points` (N, 3) in [-1, 1] and `times` (M,) in [0, 1]."""
        rows = (2.0 * times - 1.0)[None, :, None].expand(3, -1, points.shape[0])  # (3, M, N)
        grid = torch.stack([points.t()[:, None].expand_as(rows), rows], dim=-1)
        levels = [_product(planes, grid) for planes in self.temporal]  # (C, M, N)
        return torch.cat(levels).permute(1, 2, 0)

    def forward(self, points: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """D_s (N, width) and D_t (M, N, width); their product is the feature of ST-HexPlane. The spatial part is read once for all times."""
        return self.still(points), self.moving(points, times)

    def total_variation(self) -> Tensor:
        """Mean squared difference of neighbouring nodes of the spatial planes, added over both axes and all levels."""
        return sum(planes.diff(dim=axis).square().mean() for planes in self.spatial for axis in (-1, -2))

    def roughness(self) -> Tensor:
        """Mean squared second difference along time, added over the levels; 0 with two instants."""
        if self.config.times < 3:
            return self.temporal[0].new_zeros(())
        return sum(planes.diff(n=2, dim=-2).square().mean() for planes in self.temporal)

    def restlessness(self) -> Tensor:
        """Mean distance of the time planes from 1, where nothing moves, added over the levels."""
        return sum((planes - 1.0).abs().mean() for planes in self.temporal)


def _product(planes: Tensor, grid: Tensor) -> Tensor:
    """Product (C, H, W) of bilinear samples of three planes at the three grids (3, H, W, 2)."""
    return _Product.apply(functional.grid_sample(planes, grid, mode="bilinear", padding_mode="border", align_corners=True))


class _Product(torch.autograd.Function):
    """a b c of values (3, ...), with its gradient written into one tensor: a third less time than `prod`."""

    @staticmethod
    def forward(ctx, values):
        ctx.save_for_backward(values)
        return (values[0] * values[1]).mul_(values[2])

    @staticmethod
    @once_differentiable
    def backward(ctx, incoming):
        (values,) = ctx.saved_tensors
        gradients = torch.empty_like(values)
        torch.mul(incoming, values[0], out=gradients[1])
        torch.mul(gradients[1], values[1], out=gradients[2])
        gradients[1] *= values[2]
        torch.mul(incoming, values[1], out=gradients[0])
        gradients[0] *= values[2]
        return gradients
