"""Zeroscope, ModelScope and DeepFloyd IF as host models: the same numbers as diffusers' own modules, under the host's services."""

import pytest
import torch
from safetensors.torch import load_file, save_file

SIZE = "576 x 320 (Zeroscope)"


@pytest.fixture(scope="module")
def models(comfy, tmp_path_factory):
    """A models folder with the synthetic files, known to the host as its diffusion_models."""
    import checkpoints_video
    import folder_paths

    root = tmp_path_factory.mktemp("models")
    checkpoints_video.write_zeroscope_files(root)
    checkpoints_video.write_deepfloyd_files(root)
    (root / "diffusion_models" / "modelscope").mkdir()
    checkpoints_video.write_modelscope_file(root / "diffusion_models" / "modelscope" / "text2video_pytorch_model.pth")
    kept = folder_paths.folder_names_and_paths["diffusion_models"]
    folder_paths.folder_names_and_paths["diffusion_models"] = ([str(root / "diffusion_models")], kept[1])
    yield root
    folder_paths.folder_names_and_paths["diffusion_models"] = kept


@pytest.fixture(scope="module")
def nodes(models):
    from bloom4d.nodes import foreign_priors

    return foreign_priors


@pytest.fixture(scope="module")
def zeroscope(nodes):
    """MODEL, CLIP and VAE of the diffusers folder."""
    from checkpoints_video import ZEROSCOPE_NAME

    with torch.inference_mode():
        return nodes.Bloom4DZeroscopeLoader.execute(ZEROSCOPE_NAME, "auto", "auto", SIZE).args


@pytest.fixture(scope="module")
def deepfloyd(nodes):
    from checkpoints_video import DEEPFLOYD_NAME

    with torch.inference_mode():
        return nodes.Bloom4DDeepFloydLoader.execute(DEEPFLOYD_NAME, "auto").args


def noise(*shape, seed=3):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def asked(model, x, text, time=500.0):
    """The network's own answer (an estimate of the noise)."""
    return model.model.diffusion_model(x, torch.full((len(x),), time), context=text)


def file_of(models, name):
    return models / "diffusion_models" / name


def test_the_video_network_is_diffusers_own(zeroscope, models):
    from checkpoints_video import TINY_VIDEO, ZEROSCOPE_NAME, video_unet

    theirs = video_unet(TINY_VIDEO)
    theirs.load_state_dict({name: value.float() for name, value in load_file(file_of(models, ZEROSCOPE_NAME)).items()})
    x, text = noise(2, 4, 3, 16, 8), noise(2, 77, 1024, seed=4)
    expected = theirs(x, torch.full((2,), 500.0), text).sample
    assert torch.equal(asked(zeroscope[0], x, text), expected)
    assert not torch.equal(asked(zeroscope[0], x, text, 400.0), expected), "a control: the time matters"


def test_frames_are_denoised_jointly_and_samples_apart(zeroscope):
    x, text = noise(2, 4, 3, 8, 8), noise(2, 77, 1024, seed=4)
    before = asked(zeroscope[0], x, text)
    x[0, :, 2] += 1
    after = asked(zeroscope[0], x, text)
    assert not torch.equal(after[0, :, 0], before[0, :, 0]) and torch.equal(after[1], before[1])


def test_the_pixel_network_is_diffusers_own_without_its_variance(deepfloyd, models):
    from checkpoints_video import DEEPFLOYD_NAME, TINY_PIXEL, pixel_unet

    theirs = pixel_unet(TINY_PIXEL)
    theirs.load_state_dict({name: value.float() for name, value in load_file(file_of(models, DEEPFLOYD_NAME)).items()})
    x, text = noise(1, 3, 64, 64), noise(1, 77, 4096, seed=4)
    expected = theirs(x, torch.full((1,), 500.0), text).sample
    assert expected.shape[1] == 6 and torch.equal(asked(deepfloyd[0], x, text), expected[:, :3])


def test_the_pixel_model_has_the_cosine_schedule(deepfloyd):
    """alpha_bar(t) = cos^2((t + 0.008) / 1.008 pi / 2), relative to its beginning (Nichol and Dhariwal 2021)."""
    sigma = deepfloyd[0].get_model_object("model_sampling").sigmas.double()
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    curve = lambda t: torch.cos((t + 0.008) / 1.008 * torch.pi / 2) ** 2  # noqa: E731
    expected = curve(t) / curve(torch.zeros(1, dtype=torch.float64))
    assert (1 / (1 + sigma**2) - expected)[:990].abs().max() < 1e-6
    assert sigma.isfinite().all() and 1000 < sigma[-1] < 1e5


def test_modelscopes_single_file_gives_the_same_model(nodes, zeroscope, models):
    model, clip, vae = nodes.Bloom4DZeroscopeLoader.execute("modelscope/text2video_pytorch_model.pth", "auto", "auto", "256 x 256 (ModelScope)").args
    ours, theirs = (part.model.diffusion_model.state_dict() for part in (model, zeroscope[0]))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert clip is None and vae is None, "nothing lies beside it"
    assert model.model.bloom4d_defaults["size"] == (256, 256)


def test_ksampler_samples_a_clip_and_the_decoder_gives_every_frame(zeroscope):
    import nodes as host
    from comfy_extras.nodes_hunyuan import EmptyHunyuanLatentVideo

    model, clip, vae = zeroscope
    rose, candle, empty = (host.CLIPTextEncode().encode(clip, text)[0] for text in ("a red rose", "a candle", ""))
    assert rose[0][0].shape == (1, 77, 1024)
    empty_latent = EmptyHunyuanLatentVideo.execute(64, 48, 17).args[0]  # 1 + 4 n pictures: n + 1 frames
    sampled = [host.KSampler().sample(model, 0, 2, 5.0, "euler", "normal", text, empty, empty_latent)[0] for text in (rose, candle)]
    assert sampled[0]["samples"].shape == (1, 4, 5, 6, 8) and sampled[0]["samples"].isfinite().all()
    assert not torch.equal(sampled[0]["samples"], sampled[1]["samples"])
    (frames,) = host.VAEDecode().decode(vae, sampled[0])
    assert frames.shape == (5, 48, 64, 3) and frames.isfinite().all()
    first, = host.VAEDecode().decode(vae, {"samples": sampled[0]["samples"][:, :, 0]})
    assert torch.allclose(frames[:1], first, atol=1e-3) and not torch.allclose(frames[1:2], first, atol=1e-2)


def test_ksampler_samples_pixels(deepfloyd, synthetic):
    import nodes as host

    model, clip, vae = deepfloyd
    assert clip is None
    latent = host.EmptyLatentImage().generate(64, 64, 1)[0]
    (sampled,) = host.KSampler().sample(model, 0, 2, 5.0, "euler", "normal", synthetic.conditioning(1, 77, 4096), synthetic.conditioning(2, 77, 4096), latent)
    (picture,) = host.VAEDecode().decode(vae, sampled)
    assert picture.shape == (1, 64, 64, 3) and picture.isfinite().all()


def test_a_lora_patches_its_linear_and_convolution_layers(zeroscope):
    import comfy.sd

    from bloom4d.nodes.host.residency import make_resident

    names = ("down_blocks.0.temp_attentions.0.transformer_blocks.0.attn1.to_q", "up_blocks.3.temp_convs.2.conv4.3", "transformer_in.proj_in")
    weights = zeroscope[0].model.diffusion_model.state_dict()
    lora = {}
    for name in names:
        shape = weights[f"{name}.weight"].shape
        lora[f"lora_unet_{name.replace('.', '_')}.lora_up.weight"] = noise(shape[0], 2, *[1] * (len(shape) - 2), seed=1)
        lora[f"lora_unet_{name.replace('.', '_')}.lora_down.weight"] = noise(2, *shape[1:], seed=2)
    patched, _ = comfy.sd.load_lora_for_models(zeroscope[0], None, lora, 0.1, 0)
    assert len(patched.patches) == 3
    x, text = noise(1, 4, 2, 8, 8), noise(1, 77, 1024, seed=4)
    plain = asked(zeroscope[0], x, text)
    make_resident([patched], 0)
    changed = asked(patched, x, text)
    make_resident([zeroscope[0]], 0)
    assert not torch.allclose(changed, plain, atol=1e-3) and torch.equal(asked(zeroscope[0], x, text), plain)


@pytest.mark.parametrize("family", ["zeroscope", "deepfloyd"])
def test_weights_that_stay_outside_the_devices_memory_give_the_same_numbers(request, family):
    """The host's low memory mode: every layer casts its weights for the length of its own call."""
    model = request.getfixturevalue(family)[0].clone()
    x, text = (noise(1, 4, 2, 8, 8), noise(1, 77, 1024, seed=4)) if family == "zeroscope" else (noise(1, 3, 64, 64), noise(1, 77, 4096, seed=4))
    plain = asked(model, x, text)
    model.load(model.load_device, lowvram_model_memory=1)
    low = [part for part in model.model.diffusion_model.modules() if getattr(part, "comfy_cast_weights", False)]
    assert len(low) > 100 and torch.equal(asked(model, x, text), plain)
    model.detach()


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float8_e4m3fn, 0.2), (torch.float16, 1e-6)])
@pytest.mark.parametrize("family", ["zeroscope", "deepfloyd"])
def test_small_kinds_of_number_compute_in_float32_where_the_device_has_no_better(request, models, monkeypatch, family, dtype, limit):
    import comfy.model_management
    from checkpoints_video import DEEPFLOYD_NAME, ZEROSCOPE_NAME

    from bloom4d.nodes.host import foreign

    known = request.getfixturevalue(family)[0]
    monkeypatch.setattr(comfy.model_management, "unet_dtype", lambda **options: dtype)
    small = foreign.load_zeroscope(str(file_of(models, ZEROSCOPE_NAME)), (320, 576)) if family == "zeroscope" else foreign.load_deepfloyd(str(file_of(models, DEEPFLOYD_NAME)))
    assert {value.dtype for value in small.model.diffusion_model.state_dict().values()} == {dtype}
    shape, width = ((1, 4, 2, 8, 8), 1024) if family == "zeroscope" else ((1, 3, 64, 64), 4096)
    answers = [model.model.apply_model(noise(*shape), torch.ones(1), c_crossattn=noise(1, 77, width, seed=4)) for model in (known, small)]
    assert answers[1].dtype == torch.float32 and (answers[0] - answers[1]).norm() < limit * (answers[0] - noise(*shape)).norm()


@pytest.mark.parametrize("family", ["zeroscope", "deepfloyd"])
def test_the_host_can_make_an_independent_copy(request, family):
    """What its Select Model Device and multi-GPU nodes do."""
    model = request.getfixturevalue(family)[0]
    copy = model.clone(force_deepcopy=True)
    ours, theirs = model.model.diffusion_model.state_dict(), copy.model.diffusion_model.state_dict()
    assert copy.model is not model.model and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert copy.model.bloom4d_defaults == model.model.bloom4d_defaults


def test_the_video_prior_guides(zeroscope):
    from bloom4d.nodes.host.adapter import HostPrior

    model, clip, vae = zeroscope
    encode = lambda text: clip.encode_from_tokens_scheduled(clip.tokenize(text))  # noqa: E731
    prior = HostPrior(model, vae, [encode("a rose")], encode(""))
    assert (prior.default_guidance, prior.native_size, prior.accepts_alpha) == (101.0, (320, 576), False)
    prior = HostPrior(model, vae, [encode("a rose")], encode(""), size=(64, 64))
    with prior, torch.inference_mode(False), torch.enable_grad():
        rgb = torch.rand(3, 32, 32, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
        z = prior.encode(rgb)
        assert z.shape == (1, 4, 3, 8, 8)
        big = torch.nn.functional.interpolate(rgb.detach().movedim(-1, 1), (64, 64), mode="bilinear").movedim(1, -1)
        with torch.inference_mode():
            assert torch.allclose(z.movedim(2, 1)[0], vae.encode(big) * 0.18215, atol=1e-5)
        sigma = prior.sigma_at(torch.tensor([0.5]))
        conditional, free = prior.denoise(prior.add_noise(z.detach(), torch.randn(z.shape), sigma), sigma)
        (z * (z.detach() - conditional)).sum().backward()
    assert conditional.shape == z.shape and not torch.equal(conditional, free)
    assert rgb.grad.isfinite().all() and rgb.grad.abs().sum((1, 2, 3)).min() > 0, "every frame gets a gradient"


def test_the_pixel_prior_guides(deepfloyd, synthetic):
    from bloom4d.nodes.host.adapter import HostPrior

    model, _, vae = deepfloyd
    prior = HostPrior(model, vae, [synthetic.conditioning(1, 77, 4096)], synthetic.conditioning(2, 77, 4096))
    assert (prior.default_guidance, prior.native_size) == (21.0, (64, 64))
    with prior, torch.inference_mode(False), torch.enable_grad():
        rgb = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
        z = prior.encode(rgb)
        assert torch.allclose(z.detach(), rgb.detach().movedim(-1, 1) * 2 - 1)
        sigma = prior.sigma_at(torch.tensor([0.5]))
        conditional, free = prior.denoise(prior.add_noise(z.detach(), torch.randn(z.shape), sigma), sigma)
        (z * (z.detach() - conditional)).sum().backward()
    assert conditional.shape == z.shape and not torch.equal(conditional, free) and rgb.grad.isfinite().all() and rgb.grad.abs().sum() > 0


def test_a_controlnet_is_refused(zeroscope, deepfloyd):
    for (model, *_), shape, width in ((zeroscope, (1, 4, 1, 8, 8), 1024), (deepfloyd, (1, 3, 64, 64), 4096)):
        with pytest.raises(ValueError, match="A ControlNet is applied, and .* takes none. Remove"):
            model.model.diffusion_model(noise(*shape), torch.ones(1), context=noise(1, 77, width), control={"input": []})


def test_t5_is_read_with_deepfloyds_padding(monkeypatch, tmp_path, comfy):
    """T5 of a tiny configuration under the host's own class: 77 tokens, and padding that changes nothing before it."""
    import comfy.ops
    import comfy.sd1_clip
    import comfy.text_encoders.t5

    from bloom4d.models.formats import encoder_layouts
    from bloom4d.nodes.host import foreign

    config = dict(d_ff=64, d_kv=16, d_model=4096, dense_act_fn="gelu_pytorch_tanh", is_gated_act=True, layer_norm_epsilon=1e-6, num_heads=2, num_layers=1, vocab_size=32128, model_type="t5", relative_attention_num_buckets=32)
    original = comfy.sd1_clip.SDClipModel.__init__
    monkeypatch.setattr(comfy.sd1_clip.SDClipModel, "__init__", lambda self, **options: original(self, **{**options, "textmodel_json_config": config}))
    tiny = comfy.text_encoders.t5.T5(config, torch.float32, "cpu", comfy.ops.manual_cast)
    from synthetic import fill

    save_file({name: value.half() for name, value in fill(tiny, 0).state_dict().items()}, tmp_path / "t5.safetensors")
    monkeypatch.setattr(foreign, "t5_names", lambda: encoder_layouts.t5_names(1))
    clip = foreign.load_t5(str(tmp_path / "t5.safetensors"))
    features = [clip.encode_from_tokens_scheduled(clip.tokenize(text))[0][0] for text in ("a rose", "a candle")]
    assert features[0].shape == (1, 77, 4096) and not torch.equal(*features)
    unpadded = clip.cond_stage_model.t5xxl.transformer(torch.tensor([[token for token, *_ in clip.tokenize("a rose")["t5xxl"][0] if token]]), None)[0]
    assert torch.allclose(features[0][:, : unpadded.shape[1]].float(), unpadded.float(), atol=2e-2), "padding is not attended to"


def test_files_that_are_something_else(nodes, models, tmp_path):
    from bloom4d.nodes.host import foreign

    open_clip = str(file_of(models, "zeroscope_v2_576w/text_encoder/model.safetensors"))
    vae = str(file_of(models, "zeroscope_v2_576w/vae/diffusion_pytorch_model.safetensors"))
    with pytest.raises(ValueError, match="model.safetensors is a CLIP text encoder and not Zeroscope v2 or ModelScope"):
        foreign.load_zeroscope(open_clip, (320, 576))
    with pytest.raises(ValueError, match="model.safetensors is a CLIP text encoder and not T5-XXL"):
        foreign.load_t5(open_clip)
    with pytest.raises(ValueError, match=r"model.safetensors \(a CLIP text encoder\) holds no VAE of Stable Diffusion 1 or 2 \(4 channels\), which Zeroscope's is. Choose vae/"):
        foreign.load_frame_vae(open_clip)
    with pytest.raises(ValueError, match="and not OpenCLIP ViT-H/14"):
        foreign.load_open_clip(str(write_clip_l(tmp_path / "clip_l.safetensors")))
    whole = file_of(models, "zeroscope_v2_576w/unet/diffusion_pytorch_model.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="half.safetensors cannot be read as a weight file"):
        foreign.load_zeroscope(str(tmp_path / "half.safetensors"), (320, 576))
    assert foreign.load_frame_vae(vae).latent_channels == 4


def write_clip_l(path):
    """A text encoder of Stable Diffusion 1 by its names."""
    save_file({"text_model.encoder.layers.0.mlp.fc1.weight": torch.zeros(3072, 768), "text_model.embeddings.token_embedding.weight": torch.zeros(49408, 8)}, path)
    return path


def test_files_that_are_not_there(nodes):
    line = nodes.Bloom4DZeroscopeLoader.validate_inputs("nobody.safetensors")
    for words in ('There is no file "nobody.safetensors" of Zeroscope v2', "diffusion_models", "CC-BY-NC-4.0", "https://huggingface.co/cerspense/zeroscope_v2_576w", "press R"):
        assert words in line
    assert "DeepFloyd IF License Agreement" in nodes.Bloom4DDeepFloydLoader.validate_inputs("nobody")
    assert nodes.Bloom4DDeepFloydLoader.validate_inputs(None) is True, "connected: known later"
    from checkpoints_video import ZEROSCOPE_NAME

    assert nodes.Bloom4DZeroscopeLoader.validate_inputs(ZEROSCOPE_NAME) is True
    with pytest.raises(ValueError, match="is not in ComfyUI's folder models/diffusion_models any more"):
        nodes.path_of("diffusion_models", "nobody.safetensors")


def test_the_lists_show_unets_the_likely_ones_first(nodes):
    from checkpoints_video import DEEPFLOYD_NAME, ZEROSCOPE_NAME

    listed = nodes.unets(("zeroscope", "modelscope"))
    assert set(listed) == {"modelscope/text2video_pytorch_model.pth", ZEROSCOPE_NAME, DEEPFLOYD_NAME}, "no text encoder, no VAE"
    assert listed[-1] == DEEPFLOYD_NAME and nodes.unets(("if-i-",))[0] == DEEPFLOYD_NAME


def test_the_hosts_cache_notices_another_file(nodes, models):
    import os

    from checkpoints_video import ZEROSCOPE_NAME

    stamps = lambda: nodes.Bloom4DZeroscopeLoader.fingerprint_inputs(ZEROSCOPE_NAME, "auto", "auto", trained_at=SIZE)  # noqa: E731
    before = stamps()
    assert stamps() == before
    os.utime(file_of(models, ZEROSCOPE_NAME), (1, 1))
    assert stamps() != before
