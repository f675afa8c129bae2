"""The real phi on a host model against its formulas written by hand: the camera it hears, the half that hears none, guidance, samples, 8 bit weights.

By hand is: the same MODEL through plain score sessions, with the host's own patch of the time embedding adding a vector that is
computed here from poses and the branch's weights (specification 1.4).
"""

import pytest
import torch
from test_vsd import SHAPE, digest, guidance, host, nodes, outside, phi_of, randn, shown, train, views  # noqa: F401  (fixtures)

from bloom4d.models.guidance.variational import Variational

SIGMA = torch.tensor([0.6, 1.7])


def poses(cameras) -> torch.Tensor:
    """(B, 16): camera to world with its rows from (x, y, z) to (z, x, y), Z up and the front on +X, rows first, as far away as it is."""
    return torch.stack([pose[[2, 0, 1, 3]].flatten() for pose in cameras.camera_to_world])


def awake(phi):
    """The same phi with a camera branch that says something."""
    for place, value in enumerate(phi.branch.parameters()):
        torch.nn.init.normal_(value, std=0.3, generator=torch.Generator().manual_seed(place))
    return phi


def by_hand(synthetic, phi, z, sigma, codes, seed=1):
    """The estimate of one prompt where the embedding of every picture gets W2 silu(W1 code + b1) + b2 added; LoRA untrained."""
    from bloom4d.nodes.host.score import ScoreSession

    one, two = phi.branch.first, phi.branch.last
    hidden = codes @ one.weight.t() + one.bias
    told = ((hidden * torch.sigmoid(hidden)) @ two.weight.t() + two.bias).detach()
    model = phi.model.clone()
    model.set_model_patch(lambda embedding, channels, options: embedding + told, "emb_patch")
    with ScoreSession(model, synthetic.conditioning(seed)) as session:
        return session.both(z, sigma)[0]


def test_phi_hears_each_pictures_camera_and_its_unconditional_half_none(host, synthetic, outside):  # noqa: F811
    z, cameras = randn(*SHAPE), views()
    with awake(phi_of(host, synthetic, synthetic.image_model())) as phi:
        conditional = by_hand(synthetic, phi, z, SIGMA, poses(cameras))
        silent = by_hand(synthetic, phi, z, SIGMA, torch.zeros(2, 16), seed=2)
        assert (phi.denoise(z, SIGMA, cameras, 1.0) - conditional).abs().max() < 1e-5
        found = phi.denoise(z, SIGMA, cameras, 3.0)
        assert (found - (silent + 3.0 * (conditional - silent))).abs().max() < 1e-4
        # controls: a code of ones, the cameras exchanged, an unconditional half that hears the camera
        loud = by_hand(synthetic, phi, z, SIGMA, poses(cameras), seed=2)
        assert (found - (loud + 3.0 * (conditional - loud))).abs().max() > 1e-2
        for codes in (torch.ones(2, 16), poses(cameras).flip(0)):
            assert (conditional - by_hand(synthetic, phi, z, SIGMA, codes)).abs().max() > 1e-2


def errors(synthetic, phi, x0, noise, sigma, cameras, hidden):
    """Mean squared error of the noise that the network estimates, eps' = (z - D) / sigma."""
    codes = poses(cameras) * (~hidden)[:, None]
    z = x0 + sigma.view(-1, 1, 1, 1) * noise
    estimate = (z - by_hand(synthetic, phi, z, sigma, codes)) / sigma.view(-1, 1, 1, 1)
    return float((estimate - noise).square().mean())


def test_a_hidden_camera_is_a_code_of_zeros(host, synthetic, outside):  # noqa: F811
    x0, noise, cameras = randn(*SHAPE, seed=5), randn(*SHAPE, seed=6), views()
    found = {}
    with awake(phi_of(host, synthetic, synthetic.image_model("eps"))) as phi:
        for hidden in (torch.tensor([False, False]), torch.tensor([True, False]), torch.tensor([True, True])):
            told = found[tuple(hidden.tolist())] = float(phi.error(x0, noise, SIGMA, cameras, hidden).detach())
            assert told == pytest.approx(errors(synthetic, phi, x0, noise, SIGMA, cameras, hidden), rel=1e-4)
    values = sorted(found.values())
    assert all(later > 1.001 * sooner for sooner, later in zip(values, values[1:])), "a control: it makes a difference"


def test_the_camera_of_a_hidden_picture_teaches_its_branch_nothing(host, synthetic, outside):  # noqa: F811
    x0, noise, cameras = randn(*SHAPE, seed=5), randn(*SHAPE, seed=6), views()
    with awake(phi_of(host, synthetic, synthetic.image_model("eps"))) as phi:
        slopes = []
        for hidden in ([True, True], [False, True]):
            phi.branch.zero_grad()
            phi.error(x0, noise, SIGMA, cameras, torch.tensor(hidden)).backward()
            slopes.append(phi.branch.first.weight.grad.abs().sum())
    assert slopes[0] == 0.0 and slopes[1] > 0.0  # zeros times anything


def test_guided_phi_and_several_samples_are_their_formulas(nodes, synthetic):  # noqa: F811
    """g = sigma^2 / (1 + sigma^2) (eps_prior - eps_phi) at one z, both guided by u + s (c - u); phi's loss the mean over its samples."""
    from bloom4d.nodes.host.score import ScoreSession

    made = guidance(nodes, synthetic, synthetic.image_model("eps"), guidance_scale=5.0, phi_guidance=2.5, phi_samples=3)
    objective, seen, asked = made.term.objective, [], []
    assert isinstance(objective, Variational) and (objective.phi_guidance, objective.samples) == (2.5, 3)
    with torch.inference_mode(False), torch.enable_grad(), made.source.open() as judge:
        phi, add_noise = awake(judge.learner), judge.add_noise
        judge.add_noise = lambda x0, noise, sigma: seen.append((x0, noise, sigma)) or add_noise(x0, noise, sigma)
        error = phi.error
        phi.error = lambda *question: asked.append(question) or error(*question)
        pictures = shown()
        outcome = objective.evaluate(pictures, judge, 0, 10, (1, 2))
        outcome.loss.backward()
        x0, noise, sigma = next(entry for entry in seen if entry[0].ndim == 4)
        level = sigma.view(-1, 1, 1, 1)
        z = x0 + level * noise
        with ScoreSession(judge.model, synthetic.conditioning(1), synthetic.conditioning(2)) as session:
            c, u = session.both(z, sigma)
        told = by_hand(synthetic, phi, z, sigma, poses(pictures.cameras))
        silent = by_hand(synthetic, phi, z, sigma, torch.zeros(2, 16), seed=2)
        eps = lambda conditional, free, scale: (z - (free + scale * (conditional - free))) / level  # noqa: E731
        g = level**2 / (1 + level**2) * (eps(c, u, 5.0) - eps(told, silent, 2.5))
        assert outcome.gradient_norm == pytest.approx(float(g.norm()), rel=1e-4)
        plain = level**2 / (1 + level**2) * (eps(c, u, 5.0) - eps(told, silent, 1.0))
        assert abs(float(plain.norm()) - outcome.gradient_norm) > 0.05 * outcome.gradient_norm, "a control: phi without guidance"
        assert len(asked) == 3 and len({tuple(question[2].tolist()) for question in asked}) == 3
        found = [errors(synthetic, phi, *question) for question in asked]
        assert float(outcome.learning.detach()) == pytest.approx(sum(found) / 3, rel=1e-4) and abs(found[0] - sum(found) / 3) > 1e-3 * found[0]


@pytest.mark.parametrize(("form", "limit"), [("float8", 0.4), ("bytes", 0.1)])
def test_8_bit_weights_carry_phi(host, synthetic, outside, tmp_path, form, limit):  # noqa: F811
    """Untrained it is its base to the bit; its gradient is float32's up to the rounding of the weights, which stay as they are stored."""
    import comfy.sd
    import comfy.utils
    from test_bad_models import StoredInBytes

    tensors = comfy.utils.load_torch_file(str(synthetic.write_sd21_checkpoint(tmp_path / "sd21.safetensors")))
    unet = lambda: {name.removeprefix("model.diffusion_model."): value for name, value in tensors.items() if name.startswith("model.diffusion_model.")}  # noqa: E731
    options = {"float8": {"dtype": torch.float8_e4m3fn}, "bytes": {"custom_operations": StoredInBytes()}}[form]
    text, slopes = synthetic.conditioning(1, 7, 1024), []
    x0, noise, sigma, shown_at = randn(1, 4, 8, 8, seed=5), randn(1, 4, 8, 8, seed=6), torch.tensor([0.8]), views(1)
    for changes in ({}, options):
        with torch.inference_mode():
            model = comfy.sd.load_diffusion_model_state_dict(unet(), model_options=changes)
        before = digest(model)
        with host.HostPhi(model, text, None, 4, 1e-2, True) as phi, host.ScoreSession(model, text) as base:
            start = phi.denoise(x0, sigma, shown_at, 1.0)
            assert torch.equal(start, base.both(x0, sigma)[0])
            phi.error(x0, noise, sigma, shown_at, torch.tensor([False])).backward()
            slopes.append(torch.cat([value.grad.flatten() for value in phi.parameters]))
            for value in phi.parameters:
                value.grad = None
            train(phi, x0, steps=2)
            assert (phi.denoise(x0, sigma, shown_at, 1.0) - start).abs().max() > 1e-4
        assert digest(model) == before
    exact, rounded = slopes
    assert rounded.isfinite().all() and 0 < (rounded - exact).norm() < limit * exact.norm()
