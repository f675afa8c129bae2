"""How close pictures come to real objects of the same name: a bank of K instances, each drawn by the same cameras and times."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .pictures import decibels, squared_error


@dataclass(frozen=True)
class Nearest:
    """The instance that fits all pictures of a scene best, and how well, in dB of the mean squared error over all of them."""

    index: int
    decibels: float


def nearest_instance(pictures: Tensor, bank: Tensor) -> Nearest:
    """pictures (..., 4, H, W), bank (K, ..., 4, H, W)."""
    errors = squared_error(pictures, bank).flatten(1).mean(1)  # (K,)
    index = int(errors.argmin())
    return Nearest(index, float(decibels(errors[index])))


def leave_one_out(bank: Tensor) -> float:
    """What a real object scores against the others of its name: mean dB over the bank (K >= 2, ..., 4, H, W)."""
    others = [torch.cat([bank[:index], bank[index + 1 :]]) for index in range(len(bank))]
    return sum(nearest_instance(one, rest).decibels for one, rest in zip(bank, others)) / len(bank)


@dataclass(frozen=True)
class Agreement:
    """dB of the views of one scene to the single best instance (`together`), and each to its own best instance (`apart`).

    The views of one object agree on an instance: `gap` is small. Views that each show another object of the same name may be
    as real one by one, but no single instance fits all of them.
    """

    together: float
    apart: float

    @property
    def gap(self) -> float:
        return self.apart - self.together


def instance_agreement(views: Tensor, bank: Tensor) -> Agreement:
    """views (V, 4, H, W), bank (K, V, 4, H, W) by the same cameras."""
    errors = squared_error(views, bank)  # (K, V)
    return Agreement(float(decibels(errors.mean(1).min())), float(decibels(errors.min(0).values.mean())))


def ever_covered(bank: Tensor) -> Tensor:
    """Pixels that any instance covers at any time: (K, T, ..., 4, H, W) -> (..., H, W) bool."""
    return bank[..., 3, :, :].amax((0, 1)) > 0
