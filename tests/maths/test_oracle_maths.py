"""The closed-form denoisers agree with numerical integration and with each other in every parametrisation."""

import math

import pytest
import torch
from oracle_maths import PREDICTIONS, GaussianOracle, MixtureOracle, OraclePrior, alphas_cumprod, from_x0, to_x0


def posterior_mean_by_quadrature(z, a, b, centres, weights, variance):
    """E[x0 | z] of a one-dimensional Gaussian mixture on a fine grid."""
    x = torch.linspace(-12, 12, 400_001, dtype=torch.float64)
    density = sum(w * (-((x - c) ** 2) / (2 * variance)).exp() for c, w in zip(centres, weights))
    posterior = density * (-((z - a * x) ** 2) / (2 * b**2)).exp()
    return float((posterior * x).sum() / posterior.sum())


@pytest.mark.parametrize("a,b", [(1.0, 0.8), (0.6, 0.8), (0.3, 0.7)])
def test_mixture_is_the_posterior_mean(a, b):
    centres, weights, variance = (-2.0, 0.5, 3.0), (0.2, 0.5, 0.3), 0.3
    oracle = MixtureOracle(torch.tensor(centres, dtype=torch.float64)[:, None], variance, torch.tensor(weights, dtype=torch.float64).log())
    for z in (-1.7, 0.2, 1.4):
        expected = posterior_mean_by_quadrature(z, a, b, centres, weights, variance)
        found = oracle.denoise(torch.tensor([[z]], dtype=torch.float64), a, b)
        assert math.isclose(float(found), expected, rel_tol=1e-9, abs_tol=1e-9)


def test_mixture_of_one_is_the_gaussian_and_coefficients_are_per_item():
    generator = torch.Generator().manual_seed(1)
    z, mean = (torch.randn(n, 3, 2, dtype=torch.float64, generator=generator) for n in (4, 1))
    sigma = torch.tensor([0.1, 0.5, 2.0, 30.0], dtype=torch.float64)
    together = MixtureOracle(mean, 0.4).denoise(z, torch.ones(4), sigma)
    apart = torch.cat([GaussianOracle(mean[0], 0.4).denoise(z[i : i + 1], 1.0, float(s)) for i, s in enumerate(sigma)])
    assert (together - apart).abs().max() < 1e-12


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_every_parametrisation_carries_the_same_estimate(kind):
    generator = torch.Generator().manual_seed(2)
    x0, eps = (torch.randn(3, 4, dtype=torch.float64, generator=generator) for _ in range(2))
    level = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    a, b = (1 - level, level) if kind == "flow" else (level.cos(), level.sin())
    z = a[:, None] * x0 + b[:, None] * eps
    prediction = from_x0(kind, x0, z, a, b)
    assert (to_x0(kind, prediction, z, a, b) - x0).abs().max() < 1e-12
    closed_form = {"eps": eps, "x0": x0, "v": a[:, None] * eps - b[:, None] * x0, "flow": eps - x0}[kind]
    assert (prediction - closed_form).abs().max() < 1e-12
    other = "eps" if kind != "eps" else "flow"
    assert (to_x0(other, prediction, z, a, b) - x0).abs().max() > 1e-2  # reading it as another kind must fail


def test_temperature_delays_the_decision():
    oracle = [MixtureOracle(torch.tensor([[-1.0], [1.0]]), temperature=t) for t in (0.25, 1.0, 4.0)]
    first = [float(o.responsibilities(torch.tensor([[0.3]]), 1.0, 1.0)[0, 1]) for o in oracle]
    assert first[0] > first[1] > first[2] > 0.5


def test_schedule_matches_the_published_values():
    for step, value in ((20, 0.9813), (200, 0.7537), (500, 0.2763), (600, 0.1608), (980, 0.00584), (999, 0.00466)):
        assert abs(float(alphas_cumprod()[step]) - value) < 6e-5
    prior = OraclePrior(None)
    bar = prior.vp_alpha_bar(prior.sigma_at(torch.tensor([1 - 500 / 999, 0.0, 1.0])))
    assert abs(float(bar[0]) - 0.2763) < 1e-4 and torch.isfinite(bar).all()


def test_oracle_prior_follows_the_protocol():
    oracle = GaussianOracle(torch.full((4, 8, 8), 0.25))
    prior = OraclePrior(lambda z, a, b, cameras: oracle.denoise(z, a, b), lambda z, a, b, cameras: z, native_size=(8, 8))
    picture = torch.rand(2, 16, 16, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    x0 = prior.encode(picture[..., :3], picture[..., 3])
    assert x0.shape == (2, 4, 8, 8)
    sigma = prior.sigma_at(torch.tensor([0.2, 0.7]))
    z = prior.add_noise(x0.detach(), torch.ones_like(x0), sigma)
    assert torch.allclose(z, x0.detach() + sigma.reshape(2, 1, 1, 1))
    guess, free = prior.denoise(z, sigma)
    assert torch.allclose(guess, torch.tensor(0.25)) and torch.equal(free, z)
    x0.sum().backward()
    assert torch.allclose(picture.grad, torch.full_like(picture, 0.25))  # 2x2 pixels share one latent
