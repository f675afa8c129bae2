"""Hash grids by tiny-cuda-nn, where the user has built it and asks for it. Unverified: written from its documentation, never run on the package.

tiny-cuda-nn is not on PyPI. Its table has our layout, so it reads and differentiates our own parameter, in single precision.
"""

import functools
import math

import torch
from torch import Tensor, nn

from ..fields import hash_grid
from ..fields.hash_grid import FEATURES, HashGridConfig


def encode(positions: Tensor, table: Tensor, config: HashGridConfig, active: float, width: int) -> Tensor:
    """`fields.hash_grid.encode` in single precision on CUDA; what the package has no form for goes to the reference itself."""
    if positions.device.type != "cuda":
        raise RuntimeError("tinycudann runs on CUDA devices only")
    if table.dtype != torch.float32 or config.time_cap is not None or not len(positions):
        return hash_grid.encode(positions, table, config, active, width)
    return by_package(positions, table, config, active, width)


def by_package(positions: Tensor, table: Tensor, config: HashGridConfig, active: float, width: int) -> Tensor:
    """All levels by the package, then those that take part. RuntimeError when it lays a table of this configuration out otherwise."""
    encoding, numbers = _encoding(config, str(positions.device))
    if numbers != table.numel():
        raise RuntimeError(f"tinycudann has {numbers} numbers in this grid and we have {table.numel()}")
    features = torch.func.functional_call(encoding, {"params": table.flatten()}, (positions,)).to(table.dtype)
    return nn.functional.pad(features * _shares(config, active, features), (0, width - features.shape[1]))


def _shares(config: HashGridConfig, active: float, like: Tensor) -> Tensor:
    """How far each feature takes part: 1, the fraction of the level that fades in, 0."""
    whole = math.ceil(active)
    shares = [1.0 if level < whole - 1 else active - level if level < whole else 0.0 for level in range(config.levels)]
    return torch.tensor(shares, dtype=like.dtype, device=like.device).repeat_interleave(FEATURES)


@functools.lru_cache(maxsize=16)
def _encoding(config: HashGridConfig, device: str) -> tuple[nn.Module, int]:
    """The package's module, whose own parameters are freed, and how many it had."""
    import tinycudann

    description = {
        "otype": "HashGrid",
        "n_levels": config.levels,
        "n_features_per_level": FEATURES,
        "log2_hashmap_size": config.log2_table,
        "base_resolution": config.base_resolution,
        "per_level_scale": config.growth,
        "interpolation": "Linear",
    }
    with torch.device(device):
        encoding = tinycudann.Encoding(config.dimensions, description, dtype=torch.float32)
    numbers = encoding.params.numel()
    encoding.params.data = encoding.params.data.new_empty(0)
    return encoding, numbers
