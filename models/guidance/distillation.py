"""Score distillation of pictures into whatever rendered them: SDS, its reconstruction form, and the video form.

All three are one gradient on the latent, g = w (eps_hat - eps) = w (a / b) (x0 - D), with different weights w, guidance,
rescaling and sharing of noise levels. The prior's Jacobian is left out by definition (DreamFusion, eq. 3).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..geometry.cameras import Cameras, spherical
from .decoded import at_native_size, decoded_loss
from .denoising import denoised_along, path
from .directions import ViewDirections
from .noise import guided, guided_apart, per_item
from .objective import Outcome, Pictures
from .prior import Prior
from .schedules import NoiseRange, Schedule, constant
from .seeds import generator

WEIGHTINGS = ("sds", "uniform", "fantasia3d", "recon")
SHARING = ("picture", "scene", "batch")


@dataclass(frozen=True)
class Distillation:
    """How a prior's estimate becomes a gradient; the defaults are plain SDS as in 4D-fy's image term.

    `guidance` 0 or -1 takes the model's own scale. `weighting`: "sds" 1 - alpha_bar, "uniform" 1, "fantasia3d"
    sqrt(alpha_bar) (1 - alpha_bar), "recon" b / a, which makes the gradient x0 - D (MVDream). `rescale` pulls the guided
    estimate's standard deviation towards the conditional one's, per joint scene. `level_per` says what shares one noise
    level: a picture, a joint scene or the whole batch. `motion` amplifies the gradient's deviation from its mean over a
    scene's frames (the VideoCrafter2 setting of 4D-fy's code). `clip` bounds each latent's gradient norm; 0 is off.

    The x0 form is "recon" with `decoded`, the weight of sum (X - sg decode(D))^2 / B in the model's pictures (Dream-in-4D: 0.1).
    `denoising_steps` above 1 lets D be the end of a deterministic path from the drawn level, `denoising.path`, guided at each
    step (Dream-in-4D's multi-step variant: 4). `antithetic` takes the mean over the drawn noise and its negative. `perp_neg`
    is the strength of negative prompts across the prompt (Perp-Neg); the prior must be a `NegatingPrior`. `skip_azimuth`
    leaves out pictures whose azimuth is that many degrees or more off the front (Dream-in-4D, against several faces); 0 and
    180 leave out none.
    """

    weighting: str = "sds"
    guidance: float = -1.0
    rescale: float = 0.0
    levels: NoiseRange = NoiseRange()
    level_per: str = "picture"
    motion: float = 1.0
    clip: float = 0.0
    directions: ViewDirections = ViewDirections()
    decoded: float = 0.0
    denoising_steps: int = 1
    antithetic: bool = False
    perp_neg: float = 0.0
    skip_azimuth: float = 180.0

    def __post_init__(self):
        if self.weighting not in WEIGHTINGS or self.level_per not in SHARING:
            raise ValueError(
                f'Weighting "{self.weighting}" or noise sharing "{self.level_per}" is unknown. '
                f"Choose from {', '.join(WEIGHTINGS)} and {', '.join(SHARING)}."
            )

    def scale(self, prior: Prior) -> float:
        """The guidance scale in use: the configured one, or the model's own."""
        return self.guidance if self.guidance > 0 else prior.default_guidance

    def kept(self, cameras: Cameras) -> Tensor | None:
        """Which cameras' pictures count (N,); None for all."""
        if not 0.0 < self.skip_azimuth < 180.0:
            return None
        return spherical(cameras.camera_to_world)[0].abs() < math.radians(self.skip_azimuth)

    def evaluate(self, pictures: Pictures, judge: Prior, step: int, steps: int, keys: tuple) -> Outcome:
        """See `Objective`; the random numbers are of the purpose "noise"."""
        return distill(*pictures.for_prior(judge), pictures.cameras, judge, self, step, steps, generator(*keys, "noise"))


def multi_view(**changes) -> Distillation:
    """MVDream's loss as 4D-fy uses it: reconstruction form, rescale 0.5, one level for the batch, annealed from pure noise."""
    levels = NoiseRange(Schedule(0.98, 0.02, 0, 8000, of_stage=False), Schedule(0.98, 0.5, 0, 8000, of_stage=False))
    return Distillation(**{"weighting": "recon", "rescale": 0.5, "level_per": "batch", "levels": levels, **changes})


def video(**changes) -> Distillation:
    """4D-fy's video SDS: one noise level per video, independent noise per frame, levels in [0.02, 0.98]."""
    return Distillation(**{"weighting": "sds", "level_per": "scene", "levels": NoiseRange(constant(0.02), constant(0.98)), **changes})


def gradient_scale(weighting: str, a: Tensor, b: Tensor) -> Tensor:
    """w (a / b) as a function of r = a / b alone, so that it stays finite at zero signal (r = 0)."""
    r = a / b
    noise_share = 1.0 / (1.0 + r**2)  # 1 - alpha_bar
    if weighting == "recon":
        return torch.ones_like(r)
    if weighting == "uniform":
        return r
    return r * noise_share if weighting == "sds" else r**2 * noise_share**1.5


def rescaled(estimate: Tensor, conditional: Tensor, share: float, frames: int) -> Tensor:
    """`share` of the estimate brought to the conditional estimate's standard deviation, per joint scene of `frames` latents."""
    if share == 0.0 or estimate is conditional:
        return estimate
    groups = (estimate.shape[0] // frames, -1)
    ratio = conditional.reshape(groups).std(1) / (estimate.reshape(groups).std(1) + 1e-8)
    return share * estimate * per_item(ratio.repeat_interleave(frames), estimate) + (1.0 - share) * estimate


def surrogate_loss(latents: Tensor, gradient: Tensor) -> Tensor:
    """A scalar whose gradient with respect to the latents is exactly `gradient` / B and whose value is |g|^2 / 2 B.

    The same as 0.5 |x - sg(x - g)|^2 / B, without the rounding of x - (x - g).
    """
    carrier = (latents * gradient).sum()
    value = 0.5 * gradient.square().sum()
    return (carrier + (value - carrier).detach()) / latents.shape[0]


def amplified(gradient: Tensor, factor: float, frames: int) -> Tensor:
    """mean_F(g) + factor (g - mean_F(g)) over each scene's frames; the frames are axis 2 of a video's latents, else axis 0."""
    if factor == 1.0:
        return gradient
    video_latents = gradient.ndim == 5
    scenes = gradient if video_latents else gradient.unflatten(0, (-1, frames))
    mean = scenes.mean(2 if video_latents else 1, keepdim=True)
    return (mean + factor * (scenes - mean)).reshape(gradient.shape)


def clipped(gradient: Tensor, limit: float) -> Tensor:
    """Shrink each latent's gradient to the norm `limit`; 0 leaves it alone."""
    if limit <= 0.0:
        return gradient
    norm = gradient.flatten(1).norm(dim=1)
    return gradient * per_item((limit / norm.clamp_min(1e-20)).clamp_max(1.0), gradient)


def estimated(z: Tensor, sigma: Tensor, prior: Prior, cameras: Cameras, config: Distillation) -> Tensor:
    """The prior's estimate of clean latents with everything that guides it: prompts, guidance scale, Perp-Neg, rescaling."""
    scale, text = config.scale(prior), config.directions.pick(cameras)
    if config.perp_neg:
        conditional, unconditional, negatives = prior.denoise_apart(z, sigma, cameras, text)
        denoised = guided_apart(conditional, unconditional, negatives, scale, config.perp_neg)
    else:
        conditional, unconditional = prior.denoise(z, sigma, cameras, text, unconditional=scale != 1.0)
        denoised = guided(conditional, unconditional, scale)
    return rescaled(denoised, conditional, config.rescale, _frames(z, cameras))


def _frames(latents: Tensor, cameras: Cameras) -> int:
    """Latents per joint scene: a video's frames are one latent."""
    return cameras.frames if latents.shape[0] == len(cameras) else 1


def distillation_gradient(
    x0: Tensor, noise: Tensor, sigma: Tensor, prior: Prior, cameras: Cameras, config: Distillation, following: Sequence[Tensor] = (),
    own: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """(g, guided estimate) on latents `x0` for given noise and levels; nothing here keeps a graph.

    `following`: the further levels of a path, each like `sigma`; the estimate is then its end. `own` (z, sigma) is what stands
    for the pictures in place of `x0`: the estimate of a model of them (variational score distillation).
    """
    a, b = prior.coefficients(sigma)
    z = prior.add_noise(x0, noise, sigma)
    denoised = denoised_along(z, [sigma, *following], prior, lambda at, level: estimated(at, level, prior, cameras, config))
    gradient = per_item(gradient_scale(config.weighting, a, b), x0) * ((x0 if own is None else own(z, sigma)) - denoised)
    return clipped(amplified(gradient, config.motion, _frames(x0, cameras)), config.clip), denoised


def draw_levels(config: Distillation, cameras: Cameras, latents: int, step: int, steps: int, generator: torch.Generator) -> Tensor:
    """Noise levels t (latents,), shared as `level_per` says; a video's single latent has a single level anyway."""
    if latents != len(cameras) or config.level_per == "batch":
        draws, repeats = (1, latents) if config.level_per == "batch" else (latents, 1)
    else:
        repeats = cameras.frames if config.level_per == "scene" else 1
        draws = latents // repeats
    return config.levels.draw(step, steps, draws, generator).repeat_interleave(repeats)


def distill(
    rgb: Tensor, alpha: Tensor, cameras: Cameras, prior: Prior, config: Distillation, step: int, steps: int, generator: torch.Generator,
    own: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Outcome:
    """One term's loss on pictures, with d loss / d latents = g / B: premultiplied rgb (B, H, W, 3) and alpha (B, H, W), both with gradients.

    A prior without alpha expects pictures that are already composited. Levels are drawn before noise, both from `generator`.
    `own`: see `distillation_gradient`.
    """
    latents = prior.encode(rgb, alpha)
    x0 = latents.detach()
    levels = draw_levels(config, cameras, x0.shape[0], step, steps, generator)
    noise = torch.randn(x0.shape, generator=generator, dtype=torch.float32).to(x0)
    sigma, *following = (value.to(x0.device) for value in path(levels, config.denoising_steps, prior))
    draws = [noise, -noise] if config.antithetic else [noise]
    gradients, estimates = zip(*(distillation_gradient(x0, draw, sigma, prior, cameras, config, following, own) for draw in draws))
    kept = config.kept(cameras)
    gradient, bad = _usable(sum(gradients) / len(draws), None if kept is None else kept[:: len(cameras) // x0.shape[0]])
    loss = surrogate_loss(latents, gradient)
    if config.decoded:
        pictures = torch.cat([rgb, alpha[..., None]], dim=-1) if prior.accepts_alpha else rgb
        squared, spoiled = decoded_loss(at_native_size(pictures, prior.native_size), estimates, prior, kept)
        loss, bad = loss + config.decoded * squared / x0.shape[0], bad + spoiled
    return Outcome(loss, float(levels.mean()), float(gradient.norm()), bad, sum(estimates) / len(draws), x0)


def _usable(gradient: Tensor, kept: Tensor | None) -> tuple[Tensor, int]:
    """The gradient with 0 where it is not finite or not kept (B,), and how many of its entries were not finite.

    With nothing finite the term has taught nothing: it stays, the loss is NaN and the step is skipped.
    """
    finite = torch.isfinite(gradient)
    bad = gradient.numel() - int(finite.sum())
    usable = finite if 0 < bad < gradient.numel() else torch.ones_like(finite)
    if kept is not None:
        usable = usable & kept.to(gradient.device).view(-1, *[1] * (gradient.ndim - 1))
    return torch.where(usable, gradient, torch.zeros_like(gradient)), bad
