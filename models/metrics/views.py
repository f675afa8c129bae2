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
    axis = (torch.arange(resolution) + 0.5) / resolution * 2 * radius - radius
    hull = torch.cartesian_prod(axis, axis, axis)
    for view in range(len(silhouettes)):  # one after the other: most points leave at the first
        pixel, inside = _pixels(hull, cameras, view, silhouettes.shape[1:])
        hull = hull[inside & silhouettes[view].flatten()[pixel]]
    covered = torch.zeros_like(silhouettes).flatten(1)
    for view in range(len(silhouettes)):
        covered[view, _pixels(hull, cameras, view, silhouettes.shape[1:])[0]] = True
    total = silhouettes.sum()
    return float(covered.sum() / total) if total > 0 else 0.0


def _pixels(points: Tensor, cameras: Cameras, view: int, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Index of the pixel in which one camera sees each point (P,), and whether that is inside the picture."""
    height, width = shape
    position, _ = project(points[None], cameras.camera_to_world[view : view + 1], cameras.fov_y[view : view + 1], height, width)
    column, row = position[0].floor().long().unbind(-1)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    return row.clamp(0, height - 1) * width + column.clamp(0, width - 1), inside
