"""The noise process z = a x0 + b eps and everything that follows from it: the single source for every kind of model.

Variance preserving models have a^2 + b^2 = 1, the host's form of eps, v and x0 models is a = 1, b = sigma, flow models have
a = 1 - s, b = s. Nothing below depends on the form but through the ratio a / b, so every prior is used through its denoised
estimate D alone. Coefficients are (B,) tensors and latents (B, ...) unless said otherwise.
"""

import torch
from torch import Tensor


def per_item(value: Tensor, like: Tensor) -> Tensor:
    """Shape coefficients (B,) so that they multiply `like` (B, ...)."""
    return value.to(like).reshape(-1, *[1] * (like.ndim - 1))


def alpha_bar(a: Tensor, b: Tensor) -> Tensor:
    """The cumulative alpha of the variance preserving process with the same signal-to-noise ratio."""
    return a**2 / (a**2 + b**2)


def noise_from_denoised(z: Tensor, denoised: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """eps = (z - a D) / b."""
    return (z - per_item(a, z) * denoised) / per_item(b, z)


def velocity_from_denoised(z: Tensor, denoised: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """v = a eps - b D, for variance preserving a and b."""
    return per_item(a, z) * noise_from_denoised(z, denoised, a, b) - per_item(b, z) * denoised


def denoised_from_noise(z: Tensor, noise: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """D = (z - b eps) / a."""
    return (z - per_item(b, z) * noise) / per_item(a, z)


def denoised_from_velocity(z: Tensor, velocity: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """D = a z - b v, for variance preserving a and b."""
    return per_item(a, z) * z - per_item(b, z) * velocity


def denoised_from_flow(z: Tensor, flow: Tensor, b: Tensor) -> Tensor:
    """D = z - s u of a flow model's u = eps - x0, with s = b."""
    return z - per_item(b, z) * flow


def noise_residual(x0: Tensor, denoised: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """eps_hat - eps = (a / b) (x0 - D), the error of the noise that the denoised estimate implies."""
    return per_item(a / b, x0) * (x0 - denoised)


def guided(conditional: Tensor, unconditional: Tensor | None, scale: float) -> Tensor:
    """Classifier-free guidance u + s (c - u) on denoised estimates.

    Affine in D at a fixed z, hence the same for eps, v and flow models. Reference code that computes c + s (c - u) has a true
    scale of s + 1: its 100 is our 101.
    """
    return conditional if unconditional is None else unconditional + scale * (conditional - unconditional)


def across(direction: Tensor, along: Tensor) -> Tensor:
    """What is left of `direction` (B, ...) without its part along `along`, item by item; all of it where `along` is 0."""
    flat, line = direction.flatten(1), along.flatten(1)
    share = (flat * line).sum(1) / line.square().sum(1).clamp_min(1e-30)
    return direction - per_item(share, direction) * along


def guided_apart(conditional: Tensor, unconditional: Tensor, negatives: list[tuple[Tensor | float, Tensor]], scale: float, strength: float) -> Tensor:
    """Perp-Neg: u + s (p - strength sum_i w_i e_i'), with p = c - u and e_i' the part of n_i - u across p.

    The weights w_i are numbers or (B,), so that a prompt may count differently from each side (there the paper has functions of
    the angle). A negative prompt then never takes away what the prompt asks for. Like `guided` the same for eps, v and flow models, in
    which all differences scale alike.
    """
    prompt = conditional - unconditional
    away = sum(per_item(torch.as_tensor(weight, dtype=prompt.dtype), prompt) * across(negative - unconditional, prompt) for weight, negative in negatives)
    return unconditional + scale * (prompt - strength * away)
