"""Multi-resolution hash grids over space (3D) or space and time (4D), in plain torch.

Memory layout, indexing and interpolation are tiny-cuda-nn's, so tables are exchangeable. The encoding is one autograd function
that keeps nothing but the positions: the backward pass computes the corners again (about 1/100 of what autograd would keep).
Three choices make it fast on a CPU: corner-major arrays, so that every operation runs over contiguous points; a pair of
features moved as one complex number, by `index_select` and `scatter_add_` in one dimension (their row-wise forms and
`index_add_` are 10 to 80 times slower); and chunks of points that stay in the cache.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

FEATURES = 2  # per level, in every published configuration; the pair is what travels as one complex number
PRIMES = (1, 2654435761 - 2**32, 805459861, 3674653429 - 2**32)  # tiny-cuda-nn's, as signed 32-bit numbers with the same low bits
MOST_LEVELS, FINEST = 32, 2**16  # twice the published number of levels, and sixteen times their finest resolution
CPU_CHUNK_CORNERS = 2**18  # 2 MiB of gathered features: stays in a core's cache
GPU_CHUNK_CORNERS = 2**28


@dataclass(frozen=True)
class HashGridConfig:
    """Shape of one grid; the defaults are 4D-fy's.

    Level l has scale S = base_resolution * growth^l - 1, ceil(S) + 1 nodes per axis and is read at x S + 0.5. A level that fits
    in 2^log2_table entries is dense, else hashed. With `time_cap` (ours) the fourth axis has min(time_ratio * resolution,
    time_cap) nodes at t = i / (n - 1) instead: motion is smoother than shape, and the last instant does not blend into the first.
    """

    dimensions: int = 3
    levels: int = 16
    base_resolution: int = 16
    growth: float = 1.447269237440378
    log2_table: int = 19
    time_ratio: float = 1.0
    time_cap: int | None = None

    def __post_init__(self):
        if self.dimensions not in (3, 4) or not 1 <= self.levels <= MOST_LEVELS or self.base_resolution < 2 or self.growth < 1.0:
            raise ValueError(f"A hash grid needs 3 or 4 dimensions, 1 to {MOST_LEVELS} levels, a base resolution of 2 or more and a growth of 1 or more.")
        if math.log(self.base_resolution) + (self.levels - 1) * math.log(self.growth) > math.log(FINEST + 1):
            raise ValueError(f"A hash grid's finest level has at most {FINEST} nodes per axis. Lower the base resolution, the growth or the number of levels.")
        if not 0 < self.time_ratio <= FINEST:
            raise ValueError(f"A hash grid's time ratio is above 0 and at most {FINEST}. Change time_ratio.")
        if not 4 <= self.log2_table <= 24 or (self.time_cap is not None and self.time_cap < 2):
            raise ValueError("A hash grid's table has 2^4 to 2^24 entries, and a time cap is at least 2 nodes. Change log2_table or time_cap.")

    @cached_property
    def layout(self) -> tuple["Level", ...]:
        """The levels, coarse to fine, with their places in the table."""
        levels, offset = [], 0
        for index in range(self.levels):
            level = self._level(index, offset)
            levels.append(level)
            offset += level.entries
        return tuple(levels)

    @property
    def entries(self) -> int:
        """Rows of the table."""
        return self.layout[-1].offset + self.layout[-1].entries

    def _level(self, index: int, offset: int) -> "Level":
        size = self.base_resolution * self.growth**index
        scale = round(size - 1.0, 6)  # 4096.0000000001 must not become a resolution of 4097
        scales, nodes, shifts = [scale] * 3, [math.ceil(scale) + 1] * 3, [0.5] * 3
        if self.dimensions == 4 and self.time_cap is None:
            scales, nodes, shifts = scales + scales[:1], nodes + nodes[:1], shifts + shifts[:1]
        elif self.dimensions == 4:
            instants = max(2, min(math.ceil(round(size * self.time_ratio, 6)), self.time_cap))
            scales, nodes, shifts = scales + [instants - 1.0], nodes + [instants], shifts + [0.0]
        cells = math.prod(nodes)
        dense = cells <= 2**self.log2_table
        return Level(tuple(scales), tuple(shifts), tuple(nodes), offset, -(-cells // 8) * 8 if dense else 2**self.log2_table, dense)


@dataclass(frozen=True)
class Level:
    """One resolution of a grid: node positions per axis, and `entries` rows of the table from `offset` on."""

    scales: tuple[float, ...]
    shifts: tuple[float, ...]
    nodes: tuple[int, ...]
    offset: int
    entries: int
    dense: bool

    @property
    def strides(self) -> tuple[int, ...]:
        """What one step along an axis multiplies its node number by: x fastest when dense, the primes when hashed."""
        if not self.dense:
            return PRIMES[: len(self.nodes)]
        return tuple(math.prod(self.nodes[:axis]) for axis in range(len(self.nodes)))


def encode(positions: Tensor, table: Tensor, config: HashGridConfig, active: float, width: int) -> Tensor:
    """Features (M, width) of `positions` (M, d) read from `table`: the reference of every faster encoder. `active` and `width` as in HashGrid."""
    return _HashEncoding.apply(positions, table, config, active, width)


class HashGrid(nn.Module):
    """A table of features and its encoding, level-major, entry-major, feature-minor; initialised U(-1e-4, 1e-4).

    `encoder` may be exchanged for a faster twin of `encode` on the device where the grid is. It is no part of the grid's state,
    and copies begin with the reference again: they may move to another device.
    """

    encoder = staticmethod(encode)

    def __init__(self, config: HashGridConfig, generator: torch.Generator):
        super().__init__()
        self.config = config
        self.table = nn.Parameter((torch.rand(config.entries, FEATURES, generator=generator) * 2.0 - 1.0) * 1e-4)  # (entries, 2)

    def forward(self, positions: Tensor, active: float | None = None, width: int | None = None) -> Tensor:
        """Encode `positions` (M, d) in [0, 1]^d: features (M, width), finest level last, zero beyond.

        `active` levels take part, a fraction fades the last one in (progressive training); all of them by default. `width` at
        least 2 x levels pads with zeros. Differentiable once with respect to the table and the positions.
        """
        active = self.config.levels if active is None else max(0.0, min(float(active), self.config.levels))
        width = FEATURES * self.config.levels if width is None else width
        return self.encoder(positions, self.table, self.config, active, width)

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name != "encoder"}


class _HashEncoding(torch.autograd.Function):
    """The encoding, chunk by chunk; `active` and `width` as in HashGrid.forward."""

    @staticmethod
    def forward(ctx, positions, table, config, active, width):
        ctx.save_for_backward(positions, table)
        ctx.config, ctx.active = config, active
        features = positions.new_zeros(positions.shape[0], width // FEATURES, FEATURES, dtype=table.dtype)
        values = torch.view_as_complex(table.detach())
        for group in _groups(config, active, positions):
            for part in group.chunks(positions.shape[0]):
                corners, fractions = group.corners(positions[part])
                features[part, group.levels] = group.interpolate(values, corners, fractions).transpose(0, 1)
        return features.flatten(1)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        positions, table = ctx.saved_tensors
        need_positions, need_table = ctx.needs_input_grad[:2]
        gradient = gradient.reshape(len(positions), gradient.shape[1] // FEATURES, FEATURES)
        to_table = torch.zeros_like(table) if need_table else None
        to_positions = torch.zeros_like(positions) if need_positions else None
        for group in _groups(ctx.config, ctx.active, positions):
            for part in group.chunks(positions.shape[0]):
                corners, fractions = group.corners(positions[part])
                incoming = group.fade(gradient[part, group.levels].transpose(0, 1).flatten(1))  # (L, 2 M)
                if need_table:
                    group.scatter(torch.view_as_complex(to_table), corners, fractions, incoming)
                if need_positions:
                    to_positions[part] += group.slopes(torch.view_as_complex(table), corners, fractions, incoming)
        return to_positions, to_table, None, None, None


class _Group:
    """Consecutive levels of one kind (dense or hashed), handled in one sweep: arrays are (corners, L, M), features doubled inside M."""

    def __init__(self, levels: list[Level], first: int, fade: float, positions: Tensor):
        device, dtype = positions.device, positions.dtype
        self.dense, self.dimensions, self.last_fade = levels[0].dense, len(levels[0].nodes), fade
        self.levels = slice(first, first + len(levels))
        self.scales = _per_axis([level.scales for level in levels], dtype, device)  # (d, L, 1)
        self.shifts = _per_axis([level.shifts for level in levels], dtype, device)
        self.strides = _per_axis([level.strides for level in levels], torch.int32, device)
        self.offsets = torch.tensor([level.offset for level in levels], dtype=torch.int32, device=device)[:, None]  # (L, 1)
        self.entries = torch.tensor([level.entries for level in levels], dtype=torch.int32, device=device)[:, None]
        budget = CPU_CHUNK_CORNERS if device.type == "cpu" else GPU_CHUNK_CORNERS
        self.chunk = max(1024, budget // (2**self.dimensions * len(levels)))

    def chunks(self, count: int) -> list[slice]:
        return [slice(start, min(start + self.chunk, count)) for start in range(0, count, self.chunk)]

    def corners(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Table rows (2^d, L, m) of the cells around positions (m, d), x fastest, and fractions (d, L, 2 m) inside the cells."""
        columns = positions.t()[:, None, :]  # (d, 1, m)
        lower = (columns * self.scales).add_(self.shifts).to(torch.int32)  # positions are not negative: truncation is the floor
        lower *= self.strides
        upper = lower + self.strides
        rows = self._combine(lower, upper)
        doubled = columns[..., None].expand(*columns.shape, FEATURES).flatten(2)  # (d, 1, 2 m)
        return rows, (doubled * self.scales).add_(self.shifts).frac_()

    def _combine(self, lower: Tensor, upper: Tensor) -> Tensor:
        rows = lower.new_empty(2**self.dimensions, *lower.shape[1:])
        rows[0], rows[1] = lower[0], upper[0]
        combine = torch.add if self.dense else torch.bitwise_xor
        for axis in range(1, self.dimensions):
            filled = 2**axis
            combine(rows[:filled], upper[axis], out=rows[filled : 2 * filled])
            combine(rows[:filled], lower[axis], out=rows[:filled])
        if not self.dense:
            rows &= self.entries - 1
        elif rows.is_cuda or (rows[-1] >= self.entries).any():  # the last corner has the largest row
            # a position within half a cell of the upper border wraps around, as in tiny-cuda-nn
            rows -= self.entries * (rows >= self.entries)
        return rows.add_(self.offsets)

    def interpolate(self, values: Tensor, corners: Tensor, fractions: Tensor) -> Tensor:
        """Features (L, m, 2): linear interpolation axis by axis, the slowest first."""
        features = self._gather(values, corners)
        for axis in reversed(range(self.dimensions)):
            half = features.shape[0] // 2
            features = torch.lerp(features[:half], features[half:], fractions[axis])
        return self.fade(features[0]).unflatten(1, (-1, FEATURES))

    def scatter(self, values: Tensor, corners: Tensor, fractions: Tensor, incoming: Tensor) -> None:
        """Add the gradient (L, 2 m) of the features to the table's, in place."""
        shares = incoming.new_empty(2**self.dimensions, *incoming.shape)
        shares[0] = incoming
        for axis in range(self.dimensions):
            filled = 2**axis
            torch.mul(shares[:filled], fractions[axis], out=shares[filled : 2 * filled])
            shares[:filled] -= shares[filled : 2 * filled]
        values.scatter_add_(0, corners.flatten().long(), torch.view_as_complex(shares.view(-1, FEATURES)))

    def slopes(self, values: Tensor, corners: Tensor, fractions: Tensor, incoming: Tensor) -> Tensor:
        """Gradient (m, d) of the positions: constant inside a cell along an axis, as the encoding is linear there."""
        features, slopes = self._gather(values, corners), []
        for axis in reversed(range(self.dimensions)):
            half = features.shape[0] // 2
            slopes = [torch.lerp(slope[:half], slope[half:], fractions[axis]) for slope in slopes]
            slopes.append(features[half:] - features[:half])
            features = torch.lerp(features[:half], features[half:], fractions[axis])
        slopes = torch.stack([slope[0] for slope in reversed(slopes)])  # (d, L, 2 m)
        return (slopes * incoming * self.scales).unflatten(2, (-1, FEATURES)).sum(dim=(1, 3)).t()

    def fade(self, features: Tensor) -> Tensor:
        """Weight the last level of (L, 2 m) features when it is being faded in."""
        if self.last_fade == 1.0:
            return features
        return torch.cat([features[:-1], features[-1:] * self.last_fade])

    def _gather(self, values: Tensor, corners: Tensor) -> Tensor:
        return torch.view_as_real(values.index_select(0, corners.flatten())).view(*corners.shape[:2], -1)


def _per_axis(rows: list[tuple], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(rows, dtype=dtype, device=device).t().contiguous()[:, :, None]


def _groups(config: HashGridConfig, active: float, positions: Tensor) -> list[_Group]:
    """The active levels as at most two groups: dense ones come first because resolutions grow."""
    levels = config.layout[: math.ceil(active)]
    dense = sum(level.dense for level in levels)
    last_fade = 1.0 - (len(levels) - active)
    groups = []
    for first, last in ((0, dense), (dense, len(levels))):
        if last > first:
            fade = last_fade if last == len(levels) else 1.0
            groups.append(_Group(list(levels[first:last]), first, fade, positions))
    return groups
