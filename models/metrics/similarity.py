"""PSNR and SSIM of pictures against reference pictures, by kornia."""

from __future__ import annotations

import torch
from torch import Tensor

HIGHEST = 100.0  # dB; kornia says infinity for equal pictures
WINDOW = 11  # SSIM's Gaussian window (Wang et al. 2004)


def psnr(pictures: Tensor, reference: Tensor) -> float:
    """Mean over the pictures of the peak signal to noise ratio in dB, at most 100; (N, 3, H, W) in [0, 1] both."""
    from kornia.metrics import psnr as of_pair

    return float(torch.stack([of_pair(one, other, 1.0).clamp_max(HIGHEST) for one, other in zip(pictures, reference)]).mean())


def ssim(pictures: Tensor, reference: Tensor) -> float | None:
    """Mean over pictures and pixels of the structural similarity; None where they are smaller than its window."""
    from kornia.metrics import ssim as map_of

    if min(pictures.shape[-2:]) < WINDOW:
        return None
    return float(torch.stack([map_of(one[None], other[None], WINDOW).mean() for one, other in zip(pictures, reference)]).mean())
