"""Closed-form denoisers: exact posterior means, so that every score-distillation formula has a known answer.

The forward process is z = a x0 + b eps with a, b scalars or one value per batch item. The variance exploding form of the
host's eps, v and x0 models is (a, b) = (1, sigma), the variance preserving one (alpha, sigma), flow models (1 - s, s).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

PREDICTIONS = ("eps", "v", "x0", "flow")


def per_item(value, z: Tensor) -> Tensor:
    """Shape a scalar or (B,) coefficient so that it multiplies z of shape (B, ...)."""
    value = torch.as_tensor(value, dtype=z.dtype, device=z.device)
    return value.reshape(-1, *[1] * (z.ndim - 1)) if value.ndim else value


def sum_items(x: Tensor, batch_dims: int = 1) -> Tensor:
    """Sum over every dimension behind the first `batch_dims`."""
    return x.flatten(batch_dims).sum(-1)


@dataclass(frozen=True)
class GaussianOracle:
    """The posterior mean when the data are N(mean, variance I)."""

    mean: Tensor  # broadcasts against one item of z
    variance: float = 0.0

    def denoise(self, z: Tensor, a, b) -> Tensor:
        """E[x0 | z] = (a s2 z + b^2 mu) / (a^2 s2 + b^2); same shape as z."""
        a, b = per_item(a, z), per_item(b, z)
        return (a * self.variance * z + b**2 * self.mean) / (a**2 * self.variance + b**2)


@dataclass(frozen=True)
class MixtureOracle:
    """The posterior mean when the data are a mixture of K equal, isotropic Gaussians.

    `temperature` divides the logarithm of the responsibilities: 1 is the exact posterior mean; above 1 the oracle commits
    later (as a learned prior does), below 1 earlier.
    """

    means: Tensor  # (K, *item)
    variance: float = 0.0
    log_weights: Tensor | None = None  # (K,)
    temperature: float = 1.0

    def responsibilities(self, z: Tensor, a, b) -> Tensor:
        """p(k | z) of shape (B, K)."""
        a, b = per_item(a, z), per_item(b, z)
        spread = (a**2 * self.variance + b**2).reshape(-1, 1)
        distance = sum_items((z[:, None] - a.reshape(-1, 1, *[1] * (z.ndim - 1)) * self.means) ** 2, 2)  # (B, K)
        logits = -distance / (2 * spread)
        if self.log_weights is not None:
            logits = logits + self.log_weights
        return (logits / self.temperature).softmax(-1)

    def denoise(self, z: Tensor, a, b) -> Tensor:
        """E[x0 | z] = sum_k p(k | z) E[x0 | z, k]; same shape as z."""
        mean = torch.einsum("bk,k...->b...", self.responsibilities(z, a, b), self.means)
        return GaussianOracle(mean, self.variance).denoise(z, a, b)


def from_x0(kind: str, x0: Tensor, z: Tensor, a, b) -> Tensor:
    """What a network of the given parametrisation outputs when its denoised estimate is x0.

    v = a eps - b x0 (variance preserving a, b); flow = eps - x0 (a = 1 - s, b = s).
    """
    a, b = per_item(a, z), per_item(b, z)
    eps = (z - a * x0) / b
    return {"eps": eps, "v": a * eps - b * x0, "x0": x0, "flow": eps - x0}[kind]


def to_x0(kind: str, prediction: Tensor, z: Tensor, a, b) -> Tensor:
    """Invert `from_x0`: the denoised estimate behind a network's output."""
    a, b = per_item(a, z), per_item(b, z)
    if kind == "x0":
        return prediction
    if kind == "eps":
        return (z - b * prediction) / a
    if kind == "v":
        return (a * z - b * prediction) / (a**2 + b**2)
    return (z - b * prediction) / (a + b)  # flow: z = a x0 + b (flow + x0)


def alphas_cumprod(steps: int = 1000, start: float = 0.00085, end: float = 0.012) -> Tensor:
    """Cumulative alphas of the Stable Diffusion schedule (betas linear in the square root), float64, (steps,)."""
    betas = torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0)


class OraclePrior:
    """The `Prior` protocol of the guidance around plain denoising functions: no host, no network, no codec.

    `conditional` and `unconditional` map (z, a, b, cameras) to x0. Latents are the RGBA picture itself, channels first, or
    the RGB picture where `accepts_alpha` is false. `flow` chooses z = (1 - s) x0 + s eps, else z = x0 + sigma eps.
    """

    def __init__(self, conditional, unconditional=None, native_size=(16, 16), flow=False, accepts_alpha=True, default_guidance=1.0):
        self.conditional, self.unconditional = conditional, unconditional
        self.native_size, self.accepts_alpha, self.default_guidance = native_size, accepts_alpha, default_guidance
        self.flow = flow
        self.log_sigmas = ((1 - alphas_cumprod()) / alphas_cumprod()).sqrt().log()

    def encode(self, rgb: Tensor, alpha: Tensor) -> Tensor:
        """(B, H, W, 3) premultiplied and (B, H, W) -> (B, 4 or 3, h, w) at the native size; differentiable."""
        picture = torch.cat([rgb, alpha[..., None]], -1) if self.accepts_alpha else rgb
        picture = picture.movedim(-1, 1)
        if tuple(picture.shape[-2:]) == tuple(self.native_size):
            return picture
        return torch.nn.functional.interpolate(picture, self.native_size, mode="bilinear", align_corners=False)

    def sigma_at(self, percent: Tensor) -> Tensor:
        """Noise level at a percent of the schedule: 0 noisiest, 1 clean; finite everywhere."""
        time = 1 - torch.as_tensor(percent, dtype=torch.float64).clamp(0.001, 0.999)
        if self.flow:
            return time.float()
        low = (time * 999).floor().long()
        part = (time * 999) - low
        return ((1 - part) * self.log_sigmas[low] + part * self.log_sigmas[(low + 1).clamp(max=999)]).exp().float()

    def coefficients(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """a, b of z = a x0 + b eps."""
        return (1 - sigma, sigma) if self.flow else (torch.ones_like(sigma), sigma)

    def vp_alpha_bar(self, sigma: Tensor) -> Tensor:
        """Cumulative alpha of the variance preserving process with the same signal to noise ratio."""
        a, b = self.coefficients(sigma)
        return a**2 / (a**2 + b**2)

    def add_noise(self, x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """z = a x0 + b noise."""
        a, b = self.coefficients(sigma)
        return per_item(a, x0) * x0 + per_item(b, x0) * noise

    @torch.no_grad()
    def denoise(self, z: Tensor, sigma: Tensor, cameras=None, text=None, unconditional: bool = True):
        """(conditional x0, unconditional x0 or None), both shaped as z."""
        a, b = self.coefficients(sigma)
        guess = self.conditional(z, a, b, cameras)
        if not unconditional or self.unconditional is None:
            return guess, None
        return guess, self.unconditional(z, a, b, cameras)

    def decode(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Latents are the picture: premultiplied rgb and alpha, clamped to [0, 1]."""
        pictures = latents.movedim(1, -1).clamp(0, 1)
        return pictures[..., :3], pictures[..., 3] if self.accepts_alpha else torch.ones_like(pictures[..., 0])
