"""Scores of a toy result against the closed form (specification 4.1), on cameras and times that no optimisation saw."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from bloom4d.models.geometry.cameras import Cameras

from .spheres import COLOURS, MOVING, Spheres, rig

AZIMUTHS, TIMES = 8, 9
STILL = 2 / 255


def cameras() -> Cameras:
    """Eight azimuths, nine times: (T V) cameras, time slowest."""
    azimuths = 2 * math.pi * torch.arange(AZIMUTHS) / AZIMUTHS
    times = torch.arange(TIMES) / (TIMES - 1)
    return rig(azimuths.repeat(TIMES), times.repeat_interleave(AZIMUTHS))


def truth(size: int) -> Tensor:
    """(T, V, 4, size, size)"""
    return Spheres().render(cameras(), size).unflatten(0, (TIMES, AZIMUTHS))


def scores(seen: Tensor) -> dict[str, float]:
    """Of pictures (T, V, 4, H, W), premultiplied, by `cameras()`."""
    real = truth(seen.shape[-1])
    seen_white, real_white = over_white(seen), over_white(real)
    back = slice(AZIMUTHS // 2 - 1, AZIMUTHS // 2 + 2)
    return {
        "PSNR": psnr(seen_white, real_white),
        "back PSNR": psnr(seen_white[:, back], real_white[:, back]),
        "sharpness": laplacian(seen_white) / laplacian(real_white),
        "motion": travel(seen[:, 0]) / travel(real[:, 0]),
        "flicker": flicker(seen_white, real_white),
        "multi-face": faces(seen_white, real),
        "upper sphere": upper(seen, real),
    }


def over_white(rgba: Tensor) -> Tensor:
    return rgba[..., :3, :, :] + 1 - rgba[..., 3:, :, :]


def psnr(seen: Tensor, real: Tensor) -> float:
    return float(-10 * (seen - real).square().mean().log10())


def laplacian(white: Tensor) -> float:
    """Mean |Laplacian|."""
    kernel = white.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]]).expand(3, 1, 3, 3)
    return float(functional.conv2d(white.flatten(0, -4), kernel, groups=3).abs().mean())


def travel(front: Tensor) -> float:
    """How far the centre of what has the moving sphere's colour goes over time, in picture widths. (T, 4, H, W)"""
    nearness = (front[:, :3] - COLOURS[MOVING].view(1, 3, 1, 1) * front[:, 3:]).square().sum(1)
    weight = torch.exp(-nearness / 0.03) * front[:, 3]  # (T, H, W)
    size = front.shape[-1]
    place = (torch.arange(size) + 0.5) / size
    mass = weight.sum((1, 2)).clamp_min(1e-6)
    x = (weight.sum(1) * place).sum(1) / mass
    y = (weight.sum(2) * place).sum(1) / mass
    return float(torch.stack([x, y], 1).diff(dim=0).norm(dim=1).sum())


def flicker(seen: Tensor, real: Tensor) -> float:
    """Mean |I(t+1) - 2 I(t) + I(t-1)| where the true pictures never change and show something."""
    still = ((real.amax(0) - real.amin(0)).amax(-3) <= STILL) & (real.mean((0, -3)) < 0.98)
    second = seen.diff(n=2, dim=0).abs().mean(-3)
    return float(second[:, still].mean())


def faces(seen: Tensor, real: Tensor) -> float:
    """Correlation of the back view with the front picture, where both are covered."""
    front, back = seen[:, 0], seen[:, AZIMUTHS // 2]
    covered = ((real[:, 0, 3] > 0.5) & (real[:, AZIMUTHS // 2, 3] > 0.5))[:, None].expand_as(front)
    one, other = front[covered], back[covered]
    return float(torch.corrcoef(torch.stack([one, other]))[0, 1])


def upper(seen: Tensor, real: Tensor) -> float:
    """Share of the upper sphere's silhouette that is covered, over all views."""
    rows = slice(0, seen.shape[-1] * 5 // 16)
    there = real[..., 3, rows, :] > 0.5
    return float(seen[..., 3, rows, :][there].mean())
