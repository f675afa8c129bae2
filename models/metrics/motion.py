"""Scores of change over time. Sequences are premultiplied RGBA (T, ..., 4, H, W), time first, times i / (T - 1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .pictures import over_white

STILL = 2 / 255  # a real pixel whose colour never varies by more stands still


def motion(sequence: Tensor) -> Tensor:
    """Mean |difference of consecutive frames| over white, a scalar."""
    return over_white(sequence).diff(dim=0).abs().mean()


def motion_ratio(sequence: Tensor, truth: Tensor) -> float:
    """Change from frame to frame relative to real sequences (T, ...) of the same object; 1 is right, 0 is frozen."""
    real = float(motion(truth))
    return float(motion(sequence)) / real if real > 0 else math.nan


def second_difference(sequence: Tensor) -> Tensor:
    """|I(t+1) - 2 I(t) + I(t-1)| over white, mean over the colours: (T, ..., 4, H, W) -> (T - 2, ..., H, W)."""
    return over_white(sequence).diff(n=2, dim=0).abs().mean(-3)


def flicker(sequence: Tensor, truth: Tensor) -> float:
    """Mean |I(t+1) - 2 I(t) + I(t-1)| over white where the real object stands still (score_distillation 4.1).

    Only pixels that the real object covers count, so that an empty background can't hide it. NaN when every part moves.
    """
    colours = over_white(truth)
    still = (colours.amax(0) - colours.amin(0)).amax(-3) <= STILL  # (..., H, W)
    still &= truth[..., 3, :, :].amin(0) > 0.5
    second = second_difference(sequence)
    share = still.expand(second.shape)
    return float(second[share].mean()) if bool(share.any()) else math.nan


def correlation(first: Tensor, second: Tensor) -> float:
    """Pearson's correlation of two sets of numbers of the same shape; 0 when one of them is constant."""
    first, second = first.double().flatten(), second.double().flatten()
    first, second = first - first.mean(), second - second.mean()
    size = first.norm() * second.norm()
    return float((first * second).sum() / size) if float(size) > 1e-12 else 0.0


def time_correlation(read: Tensor, true: Tensor) -> float:
    """How well the recogniser's times (T, ...) follow the true ones (T,): Pearson's correlation over all pictures."""
    return correlation(read, true.view(-1, *[1] * (read.dim() - 1)).expand_as(read))


def scrambled(count: int) -> Tensor:
    """An order of `count` frames nearly uncorrelated with time: what every score of motion must refuse. Always the same."""
    orders = [torch.randperm(count, generator=torch.Generator().manual_seed(seed)) for seed in range(64)]
    return min(orders, key=lambda order: abs(correlation(order, torch.arange(count))))
