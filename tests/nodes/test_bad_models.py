"""Models, encoders and prompts that do not go together, and weights in unusual forms: a plain first line, or the right result."""

import pytest
import torch


@pytest.fixture(scope="module")
def host_models(comfy):
    import host_models

    return host_models


def prior_of(model, vae, positive, negative=None, **options):
    from bloom4d.nodes.host.adapter import HostPrior

    return HostPrior(model, vae, [positive], positive if negative is None else negative, **options)


def video_cameras(frames=5, views=1):
    from bloom4d.models.geometry.cameras import CameraSampler

    return CameraSampler(views=views, frames=frames)


def guidance(node, host_models, **values):
    """A guidance node executed with its defaults and a tiny Stable Diffusion 2.1."""
    defaults = {entry.id: getattr(entry, "default", None) for entry in node.define_schema().inputs if not entry.optional}
    text = host_models.text(1)
    given = {"model": host_models.sd21(), "vae": host_models.kl_vae(), "positive": text, "negative": text, "cameras": video_cameras(1, 2)}
    return node.execute(**{**defaults, **given, **values}).args[0]


WIDTHS = {"sd21": "BaseModel", "sdxl": "SDXL", "sd3": "SD3", "flux": "Flux", "wan21": "WAN21", "ltx": "LTXV", "cogvideox": "CogVideoX", "hunyuan": "HunyuanVideo"}


@pytest.mark.parametrize("name", list(WIDTHS))
def test_the_text_encoder_of_another_model(host_models, synthetic, name):
    """Stable Diffusion 1.5's text under 2.1 is the classic: 768 against 1024; here 24 against 32, for every family."""
    kind = next(kind for kind in host_models.KINDS if kind.model is getattr(host_models, name))
    foreign = [[torch.zeros(1, 6, 24), {"pooled_output": torch.zeros(1, host_models.POOLED)}]]
    with pytest.raises(ValueError, match=rf"The positive conditioning is 24 numbers wide, and this MODEL \({WIDTHS[name]}\) takes 32. Encode the prompts with the CLIP"):
        prior_of(kind.model(), kind.vae(), foreign)
    with pytest.raises(ValueError, match="The negative conditioning is 24 numbers wide"):
        prior_of(kind.model(), kind.vae(), host_models.text(1), foreign)


@pytest.mark.parametrize("name", ["sdxl", "sd3", "hunyuan"])
def test_text_without_its_pooled_vector(host_models, name):
    kind = next(kind for kind in host_models.KINDS if kind.model is getattr(host_models, name))
    bare = [[host_models.text(1)[0][0], {}]]
    with pytest.raises(ValueError, match="The positive conditioning has no pooled vector.* Encode the prompts with the CLIP"):
        prior_of(kind.model(), kind.vae(), bare)


@pytest.mark.parametrize("name", ["sdxl", "sd3", "flux", "hunyuan"])
def test_the_pooled_vector_of_another_model(host_models, name):
    """The text fits and what goes beside it does not: CLIP-L's 768 where SDXL reads 1280, or SD3 2048; here 40 against 48."""
    kind = next(kind for kind in host_models.KINDS if kind.model is getattr(host_models, name))
    other = [[host_models.text(1)[0][0], {"pooled_output": torch.zeros(1, 40)}]]
    with pytest.raises(ValueError, match=rf"The positive conditioning's pooled vector is 40 numbers wide, and this MODEL \({WIDTHS[name]}\) takes 48. Encode the prompts with the CLIP"):
        prior_of(kind.model(), kind.vae(), other)
    with pytest.raises(ValueError, match="The negative conditioning's pooled vector is 40 numbers wide"):
        prior_of(kind.model(), kind.vae(), host_models.text(1), other)


@pytest.mark.parametrize(("model", "vae", "told"), [
    ("sd21", lambda m: m.averaging_vae(16, 8), "makes latents of 16 channels but this MODEL .BaseModel. takes 4"),
    ("flux", lambda m: m.kl_vae(), "makes latents of 4 channels but this MODEL .Flux. takes 16"),
    ("wan21", lambda m: m.averaging_vae(16, 8), "puts 1 frame into each latent, and this MODEL .WAN21. takes 4. MODEL and VAE must belong together"),
    ("ltx", lambda m: m.averaging_vae(128, 32, 4), "puts 4 frames into each latent, and this MODEL .LTXV. takes 8"),
])
def test_the_vae_of_another_model(host_models, model, vae, told):
    with pytest.raises(ValueError, match=told):
        prior_of(getattr(host_models, model)(), vae(host_models), host_models.text(1), size=(64, 64))


def test_a_video_vae_under_a_picture_model(host_models):
    prior = prior_of(host_models.sd3(), host_models.wan_vae(), host_models.text(1), size=(32, 32))
    with torch.inference_mode(False), pytest.raises(ValueError, match=r"The latents are 1 x 16 x 1 x 4 x 4 but this MODEL \(SD3\) takes 16 channels and 2 space and time axes"):
        prior.encode(torch.zeros(2, 32, 32, 3))


def test_pictures_that_the_vae_cannot_divide(host_models):
    with pytest.raises(ValueError, match="Pictures of 36 x 36 do not fit this VAE, which works in blocks of 8 pixels. Choose multiples of 8"):
        prior_of(host_models.sd21(), host_models.kl_vae(), host_models.text(1), size=(36, 36))


def test_a_start_picture_for_a_clip_of_another_length(host_models):
    kind = next(kind for kind in host_models.KINDS if kind.name == "Wan 2.1 from a picture")
    words = host_models.text(1, **host_models.start_latent(16, 21, 4))  # prepared for 81 frames
    with prior_of(kind.model(), kind.vae(), words, host_models.text(2), size=(32, 32), frames=5) as prior, torch.inference_mode(False):
        z = prior.encode(torch.zeros(5, 32, 32, 3))
        with pytest.raises(ValueError, match="prepared for a clip of 81 frames, and this term's clip has 5. Set length to 5 in the node"):
            prior.denoise(z, prior.sigma_at(torch.tensor([0.5])))


@pytest.mark.parametrize("which", ["negative", "positive"])
def test_a_prompt_that_is_missing(host_models, which):
    from bloom4d.nodes.guidance import Bloom4DSDSGuidance

    with pytest.raises(ValueError, match='A prompt is missing.*an empty negative prompt .""'):
        guidance(Bloom4DSDSGuidance, host_models, **{which: None})
    with pytest.raises(ValueError, match=f"The {which} conditioning is empty"):
        prior_of(host_models.sd21(), host_models.kl_vae(), *([[], host_models.text(1)] if which == "positive" else [host_models.text(1), []]))


def test_an_empty_negative_and_a_scale_of_one_are_fine(host_models):
    from bloom4d.models.guidance.objective import Pictures
    from bloom4d.models.render.deferred import RenderedViews
    from bloom4d.nodes.guidance import Bloom4DSDSGuidance

    term = guidance(Bloom4DSDSGuidance, host_models, guidance_scale=1.0, model_size=32)
    with term.source.open() as prior, torch.inference_mode(False), torch.enable_grad():
        rgb = torch.rand(2, 16, 16, 3).requires_grad_()
        pictures = Pictures(RenderedViews(rgb, torch.ones(2, 16, 16), *[None] * (len(RenderedViews.__dataclass_fields__) - 2)), video_cameras(1, 2).sample(torch.Generator().manual_seed(0)), torch.ones(3))
        outcome = term.term.objective.evaluate(pictures, prior, 0, 10, (0, "a", 0, "b"))
        outcome.loss.backward()
    assert rgb.grad.isfinite().all() and rgb.grad.abs().sum() > 0


def test_a_prompt_in_another_language_is_answered_by_the_demo(comfy, tmp_path):
    from prior_fixtures import write_untrained_prior

    from bloom4d.nodes.host.prior import load_clip

    clip = load_clip(str(write_untrained_prior(tmp_path / "prior.safetensors")))
    for words in ("一朵正在开放的红玫瑰", "eine rote Blume, die aufgeht", "красная роза"):
        note = clip.encode_from_tokens_scheduled(clip.tokenize(words))[0][1]["bloom4d_note"]
        assert note.startswith(f'The demo prior does not know "{words}"') and "Name one of these, or load a real model" in note


class StoredInBytes:
    """Linear layers that keep 8 bit numbers and a scale per row and multiply them out at each call, as quantised (GGUF) loaders do."""

    def __new__(cls):
        import comfy.ops

        class Operations(comfy.ops.manual_cast):
            class Linear(comfy.ops.manual_cast.Linear):
                def _load_from_state_dict(self, state, prefix, *rest):
                    weight = state[f"{prefix}weight"].float()
                    self.scale = weight.abs().amax(1, keepdim=True) / 127
                    self.weight = torch.nn.Parameter((weight / self.scale).round().to(torch.int8), requires_grad=False)
                    if f"{prefix}bias" in state:
                        self.bias = torch.nn.Parameter(state[f"{prefix}bias"].float(), requires_grad=False)

                def forward(self, x):
                    weight = self.weight.to(x.dtype) * self.scale.to(x.dtype)
                    return torch.nn.functional.linear(x, weight, None if self.bias is None else self.bias.to(x.dtype))

        return Operations


@pytest.mark.parametrize(("form", "limit"), [("float8", 0.25), ("bytes", 0.05)])
def test_weights_in_small_numbers(synthetic, tmp_path, form, limit):
    """By the host's own loader, from a file in Stable Diffusion 2.1's layout: the same opinion up to the rounding of the weights."""
    import comfy.sd
    import comfy.utils

    tensors = comfy.utils.load_torch_file(str(synthetic.write_sd21_checkpoint(tmp_path / "sd21.safetensors")))
    unet = lambda: {name.removeprefix("model.diffusion_model."): value for name, value in tensors.items() if name.startswith("model.diffusion_model.")}  # noqa: E731
    options = {"float8": {"dtype": torch.float8_e4m3fn}, "bytes": {"custom_operations": StoredInBytes()}}[form]
    plain, small = (comfy.sd.load_diffusion_model_state_dict(unet(), model_options=changes) for changes in ({}, options))
    kinds = {value.dtype for value in small.model.diffusion_model.state_dict().values()}
    assert {"float8": torch.float8_e4m3fn, "bytes": torch.int8}[form] in kinds
    text, empty = synthetic.conditioning(1, 7, 1024), synthetic.conditioning(2, 7, 1024)
    z, answers = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)), []
    for model in (plain, small):
        with prior_of(model, synthetic.small_vae(), text, empty, size=(64, 64)) as prior:
            sigma = prior.sigma_at(torch.tensor([0.5]))
            answers.append([(z - estimate) / sigma for estimate in prior.denoise(z, sigma)])
            assert prior.session.model is model and prior.default_guidance == 50.0
    for exact, rounded in zip(*answers):
        assert rounded.isfinite().all() and 0 < (rounded - exact).norm() < limit * exact.norm()
