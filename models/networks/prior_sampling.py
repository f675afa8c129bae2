"""Deterministic sampling of the embedded prior outside the host, for training sheets and for scoring its weights."""

from __future__ import annotations

import torch
from torch import Tensor

from .joint_prior import JointPrior


@torch.no_grad()
def sample_joint(
    denoiser: JointPrior,
    noise: Tensor,
    alpha_bar: Tensor,
    context: Tensor,
    condition: Tensor,
    frames: int,
    clean: Tensor | None = None,
    latents: Tensor | None = None,
    unconditional: tuple[Tensor, Tensor] | None = None,
    guidance: float = 1.0,
    steps: int = 16,
    start: int = 999,
) -> Tensor:
    """DDIM from `noise` (S*V, C, h, w) at timestep `start` to latents (Song et al., eq. 12, eta 0, x0 output).

    context (S*V, L, D) and condition (S*V, Y) say what to draw; clean (S, V) bool marks frames that stay at `latents`;
    with `unconditional` (context, condition) the prediction is u + guidance (c - u).
    """
    rows = None if clean is None else clean.flatten()[:, None, None, None]
    hold = lambda x: x if rows is None else torch.where(rows, latents, x)  # noqa: E731
    levels = torch.linspace(start, 0, steps + 1).round().long()
    x = hold(noise)
    for now, after in zip(levels[:-1], levels[1:]):
        timesteps = torch.full((x.shape[0],), float(now))
        if clean is not None:
            timesteps = timesteps.masked_fill(clean.flatten(), 0.0)
        predicted = denoiser(x, timesteps, context, condition, frames, clean)
        if unconditional is not None and guidance != 1.0:
            blind = denoiser(x, timesteps, *unconditional, frames, clean)
            predicted = blind + guidance * (predicted - blind)
        signal, following = alpha_bar[now], alpha_bar[after] if after > 0 else alpha_bar.new_ones(())
        noise_now = (x - signal.sqrt() * predicted) / (1 - signal).sqrt()
        x = hold(following.sqrt() * predicted + (1 - following).sqrt() * noise_now)
    return x
