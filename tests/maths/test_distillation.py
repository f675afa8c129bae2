"""Score distillation against closed forms (specification 1.8: A1, A2, A3): Gaussian data have a known gradient and a known fixed point."""

import math

import pytest
import torch
from oracle_maths import PREDICTIONS, GaussianOracle, OraclePrior, from_x0, to_x0

from bloom4d.models.geometry.cameras import Cameras, orbit
from bloom4d.models.guidance import distillation
from bloom4d.models.guidance import noise as process
from bloom4d.models.guidance.distillation import (
    WEIGHTINGS,
    Distillation,
    amplified,
    clipped,
    distill,
    distillation_gradient,
    draw_levels,
    gradient_scale,
    multi_view,
    rescaled,
    surrogate_loss,
)
from bloom4d.models.guidance.schedules import NoiseRange, constant


def cameras(count: int, frames: int = 1) -> Cameras:
    azimuth = torch.linspace(0.0, 6.0, count)
    return Cameras(orbit(azimuth, torch.full((count,), 0.2), torch.full((count,), 2.9)), torch.full((count,), 0.7), torch.linspace(0, 1, count), frames)


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class FixedForm:
    """A prior on bare latents with its own (a, b) and a network of a given parametrisation inside."""

    native_size, default_guidance, accepts_alpha = (1, 1), 1.0, True

    def __init__(self, conditional, unconditional=None, form="preserving", kind="x0"):
        self.conditional, self.unconditional, self.form, self.kind = conditional, unconditional, form, kind

    def coefficients(self, sigma):  # sigma is noise over signal in every form
        if self.form == "exploding":
            return torch.ones_like(sigma), sigma
        if self.form == "flow":
            return 1 / (1 + sigma), sigma / (1 + sigma)
        return 1 / (1 + sigma**2).sqrt(), sigma / (1 + sigma**2).sqrt()

    def add_noise(self, x0, noise, sigma):
        a, b = (value.reshape(-1, *[1] * (x0.ndim - 1)) for value in self.coefficients(sigma))
        return a * x0 + b * noise

    def denoise(self, z, sigma, cameras=None, text=None, unconditional=True):
        a, b = self.coefficients(sigma)
        estimates = []
        for oracle in (self.conditional, self.unconditional if unconditional else None):
            if oracle is None:
                estimates.append(None)
                continue
            output = from_x0(self.kind, oracle.denoise(z, a, b), z, a, b)  # what the network says ...
            estimates.append(to_x0(self.kind, output, z, a, b))  # ... and what the host makes of it
        return tuple(estimates)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_a1_gradient_of_gaussian_data_in_closed_form(weighting):
    x, mu, eps, s2 = randn(5, 4, 3), randn(4, 3, seed=1), randn(5, 4, 3, seed=2), 0.37
    sigma = torch.tensor([0.05, 0.4, 1.0, 3.0, 14.0], dtype=torch.float64)  # sqrt(1 - abar) / sqrt(abar)
    prior = FixedForm(GaussianOracle(mu, s2))
    config = Distillation(weighting=weighting, guidance=1.0)
    antithetic = sum(distillation_gradient(x, sign * eps, sigma, prior, cameras(5), config)[0] for sign in (1, -1)) / 2
    abar = 1 / (1 + sigma**2)
    alpha, noise = abar.sqrt(), (1 - abar).sqrt()
    w = {"sds": noise**2, "uniform": torch.ones(5).double(), "fantasia3d": alpha * noise**2, "recon": noise / alpha}[weighting]
    closed = (w * alpha * noise / (abar * s2 + noise**2))[:, None, None] * (x - mu)
    assert (antithetic - closed).abs().max() < 1e-12
    single = distillation_gradient(x, eps, sigma, prior, cameras(5), config)[0]
    assert (single - closed).abs().max() > 1e-2  # one noise alone must not pass


def fixed_point(scale: float) -> float:
    """Where SDS with Adam settles between two equal Gaussians, in units of (mu_c - mu_u), after 4000 steps in 8 dimensions."""
    mu_c, mu_u = randn(8), randn(8, seed=1)
    prior = FixedForm(GaussianOracle(mu_c, 0.25), GaussianOracle(mu_u, 0.25))
    config = Distillation(weighting="sds", guidance=scale)
    x = torch.zeros(4, 8, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([x], lr=0.05)
    decay = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda k: max(1 - k / 4000, 1e-3))
    generator = torch.Generator().manual_seed(3)
    for _ in range(4000):
        sigma = torch.rand(4, generator=generator, dtype=torch.float64) * 2 + 0.2
        half = torch.randn(2, 8, generator=generator, dtype=torch.float64)
        x.grad = distillation_gradient(x.detach(), torch.cat([half, -half]), sigma, prior, cameras(4), config)[0]
        optimiser.step()
        decay.step()
    direction = mu_c - mu_u
    return float(((x.detach().mean(0) - mu_u) @ direction) / (direction @ direction))


def test_a2_guidance_fixed_point_is_the_standard_convention():
    assert abs(fixed_point(7.5) / 7.5 - 1) < 5e-3


def test_a2_the_reference_codes_convention_in_the_code_is_another_point(monkeypatch):
    """The control: c + s (c - u) in the place where guidance is mixed, with the same scale asked for, ends at s + 1."""
    monkeypatch.setattr(distillation, "guided", lambda conditional, unconditional, scale: conditional + scale * (conditional - unconditional))
    found = fixed_point(7.5)
    assert abs(found / 8.5 - 1) < 5e-3 and abs(found / 7.5 - 1) > 0.1


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_a3_every_parametrisation_and_form_gives_the_same_gradient(weighting):
    x, eps, sigma = randn(4, 6), randn(4, 6, seed=1), torch.tensor([0.1, 0.6, 1.7, 9.0], dtype=torch.float64)
    oracles = GaussianOracle(randn(6, seed=2), 0.3), GaussianOracle(randn(6, seed=3), 0.3)
    config = Distillation(weighting=weighting, guidance=7.5)

    def gradient(form, kind):
        return distillation_gradient(x, eps, sigma, FixedForm(*oracles, form, kind), cameras(4), config)[0]

    reference = gradient("preserving", "x0")
    cases = [("preserving", "eps"), ("preserving", "v"), ("exploding", "eps"), ("exploding", "x0"), ("flow", "flow"), ("flow", "eps")]
    assert {kind for _, kind in cases} <= set(PREDICTIONS)
    for form, kind in cases:
        assert (gradient(form, kind) - reference).abs().max() < 1e-10, (form, kind)
    misread = FixedForm(*oracles, "exploding")
    misread.coefficients = FixedForm(None, form="flow").coefficients  # the noise of one form, the coefficients of another
    assert (distillation_gradient(x, eps, sigma, misread, cameras(4), config)[0] - reference).abs().max() < 1e-10
    misread.add_noise = FixedForm(None, form="preserving").add_noise
    assert (distillation_gradient(x, eps, sigma, misread, cameras(4), config)[0] - reference).abs().max() > 1e-3


def test_identities_of_the_noise_process():
    x0, eps = randn(3, 5), randn(3, 5, seed=1)
    angle = torch.tensor([0.2, 0.8, 1.4], dtype=torch.float64)
    a, b = angle.cos(), angle.sin()
    z = a[:, None] * x0 + b[:, None] * eps
    v = a[:, None] * eps - b[:, None] * x0
    assert (process.noise_from_denoised(z, x0, a, b) - eps).abs().max() < 1e-14
    assert (process.velocity_from_denoised(z, x0, a, b) - v).abs().max() < 1e-14
    assert (process.denoised_from_noise(z, eps, a, b) - x0).abs().max() < 1e-14
    assert (process.denoised_from_velocity(z, v, a, b) - x0).abs().max() < 1e-14
    assert (process.denoised_from_flow(0.7 * x0 + 0.3 * eps, eps - x0, torch.full((3,), 0.3, dtype=torch.float64)) - x0).abs().max() < 1e-14
    guess = randn(3, 5, seed=2)
    wrong_noise = (z - a[:, None] * guess) / b[:, None]
    assert (process.noise_residual(x0, guess, a, b) - (wrong_noise - eps)).abs().max() < 1e-13
    wrong_v = a[:, None] * wrong_noise - b[:, None] * guess
    assert ((wrong_v - v).square() - (wrong_noise - eps).square() / a[:, None] ** 2).abs().max() < 1e-12
    assert torch.allclose(process.alpha_bar(torch.ones(3), torch.tensor([0.5, 1.0, 2.0])), torch.tensor([0.8, 0.5, 0.2]))


def test_gradient_scale_is_finite_without_signal():
    for weighting in WEIGHTINGS:
        value = gradient_scale(weighting, torch.zeros(1), torch.ones(1))
        assert value.item() == (1.0 if weighting == "recon" else 0.0)


def test_surrogate_passes_the_gradient_exactly():
    latents, g = randn(4, 7).float().requires_grad_(), (randn(4, 7, seed=1) * 1e-5).float()
    surrogate_loss(latents, g).backward()
    assert torch.equal(latents.grad, g / 4)
    rounded = latents.detach() - (latents.detach() - g)  # what the squared distance would have carried
    assert not torch.equal(rounded, g)


def test_reconstruction_gradient_is_the_error_and_rescale_matches_the_spread():
    prior = OraclePrior(lambda z, a, b, c: z * 0.3, lambda z, a, b, c: -z * 0.2, native_size=(4, 4))
    picture = torch.rand(8, 4, 4, 4, generator=torch.Generator().manual_seed(5)).requires_grad_()
    config = multi_view(guidance=9.0, rescale=1.0, levels=NoiseRange(constant(0.5), constant(0.5)))
    out = distill(picture[..., :3], picture[..., 3], cameras(8, frames=4), prior, config, 0, 10, torch.Generator().manual_seed(1))
    out.loss.backward()
    x = picture.detach().movedim(-1, 1)
    assert torch.allclose(picture.grad.movedim(-1, 1), (x - out.denoised) / 8, atol=1e-7)
    # u + 9 (c - u) is 8.6 times c where c = .3 z, u = -.2 z: only the spread of c, per scene of four, is left
    generator = torch.Generator().manual_seed(1)
    level = torch.rand(1, generator=generator, dtype=torch.float64) * 0 + 0.5
    z = prior.add_noise(x, torch.randn(x.shape, generator=generator), prior.sigma_at(1 - level).expand(8))
    assert torch.allclose(out.denoised, 0.3 * z, rtol=1e-4, atol=1e-5)
    per_picture = rescaled(4.3 * z, 0.3 * z * torch.arange(1.0, 9.0).reshape(8, 1, 1, 1), 1.0, frames=1)
    per_scene = rescaled(4.3 * z, 0.3 * z * torch.arange(1.0, 9.0).reshape(8, 1, 1, 1), 1.0, frames=4)
    assert not torch.allclose(per_picture, per_scene)


def test_levels_are_shared_as_the_papers_share_them():
    def levels(per, count=8, frames=4, latents=8):
        draw = draw_levels(Distillation(level_per=per), cameras(count, frames), latents, 0, 10, torch.Generator().manual_seed(2))
        assert draw.shape == (latents,)
        return draw.unique_consecutive().numel()

    assert (levels("picture"), levels("scene"), levels("batch")) == (8, 2, 1)
    assert levels("scene", latents=1) == 1  # a video model's one latent


def test_motion_amplification_and_clip():
    g = randn(2, 3, 4, 2, 2)  # (B, C, F, h, w)
    mean = g.mean(2, keepdim=True)
    assert torch.allclose(amplified(g, 30.0, 4), mean + 30.0 * (g - mean))
    frames = g[0].movedim(1, 0)  # the same as a picture batch of four frames
    assert torch.allclose(amplified(frames, 30.0, 4), amplified(g[:1], 30.0, 4)[0].movedim(1, 0))
    norms = clipped(g, 0.5).flatten(1).norm(dim=1)
    assert torch.allclose(norms, torch.full((2,), 0.5, dtype=torch.float64))
    assert torch.equal(clipped(g, 1e9), g)


def test_non_finite_entries_become_zero_and_are_counted():
    def broken(z, a, b, c):
        out = z.clone()
        out[0, 0, 0, 0], out[1, 2, 1, 1] = math.nan, math.inf
        return out

    picture = torch.rand(2, 4, 4, 4).requires_grad_()
    prior = OraclePrior(broken, native_size=(4, 4))
    out = distill(picture[..., :3], picture[..., 3], cameras(2), prior, Distillation(), 0, 10, torch.Generator().manual_seed(1))
    out.loss.backward()
    assert out.non_finite == 2 and torch.isfinite(picture.grad).all()
    assert picture.grad[0, 0, 0, 0] == 0 and picture.grad[1, 1, 1, 2] == 0 and picture.grad[1, 0, 0, 0] != 0


def test_default_guidance_is_the_models_own():
    prior = OraclePrior(None, default_guidance=1.5)
    assert Distillation().scale(prior) == 1.5 and Distillation(guidance=7.5).scale(prior) == 7.5
