"""Variational score distillation (specification 1.8: A4): what it is beside SDS, what phi learns, and that all of it is resumed."""

from dataclasses import replace

import pytest
import torch
from oracle_maths import GaussianOracle, MixtureOracle, from_x0
from test_distillation import FixedForm, cameras, randn
from tiny_phi import Judge, TinyPhi
from toy_scenes import ball_pictures, ball_prior, term, tiny_renderer, tiny_scene

from bloom4d.models.formats.tensors import mismatch
from bloom4d.models.geometry.cameras import Cameras, orbit
from bloom4d.models.guidance.distillation import Distillation
from bloom4d.models.guidance.noise import guided
from bloom4d.models.guidance.schedules import NoiseRange, constant
from bloom4d.models.guidance.variational import Variational, target_error
from bloom4d.models.networks.low_rank import CameraBranch, LowRank, camera_codes, lora_tensors
from bloom4d.models.optimize.learners import Learners
from bloom4d.models.optimize.loop import Distiller
from bloom4d.models.optimize.scene import Scene
from bloom4d.models.optimize.stages import LearningRates, Stage

FORMS = ("preserving", "exploding", "flow")


class Frozen:
    """A phi that learns nothing: any two functions (z, a, b) of the estimate with and without the camera."""

    rate = 0.0

    def __init__(self, prior, conditional, unconditional=None):
        self.prior, self.conditional, self.unconditional = prior, conditional, unconditional

    def denoise(self, z, sigma, cameras, scale):
        a, b = self.prior.coefficients(sigma)
        return guided(self.conditional(z, a, b), None if scale == 1.0 else self.unconditional(z, a, b), scale)


class Latents(FixedForm):
    """A prior whose pictures are latents already: (B, 1, 4, 3) as its encoder's output."""

    default_guidance, native_size, accepts_alpha = 1.0, (4, 3), False

    def encode(self, rgb, alpha):
        return rgb[..., 0]

    def sigma_at(self, percent):
        return 5.0 * (1 - torch.as_tensor(percent, dtype=torch.float64)).clamp_min(0.01)


class Shown:
    """Pictures that are the latents `x`."""

    def __init__(self, x, cameras):
        self.x, self.cameras = x, cameras

    def for_prior(self, prior):
        return self.x[..., None], torch.ones_like(self.x)


def gradient(objective, x, judge, frames=1) -> torch.Tensor:
    """d loss / d latent, times the batch."""
    x = x.clone().requires_grad_()
    objective.evaluate(Shown(x, cameras(len(x), frames)), judge, 0, 1, ("a4",)).loss.backward()
    return x.grad * len(x)


def vsd(plain: Distillation, **changes) -> Variational:
    """The same settings with a phi."""
    return Variational(**{**vars(plain), **changes})


def mixtures():
    return [MixtureOracle(randn(3, 4, 3, seed=seed), 0.2).denoise for seed in (2, 3)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("weighting", ["sds", "uniform", "recon"])
def test_a4_a_phi_that_is_the_prior_gives_no_gradient_at_all(form, weighting):
    conditional, unconditional = mixtures()
    prior = Latents(type("C", (), {"denoise": staticmethod(conditional)}), type("U", (), {"denoise": staticmethod(unconditional)}), form)
    x = randn(6, 4, 3)
    plain = Distillation(weighting=weighting, guidance=1.0)
    assert torch.equal(gradient(vsd(plain), x, Judge(prior, Frozen(prior, conditional))), torch.zeros_like(x))
    both = Frozen(prior, conditional, unconditional)
    assert gradient(vsd(plain, guidance=7.5, phi_guidance=7.5), x, Judge(prior, both)).abs().max() < 1e-12
    # controls: another guidance, and the convention c + s (c - u) for one of the two, are not nothing
    assert gradient(vsd(plain, guidance=7.5), x, Judge(prior, both)).abs().max() > 1e-3
    assert gradient(vsd(plain, guidance=7.5, phi_guidance=8.5), x, Judge(prior, both)).abs().max() > 1e-3


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_a4_the_exact_phi_of_one_particle_makes_it_sds(form, guidance):
    oracles = GaussianOracle(randn(4, 3, seed=1), 0.3), GaussianOracle(randn(4, 3, seed=2), 0.3)
    prior, x = Latents(*oracles, form), randn(6, 4, 3, seed=4)

    def of_one_picture(z, a, b):
        """The noise of a phi that knows the picture is (z - a x) / b; its estimate is read off that noise."""
        a, b = (value[:, None, None] for value in (a, b))
        return (z - b * ((z - a * x) / b)) / a

    config = Distillation(guidance=guidance, levels=NoiseRange(constant(0.2), constant(0.9)))
    sds, ours = gradient(config, x, prior), gradient(vsd(config), x, Judge(prior, Frozen(prior, of_one_picture)))
    assert (sds - ours).abs().max() < 1e-10 and sds.abs().max() > 0.1
    other = gradient(vsd(config), x, Judge(prior, Frozen(prior, lambda z, a, b: of_one_picture(z, a, b) + 0.1)))
    assert (other - sds).abs().max() > 1e-2  # a phi of another picture must not pass


@pytest.mark.parametrize("kind,form", [("eps", "preserving"), ("eps", "exploding"), ("v", "preserving"), ("x0", "exploding"), ("flow", "flow")])
def test_the_error_is_that_of_the_networks_own_target(kind, form):
    prior, x, noise, sigma = FixedForm(None, form=form), randn(3, 5), randn(3, 5, seed=1), torch.tensor([0.2, 1.0, 6.0], dtype=torch.float64)
    a, b = prior.coefficients(sigma)
    z, wrong = prior.add_noise(x, noise, sigma), randn(3, 5, seed=2)
    slope = {"eps": b / a, "v": b / (a**2 + b**2).sqrt(), "x0": torch.ones_like(b), "flow": b}[kind]
    truth = (from_x0(kind, wrong, z, a, b) - from_x0(kind, x, z, a, b)).square().mean()
    assert torch.allclose(target_error(x, wrong, slope), truth, rtol=1e-12)
    if kind == "eps":
        assert torch.allclose(from_x0(kind, x, z, a, b), noise)


def learn(phi, prior, pictures, views, steps=260) -> list[float]:
    """Train phi on fixed pictures as a run does; its losses."""
    held, objective, losses = Learners({"VSD": phi}), Variational(), []
    for step in range(steps):
        loss = objective.learning(pictures, views, phi, torch.Generator().manual_seed(step))
        loss.backward()
        held.update()
        losses.append(float(loss.detach()))
    return losses


def error_at(phi, prior, pictures, views, scale=1.0, level=0.95) -> float:
    """How far phi's estimates are from the pictures at a level where the noisy picture tells little."""
    sigma = prior.sigma_at(torch.full((len(pictures),), 1 - level))
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(9))
    return float((phi.denoise(prior.add_noise(pictures, noise, sigma), sigma, views, scale) - pictures).square().mean())


def two_views(count: int = 4) -> Cameras:
    return Cameras(orbit(torch.tensor([0.0, 2.5]).repeat(count // 2), torch.full((count,), 0.25), torch.full((count,), 2.9)), torch.full((count,), 0.73), torch.tensor([0.0, 1.0]).repeat(count // 2))


def test_a4_phi_learns_a_fixed_picture_below_a_tenth_of_its_first_loss_and_hears_its_cameras():
    prior, views = ball_prior(), two_views()
    pictures = ball_pictures(views, 16)  # two balls of different size, told apart by nothing but the camera
    phi, deaf = TinyPhi(prior), TinyPhi(prior, camera=False)
    losses, blind = learn(phi, prior, pictures, views), learn(deaf, prior, pictures, views)
    assert sum(losses[-20:]) / 20 < 0.1 * sum(losses[:3]) / 3
    told, untold = error_at(phi, prior, pictures, views), error_at(deaf, prior, pictures, views)
    assert told < 0.5 * untold  # the control without the branch takes the mean of both
    assert error_at(phi, prior, pictures, two_views().select([1, 0, 3, 2])) > 2 * told  # and wrong cameras mislead it
    # control: a phi that learned what the prior expects elsewhere does not know these pictures
    astray = TinyPhi(prior)
    learn(astray, prior, pictures.flip(2), views, steps=120)
    assert error_at(astray, prior, pictures, views) > 3 * told


def test_phis_unconditional_half_hears_no_camera():
    prior, views = ball_prior(), two_views(2)
    phi = TinyPhi(prior)
    torch.nn.init.normal_(phi.branch.last.weight, generator=torch.Generator().manual_seed(0))
    z, sigma = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1)), torch.tensor([1.0, 1.0])
    codes = camera_codes(views.camera_to_world)
    with torch.no_grad():
        told, silent = phi.network(z, sigma, codes), phi.network(z, sigma, torch.zeros_like(codes))
    assert torch.allclose(phi.denoise(z, sigma, views, 3.0), silent + 3.0 * (told - silent), atol=1e-6)
    assert not torch.allclose(told, silent, atol=1e-2)


def test_the_camera_is_hidden_in_a_tenth_of_all_pictures():
    seen = []

    class Counting(TinyPhi):
        def error(self, x0, noise, sigma, cameras, hidden):
            seen.append(hidden)
            return x0.sum()

    prior, views = ball_prior(), two_views(4)
    phi, x0 = Counting(prior), torch.zeros(4, 4, 16, 16)
    for step in range(500):
        Variational(samples=2).learning(x0, views, phi, torch.Generator().manual_seed(step))
    share = float(torch.cat(seen).float().mean())
    assert len(seen) == 1000 and abs(share - 0.1) < 3 * (0.1 * 0.9 / 4000) ** 0.5


def test_phi_learns_on_levels_of_the_whole_schedule():
    levels = []

    class Noting(TinyPhi):
        def error(self, x0, noise, sigma, cameras, hidden):
            levels.extend(sigma.tolist())
            return x0.sum()

    prior = ball_prior()
    narrow = vsd(Distillation(levels=NoiseRange(constant(0.4), constant(0.5))))
    for step in range(400):
        narrow.learning(torch.zeros(2, 4, 16, 16), two_views(2), Noting(prior), torch.Generator().manual_seed(step))
    low, middle, high = prior.sigma_at(torch.tensor([0.99, 0.5, 0.01])).tolist()
    assert min(levels) < low and max(levels) > high and abs(sum(level < middle for level in levels) / len(levels) - 0.5) < 0.06


def test_camera_codes_are_raw_poses_in_the_frame_with_z_up():
    pose = torch.eye(4)[None].clone()
    pose[0, :3, 3] = torch.tensor([0.0, 0.5, 2.5])  # before the object's front, a little above
    code = camera_codes(pose)[0].view(4, 4)
    assert torch.equal(code[:3, 3], torch.tensor([2.5, 0.0, 0.5])) and torch.equal(code[3], torch.tensor([0.0, 0.0, 0.0, 1.0]))
    assert torch.equal(code[:3, 2], torch.tensor([1.0, 0.0, 0.0]))  # the camera's back axis points to +X, where the front is


def test_additions_begin_as_nothing_and_keep_float32():
    draws = torch.Generator().manual_seed(0)
    part, branch = LowRank(300, 200, 4, draws), CameraBranch(64, draws)
    assert part.down.dtype == part.up.dtype == torch.float32 and float(part.down.std()) == pytest.approx(0.25, rel=0.05)
    x, out = torch.randn(5, 300).half(), torch.randn(5, 200).half()
    assert torch.equal(part(x, out), out) and torch.equal(branch(torch.randn(3, 16)), torch.zeros(3, 64))
    part(x, out).float().sum().backward()
    assert part.up.grad.dtype == torch.float32 and part.up.grad.abs().sum() > 0 and part.down.grad.abs().sum() == 0  # up is still zero


def test_a_lora_adds_to_the_weights_what_its_parts_add_beside_them():
    part, x = LowRank(6, 5, 2, torch.Generator().manual_seed(0)), randn(3, 6).float()
    torch.nn.init.normal_(part.up, generator=torch.Generator().manual_seed(1))
    learned = {f"net.0.{name}": value.detach() for name, value in part.named_parameters()} | {"camera.first.weight": torch.ones(4, 16)}
    lora = lora_tensors(learned)
    assert sorted(lora) == ["net.0.alpha", "net.0.lora_down.weight", "net.0.lora_up.weight"]
    weight = lora["net.0.lora_up.weight"] @ lora["net.0.lora_down.weight"] * lora["net.0.alpha"] / 2
    assert torch.allclose(part(x, torch.zeros(3, 5)), x @ weight.T, atol=1e-6)


STEPS = 12


def stage(name="VSD", **changes) -> Stage:
    picture = term(name, 1)
    return Stage((replace(picture, objective=vsd(picture.objective), scenes=2),), rates=LearningRates(static=1e-2, decoder=1e-3), **changes)


def distiller(scene=None, steps=STEPS, judge=None, which=None) -> Distiller:
    judge = judge or Judge(ball_prior(), TinyPhi(ball_prior()))
    return Distiller(scene or tiny_scene(), which or stage(), [judge], tiny_renderer(), steps, seed=3)


def test_n_and_n_steps_are_2n_and_phi_goes_on_into_the_next_stage():
    whole, half = distiller(), distiller()
    for _ in range(STEPS):
        whole.advance()
    for _ in range(STEPS // 2):
        half.advance()
    tensors, values = half.snapshot()
    later = distiller()
    later.work.learners.load({name.removeprefix("learners."): value.clone() for name, value in tensors.items() if name.startswith("learners.")})
    checkpoint = type("C", (), {"tensors": {name: value.clone() for name, value in tensors.items()}, "values": values, "step": half.step, "path": None})
    again = distiller()
    again.restore(checkpoint)
    for _ in range(STEPS - STEPS // 2):
        again.advance()
    ours, theirs = whole.work.snapshot()[0], again.work.snapshot()[0]
    assert mismatch(ours, theirs) == "" and all(torch.equal(value, theirs[name]) or name.startswith("history") for name, value in ours.items())
    assert any(name.startswith("learners.exp_avg.VSD") for name in ours)
    first = whole.scene()
    judge = Judge(ball_prior(), TinyPhi(ball_prior()))
    distiller(Scene(first.field, first.history, first.learned), judge=judge)
    assert all(torch.equal(dict(judge.learner.named_parameters())[name], value) for name, value in first.learned["VSD"].items())
    other = Judge(ball_prior(), TinyPhi(ball_prior()))
    distiller(Scene(first.field, first.history, first.learned), judge=other, which=stage("another"))  # control: a term of another name begins anew
    assert float(dict(other.learner.named_parameters())["layer.0.up"].detach().norm()) == 0.0


def test_phi_moves_with_the_field_and_stays_at_the_base_with_rate_zero():
    moving, still = (Judge(ball_prior(), TinyPhi(ball_prior(), rate=rate)) for rate in (1e-2, 0.0))
    norms = []
    for judge in (moving, still):
        job = distiller(judge=judge)
        for _ in range(3):
            job.advance()
        norms.append(float(dict(judge.learner.named_parameters())["layer.1.up"].detach().norm()))
    assert norms[0] > 1e-2 and norms[1] == 0.0
