"""The peers: hash grids and volume rendering as one writes them first in torch, by advanced indexing and autograd alone."""

import itertools

import torch
from torch import Tensor


def encode(positions: Tensor, table: Tensor, config) -> Tensor:
    """Hash encoding (M, 2 L) of `positions` (M, d); every corner of every level is a gather that autograd remembers."""
    features = []
    for level in config.layout:
        scaled = positions * positions.new_tensor(level.scales) + positions.new_tensor(level.shifts)
        lower = scaled.floor()
        fraction = scaled - lower
        lower = lower.long()
        total = positions.new_zeros(positions.shape[0], 2)
        for corner in itertools.product((0, 1), repeat=config.dimensions):
            corner = torch.tensor(corner)
            weight = torch.where(corner == 1, fraction, 1.0 - fraction).prod(dim=1)
            total = total + weight[:, None] * table[level.offset + _row(lower + corner, level)]
        features.append(total)
    return torch.cat(features, dim=1)


def _row(node: Tensor, level) -> Tensor:
    row = node[:, 0].clone()
    for axis, stride in enumerate(level.strides[1:], start=1):
        row = row + node[:, axis] * stride if level.dense else row ^ node[:, axis] * stride
    return row % level.entries


def field(scene, positions: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """A hash field's density and colour with the naive encodings and its own decoders."""
    unit = positions * 0.5 + 0.5
    features = encode(unit, scene.static.table, scene.config.static)
    dynamic = encode(torch.cat([unit, times[:, None]], dim=1), scene.dynamic.table, scene.config.dynamic)
    features = features + torch.nn.functional.pad(dynamic, (0, features.shape[1] - dynamic.shape[1]))
    density = scene.config.blob.density(scene.density_decoder(features)[:, 0], positions, scene.blob_radius)
    return density, torch.sigmoid(scene.colour_decoder(features))


def render(scene, origins: Tensor, directions: Tensor, times: Tensor, near: Tensor, far: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """Colour (R, 3) and opacity (R,) from `samples` everywhere along every ray, composited by a product over the row."""
    step = (far - near) / samples  # (R,)
    distance = near[:, None] + (torch.arange(samples) + 0.5) * step[:, None]  # (R, S)
    positions = origins[:, None] + directions[:, None] * distance[..., None]
    density, rgb = field(scene, positions.reshape(-1, 3), times.repeat_interleave(samples))
    alpha = 1.0 - torch.exp(-density.view(distance.shape) * step[:, None])
    light = torch.cumprod(torch.cat([torch.ones_like(alpha[:, :1]), 1.0 - alpha[:, :-1]], dim=1), dim=1)
    weights = alpha * light
    return (weights[..., None] * rgb.view(*distance.shape, 3)).sum(dim=1), weights.sum(dim=1)
