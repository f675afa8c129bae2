"""VSD on host MODELs: phi is there only while it is asked, learns, is resumed and exported, and leaves every model as it was."""

import importlib
from dataclasses import replace

import pytest
import torch
from test_field_nodes import call

from bloom4d.models.geometry.cameras import Cameras, orbit
from bloom4d.models.guidance.objective import Pictures
from bloom4d.models.render.deferred import RenderedViews

SHAPE = (2, 3, 16, 16)


@pytest.fixture(scope="module")
def nodes(comfy):
    names = ("cameras", "field", "render", "guidance", "guidance_vsd", "guidance_losses", "optimize", "files", "prior")
    return {name: importlib.import_module(f"bloom4d.nodes.{name}") for name in names}


@pytest.fixture(scope="module")
def host(comfy):
    return importlib.import_module("bloom4d.nodes.host.variational")


@pytest.fixture
def outside():
    """As in a run: gradients on, no inference mode."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def views(count: int = 2) -> Cameras:
    return Cameras(orbit(torch.linspace(0, 2, count), torch.full((count,), 0.25), torch.full((count,), 2.9)), torch.full((count,), 0.73), torch.linspace(0, 1, count))


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def phi_of(host, synthetic, model, rate=1e-3, camera=True, seed=1, **settings):
    return host.HostPhi(model, synthetic.conditioning(seed), synthetic.conditioning(seed + 1), 4, rate, camera, **settings)


def estimate(synthetic, model, z, sigma, seed=1):
    """The base's conditional estimate, by a session of its own."""
    from bloom4d.nodes.host.score import ScoreSession

    with ScoreSession(model, synthetic.conditioning(seed)) as session:
        return session.both(z, sigma)[0]


def left_behind(model) -> list[str]:
    """What phi or its training could have forgotten on a model."""
    import comfy.model_management

    found = ["in_training"] if comfy.model_management.in_training else []
    for name, part in model.model.named_modules():
        found += [f"{name}.forward"] if "forward" in vars(part) else []
        found += [f"{name}.weight_function"] if len(getattr(part, "weight_function", [])) else []
    return found


def digest(model) -> str:
    from bloom4d.models.optimize.identity import fingerprint

    return fingerprint({name: value for name, value in model.model.state_dict().items()})


def train(phi, x0, steps=3, rate=None, seed=0) -> list[float]:
    """Learn pictures `x0` as the loop does."""
    from bloom4d.models.guidance.variational import Variational
    from bloom4d.models.optimize.learners import Learners

    held, losses = Learners({"VSD": phi}), []
    for step in range(steps):
        loss = Variational().learning(x0, views(len(x0)), phi, torch.Generator().manual_seed(seed + step))
        loss.backward()
        held.update()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("kind", ["eps", "v", "x0", "flow", "edm"])
def test_an_untrained_phi_is_its_base_to_the_bit_and_a_trained_one_is_seen_by_nobody_else(host, synthetic, outside, kind):
    model = synthetic.image_model(kind)
    z, sigma, before = randn(*SHAPE), torch.tensor([0.3, 0.8]), digest(model)
    base = estimate(synthetic, model, z, sigma)
    with phi_of(host, synthetic, model) as phi:
        assert torch.equal(phi.denoise(z, sigma, views(), 1.0), base)
        train(phi, randn(*SHAPE, seed=5))
        moved = phi.denoise(z, sigma, views(), 1.0)
        assert (moved - base).abs().max() > 1e-5
        assert torch.equal(estimate(synthetic, model, z, sigma), base)  # another session, while phi's is open
        assert torch.equal(phi.denoise(z, sigma, views(), 1.0), moved)
    assert digest(model) == before and left_behind(model) == [] and sum(float(value.detach().norm()) for name, value in phi.named_parameters() if name.endswith("up")) > 0


def shown(size: int = 16) -> Pictures:
    """Grey pictures whose gradient can be read."""
    rgb = torch.full((2, size, size, 3), 0.4) + 0.1 * randn(2, size, size, 3)
    opacity = torch.ones(2, size, size)
    pictures = RenderedViews(**{name: None for name in RenderedViews.__dataclass_fields__} | {"rgb": rgb.requires_grad_(), "opacity": opacity, "directions": randn(2, size, size, 3)})
    return Pictures(pictures, views(), torch.ones(3))


def guidance(nodes, synthetic, model, vae=None, seed=1, **changes):
    """The node's term and source, small."""
    common = {"model": model, "vae": vae or synthetic.pixel_vae(), "positive": synthetic.conditioning(seed), "negative": synthetic.conditioning(seed + 1)}
    cameras = call(nodes["cameras"].Bloom4DCameraSampler, views=1)[0]
    return call(nodes["guidance_vsd"].Bloom4DVSDGuidance, **{**common, "cameras": cameras, "scenes": 2, "width": 16, "height": 16, "model_size": 16, **changes})[0]


@pytest.mark.parametrize("kind", ["eps", "v", "flow"])
def test_a4_with_the_priors_own_guidance_an_untrained_phi_gives_no_gradient(nodes, synthetic, kind):
    one = guidance(nodes, synthetic, synthetic.image_model(kind), guidance_scale=1.0)
    other = guidance(nodes, synthetic, synthetic.image_model(kind), guidance_scale=7.5)
    with torch.inference_mode(False), torch.enable_grad():
        norms = []
        for term, source in ((one.term, one.source), (other.term, other.source)):
            with source.open() as judge:
                norms.append(term.objective.evaluate(shown(), judge, 0, 10, (1, 2)).gradient_norm)
    assert norms[0] == 0.0 and norms[1] > 1e-3


def test_the_scale_is_seven_and_a_half_unless_the_model_says(nodes, synthetic, comfy, tmp_path):
    from prior_fixtures import write_untrained_prior

    from bloom4d.nodes.host.prior import load_model, load_vae

    with guidance(nodes, synthetic, synthetic.image_model()).source.open() as judge:
        assert judge.default_guidance == 7.5
    file = str(write_untrained_prior(tmp_path / "prior.safetensors"))
    wide = synthetic.conditioning(1, width=64)
    with guidance(nodes, synthetic, load_model(file), load_vae(file), positive=wide, negative=wide, model_size=64).source.open() as judge:
        assert judge.default_guidance == 3.0


def test_phi_learns_a_fixed_picture_and_its_gradient_is_that_of_the_hosts_own_path(host, synthetic, outside):
    """Against finite differences of the loss through plain calls of the trained model."""
    model = synthetic.image_model("v")
    x0, noise, sigma, hidden = randn(*SHAPE, seed=5), randn(*SHAPE, seed=6), torch.tensor([0.4, 2.0]), torch.tensor([False, True])
    with phi_of(host, synthetic, model, rate=1e-2) as phi:
        train(phi, x0, steps=2)  # away from the start, where half of the gradients are zero
        phi.error(x0, noise, sigma, views(), hidden).backward()
        name, value = next((name, value) for name, value in phi.named_parameters() if name.endswith("attn2.to_k.down"))
        slope, direction = value.grad, randn(*value.shape, seed=7)
        ends = []
        for sign in (1.0, -1.0):
            with torch.no_grad():
                value.add_(sign * 0.05 * direction)
                ends.append(float(phi.error(x0, noise, sigma, views(), hidden)))
                value.sub_(sign * 0.05 * direction)
        assert (ends[0] - ends[1]) / 0.1 == pytest.approx(float((slope * direction).sum()), rel=0.02)
        before = float(phi.error(x0, noise, sigma, views(), hidden))
        train(phi, x0, steps=15)
        assert float(phi.error(x0, noise, sigma, views(), hidden)) < 0.93 * before  # of white noise, which attention can hardly hold


def test_computing_blocks_again_changes_no_gradient(host, synthetic, outside):
    model = synthetic.image_model("eps")
    x0, noise, sigma = randn(*SHAPE, seed=5), randn(*SHAPE, seed=6), torch.tensor([0.4, 2.0])
    found = []
    for save_memory in (False, True):
        with phi_of(host, synthetic, model, save_memory=save_memory) as phi:
            phi.error(x0, noise, sigma, views(), torch.tensor([False, False])).backward()
            found.append([value.grad for value in phi.parameters])
    assert all(torch.equal(one, other) for one, other in zip(*found)) and any(grad.abs().max() > 0 for grad in found[0])


def test_a_half_precision_model_teaches_float32_weights(host, synthetic, outside):
    x0, noise, sigma = randn(*SHAPE, seed=5), randn(*SHAPE, seed=6), torch.tensor([0.4, 2.0])
    found = []
    for dtype in (torch.float32, torch.float16):
        model = synthetic.image_model("eps")
        model.model.diffusion_model.to(dtype)
        model.model.diffusion_model.dtype = dtype
        with phi_of(host, synthetic, model) as phi:
            phi.error(x0, noise, sigma, views(), torch.tensor([False, False])).backward()
            found.append(torch.cat([value.grad.flatten() for value in phi.parameters]))
            assert all(value.dtype == torch.float32 for value in phi.parameters)
    assert found[1].isfinite().all() and (found[0] - found[1]).norm() < 0.02 * found[0].norm()


class Interrupted(BaseException):
    """As the host's, no Exception."""


@pytest.mark.parametrize("asked", ["denoise", "error"])
def test_an_interrupt_in_the_middle_leaves_the_model_clean(host, synthetic, outside, asked):
    model = synthetic.image_model()
    z, sigma, before = randn(*SHAPE), torch.tensor([0.3, 0.8]), digest(model)
    base, calls = estimate(synthetic, model, z, sigma), []
    middle = model.model.diffusion_model.middle_block[1]

    def interrupt(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise Interrupted

    hook = middle.register_forward_pre_hook(interrupt)
    phi = phi_of(host, synthetic, model, save_memory=True)
    ask = {"denoise": lambda: phi.denoise(z, sigma, views(), 1.0), "error": lambda: phi.error(z, z, sigma, views(), torch.tensor([False, False]))}[asked]
    ask() if asked == "denoise" else calls.append(1)
    with pytest.raises(Interrupted):
        calls[:] = [1]
        ask()
    hook.remove()
    assert left_behind(model) == [] and torch.equal(estimate(synthetic, model, z, sigma), base) and digest(model) == before
    phi.close()


def test_phi_on_another_model_with_another_output(nodes, synthetic):
    """As published: v-prediction beside an eps model; the prior's model is never touched."""
    base, other = synthetic.image_model("eps"), synthetic.image_model("v", seed=3)
    made = guidance(nodes, synthetic, base, phi_model=other, phi_positive=synthetic.conditioning(8), camera_condition=False)
    assert "its phi CameraModel" in made.source.place() and len(made.source.devices()) == 3
    with torch.inference_mode(False), torch.enable_grad(), made.source.open() as judge:
        z, sigma = randn(*SHAPE), torch.tensor([0.3, 0.8])
        assert torch.equal(judge.learner.denoise(z, sigma, views(), 1.0), estimate(synthetic, other, z, sigma, seed=8))
        outcome = made.term.objective.evaluate(shown(), judge, 0, 10, (1, 2))
        outcome.learning.backward()
        assert outcome.gradient_norm > 0 and all(value.grad is not None for value in judge.learner.parameters)
    assert left_behind(base) == left_behind(other) == []


@pytest.mark.parametrize("kind", ["flow"])
def test_a_phi_with_another_kind_of_noise_is_refused(nodes, synthetic, kind):
    source = guidance(nodes, synthetic, synthetic.image_model("eps"), phi_model=synthetic.image_model(kind)).source
    with pytest.raises(ValueError, match="they need the same latents and noise. Connect a model of the same family"):
        source.open()


def test_a_video_model_has_no_camera_branch_and_learns(host, nodes, synthetic, outside):
    model = synthetic.video_model()
    with phi_of(host, synthetic, model) as phi:
        assert phi.branch is None and {name.split(".")[3] for name, _ in phi.named_parameters()} == {"self_attn", "cross_attn"}
        phi.error(randn(1, 16, 2, 8, 8), randn(1, 16, 2, 8, 8, seed=1), torch.tensor([0.5]), views(2), torch.tensor([False])).backward()
        assert sum(float(value.grad.abs().sum()) for value in phi.parameters) > 0
    source = guidance(nodes, synthetic, synthetic.image_model()).source
    assert source.notes() == [] and "without the camera condition" in replace(source, phi_model=model).notes()[0]


def patched(synthetic, strength=1.0):
    """A MODEL with a LoRA of the user's."""
    import comfy.sd

    model = synthetic.image_model()
    name = "diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q"
    lora = {f"{name}.lora_up.weight": randn(64, 2), f"{name}.lora_down.weight": randn(2, 64, seed=1)}
    return comfy.sd.load_lora_for_models(model, None, lora, strength, 0)[0], comfy.sd.load_bypass_lora_for_models(model, None, lora, strength, 0)[0], model


def test_the_users_lora_on_the_base_stays_beside_phi(host, synthetic):
    merged, beside, plain = patched(synthetic)
    z, sigma = randn(*SHAPE), torch.tensor([0.3, 0.8])
    for model in (merged, beside):
        with torch.inference_mode(False), torch.enable_grad():
            base = estimate(synthetic, model, z, sigma)
            with phi_of(host, synthetic, model) as phi:
                assert torch.equal(phi.denoise(z, sigma, views(), 1.0), base)
                train(phi, randn(*SHAPE, seed=5), steps=2)
                assert not torch.equal(phi.denoise(z, sigma, views(), 1.0), base)
            assert torch.equal(estimate(synthetic, model, z, sigma), base)
            assert (base - estimate(synthetic, plain, z, sigma)).abs().max() > 1e-4


def test_phi_hears_the_controlnets_of_its_prompt(host, synthetic):
    from test_score_session import control_net

    model = synthetic.image_model()
    control = control_net(synthetic).set_cond_hint(torch.rand(2, 5, 128, 128, generator=torch.Generator().manual_seed(12)))
    positive = synthetic.conditioning(1, control=control)
    z, sigma = randn(*SHAPE), torch.tensor([0.3, 0.8])
    with torch.inference_mode(False), torch.enable_grad():
        from bloom4d.nodes.host.score import ScoreSession

        def steered():
            with ScoreSession(model, positive) as session:
                return session.both(z, sigma)[0]

        base = steered()
        assert (base - estimate(synthetic, model, z, sigma)).abs().max() > 1e-3
        with host.HostPhi(model, positive, None, 4, 1e-3, True) as phi:
            assert torch.equal(phi.denoise(z, sigma, views(), 1.0), base)
            train(phi, randn(*SHAPE, seed=5), steps=2)
            assert not torch.equal(phi.denoise(z, sigma, views(), 1.0), base)
        assert torch.equal(steered(), base) and left_behind(model) == []


def test_a_stage_of_image_terms_alone_is_told_of_its_faces(nodes, synthetic):
    from bloom4d.nodes.host.slots import lonely_pictures

    def told(*made):
        return lonely_pictures([one.term for one in made], [one.source for one in made])

    deaf = {"told": "nothing"}
    plain = guidance(nodes, synthetic, synthetic.image_model(), **deaf)
    assert told(guidance(nodes, synthetic, synthetic.image_model())) == ""  # this one hears of cameras
    assert "Add Multi-View Guidance" in told(plain)
    several = call(nodes["cameras"].Bloom4DCameraSampler)[0]
    assert told(plain, guidance(nodes, synthetic, synthetic.image_model(), cameras=several, **deaf)) == ""
    assert told(guidance(nodes, synthetic, synthetic.image_model(), positive_back=synthetic.conditioning(7), **deaf)) == ""
    clips = call(nodes["cameras"].Bloom4DCameraSampler, views=1, frames=3)[0]
    assert told(guidance(nodes, synthetic, synthetic.image_model(), cameras=clips, **deaf)) == ""  # motion of a finished shape
