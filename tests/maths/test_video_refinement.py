"""Video Refinement Loss (specification 3.7): its target is the video that the prior draws from half-way, and flicker goes."""

import math

import pytest
import torch
from oracle_maths import OraclePrior, per_item
from test_distillation import cameras

from bloom4d.models.guidance.denoising import redraw
from bloom4d.models.guidance.objective import Pictures
from bloom4d.models.guidance.schedules import NoiseRange, constant
from bloom4d.models.guidance.seeds import generator
from bloom4d.models.guidance.video_refinement import VideoRefinement
from bloom4d.models.render.deferred import RenderedViews

KEYS = (1, 0, 7, "video refinement")


class VideoPrior(OraclePrior):
    """Frames are one latent (1, 4, F, h, w), or three channels without alpha."""

    def encode(self, rgb, alpha):
        return super().encode(rgb, alpha).movedim(0, 1)[None]

    def decode(self, latents):
        return super().decode(latents[0].movedim(0, 1))


def still(z, a, b, cameras):
    """Posterior mean of videos whose frames are all one picture, any picture: noise averages out over the frames."""
    a, b = per_item(a, z), per_item(b, z)
    frames, pixel = z.shape[2], 1.0  # variance of pictures
    return (a * pixel * z.mean(2, keepdim=True) / (a**2 * pixel + b**2 / frames)).expand_as(z)


def views_of(video):
    rgb, opacity = video[..., :3], video[..., 3]
    depth = torch.zeros_like(opacity)
    return Pictures(RenderedViews(rgb, opacity, depth, depth, torch.zeros_like(rgb), 1), cameras(len(video), len(video)), torch.ones(3))


def flickering(frames=6, seed=3):
    """RGBA (F, 8, 8, 4): one soft picture and independent noise on every frame."""
    draws = torch.Generator().manual_seed(seed)
    picture = 0.3 + 0.4 * torch.rand(8, 8, 4, generator=draws)
    return picture, (picture + 0.12 * torch.randn(frames, 8, 8, 4, generator=draws)).clamp(0.02, 0.98)


@pytest.mark.parametrize("alpha", [True, False])
def test_the_gradient_is_that_of_the_mean_squared_difference_to_the_redrawn_video(alpha):
    prior = VideoPrior(still, native_size=(8, 8), accepts_alpha=alpha)
    video = flickering()[1].requires_grad_()
    objective = VideoRefinement(denoising_steps=3)
    out = objective.evaluate(views_of(video), prior, 7, 10, KEYS)
    out.loss.backward()
    shown = video.detach() if alpha else video.detach()[..., :3] + 1 - video.detach()[..., 3:]
    level = float(NoiseRange(constant(0.3), constant(0.5)).draw(7, 10, 1, generator(*KEYS, "level")))
    drawn = redraw(prior.encode(shown[..., :3], video.detach()[..., 3]), cameras(6, 6), prior, level, 3, 1.0, generator(*KEYS, "noise"))
    target = torch.cat([value if value.ndim == 4 else value[..., None] for value in prior.decode(drawn)], -1)[..., : shown.shape[-1]]
    assert out.level == level and 0.3 <= level <= 0.5
    assert float(out.loss.detach()) == pytest.approx(float((shown - target).square().mean()), rel=1e-6)
    gradient = 2 * (shown - target) / shown.numel()
    assert torch.allclose(video.grad[..., :3], gradient[..., :3], atol=1e-9)
    assert (shown - target).square().mean() > 1e-3


def test_levels_stay_in_their_range_and_another_step_draws_another():
    prior = VideoPrior(still, native_size=(8, 8))
    levels = [VideoRefinement(denoising_steps=1).evaluate(views_of(flickering()[1]), prior, step, 10, (1, 0, step, "x")).level for step in range(40)]
    assert min(levels) >= 0.3 and max(levels) <= 0.5 and len(set(levels)) == 40 and max(levels) - min(levels) > 0.15


def settled(weight, steps=24):
    """Flicker, and the distance to the true picture, of a video after `steps` towards what the prior draws."""
    picture, start = flickering()
    prior = VideoPrior(still, native_size=(8, 8))
    video = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([video], lr=0.02)
    for step in range(steps):
        optimiser.zero_grad()
        (weight * VideoRefinement(denoising_steps=4).evaluate(views_of(video), prior, step, steps, (1, 0, step, "x")).loss).backward()
        optimiser.step()
    frames = video.detach()
    return float((frames[2:] - 2 * frames[1:-1] + frames[:-2]).abs().mean()), float((frames.mean(0) - picture).abs().mean())


def test_it_takes_out_flicker_and_keeps_the_picture():
    (with_it, kept), (without, as_it_was) = settled(1.0), settled(0.0)
    assert with_it < 0.25 * without and kept < 3 * as_it_was


def test_a_video_that_was_not_drawn_is_a_step_to_skip():
    nothing = VideoPrior(lambda z, a, b, cameras: z * math.nan, native_size=(8, 8))
    assert math.isnan(VideoRefinement().evaluate(views_of(flickering()[1].requires_grad_()), nothing, 0, 10, KEYS).loss.detach())
