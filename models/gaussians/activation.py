"""Between raw parameters, which an optimiser may move freely, and the activated values that are rendered."""

import torch
from torch import Tensor
from torch.nn import functional

from .gaussians import harmonics_of

RAW = ("positions", "quaternions", "log_scales", "logits", "colours", "details")
"""Raw parameters of N Gaussians: positions (N, 3) world, quaternions (N, 4) w, x, y, z of any length but 0, log_scales (N, 3),
logits (N,) of the opacities, colours (N, 1, 3) the constant harmonics, details (N, K - 1, 3) the others. 3DGS's choice."""

SMALLEST_OPACITY = 1e-6  # so that a logit is finite
SMALLEST_SCALE = 1e-8


def activated(raw: dict[str, Tensor]) -> dict[str, Tensor]:
    """Positions (N, 3), unit rotations (N, 4), scales (N, 3), opacities (N,) and harmonics (N, K, 3) of raw parameters."""
    return {
        "positions": raw["positions"],
        "rotations": functional.normalize(raw["quaternions"], dim=-1),
        "scales": raw["log_scales"].exp(),
        "opacities": torch.sigmoid(raw["logits"]),
        "harmonics": torch.cat([raw["colours"], raw["details"]], dim=1),
    }


def raw_of(attributes: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `activated`; opacities of 0 and 1 and scales of 0 come back as the nearest that raw parameters can say."""
    harmonics = attributes["harmonics"]
    return {
        "positions": attributes["positions"],
        "quaternions": attributes["rotations"],
        "log_scales": attributes["scales"].clamp_min(SMALLEST_SCALE).log(),
        "logits": logit(attributes["opacities"]),
        "colours": harmonics[:, :1],
        "details": harmonics[:, 1:],
    }


def logit(opacities: Tensor) -> Tensor:
    """Finite logits of opacities in [0, 1]."""
    return torch.logit(opacities, eps=SMALLEST_OPACITY)


def cloud(positions: Tensor, colours: Tensor, spacing: Tensor, opacity: float, degree: int) -> dict[str, Tensor]:
    """Raw parameters of round Gaussians at `positions` (N, 3) with sRGB `colours` (N, 3) and standard deviations `spacing` (N,)."""
    count = positions.shape[0]
    quaternions = positions.new_zeros(count, 4)
    quaternions[:, 0] = 1.0
    return {
        "positions": positions,
        "quaternions": quaternions,
        "log_scales": spacing.clamp_min(SMALLEST_SCALE).log()[:, None].repeat(1, 3),
        "logits": logit(positions.new_full((count,), opacity)),
        "colours": harmonics_of(colours),
        "details": positions.new_zeros(count, (degree + 1) ** 2 - 1, 3),
    }
