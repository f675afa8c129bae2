"""The decoded-RGB term of the x0 form: pictures against what the prior's estimate looks like (Dream-in-4D, L_dec)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from .prior import DecodingPrior


def at_native_size(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, H, W, C) resized bilinearly, as priors do before they encode."""
    if tuple(pictures.shape[1:3]) == tuple(size):
        return pictures
    return functional.interpolate(pictures.movedim(-1, 1), size, mode="bilinear", align_corners=False).movedim(1, -1)


@torch.no_grad()
def shown(denoised: Tensor, prior: DecodingPrior) -> Tensor:
    """Latents as pictures (B, H, W, 3) in [0, 1], or premultiplied RGBA (B, H, W, 4) of a prior that knows alpha."""
    rgb, alpha = prior.decode(denoised)
    return (torch.cat([rgb, alpha[..., None]], dim=-1) if prior.accepts_alpha else rgb).clamp(0.0, 1.0)


def decoded_loss(pictures: Tensor, estimates: Sequence[Tensor], prior: DecodingPrior, kept: Tensor | None = None) -> tuple[Tensor, int]:
    """sum (X - sg decode(D))^2 over all pictures, the mean over estimates D, and how many target values were not finite.

    `pictures` (B, h, w, 3 or 4) at the prior's size and in its channels, with gradient; `kept` (B,) leaves pictures out.
    Values that are not finite pull nowhere. Raises ValueError where the codec does not give back every picture.
    """
    total, bad = pictures.new_zeros(()), 0
    for denoised in estimates:
        target = shown(denoised, prior).to(pictures)
        if target.shape != pictures.shape:
            raise ValueError(_mismatch(target, pictures))
        usable = torch.isfinite(target)
        bad += target.numel() - int(usable.sum())
        if kept is not None:
            usable = usable & kept.view(-1, 1, 1, 1)
        total = total + torch.where(usable, pictures - target, torch.zeros_like(target)).square().sum()
    return total / len(estimates), bad


def _mismatch(target: Tensor, pictures: Tensor) -> str:
    given, wanted = (" x ".join(map(str, value.shape[:3])) for value in (target, pictures))
    return (
        f"The VAE gives back pictures of {given} (number, height, width) for {wanted}, which this term compares pixel by pixel. "
        "Choose frames and a model size that the VAE keeps: VAEs that squeeze time take 4 n + 1 frames."
    )
