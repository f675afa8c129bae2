"""VSD on every model class of the host and on the pack's own: phi begins as its base, learns, and is asked as the prior is."""

import importlib

import pytest
import torch
from test_field_nodes import call
from test_foreign import models  # noqa: F401  (fixtures)
from test_host_models import every_kind, host_models, kind  # noqa: F401
from test_vsd import digest, host, left_behind, nodes, outside, train, views  # noqa: F401

from bloom4d.models.geometry.cameras import view_time_grid
from bloom4d.models.guidance.objective import Pictures
from bloom4d.models.render.deferred import RenderedViews


def shown(count: int, side: int) -> Pictures:
    """Pictures of one camera whose gradient can be read."""
    draws = torch.Generator().manual_seed(1)
    rgb = torch.rand(count, side, side, 3, generator=draws).requires_grad_()
    empty = {name: None for name in RenderedViews.__dataclass_fields__}
    return Pictures(RenderedViews(**empty | {"rgb": rgb, "opacity": torch.ones(count, side, side)}), view_time_grid(1, count), torch.ones(3))


def term(nodes, model, vae, positive, negative, pictures, video, size, **changes):  # noqa: F811
    """The VSD node's term; a video MODEL judges one clip, as the term of a stage would hand it over."""
    from dataclasses import replace

    cameras = call(nodes["cameras"].Bloom4DCameraSampler, views=1, frames=pictures if video else 1)[0]
    values = {"cameras": cameras, "scenes": 1 if video else pictures, "width": 16, "height": 16, "model_size": size, "lora_rate": 1e-2, **changes}
    if video:
        values["noise_level"] = "per scene"
    made = call(nodes["guidance_vsd"].Bloom4DVSDGuidance, model=model, vae=vae, positive=positive, negative=negative, **values)[0]
    return replace(made, source=replace(made.source, frames=pictures)) if video else made


def check(nodes, host, model, vae, positive, negative, pictures, video, size, scale=1.0):  # noqa: F811
    """g exactly 0 at the start and not after, phi moves, phi noises as the prior does, and nothing is left on the model."""
    before = digest(model)
    made = term(nodes, model, vae, positive, negative, pictures, video, size, guidance_scale=scale)
    with torch.inference_mode(False), torch.enable_grad(), made.source.open() as judge:
        first = made.term.objective.evaluate(shown(pictures, 16), judge, 0, 10, (1, 2))
        assert first.gradient_norm == 0.0 and first.latents.isfinite().all()
        check_noising(host, judge, first.latents)
        first.learning.backward()
        phi = judge.learner
        assert sum(float(value.grad.abs().sum()) for _, value in phi.named_parameters()) > 0
        train_on(phi, first.latents, pictures)
        assert sum(float(value.detach().norm()) for name, value in phi.named_parameters() if name.endswith("up")) > 0
        later = made.term.objective.evaluate(shown(pictures, 16), judge, 1, 10, (1, 2))
        assert later.gradient_norm > 0.0 and torch.isfinite(later.learning)
    assert digest(model) == before and left_behind(model) == []


def train_on(phi, latents, pictures):
    """Two steps of phi on fixed latents, as the loop does."""
    from bloom4d.models.guidance.variational import Variational
    from bloom4d.models.optimize.learners import Learners

    held = Learners({"VSD": phi})
    for step in range(2):
        objective = Variational(level_per="scene" if len(latents) < pictures else "picture")
        objective.learning(latents, view_time_grid(1, pictures), phi, torch.Generator().manual_seed(step)).backward()
        held.update()


def check_noising(host, judge, latents):  # noqa: F811
    """What reaches phi's network while it learns is what reaches the prior's at the same x0, noise and level."""
    phi, seen = judge.learner, []
    network = judge.model.model.diffusion_model
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(3))
    sigma = judge.sigma_at(torch.full((len(latents),), 0.2))
    cameras = view_time_grid(1, len(latents))
    hook = network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
    phi.error(latents, noise, sigma, cameras, torch.zeros(len(latents), dtype=torch.bool))
    judge.denoise(judge.add_noise(latents, noise, sigma), sigma, cameras, unconditional=False)
    hook.remove()
    assert torch.equal(seen[0], seen[-1])


@every_kind
def test_every_kind_carries_phi(nodes, host, host_models, kind):  # noqa: F811
    words = host_models.text(1, **kind.prompt), host_models.text(2, **kind.prompt)
    if kind.name == "SVD":
        with pytest.raises(ValueError, match="makes a clip of every batch.*Connect it to a Video SDS Guidance"):
            term(nodes, kind.model(), kind.vae(), *words, kind.pictures, True, kind.side)
        return
    model = kind.model()
    check(nodes, host, model, kind.vae(), *words, kind.pictures, kind.slot == "video", kind.side)
    with torch.inference_mode(False), torch.enable_grad():
        made = term(nodes, model, kind.vae(), *words, kind.pictures, kind.slot == "video", kind.side, guidance_scale=7.5)
        with made.source.open() as judge:
            guided = made.term.objective.evaluate(shown(kind.pictures, 16), judge, 0, 10, (1, 2)).gradient_norm
    assert guided > 0.0, "a control: with guidance the frozen prior is not phi"


@pytest.mark.parametrize("kind", ["Wan 2.1", "CogVideoX"], indirect=True)
def test_a_video_model_judges_pictures_as_clips_of_one_frame(nodes, host, host_models, kind):  # noqa: F811
    """What the node makes of it, without any change."""
    check(nodes, host, kind.model(), kind.vae(), host_models.text(1), host_models.text(2), 2, False, kind.side)


def slopes(host, host_models, kind, model, save_memory: bool):  # noqa: F811
    """A phi that has learned a little, its questions, and the gradient of its error by every parameter."""
    words = host_models.text(1, **kind.prompt), host_models.text(2, **kind.prompt)
    phi = host.HostPhi(model, *words, 4, 1e-2, True, save_memory=save_memory)
    for name, value in phi.named_parameters():
        if name.endswith("up"):
            torch.nn.init.normal_(value, std=0.1, generator=torch.Generator().manual_seed(len(name)))
    x0, noise = torch.randn(2, *kind.latent, generator=torch.Generator().manual_seed(5))
    sigma = phi.sigma_at(torch.full((kind.latent[0],), 0.5))
    ask = lambda: phi.error(x0, noise, sigma, view_time_grid(1, kind.latent[0]), torch.zeros(kind.latent[0], dtype=torch.bool))  # noqa: E731
    ask().backward()
    return phi, ask, [value.grad.clone() for value in phi.parameters]


@every_kind
def test_gradients_are_right_and_the_same_when_blocks_are_computed_again(host, host_models, outside, kind):  # noqa: F811
    """Against finite differences of the error: transformers of the host write into tensors that a gradient needs."""
    model = kind.model()
    phi, ask, found = slopes(host, host_models, kind, model, False)
    directions = [torch.randn(value.shape, generator=torch.Generator().manual_seed(place)) for place, value in enumerate(phi.parameters)]
    directions = [direction * float(slope.norm() / direction.norm()) + slope for direction, slope in zip(directions, found)]
    size = 2e-3 / float(sum(direction.square().sum() for direction in directions)) ** 0.5
    ends = []
    with phi, torch.no_grad():
        for sign in (1.0, -1.0):
            for value, direction in zip(phi.parameters, directions):
                value.add_(sign * size * direction)
            ends.append(float(ask().double()))
            for value, direction in zip(phi.parameters, directions):
                value.sub_(sign * size * direction)
    told = float(sum((slope * direction).sum() for slope, direction in zip(found, directions)))
    assert (ends[0] - ends[1]) / (2 * size) == pytest.approx(told, rel=0.02) and told > 0
    with slopes(host, host_models, kind, model, True)[0] as again:
        assert all(torch.equal(one, value.grad) for one, value in zip(found, again.parameters))


def test_the_noised_picture_of_cogvideox_is_the_variance_preserving_one(nodes, host, host_models):  # noqa: F811
    """In its closed form: z = (x0 + sigma eps) / sqrt(1 + sigma^2), and not the exploding one."""
    model = host_models.cogvideox()
    made = term(nodes, model, host_models.averaging_vae(16, 8, 4), host_models.text(1), host_models.text(2), 5, True, 32)
    seen, x0, noise = [], torch.randn(1, 16, 2, 4, 4), torch.randn(1, 16, 2, 4, 4)
    with torch.inference_mode(False), torch.enable_grad(), made.source.open() as judge:
        sigma = judge.sigma_at(torch.tensor([0.3]))
        model.model.diffusion_model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
        judge.learner.error(x0, noise, sigma, view_time_grid(1, 1), torch.tensor([False]))
    assert torch.allclose(seen[0], (x0 + sigma * noise) / (1 + sigma**2).sqrt(), atol=1e-5) and float(sigma) > 1.0
    assert not torch.allclose(seen[0], x0 + sigma * noise, atol=1e-1)


def test_cogvideox_beside_itself_is_the_same_family_and_beside_another_is_not(nodes, host_models):  # noqa: F811
    def made(phi_model):
        return term(nodes, host_models.cogvideox(), host_models.averaging_vae(16, 8, 4), host_models.text(1), host_models.text(2), 5, True, 32, phi_model=phi_model).source

    with torch.inference_mode(False), made(host_models.cogvideox()).open():
        pass
    with pytest.raises(ValueError, match="they need the same latents and noise"):
        made(host_models.wan21()).open()


def test_the_packs_own_video_and_pixel_models_carry_phi(nodes, host, synthetic, models):  # noqa: F811
    from checkpoints_video import DEEPFLOYD_NAME, ZEROSCOPE_NAME

    from bloom4d.nodes import foreign_priors

    with torch.inference_mode():
        model, _, vae = foreign_priors.Bloom4DZeroscopeLoader.execute(ZEROSCOPE_NAME, "auto", "auto", "576 x 320 (Zeroscope)").args
        pixel, _, codec = foreign_priors.Bloom4DDeepFloydLoader.execute(DEEPFLOYD_NAME, "auto").args
    texts = [synthetic.conditioning(seed, 77, 1024) for seed in (1, 2)]
    check(nodes, host, model, vae, *texts, 2, True, 64)
    check(nodes, host, pixel, codec, synthetic.conditioning(1, 77, 4096), synthetic.conditioning(2, 77, 4096), 1, False, 64)


@pytest.mark.parametrize(("name", "rest"), [
    ("diffusion_model.blocks.11.q", True), ("diffusion_model.blocks.0.attn_out", True), ("diffusion_model.blocks.0.ff_out", False), ("diffusion_model.blocks.0.norm1.linear", False),
    ("diffusion_model.unet.down_blocks.1.attentions.0.to_q", True), ("diffusion_model.unet.mid_block.attentions.0.add_k_proj", True), ("diffusion_model.unet.up_blocks.1.attentions.2.to_out.0", True),
    ("diffusion_model.unet.down_blocks.1.attentions.0.proj_in", False), ("diffusion_model.unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q", True),
    ("diffusion_model.unet.down_blocks.1.attentions.0.transformer_blocks.0.ff.net.0.proj", False), ("diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_out.0", True),
    ("diffusion_model.single_blocks.0.linear1", True), ("diffusion_model.final_layer.linear", False),
])  # fmt: skip
def test_attention_by_its_names(comfy, name, rest):
    assert bool(importlib.import_module("bloom4d.nodes.host.bypass").ATTENTION.search(name)) is rest
