"""What constructed pictures are held against (Orster, eqs 17 and 18; specification B6)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..gaussians.dynamic import DynamicGaussians

SOBEL_LEVELS = 3
SOBEL = "Sobel pyramid (no LPIPS file)"
Perceptual = Callable[[Tensor, Tensor], Tensor]
"""A distance of two sets of pictures (B, 3, H, W) in [0, 1], averaged over them, differentiable in the first."""


@dataclass(frozen=True)
class LossWeights:
    """L = l1 L1 + perceptual LPIPS + depth L_dep + hex L_hex + regularisers; the paper does not publish its weights.

    The regularisers are 4DGS's: `variation` of the spatial planes, `roughness` along time, `restlessness` of the time planes.
    """

    l1: float = 1.0
    perceptual: float = 0.2
    depth: float = 0.05
    hex: float = 1.0
    variation: float = 1e-4
    roughness: float = 1e-2
    restlessness: float = 1e-4


def absolute_error(rgb: Tensor, alpha: Tensor, true_rgb: Tensor, true_alpha: Tensor, known: Tensor) -> Tensor:
    """Mean absolute error (B,) of premultiplied colours and opacities; where opacity is not `known` (B,), of colours over white."""
    behind = torch.where(known, 0.0, 1.0)[:, None, None]
    colour = (rgb + (behind * (1.0 - alpha))[..., None] - true_rgb).abs().sum(dim=-1)
    opacity = (alpha - true_alpha).abs() * (1.0 - behind)
    return (colour + opacity).mean(dim=(1, 2)) / torch.where(known, 4.0, 3.0)


def sobel_pyramid(pictures: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference of Sobel gradients at three scales, a stand-in for LPIPS that needs no file: (B, 3, H, W) in [0, 1]."""
    total = pictures.new_zeros(())
    levels = [level for level in range(SOBEL_LEVELS) if min(pictures.shape[-2:]) >> level >= 4]
    for level in levels:
        if level:
            pictures, truth = functional.avg_pool2d(pictures, 2), functional.avg_pool2d(truth, 2)
        total = total + _gradients(pictures - truth).abs().mean()
    return total / len(levels)


def _gradients(pictures: Tensor) -> Tensor:
    """Sobel gradients along both axes, of each channel: (B, 6, H, W)."""
    across = pictures.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8.0
    kernel = torch.stack([across, across.t()])[:, None].repeat(pictures.shape[1], 1, 1, 1)  # (6, 1, 3, 3)
    return functional.conv2d(functional.pad(pictures, [1] * 4, mode="replicate"), kernel, groups=pictures.shape[1])


def depth_smoothness(depth: Tensor, alpha: Tensor) -> Tensor:
    """Mean squared difference of neighbouring expected depths of patches (RegNeRF), over the pairs that are both covered.

    `depth` (B, h, w) is weighted by opacity as the rasteriser gives it, `alpha` (B, h, w). 0 where nothing is covered, and on
    a plane that faces the camera.
    """
    covered = alpha > 0.5
    expected = depth / alpha.clamp_min(0.5)
    squares, pairs = depth.new_zeros(()), 0
    for axis in (-1, -2):
        both = covered.narrow(axis, 1, covered.shape[axis] - 1) & covered.narrow(axis, 0, covered.shape[axis] - 1)
        squares = squares + torch.where(both, expected.diff(dim=axis).square(), 0.0).sum()
        pairs = pairs + both.sum()
    return squares / torch.as_tensor(pairs).clamp_min(1)


def hex_loss(over_white: Tensor, driving: Tensor) -> Tensor:
    """Eq. 17: mean squared error (B,) between renders at the reference camera and frames of the driving video, both over white."""
    return (over_white - driving).square().mean(dim=(1, 2, 3))


def regularisation(gaussians: DynamicGaussians, weights: LossWeights) -> Tensor:
    """The planes' regularisers, weighted; 0 without a deformation."""
    if gaussians.deformation is None:
        return gaussians.positions.new_zeros(())
    planes = gaussians.deformation.planes
    return weights.variation * planes.total_variation() + weights.roughness * planes.roughness() + weights.restlessness * planes.restlessness()
