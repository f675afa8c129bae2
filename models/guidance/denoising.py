"""Several denoising steps in a row: the deterministic path that distillation, refinement and video refinement share.

A path starts at level t and goes in n equal parts of t towards 0: t, t (n - 1) / n, ..., t / n. At each of them the prior
gives its estimate D of the clean latents, and z moves to the next level along the noise that D implies, z' = a' D + b' eps
(DDIM without added noise, for any a and b). The last estimate is the result; a path of one step is the estimate itself.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..geometry.cameras import Cameras
from .directions import ViewDirections
from .noise import guided, noise_from_denoised, per_item
from .prior import Prior


def path(levels: Tensor, steps: int, prior: Prior) -> list[Tensor]:
    """The noise levels (B,) in the model's own units of a path of `steps` from `levels` (B,), fractions of the schedule."""
    return [prior.sigma_at(1.0 - levels * (steps - index) / steps) for index in range(steps)]


def denoised_along(z: Tensor, sigmas: Sequence[Tensor], prior: Prior, estimate: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The last estimate on the way of `z` through the noise levels `sigmas`, the first of which is its own.

    `estimate(z, sigma)` is the guided estimate of clean latents.
    """
    for sigma, following in zip(sigmas, sigmas[1:]):
        denoised = estimate(z, sigma)
        a, b = (per_item(value, z) for value in prior.coefficients(following))
        z = a * denoised + b * noise_from_denoised(z, denoised, *prior.coefficients(sigma))
    return estimate(z, sigmas[-1])


@torch.no_grad()
def redraw(
    x0: Tensor, cameras: Cameras, prior: Prior, level: float, steps: int, guidance: float, draws: torch.Generator, directions: ViewDirections = ViewDirections()
) -> Tensor:
    """Noise latents to `level` and denoise them jointly in `steps`; returns clean latents like `x0`. `guidance` <= 0: the model's own."""
    scale = guidance if guidance > 0 else prior.default_guidance
    text = directions.pick(cameras)
    noise = torch.randn(x0.shape, generator=draws).to(x0)
    sigmas = [sigma.to(x0.device) for sigma in path(torch.full((x0.shape[0],), level, dtype=torch.float64), steps, prior)]

    def estimate(z: Tensor, sigma: Tensor) -> Tensor:
        return guided(*prior.denoise(z, sigma, cameras, text, unconditional=scale != 1.0), scale)

    return denoised_along(prior.add_noise(x0, noise, sigmas[0]), sigmas, prior, estimate)
