"""What score distillation may be asked beyond plain SDS, each against a closed form, with a control without it.

Decoded-RGB term (specification 2.7: B6), multi-step estimates, antithetic noise (1.8: A1), Perp-Neg (0.3.5), leaving out views
from behind (2.1).
"""

import math
from dataclasses import replace

import pytest
import torch
from oracle_maths import GaussianOracle, MixtureOracle
from test_distillation import FixedForm, cameras, randn

from bloom4d.models.geometry.cameras import Cameras, orbit
from bloom4d.models.guidance.distillation import Distillation, distill, distillation_gradient
from bloom4d.models.guidance.schedules import NoiseRange, constant

HALF = NoiseRange(constant(0.5), constant(0.5))
X0_FORM = Distillation(weighting="recon", guidance=1.0, levels=HALF, level_per="batch", decoded=0.1)


class LinearPrior(FixedForm):
    """Pictures of 4 x 4 through a linear codec: z = E x and X = D z + 1 / 2, per picture; with `video` all pictures are one latent."""

    native_size = (4, 4)

    def __init__(self, oracle, accepts_alpha=False, video=False, gain=0.02):
        super().__init__(oracle)
        self.accepts_alpha, self.video = accepts_alpha, video
        self.values = 16 * (4 if accepts_alpha else 3)
        self.encoder, self.decoder = 0.2 * randn(6, self.values, seed=11), gain * randn(self.values, 6, seed=12)

    def sigma_at(self, percent):
        return 3.0 * (1.0 - percent)

    def encode(self, rgb, alpha):
        pictures = torch.cat([rgb, alpha[..., None]], -1) if self.accepts_alpha else rgb
        pictures = pictures if pictures.shape[1:3] == (4, 4) else torch.nn.functional.interpolate(pictures.movedim(-1, 1), (4, 4), mode="bilinear").movedim(1, -1)
        latents = (pictures.flatten(1) @ self.encoder.T).view(len(rgb), 6, 1, 1)
        return latents.movedim(0, 1)[None] if self.video else latents

    def decode(self, latents):
        flat = latents[0].movedim(0, 1).flatten(1) if self.video else latents.flatten(1)
        pictures = (flat @ self.decoder.T + 0.5).view(len(flat), 4, 4, -1)
        return pictures[..., :3], pictures[..., 3] if self.accepts_alpha else torch.ones_like(pictures[..., 0])


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def pictures_of(count, size=4, seed=7):
    values = torch.rand(count, size, size, 4, dtype=torch.float64, generator=seeded(seed))
    return values[..., :3].requires_grad_(), values[..., 3].requires_grad_()


def grown(rgb):
    """The matrix (48, 3 h w) of the bilinear resize to 4 x 4, read off unit vectors."""
    height, width = rgb.shape[1:3]
    basis = torch.eye(3 * height * width, dtype=torch.float64).view(-1, height, width, 3)
    return torch.nn.functional.interpolate(basis.movedim(-1, 1), (4, 4), mode="bilinear", align_corners=False).movedim(1, -1).flatten(1).T


@pytest.mark.parametrize("video", [False, True])
@pytest.mark.parametrize("size", [4, 2])
def test_b6_x0_form_with_decoded_rgb_has_the_gradient_of_linear_algebra(video, size):
    rgb, alpha = pictures_of(3, size)
    prior = LinearPrior(GaussianOracle(torch.tensor(0.3).double(), 0.4), video=video)
    views = cameras(3, frames=3 if video else 1)
    out = distill(rgb, alpha, views, prior, X0_FORM, 0, 10, seeded())
    out.loss.backward()
    resize, batch = grown(rgb), 1 if video else 3
    encoder = prior.encoder @ resize
    flat = out.denoised[0].movedim(0, 1).flatten(1) if video else out.denoised.flatten(1)  # x0_hat, (3, 6)
    shown = flat @ prior.decoder.T + 0.5
    assert shown.min() > 0 and shown.max() < 1  # inside the clamp
    x, big = rgb.detach().flatten(1) @ encoder.T, rgb.detach().flatten(1) @ resize.T
    latent, decoded = (x - flat) @ encoder / batch, 0.1 * 2 * (big - shown) @ resize / batch
    assert (rgb.grad.flatten(1) - latent - decoded).abs().max() < 1e-12
    assert float(out.loss.detach()) == pytest.approx(float((0.5 * (x - flat).square().sum() + 0.1 * (big - shown).square().sum()) / batch), rel=1e-12)
    assert decoded.norm() > 1e-2 * latent.norm() and alpha.grad is None  # a prior without alpha reads none
    again = rgb.detach().clone().requires_grad_()
    distill(again, alpha, views, prior, replace(X0_FORM, decoded=0.0), 0, 10, seeded()).loss.backward()
    assert (again.grad.flatten(1) - latent).abs().max() < 1e-12  # without the term: the latent part alone


def test_decoded_targets_are_clamped_and_carry_no_gradient_of_their_own():
    rgb, alpha = pictures_of(2)
    prior = LinearPrior(GaussianOracle(torch.tensor(2.0).double(), 0.4), gain=0.5)  # decodes far beyond [0, 1]
    distill(rgb, alpha, cameras(2), prior, X0_FORM, 0, 10, seeded()).loss.backward()
    plain = rgb.detach().clone().requires_grad_()
    out = distill(plain, alpha, cameras(2), prior, replace(X0_FORM, decoded=0.0), 0, 10, seeded())
    out.loss.backward()
    shown = prior.decode(out.denoised)[0]
    assert ((shown < 0) | (shown > 1)).any()
    difference = rgb.grad - plain.grad
    assert (difference - 0.1 * (plain.detach() - shown.clamp(0, 1))).abs().max() < 1e-12
    assert (difference - 0.1 * (plain.detach() - shown)).abs().max() > 1e-2


def test_decoded_term_of_a_prior_with_alpha_also_compares_alpha():
    rgb, alpha = pictures_of(2)
    prior = LinearPrior(GaussianOracle(torch.tensor(0.3).double(), 0.4), accepts_alpha=True)
    out = distill(rgb, alpha, cameras(2), prior, X0_FORM, 0, 10, seeded())
    out.loss.backward()
    x = torch.cat([rgb, alpha[..., None]], -1).detach()
    shown = torch.cat([prior.decode(out.denoised)[0], prior.decode(out.denoised)[1][..., None]], -1).clamp(0, 1)
    latent = ((x.flatten(1) @ prior.encoder.T - out.denoised.flatten(1)) @ prior.encoder).view(x.shape) / 2
    assert (torch.cat([rgb.grad, alpha.grad[..., None]], -1) - latent - 0.1 * (x - shown)).abs().max() < 1e-12


def test_b6_a_prior_that_ignores_time_scores_swapped_frames_alike():
    rgb, alpha = pictures_of(4)
    prior = LinearPrior(GaussianOracle(torch.tensor(0.3).double(), 0.4), video=True)
    order = torch.tensor([2, 0, 3, 1])

    def score(index, oracle=None):
        prior.conditional = oracle or prior.conditional
        draws = seeded()
        fixed = torch.randn(1, 6, 4, 1, 1, generator=draws)[:, :, index].double()
        x0 = prior.encode(rgb.detach()[index], alpha.detach()[index])
        gradient, denoised = distillation_gradient(x0, fixed, torch.ones(1).double(), prior, cameras(4, 4), X0_FORM)
        target = prior.decode(denoised)[0].clamp(0, 1)
        return 0.5 * gradient.square().sum() + 0.1 * (rgb.detach()[index] - target).square().sum()

    assert abs(score(torch.arange(4)) - score(order)) < 1e-12
    in_time = GaussianOracle(randn(6, 4, 1, 1, seed=3), 0.4)  # another mean for every frame
    assert abs(score(torch.arange(4), in_time) - score(order, in_time)) > 1e-2


def test_decoded_values_that_are_not_finite_pull_nowhere_and_are_counted():
    rgb, alpha = pictures_of(2)
    prior = LinearPrior(GaussianOracle(torch.tensor(0.3).double(), 0.4))
    whole = prior.decode

    def broken(latents):
        shown, opaque = whole(latents)
        shown[1, 2, 3, 0] = math.nan
        return shown, opaque

    prior.decode = broken
    out = distill(rgb, alpha, cameras(2), prior, X0_FORM, 0, 10, seeded())
    out.loss.backward()
    assert out.non_finite == 1 and torch.isfinite(rgb.grad).all() and torch.isfinite(out.loss)


def test_a_codec_that_loses_frames_is_refused_with_what_to_change():
    rgb, alpha = pictures_of(4)
    prior = LinearPrior(GaussianOracle(torch.tensor(0.3).double(), 0.4), video=True)
    whole = prior.decode
    prior.decode = lambda latents: tuple(value[:3] for value in whole(latents))
    with pytest.raises(ValueError, match=r"gives back pictures of 3 x 4 x 4 .* for 4 x 4 x 4.*4 n \+ 1 frames"):
        distill(rgb, alpha, cameras(4, 4), prior, X0_FORM, 0, 10, seeded())


def by_hand(x0, noise, levels, form, scale, oracles):
    """A path of estimates written with eps in each form's own (a, b)."""
    z, estimate = None, None
    for sigma in levels:
        a, b = (value[:, None] for value in FixedForm(None, form=form).coefficients(sigma))
        z = a * x0 + b * noise if z is None else a * estimate + b * implied
        c, u = (oracle.denoise(z, a[:, 0], b[:, 0]) for oracle in oracles)
        estimate = u + scale * (c - u)
        implied = (z - a * estimate) / b
    return estimate


@pytest.mark.parametrize("form", ["preserving", "exploding", "flow"])
def test_multi_step_estimates_are_guided_ddim_steps_in_every_form(form):
    x, eps = randn(3, 6), randn(3, 6, seed=1)
    oracles = GaussianOracle(randn(6, seed=2), 0.3), GaussianOracle(randn(6, seed=3), 0.3)
    levels = [torch.tensor([0.6, 2.0, 9.0]).double() * share for share in (1.0, 0.6, 0.2)]
    prior, config = FixedForm(*oracles, form), Distillation(weighting="recon", guidance=3.0)
    gradient, denoised = distillation_gradient(x, eps, levels[0], prior, cameras(3), config, levels[1:])
    expected = by_hand(x, eps, levels, form, 3.0, oracles)
    assert (denoised - expected).abs().max() < 1e-11 and (gradient - (x - expected)).abs().max() < 1e-11
    assert (denoised - by_hand(x, eps, levels, "preserving", 3.0, oracles)).abs().max() < 1e-9  # the form does not matter
    assert (denoised - by_hand(x, eps, levels[:1], form, 3.0, oracles)).abs().max() > 1e-2
    once = by_hand(x, eps, levels[:2], form, 1.0, oracles)
    assert (by_hand(x, eps, levels[:2], form, 3.0, oracles) - once).abs().max() > 1e-2  # guided at each step


def test_one_step_is_the_plain_estimate_to_the_bit():
    rgb, alpha = pictures_of(2)
    prior = LinearPrior(GaussianOracle(torch.tensor(0.3).double(), 0.4))
    config = Distillation(weighting="sds", guidance=1.0, levels=NoiseRange(constant(0.2), constant(0.7)))
    out = distill(rgb, alpha, cameras(2), prior, config, 0, 10, seeded())
    draws = seeded()
    levels = 0.2 + (0.7 - 0.2) * torch.rand(2, generator=draws, dtype=torch.float64)
    x0 = prior.encode(rgb, alpha).detach()
    noise = torch.randn(x0.shape, generator=draws, dtype=torch.float32).to(x0)
    sigma = prior.sigma_at(1.0 - levels)
    z = prior.add_noise(x0, noise, sigma)
    assert torch.equal(out.denoised, prior.denoise(z, sigma)[0])
    assert torch.equal(distill(rgb, alpha, cameras(2), prior, replace(config, denoising_steps=1), 0, 10, seeded()).denoised, out.denoised)
    assert not torch.equal(distill(rgb, alpha, cameras(2), prior, replace(config, denoising_steps=2), 0, 10, seeded()).denoised, out.denoised)


def test_more_steps_come_nearer_to_one_of_the_things_that_are_possible():
    modes = 3.0 * torch.eye(4).double()
    prior = FixedForm(MixtureOracle(modes, 1e-4))
    x, eps = torch.zeros(64, 4).double(), randn(64, 4, seed=4)
    config = Distillation(weighting="recon", guidance=1.0)

    def distance(steps):
        levels = [torch.full((64,), 8.0 * (steps - index) / steps).double() for index in range(steps)]
        _, denoised = distillation_gradient(x, eps, levels[0], prior, cameras(64), config, levels[1:])
        return float((denoised[:, None] - modes).norm(dim=-1).min(1).values.mean())

    one, four, eight = distance(1), distance(4), distance(8)
    assert one > 1.5 * four and four > 1.2 * eight  # the mean of all modes is none of them


def test_a1_antithetic_noise_gives_the_closed_form_in_one_step():
    mean, s2 = randn(6, 1, 1, seed=3), 0.37
    prior = LinearPrior(GaussianOracle(mean, s2))
    config = Distillation(weighting="sds", guidance=1.0, levels=HALF)
    sigma, rows = 1.5, []
    for antithetic in (True, False):
        rgb, alpha = pictures_of(2)
        out = distill(rgb, alpha, cameras(2), prior, replace(config, antithetic=antithetic), 0, 10, seeded())
        out.loss.backward()
        rows.append(rgb.grad.flatten(1))
    x = rgb.detach().flatten(1) @ prior.encoder.T
    abar = 1 / (1 + sigma**2)
    closed = (1 - abar) * math.sqrt(abar * (1 - abar)) / (abar * s2 + 1 - abar) * (x - mean.flatten())
    assert (rows[0] - closed @ prior.encoder / 2).abs().max() < 1e-12
    assert (rows[1] - closed @ prior.encoder / 2).abs().max() > 1e-2  # one noise alone must not pass


def test_antithetic_noise_lowers_the_gradients_spread():
    prior = LinearPrior(MixtureOracle(2.0 * randn(3, 6, 1, 1, seed=5), 0.2))

    def spread(antithetic):
        found = []
        for seed in range(40):
            rgb, alpha = pictures_of(1)
            config = Distillation(weighting="uniform", guidance=1.0, levels=HALF, antithetic=antithetic)
            distill(rgb, alpha, cameras(1), prior, config, 0, 10, seeded(seed)).loss.backward()
            found.append(rgb.grad.flatten())
        return float(torch.stack(found).var(0).sum())

    assert spread(True) < 0.5 * spread(False)  # more than the half that two independent draws would give


class Negating(FixedForm):
    """A prior with negative prompts, each another Gaussian."""

    negatives = ()

    def denoise_apart(self, z, sigma, cameras=None, text=None):
        a, b = self.coefficients(sigma)
        conditional, unconditional = self.denoise(z, sigma)
        return conditional, unconditional, [(weight, oracle.denoise(z, a, b)) for weight, oracle in self.negatives]


def apart(form, strength, *negatives):
    prior = Negating(GaussianOracle(randn(8), 0.25), GaussianOracle(randn(8, seed=1), 0.25), form)
    prior.negatives = [(weight, GaussianOracle(mean, 0.25)) for weight, mean in negatives]
    return prior, Distillation(weighting="recon", guidance=7.5, perp_neg=strength)


@pytest.mark.parametrize("form", ["preserving", "exploding", "flow"])
def test_perp_neg_is_the_papers_formula_on_noise(form):
    x, eps, sigma = randn(3, 8, seed=5), randn(3, 8, seed=6), torch.tensor([0.4, 1.5, 6.0]).double()
    negatives = [(1.0, randn(8, seed=7)), (0.4, randn(8, seed=8))]
    prior, config = apart(form, 1.3, *negatives)
    _, denoised = distillation_gradient(x, eps, sigma, prior, cameras(3), config)
    a, b = (value[:, None] for value in prior.coefficients(sigma))
    z = a * x + b * eps
    noise = lambda oracle: (z - a * oracle.denoise(z, a[:, 0], b[:, 0])) / b  # noqa: E731
    e_u, p = noise(prior.unconditional), noise(prior.conditional) - noise(prior.unconditional)
    combined = p.clone()
    for weight, mean in negatives:
        e = noise(GaussianOracle(mean, 0.25)) - e_u
        combined -= 1.3 * weight * (e - ((e * p).sum(1) / (p * p).sum(1))[:, None] * p)
    expected = (z - b * (e_u + 7.5 * combined)) / a
    assert (denoised - expected).abs().max() < 1e-10
    assert (distillation_gradient(x, eps, sigma, prior, cameras(3), replace(config, perp_neg=0.0))[1] - expected).abs().max() > 0.1


def test_perp_neg_leaves_the_prompt_alone_and_pushes_away_from_the_rest():
    c, u = randn(8), randn(8, seed=1)
    across = randn(8, seed=9)
    across = across - (across @ (c - u)) / ((c - u) @ (c - u)) * (c - u)

    def settled(strength, negative):
        prior, config = apart("preserving", strength, (1.0, negative))
        x = torch.zeros(2, 8).double().requires_grad_()
        optimiser = torch.optim.Adam([x], lr=0.12)
        decay = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda k: max(1 - k / 700, 1e-3))
        draws = seeded(3)
        for _ in range(700):
            sigma = torch.rand(2, generator=draws, dtype=torch.float64) * 2 + 0.2
            half = torch.randn(1, 8, generator=draws, dtype=torch.float64)
            x.grad = distillation_gradient(x.detach(), torch.cat([half, -half]), sigma, prior, cameras(2), config)[0]
            optimiser.step()
            decay.step()
        return x.detach().mean(0)

    plain = settled(0.0, u + across)
    assert (plain - (u + 7.5 * (c - u))).norm() < 0.02 * plain.norm()
    same_way = settled(1.0, u + 0.6 * (c - u))  # a negative that is part of the prompt takes nothing away
    assert (same_way - plain).norm() < 0.02 * plain.norm()
    moved = settled(1.0, u + across)  # the rest is left, by the guidance scale
    assert (moved - (plain - 7.5 * across)).norm() < 0.03 * (7.5 * across).norm() and (moved - plain).norm() > 1.0


def on_ring(*degrees):
    azimuth = torch.tensor(degrees).double() * math.pi / 180
    return Cameras(orbit(azimuth, azimuth * 0 + 0.2, azimuth * 0 + 2.9), azimuth * 0 + 0.7, azimuth * 0)


def test_pictures_from_behind_are_left_out():
    ring = on_ring(0.0, 90.0, 144.0, 146.0, 180.0, -146.0)

    def gradient(skip):
        rgb, alpha = pictures_of(6)
        prior = LinearPrior(GaussianOracle(torch.tensor(0.3).double(), 0.4))
        distill(rgb, alpha, ring, prior, replace(X0_FORM, skip_azimuth=skip), 0, 10, seeded()).loss.backward()
        return rgb.grad

    whole, aided = gradient(180.0), gradient(145.0)
    assert torch.equal(aided[:3], whole[:3]) and (aided[3:] == 0).all() and (whole[3:].flatten(1).norm(dim=1) > 0).all()
    assert torch.equal(gradient(0.0), whole)


def test_without_the_aid_an_image_prior_paints_the_front_on_the_back():
    """Four views, a joint prior that knows each, and an image prior that only knows the front: the cause of several faces."""
    truth = torch.rand(4, 4, 4, 3, dtype=torch.float64, generator=seeded(8))
    ring = on_ring(0.0, 90.0, 180.0, -90.0)

    class Pictures(FixedForm):
        native_size = (4, 4)

        def sigma_at(self, percent):
            return 3.0 * (1.0 - percent)

        def encode(self, rgb, alpha):
            return rgb

    def back(skip):
        joint, image = (Pictures(GaussianOracle(mean, 1e-3)) for mean in (truth, truth[0]))
        rgb = torch.full_like(truth, 0.5).requires_grad_()
        alpha, draws = torch.ones(4, 4, 4).double(), seeded(2)
        optimiser = torch.optim.Adam([rgb], lr=0.02)
        form = Distillation(weighting="recon", guidance=1.0, levels=HALF)
        for step in range(150):
            optimiser.zero_grad()
            for prior, config in ((joint, form), (image, replace(form, skip_azimuth=skip))):
                distill(rgb, alpha, ring, prior, config, step, 150, draws).loss.backward()
            optimiser.step()
        like = [float((rgb.detach()[2] - truth[index]).square().mean()) for index in (2, 0)]
        return like[0] - like[1]  # how much farther from the back than from the front

    assert back(145.0) < -0.05 and abs(back(180.0)) < 0.02  # half way between both
