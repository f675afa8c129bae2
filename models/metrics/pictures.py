"""Scores of single pictures: error, sharpness, fine detail, haze, matter where there should be none.

Pictures are premultiplied sRGB RGBA (N, 4, H, W) in [0, 1]; colours are compared over white, as people see them. PSNR rewards
blur, so it never stands alone: sharpness and fine detail are ratios to real pictures of the same things, 1 at best.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

HAZE = (0.01, 0.2)  # alpha that is neither nothing nor an edge: antialiased edges of 2 x 2 samples start at .25
SOLID = 0.9
LEAST_ERROR = 1e-10  # mean squared; identical pictures have 100 dB


def over_white(pictures: Tensor) -> Tensor:
    """Colours over white: (..., 4, H, W) -> (..., 3, H, W)."""
    return pictures[..., :3, :, :] + 1 - pictures[..., 3:, :, :]


def decibels(squared_error: Tensor) -> Tensor:
    """PSNR of mean squared errors of values in [0, 1], at most 100 dB."""
    return -10 * torch.log10(squared_error.clamp_min(LEAST_ERROR))


def squared_error(pictures: Tensor, truth: Tensor) -> Tensor:
    """Mean squared difference over white per picture; leading axes broadcast: (..., 4, H, W) -> (...)."""
    return (over_white(pictures) - over_white(truth)).square().mean((-3, -2, -1))


def psnr(pictures: Tensor, truth: Tensor) -> Tensor:
    """Peak signal to noise ratio over white, per picture, in dB; leading axes broadcast: (..., 4, H, W) -> (...)."""
    return decibels(squared_error(pictures, truth))


def laplacian(colours: Tensor) -> Tensor:
    """|4 I - the four neighbours| at every pixel but the border: (N, C, H, W) -> (N, C, H - 2, W - 2)."""
    centre = colours[..., 1:-1, 1:-1]
    around = colours[..., :-2, 1:-1] + colours[..., 2:, 1:-1] + colours[..., 1:-1, :-2] + colours[..., 1:-1, 2:]
    return (4 * centre - around).abs()


def sharpness(pictures: Tensor, truth: Tensor) -> float:
    """Mean |Laplacian| of `pictures` relative to that of `truth`, silhouettes included. The sets may differ in number."""
    return _ratio(laplacian(over_white(pictures)).mean(), laplacian(over_white(truth)).mean())


def inner_sharpness(pictures: Tensor, truth: Tensor) -> float:
    """`sharpness` inside the object only: over pixels that are solid together with their neighbours, each set by its own alpha."""
    return _ratio(_inner_laplacian(pictures), _inner_laplacian(truth))


def _inner_laplacian(pictures: Tensor) -> Tensor:
    solid = -F.max_pool2d(-pictures[:, 3:], 3, 1) > SOLID  # (N, 1, H - 2, W - 2)
    values = laplacian(over_white(pictures))
    return (values * solid).sum() / (3 * solid.sum().clamp_min(1))


def fine_detail(pictures: Tensor, truth: Tensor) -> float:
    """High-frequency energy relative to real pictures: mean square of what a 3 x 3 mean takes away from the colours over white.

    This filter gives the prototype prior of the second experiment, measured on its own sheet, the .22 that it was judged by.
    """
    return _ratio(_residual(pictures).square().mean(), _residual(truth).square().mean())


def _residual(pictures: Tensor) -> Tensor:
    colours = over_white(pictures)
    return colours - F.avg_pool2d(F.pad(colours, (1, 1, 1, 1), mode="replicate"), 3, 1)


def haze(pictures: Tensor) -> float:
    """Share of pixels that are faintly covered (alpha .01 to .2); real pictures have none."""
    alpha = pictures[..., 3, :, :]
    return ((alpha > HAZE[0]) & (alpha < HAZE[1])).float().mean().item()


def background_error(pictures: Tensor, ever: Tensor) -> float:
    """Mean alpha at the pixels where no real object ever is; premultiplied colours can't exceed it, whatever lies behind.

    ever: (..., H, W) bool, broadcasting against the pictures' leading axes: True where some real object is at some time.
    """
    empty = (~ever).expand(pictures.shape[:-3] + pictures.shape[-2:])
    return _ratio((pictures[..., 3, :, :] * empty).sum(), empty.sum())


def _ratio(above: Tensor, below: Tensor) -> float:
    """A quotient as a float; NaN where there is nothing to compare with."""
    below = float(below)
    return float(above) / below if below > 0 else math.nan
