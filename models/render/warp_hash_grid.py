"""The warp twin of the hash-grid encoding: the same function as `fields.hash_grid.encode`, by our kernels."""

import functools
import math

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..fields import hash_grid
from ..fields.hash_grid import FEATURES, HashGridConfig


def encode(positions: Tensor, table: Tensor, config: HashGridConfig, active: float, width: int) -> Tensor:
    """`fields.hash_grid.encode` in single precision, on the CPU (one core) and on CUDA; doubles go to the reference itself."""
    if table.dtype != torch.float32 or positions.dtype != torch.float32:
        return hash_grid.encode(positions, table, config, active, width)
    return _HashEncoding.apply(positions.contiguous(), table, config, active, width)


class _HashEncoding(torch.autograd.Function):
    """Keeps the positions alone, as the reference does."""

    @staticmethod
    def forward(ctx, positions, table, config, active, width):
        ctx.save_for_backward(positions, table)
        ctx.config, ctx.active = config, active
        features = positions.new_zeros(positions.shape[0], width // FEATURES, FEATURES)
        _launch("encode", config, active, positions, table, None, features)
        return features.flatten(1)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        positions, table = ctx.saved_tensors
        incoming = gradient.contiguous().view(len(positions), gradient.shape[1] // FEATURES, FEATURES)
        to_positions, to_table = (torch.zeros_like(value) if need else None for value, need in zip((positions, table), ctx.needs_input_grad))
        if to_table is not None:
            _launch("scatter", ctx.config, ctx.active, positions, None, incoming, to_table)
        if to_positions is not None:
            _launch("slope", ctx.config, ctx.active, positions, table, incoming, to_positions)
        return to_positions, to_table, None, None, None


def _launch(name: str, config: HashGridConfig, active: float, positions: Tensor, table: Tensor | None, incoming: Tensor | None, out: Tensor) -> None:
    """Run the kernel `name` over all active levels and points, filling `out` or adding to it."""
    from .kernels import hash_grid as kernels, runtime

    if active == 0 or len(positions) == 0:
        return
    device = positions.device
    # on a CPU a thread walks all its points at one level before the next, so that one level's table is in the cache
    block = -(-len(positions) // torch.get_num_threads()) if device.type == "cpu" else 1
    arrays = [runtime.vectors(value) for value in (positions, table, incoming) if value is not None]
    kernel = getattr(kernels, f"{name}{config.dimensions}")
    dim = (-(-len(positions) // block), math.ceil(active))
    axis = 1 if name == "scatter" else 0
    runtime.launch(kernel, dim, axis, [*arrays, _levels(config, active, device), block, runtime.vectors(out)], device)


@functools.lru_cache(maxsize=64)
def _levels(config: HashGridConfig, active: float, device: torch.device):
    """The kernels' struct of the active levels."""
    from .kernels import hash_grid as kernels, runtime

    layout = config.layout[: math.ceil(active)]

    def rows(values: list, dtype: torch.dtype) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=device)

    def padded(name: str) -> list[list]:
        return [[*getattr(level, name), 0][:4] for level in layout]

    made = kernels.Levels()
    made.scales, made.shifts = (runtime.vectors(rows(padded(name), torch.float32)) for name in ("scales", "shifts"))
    made.strides = runtime.numbers(rows(padded("strides"), torch.int32), unsigned=True)
    made.offsets = runtime.numbers(rows([level.offset for level in layout], torch.int32))
    made.entries = runtime.numbers(rows([level.entries for level in layout], torch.int32), unsigned=True)
    made.dense = sum(level.dense for level in layout)
    made.last_fade = 1.0 - (len(layout) - active)
    return made
