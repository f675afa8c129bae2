"""Scores of views that should show one object: opposite views, repeated faces, the visual hull."""

from __future__ import annotations

import torch
from torch import Tensor

from ..geometry.cameras import Cameras, project
from .motion import correlation
from .pictures import over_white

INSIDE = 0.5  # alpha from which a pixel belongs to the silhouette


def opposite_pairs(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Views (..., V, 4, H, W) evenly around the circle -> each of the first half and the one opposite, mirrored."""
    half = pictures.shape[-4] // 2
    return pictures[..., :half, :, :, :], pictures[..., half:, :, :, :].flip(-1)


def opposite_difference(pictures: Tensor) -> float:
    """Mean |view - mirrored opposite view| over white, of a ring (..., V, 4, H, W): near 0 where all sides look alike."""
    front, back = opposite_pairs(pictures)
    return (over_white(front) - over_white(back)).abs().mean().item()


def opposite_silhouettes(pictures: Tensor) -> float:
    """Intersection over union of the silhouettes of opposite views, one mirrored; from level cameras far away it is 1."""
    front, back = ((pair[..., 3, :, :] > INSIDE) for pair in opposite_pairs(pictures))
    union = (front | back).sum()
    return float((front & back).sum() / union) if union > 0 else 0.0


def multi_face(pictures: Tensor) -> float:
    """Correlation of each view's colours with the opposite view's, not mirrored, where either is covered (score_distillation 4.1).

    Each channel of each view is compared with its own mean, so that one colour all around does not count as a face. An object
    with the same face on both sides scores like one that is symmetric: compare with the real object's value.
    """
    front, back = opposite_pairs(pictures)
    back = back.flip(-1)
    covered = (front[..., 3:, :, :] > INSIDE) | (back[..., 3:, :, :] > INSIDE)
    return correlation(_centred(over_white(front), covered), _centred(over_white(back), covered))


def _centred(colours: Tensor, where: Tensor) -> Tensor:
    """Minus the mean over `where`, and 0 elsewhere."""
    mean = (colours * where).sum((-2, -1), keepdim=True) / where.sum((-2, -1), keepdim=True).clamp_min(1)
    return (colours - mean) * where


def hull_agreement(alpha: Tensor, cameras: Cameras, resolution: int = 80, radius: float = 1.1) -> float:
    """Share of the silhouettes that one common solid explains: 1 when V views can be of the same object.

    alpha: (V, H, W) seen by V cameras. The visual hull is the largest solid inside all silhouettes; where a view shows matter
    that the hull does not cover, the other views deny it. Needs no real object and no training. Parts much thinner than
    2 radius / resolution get lost, also on real pictures: compare with their value.
    """
    silhouettes = alpha > INSIDE
    views, height, width = silhouettes.shape
    axis = (torch.arange(resolution) + 0.5) / resolution * 2 * radius - radius
    points = torch.cartesian_prod(axis, axis, axis)
    pixel, _ = project(points.expand(views, -1, -1), cameras.camera_to_world, cameras.fov_y, height, width)
    column, row = pixel.long().unbind(-1)  # (V, P)
    seen = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    index = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    hull = (silhouettes.flatten(1).gather(1, index) & seen).all(0)  # (P,)
    covered = torch.zeros(views, height * width, dtype=torch.bool)
    covered.scatter_(1, index[:, hull], True)
    total = silhouettes.sum()
    return float(covered.sum() / total) if total > 0 else 0.0
