"""Occupancy of space and time: which cells a moving scene ever fills, so that empty space is never evaluated.

A grid over space and slabs of time holds a decaying maximum of each cell's opacity; a lookup takes the maximum over the
neighbouring slabs. A grid refreshed at one random time per update, as in the public code of 4D-fy, drops moving parts.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..fields.field import Field


EXPLORED_BLOCK = 4  # cells along an edge


@dataclass(frozen=True)
class OccupancyConfig:
    """How the grid is laid out and refreshed.

    A cell is occupied when the decaying maximum of density * step exceeds min(mean of the grid, `threshold`) (nerfacc); the
    decay is per update (4D-fy .95; the demo .7, which forgets quickly). `times_per_slab` x `slabs` times are evaluated (at
    least 12 in all, as in Dream-in-4D). After `warmup` updates only occupied cells and a random `share` of the others are
    evaluated. `dilate_until` and `explore_until` are fractions of a stage: so long the grid grows by one cell on every side,
    and so long a random `explore` of the empty cells counts as occupied (without it nothing new can ever appear).
    """

    resolution: int = 32
    slabs: int = 8
    times_per_slab: int = 2
    every: int = 16
    warmup: int = 16
    share: float = 0.25
    decay: float = 0.95
    threshold: float = 0.01
    dilate_until: float = 0.5
    explore: float = 0.03
    explore_until: float = 0.7

    def __post_init__(self):
        if not 4 <= self.resolution <= 256 or self.slabs < 1 or self.times_per_slab < 1 or self.every < 1:
            raise ValueError("An occupancy grid needs a resolution of 4 to 256, and at least one slab, one time per slab and one step between updates.")
        if not 0 <= self.decay < 1 or not 0 < self.share <= 1 or not 0 <= self.explore < 1:
            raise ValueError("An occupancy grid's decay and explored share lie in [0, 1) and its refreshed share in (0, 1].")


@dataclass
class OccupancyState:
    """The grid's values; tensors only, so that a checkpoint holds it as it is. Axes: slab of time, z, y, x."""

    opacity: Tensor  # (T, R, R, R) decaying maximum of density * step
    occupied: Tensor  # (T, R, R, R) bool: where samples are worth evaluating, neighbours in time included
    reachable: Tensor  # (T, R, R, R) bool: `occupied` grown by the reach of one coarse step
    updates: Tensor  # () int64

    def tensors(self) -> dict[str, Tensor]:
        """The state for a checkpoint; `OccupancyState(**tensors)` restores it."""
        return dict(vars(self))


class OccupancyGrid:
    """Refreshes and reads the occupancy of the cube [-radius, radius]^3.

    `step` is the largest distance between a ray's samples and turns densities into opacities. `reach` is how far the samples of
    a coarse step may lie from the point that is looked up for all of them. With `ball`, cells outside the ball are never asked
    for and stay empty.
    """

    def __init__(self, config: OccupancyConfig, radius: float, step: float, reach: float, ball: bool):
        self.config, self.radius, self.step = config, radius, step
        self.reach_cells = int(reach / (2.0 * radius / config.resolution)) + 1
        self.asked = _cells_near_ball(config.resolution) if ball else torch.ones(config.resolution**3, dtype=torch.bool)

    def new_state(self, like: Tensor) -> OccupancyState:
        """Everything counts as occupied until the first update. Device and dtype of `like`, a parameter of the field."""
        shape = (self.config.slabs, *[self.config.resolution] * 3)
        full = torch.ones(shape, dtype=torch.bool, device=like.device)
        updates = torch.zeros((), dtype=torch.int64, device=like.device)
        return OccupancyState(torch.zeros(shape, dtype=like.dtype, device=like.device), full, full.clone(), updates)

    @torch.no_grad()
    def update(self, field: Field, state: OccupancyState, generator: torch.Generator, progress: float = 0.0) -> None:
        """Refresh `state` in place; `progress` is the finished fraction of the current stage.

        A static field is evaluated for one slab, which stands for all of them.
        """
        static = field.is_static()
        for slab in range(1 if static else self.config.slabs):
            self._refresh_slab(field, state, slab, generator)
        if static:
            state.opacity[1:] = state.opacity[0]
        state.updates += 1
        state.occupied.copy_(self._occupied(state.opacity, generator, progress))
        state.reachable.copy_(_dilate(state.occupied, self.reach_cells))

    def lookup(self, grid: Tensor, positions: Tensor, times: Tensor) -> Tensor:
        """Read a (T, R, R, R) grid in the cells of `positions` (3, ...), one row per axis, at `times` (...)."""
        config = self.config
        scaled = positions * (0.5 * config.resolution / self.radius) + 0.5 * config.resolution
        x, y, z = scaled.to(torch.int32).clamp_(0, config.resolution - 1).unbind(dim=0)
        slab = (times * config.slabs).to(torch.int32).clamp_(0, config.slabs - 1)
        cells = ((slab * config.resolution + z) * config.resolution + y) * config.resolution + x
        return grid.flatten().index_select(0, cells.flatten()).view(cells.shape)

    def _refresh_slab(self, field: Field, state: OccupancyState, slab: int, generator: torch.Generator) -> None:
        config = self.config
        values = state.opacity[slab].view(-1)
        cells = self._chosen(state, slab, generator)
        size = config.resolution
        corner = torch.stack([cells % size, cells // size % size, cells // size**2], dim=1)  # x, y, z
        fresh = values.new_zeros(cells.shape[0])
        for index in range(config.times_per_slab):
            jitter = torch.rand(cells.shape[0], 4, generator=generator, device=generator.device).to(values)
            positions = ((corner + jitter[:, :3]) * (2.0 / size) - 1.0) * self.radius
            times = (slab + (index + jitter[:, 3]) / config.times_per_slab) / config.slabs
            fresh = torch.maximum(fresh, field.density(positions, times) * self.step)
        values *= config.decay
        values[cells] = torch.maximum(values[cells], fresh)

    def _chosen(self, state: OccupancyState, slab: int, generator: torch.Generator) -> Tensor:
        """Cells to evaluate: all during the warm-up, then the occupied ones and a random share of the rest."""
        asked = self.asked.to(state.occupied.device)
        if int(state.updates) >= self.config.warmup:
            lucky = torch.rand(asked.shape, generator=generator, device=generator.device).to(asked.device) < self.config.share
            asked = asked & (state.occupied[slab].flatten() | lucky)
        return asked.nonzero()[:, 0]

    def _occupied(self, opacity: Tensor, generator: torch.Generator, progress: float) -> Tensor:
        config = self.config
        limit = min(0.999 * float(opacity.mean()), config.threshold)  # a uniform fog is not below its own mean
        occupied = _spread(opacity > limit, axis=0)
        if progress < config.dilate_until:
            occupied = _dilate(occupied, 1)
        if progress < config.explore_until and config.explore > 0:
            occupied = occupied | self._explored(occupied, generator)
        return occupied

    def _explored(self, occupied: Tensor, generator: torch.Generator) -> Tensor:
        """A random share of the cells, as blocks: scattered cells would leave no empty stretch to step over."""
        slabs, size = occupied.shape[0], -(-self.config.resolution // EXPLORED_BLOCK)
        lucky = torch.rand(slabs, size, size, size, generator=generator, device=generator.device) < self.config.explore
        block = torch.arange(self.config.resolution) // EXPLORED_BLOCK
        return lucky[:, block][:, :, block][:, :, :, block].to(occupied.device)


def _cells_near_ball(resolution: int) -> Tensor:
    """Which cells (R^3,) of the cube around a ball touch it, or nearly."""
    centres = (torch.arange(resolution) + 0.5) * (2.0 / resolution) - 1.0
    squared = centres.square()
    distance = (squared[:, None, None] + squared[:, None] + squared).sqrt()
    return (distance < 1.0 + math.sqrt(3.0) / resolution).flatten()


def _dilate(occupied: Tensor, cells: int) -> Tensor:
    """Grow (T, R, R, R) cells by `cells` in every direction of space: one axis after the other, as the cube is separable."""
    for axis in (1, 2, 3):
        for _ in range(cells):
            occupied = _spread(occupied, axis)
    return occupied


def _spread(occupied: Tensor, axis: int) -> Tensor:
    """Or of every cell with its two neighbours along `axis` (far faster on a CPU than pooling)."""
    grown, length = occupied.clone(), occupied.shape[axis] - 1
    grown.narrow(axis, 0, length).logical_or_(occupied.narrow(axis, 1, length))
    grown.narrow(axis, 1, length).logical_or_(occupied.narrow(axis, 0, length))
    return grown
