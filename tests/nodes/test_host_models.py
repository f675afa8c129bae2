"""Every model class of the host as a prior: shapes, parametrisation, guidance, latent scaling, frames, and a step of distillation."""

import copy

import pytest
import torch

NAMES = (
    "SD 1.5", "SD 2.1", "SD 2.1 at 768", "SDXL", "SD3", "Flux", "Flux schnell", "Wan 2.1", "Wan 2.1, 16 frames", "Wan 2.1 from a picture", "Wan 2.2 5B", "LTX", "SVD", "CogVideoX",
    "CogVideoX from a picture", "HunyuanVideo", "HunyuanVideo from a picture",
)  # fmt: skip
FROM_A_PICTURE = ("Wan 2.1 from a picture", "SVD", "CogVideoX from a picture", "HunyuanVideo from a picture")


@pytest.fixture(scope="module")
def host_models(comfy):
    import host_models

    assert tuple(kind.name for kind in host_models.KINDS) == NAMES
    return host_models


@pytest.fixture
def kind(host_models, request):
    return host_models.KINDS[NAMES.index(request.param)]


every_kind = pytest.mark.parametrize("kind", NAMES, indirect=True)


def opened(host_models, kind, model=None, prompt=None, **options):
    """The prior of a kind at its tiny size."""
    from bloom4d.nodes.host.drawing import DrawingPrior

    entries = kind.prompt if prompt is None else prompt
    words = [host_models.text(1, **entries)], host_models.text(2, **entries)
    return DrawingPrior(model or kind.model(), kind.vae(), *words, **{"size": (kind.side, kind.side), "frames": kind.pictures if kind.slot == "video" else 1, **options})


def pictures(kind, count=None, seed=1):
    """Pictures (B, H, W, 3) at half the size that the model gets."""
    return torch.rand(count or kind.pictures, kind.side // 2, kind.side // 2, 3, generator=torch.Generator().manual_seed(seed))


@every_kind
def test_a_step_of_distillation_reaches_every_picture(host_models, kind):
    from bloom4d.models.geometry.cameras import view_time_grid
    from bloom4d.models.guidance.distillation import Distillation, distill

    prior = opened(host_models, kind)
    assert prior.default_guidance == kind.guidance
    with prior, torch.inference_mode(False), torch.enable_grad():
        rgb = pictures(kind).requires_grad_()
        config = Distillation(level_per="scene" if kind.slot == "video" else "picture")
        outcome = distill(rgb, torch.ones(rgb.shape[:3]), view_time_grid(1, kind.pictures), prior, config, 0, 10, torch.Generator().manual_seed(0))
        outcome.loss.backward()
    assert tuple(outcome.denoised.shape) == kind.latent and outcome.denoised.isfinite().all() and outcome.non_finite == 0
    assert rgb.grad.isfinite().all() and (rgb.grad.flatten(1).norm(dim=1) > 0).all(), "every picture is taught, the last frames too"


@every_kind
def test_latents_are_the_hosts_own(host_models, kind):
    """VAE Encode on the resized clip, then the scaling that the host's samplers apply; both also through the gradient's path."""
    model, vae = kind.model(), kind.vae()
    prior = opened(host_models, kind, model)
    with torch.inference_mode(False):
        found = prior.encode(pictures(kind))
    resized = torch.nn.functional.interpolate(pictures(kind).movedim(-1, 1), (kind.side, kind.side), mode="bilinear").movedim(1, -1)
    length = {16: 17}.get(len(resized), len(resized))  # 1 + 4 n frames for Wan: the last one is held
    resized = torch.cat([resized, resized[-1:].expand(length - len(resized), -1, -1, -1)])
    assert torch.allclose(found, model.model.process_latent_in(vae.encode(resized)), atol=1e-5)
    assert kind.size == prior_size(model)


def prior_size(model):
    from bloom4d.nodes.host.adapter import model_defaults

    return model_defaults(model)["size"]


@every_kind
def test_noise_levels_and_the_noising(host_models, kind):
    prior = opened(host_models, kind)
    sigma = prior.sigma_at(torch.linspace(0, 1, 21))
    assert sigma.isfinite().all() and (sigma.diff() < 0).all() and kind.sigma[0] <= sigma.min() < sigma.max() <= kind.sigma[1]
    assert sigma.max() > 0.5 * min(kind.sigma[1], 100) and sigma.min() < kind.sigma[0] + 0.05, "nearly the whole schedule"
    found, expected = prior.coefficients(sigma), host_models.coefficients(kind, sigma)
    assert all(torch.allclose(*pair, rtol=1e-4, atol=1e-6) for pair in zip(found, expected))
    x0, noise = torch.randn(2, 21, *kind.latent[1:], generator=torch.Generator().manual_seed(2))
    a, b = (value.view(-1, *[1] * (len(kind.latent) - 1)) for value in expected)
    assert torch.allclose(prior.add_noise(x0, noise, sigma), a * x0 + b * noise, rtol=1e-4, atol=1e-4)


@every_kind
def test_a_perfect_network_is_understood(host_models, kind):
    """Its answer in the kind's own parametrisation gives back x0 exactly, at high and low noise, with and without the prompt."""
    prior = opened(host_models, kind)
    network = prior.model.model.diffusion_model
    x0, noise = torch.randn(2, *kind.latent, generator=torch.Generator().manual_seed(3))
    with prior:
        for percent in (0.1, 0.5, 0.9):
            sigma = prior.sigma_at(torch.full((kind.latent[0],), percent))
            answer = host_models.network_target(kind, x0, noise, sigma)
            network.forward = lambda x, *rest, **options: answer.repeat(len(x) // len(answer), *[1] * (answer.ndim - 1))
            estimates = prior.denoise(prior.add_noise(x0, noise, sigma), sigma)
            assert all(torch.allclose(estimate, x0, atol=2e-3 * float(sigma.max().clamp_min(1))) for estimate in estimates), percent
        network.forward = lambda x, *rest, **options: 0.9 * answer.repeat(len(x) // len(answer), *[1] * (answer.ndim - 1))
        assert not torch.allclose(prior.denoise(prior.add_noise(x0, noise, sigma), sigma)[0], x0, atol=1e-3), "a control"


@every_kind
def test_the_prompt_is_heard_and_a_guidance_of_one_asks_once(host_models, kind):
    from bloom4d.models.geometry.cameras import view_time_grid
    from bloom4d.models.guidance.distillation import Distillation, distill

    prior = opened(host_models, kind)
    network, rows = prior.model.model.diffusion_model, []
    network.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    with prior, torch.inference_mode(False):
        sigma = prior.sigma_at(torch.full((kind.latent[0],), 0.3))
        conditional, free = prior.denoise(torch.randn(kind.latent, generator=torch.Generator().manual_seed(4)), sigma)
        assert conditional.shape == kind.latent and not torch.equal(conditional, free)
        assert sum(rows) == 2 * kind.latent[0]
        rows.clear()
        distill(pictures(kind), torch.ones(kind.pictures, 2, 2), view_time_grid(1, kind.pictures), prior, Distillation(guidance=1.0), 0, 10, torch.Generator().manual_seed(0))
        assert sum(rows) == kind.latent[0]


@pytest.mark.parametrize("kind", FROM_A_PICTURE, indirect=True)
def test_the_start_picture_is_heard(host_models, kind):
    estimates = []
    model, sigma = kind.model(), 0.3
    for shift in (0.0, 1.0):
        prompt = {**kind.prompt, "concat_latent_image": kind.prompt["concat_latent_image"] + shift}
        with opened(host_models, kind, model, prompt) as prior:
            z = torch.randn(kind.latent, generator=torch.Generator().manual_seed(4))
            estimates.append(prior.denoise(z, prior.sigma_at(torch.full((kind.latent[0],), sigma)))[0])
    assert not torch.equal(*estimates)


@pytest.mark.parametrize("kind", ["Wan 2.1 from a picture"], indirect=True)
def test_clip_vision_is_heard(host_models, kind):
    from types import SimpleNamespace

    model, estimates = kind.model(), []
    for seed in (1, 2):
        seen = SimpleNamespace(penultimate_hidden_states=torch.randn(1, 257, 1280, generator=torch.Generator().manual_seed(seed)))
        with opened(host_models, kind, model, {**kind.prompt, "clip_vision_output": seen}) as prior:
            estimates.append(prior.denoise(torch.zeros(kind.latent), prior.sigma_at(torch.tensor([0.3])))[0])
    assert not torch.equal(*estimates)


@pytest.mark.parametrize("kind", ["Flux"], indirect=True)
def test_distilled_guidance_comes_with_the_prompt(host_models, kind):
    """Flux Guidance on the prompt, as in sampling."""
    model, estimates = kind.model(), []
    for strength in (1.0, 30.0):
        with opened(host_models, kind, model, {"guidance": strength}) as prior:
            estimates.append(prior.denoise(torch.zeros(kind.latent), prior.sigma_at(torch.tensor([0.3, 0.3])))[0])
    assert not torch.equal(*estimates)


@pytest.mark.parametrize("kind", ["Wan 2.1", "CogVideoX"], indirect=True)
@pytest.mark.parametrize("frames", [1, 5])
def test_clips_of_one_step_are_apart(host_models, kind, frames):
    """Two clips of five frames, or (a video MODEL that judges pictures) ten of one: another neighbour changes nothing."""
    prior = opened(host_models, kind, frames=frames)
    both = pictures(kind, 10)
    with prior, torch.inference_mode(False):
        z = prior.encode(both)
        assert len(z) == 10 // frames and z.shape[2] == (1 if frames == 1 else 2)
        other = both.clone()
        other[frames:] = other[frames:].flip(2)
        changed = prior.encode(other)
        assert torch.equal(z[0], changed[0]) and not torch.equal(z[1], changed[1])
        assert torch.allclose(opened(host_models, kind, frames=frames).encode(both[:frames]), z[:1], atol=1e-5)
        sigma = prior.sigma_at(torch.full((len(z),), 0.3))
        found, with_other = (prior.denoise(latents, sigma)[0] for latents in (z, changed))
        assert torch.allclose(found[0], with_other[0], atol=1e-5) and not torch.allclose(found[1], with_other[1], atol=1e-3)


@pytest.mark.parametrize("kind", ["Wan 2.1, 16 frames"], indirect=True)
def test_a_clip_that_was_held_is_shown_at_its_own_length(host_models, kind):
    prior = opened(host_models, kind)
    with torch.inference_mode(False):
        z = prior.encode(pictures(kind))
    assert z.shape[2] == 5 and prior.decode(z)[0].shape == (16, 16, 16, 3)


@pytest.mark.parametrize(("frames", "time", "expected"), [(1, 4, 1), (4, 4, 5), (5, 4, 5), (13, 4, 13), (14, 4, 17), (16, 4, 17), (17, 4, 17), (16, 8, 17), (24, 8, 25), (25, 8, 25), (16, 6, 19)])
def test_the_last_frame_is_held_up_to_a_length_that_the_vae_keeps_whole(host_models, frames, time, expected):
    from bloom4d.nodes.host.encode import held

    clip = torch.arange(frames, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 2, 2, 3)
    found = held(clip, host_models.averaging_vae(16, 8, time))[:, 0, 0, 0].tolist()
    assert found == [*range(frames), *[frames - 1.0] * (expected - frames)]
    assert len(held(clip, host_models.averaging_vae(4, 8))) == frames, "a picture VAE takes any number"


def test_pictures_views_and_clips_are_asked_for_where_they_belong(host_models, synthetic):
    from bloom4d.models.geometry.cameras import CameraSampler
    from bloom4d.nodes.host.slots import check_slot, slot_notes

    video, clip_batch, image = host_models.wan21(), host_models.svd(), host_models.sd15()
    four, clip = CameraSampler(views=4), CameraSampler(views=1, frames=16)
    with pytest.raises(ValueError, match=r"WAN21\) judges clips of one camera, and the Camera Sampler has 4 views. Set its views to 1"):
        check_slot("video", video, four, 1)
    with pytest.raises(ValueError, match=r"SVD_img2vid\) makes a clip of every batch.*Connect it to a Video SDS Guidance"):
        check_slot("image", clip_batch, four, 1)
    with pytest.raises(ValueError, match=r"not 2 x 1. Set scenes to 1"):
        check_slot("video", clip_batch, clip, 2)
    for slot, model, cameras, scenes in (("video", video, clip, 3), ("video", clip_batch, clip, 1), ("image", video, four, 2), ("image", image, four, 2), ("video", image, clip, 1)):
        check_slot(slot, model, cameras, scenes)
    told = synthetic.image_model(condition_size=17)  # reads cameras and times, as the embedded prior does
    notes = lambda slot, model, cameras=clip: " ".join(slot_notes(slot, model, cameras))  # noqa: E731
    assert "teaches no motion. Connect a video MODEL" in notes("video", image)
    assert "nothing keeps the object's sides apart" in notes("multi-view", image)
    assert "each picture of the image term as a clip of one frame" in notes("image", video)
    assert "have one frame, so that nothing in them moves" in notes("video", video, CameraSampler(views=1))
    for slot, model in (("image", image), ("video", video), ("video", clip_batch), *[(slot, told) for slot in ("image", "multi-view", "video")]):
        assert notes(slot, model) == ""


def test_guidance_nodes_ask_for_the_right_clips(host_models, comfy):
    """The node's own inputs, down to the source that a run opens."""
    from bloom4d.models.geometry.cameras import CameraSampler
    from bloom4d.nodes.guidance import Bloom4DSDSGuidance, Bloom4DVideoSDSGuidance

    def guidance(node, cameras, **changes):
        values = {entry.id: getattr(entry, "default", None) for entry in node.define_schema().inputs if not entry.optional}
        text = host_models.text(1)
        return node.execute(**{**values, "model": host_models.wan21(), "vae": host_models.wan_vae(), "positive": text, "negative": text, "cameras": cameras, **changes}).args[0]

    video = guidance(Bloom4DVideoSDSGuidance, CameraSampler(views=1, frames=5), scenes=2)
    image = guidance(Bloom4DSDSGuidance, CameraSampler(views=4))
    assert (video.source.frames, image.source.frames) == (5, 1) and video.source.notes() == []
    assert image.source.notes() == ["WAN21 judges each picture of the image term as a clip of one frame."]
    assert copy.copy(video.source).identity() == video.source.identity()
    with pytest.raises(ValueError, match="judges clips of one camera"):
        guidance(Bloom4DVideoSDSGuidance, CameraSampler(views=4, frames=5))
