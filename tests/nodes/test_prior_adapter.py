"""A host MODEL, VAE and prompts as the prior that guidance asks."""

import math

import pytest
import torch


@pytest.fixture(scope="module")
def adapter(comfy):
    from bloom4d.nodes.host import adapter

    return adapter


@pytest.fixture
def host_prior(adapter, synthetic):
    def build(kind="eps", vae="pixel_vae", model=None, **options):
        model = model or synthetic.image_model(kind)
        width = {"size": (16, 16)} | options
        return adapter.HostPrior(model, getattr(synthetic, vae)(), [synthetic.conditioning(1)], synthetic.conditioning(2), **width)

    return build


def test_the_first_sampler_step_comes_out_of_encode_noise_and_denoise(host_prior, synthetic):
    """From a picture to the denoised estimate through the adapter, against VAEEncode and the host's sampler."""
    import comfy.samplers

    for kind in ("eps", "v", "x0", "flow", "edm"):
        prior = host_prior(kind)
        rgb, noise = (torch.rand(2, *shape, generator=torch.Generator().manual_seed(1)) for shape in ((16, 16, 3), (3, 16, 16)))
        sigma = prior.sigma_at(torch.tensor([0.3, 0.3]))
        seen = []
        comfy.samplers.sample(
            prior.model, noise.clone(), synthetic.conditioning(1), synthetic.conditioning(2), 3.0, prior.model.load_device,
            comfy.samplers.sampler_object("euler"), torch.cat([sigma[:1], torch.zeros(1)]), latent_image=prior.vae.encode(rgb), seed=0,
            disable_pbar=True, callback=lambda i, denoised, x, total: seen.append((x.clone(), denoised.clone())),
        )  # fmt: skip
        with prior, torch.inference_mode(False), torch.enable_grad():
            z = prior.add_noise(prior.encode(rgb.clone()), noise.clone(), sigma)
            conditional, free = prior.denoise(z, sigma)
        x, denoised = seen[0]
        assert torch.equal(z, x), kind
        assert torch.equal(free + (conditional - free) * 3.0, denoised), kind


@pytest.mark.parametrize("kind", ["eps", "v", "x0", "flow", "edm"])
def test_levels_and_coefficients_describe_the_noising(host_prior, kind):
    prior = host_prior(kind)
    percent = torch.tensor([[0.0, 0.2], [0.7, 1.0]])
    sigma = prior.sigma_at(percent)
    assert sigma.shape == percent.shape and torch.isfinite(sigma).all() and (sigma > 0).all()
    assert (sigma.flatten().diff() < 0).all()  # 0 is the noisiest
    assert math.isclose(float(sigma[0, 1]), prior.sampling.percent_to_sigma(0.2), rel_tol=1e-6)
    a, b = prior.coefficients(sigma.flatten())
    x0, noise = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    z = prior.add_noise(x0, noise, sigma.flatten())
    assert (z - a.reshape(4, 1, 1, 1) * x0 - b.reshape(4, 1, 1, 1) * noise).abs().max() < 1e-5 * sigma.max()
    expected = {"flow": (1 - sigma.flatten(), sigma.flatten())}.get(kind, (torch.ones(4), sigma.flatten()))
    assert torch.allclose(a, expected[0]) and torch.allclose(b, expected[1])
    if kind == "eps":
        bar = prior.vp_alpha_bar(prior.sigma_at(torch.tensor([1 - 500 / 999])))
        assert abs(float(bar) - 0.2763) < 1e-4  # Stable Diffusion's cumulative alpha at step 500

def test_gradients_flow_from_latents_to_pictures(host_prior, synthetic):
    prior = host_prior(vae="rgba_vae", model=four_channel_model(synthetic, 16), size=(32, 32))
    assert prior.accepts_alpha
    with torch.inference_mode(False), torch.enable_grad():
        rgb, alpha = torch.rand(2, 16, 16, 3).requires_grad_(), torch.rand(2, 16, 16).requires_grad_()
        z = prior.encode(rgb, alpha)
        assert z.shape == (2, 16, 16, 16)
        z.square().sum().backward()
        assert rgb.grad.abs().sum() > 0 and alpha.grad.abs().sum() > 0
    plain = host_prior()
    with torch.inference_mode(False), torch.enable_grad():
        alpha = torch.rand(2, 16, 16).requires_grad_()
        z = plain.encode(rgb.detach().requires_grad_(), alpha)
        z.sum().backward()
        assert not plain.accepts_alpha and alpha.grad is None


def four_channel_model(synthetic, channels, **settings):
    """An oracle-like MODEL of any latent width: predicts zero noise."""
    import comfy.model_base
    import comfy.supported_models_base

    class Space(synthetic.ThreeChannels):
        latent_channels = channels

    class Config(comfy.supported_models_base.BASE):
        unet_config = {"disable_unet_model_creation": True}
        unet_extra_config = {}
        latent_format = Space

    class Network(torch.nn.Module):
        dtype = torch.float32

        def forward(self, x, t, **kwargs):
            return torch.zeros_like(x)

    class Model(comfy.model_base.BaseModel):
        bloom4d_defaults = settings

        def __init__(self):
            super().__init__(Config(Config.unet_config), comfy.model_base.ModelType.EPS)
            self.diffusion_model = Network()

    return synthetic.patcher(Model())


def test_resizing_is_bilinear_with_the_pixel_centres_kept(host_prior):
    prior = host_prior(size=(8, 8))
    rgb = torch.rand(1, 16, 16, 3, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode(False):
        z = prior.encode(rgb.clone())
    halved = rgb.reshape(1, 8, 2, 8, 2, 3).mean((2, 4)).movedim(-1, 1)  # at exactly half the size, bilinear is the mean of 2 x 2
    assert (z - (halved * 2 - 1) * 0.5).abs().max() < 1e-6  # pixel-space VAE, then the model's scale factor

def test_video_latents_hold_all_frames_in_one_sample(adapter, synthetic):
    model = synthetic.video_model()
    model.model.latent_format.temporal_downscale_ratio = 1  # like Zeroscope: a video model on the latents of a picture VAE
    vae = synthetic.rgba_vae()
    prior = adapter.HostPrior(model, vae, [synthetic.conditioning(1), synthetic.conditioning(5)], synthetic.conditioning(2), size=(16, 16))
    with prior, torch.inference_mode(False), torch.enable_grad():
        rgb = torch.rand(4, 16, 16, 3).requires_grad_()
        z = prior.encode(rgb, torch.ones(4, 16, 16))
        assert z.shape == (1, 16, 4, 8, 8)
        z.square().sum().backward()  # the latent format's constants are inference tensors: the adapter clones them
        assert rgb.grad.abs().sum() > 0
        sigma = prior.sigma_at(torch.tensor([0.4]))
        noisy = prior.add_noise(z.detach(), torch.randn(z.shape), sigma)
        first, _ = prior.denoise(noisy, sigma, text=[1, 0, 0, 0])
        second, _ = prior.denoise(noisy, sigma, text=[0, 1, 1, 1])
        assert first.shape == z.shape and not torch.equal(first, second)
    vae_latents = vae.first_stage_model.encode(torch.cat([rgb.detach(), torch.ones(4, 16, 16, 1)], -1).movedim(-1, 1))
    expected = model.model.process_latent_in(vae_latents.movedim(0, 1)[None])
    assert torch.equal(z.detach(), expected)


def test_defaults_travel_with_the_model(adapter, synthetic):
    assert adapter.model_defaults(four_channel_model(synthetic, 4, guidance=1.5, size=64)) == {"guidance": 1.5, "size": (64, 64)}
    assert adapter.model_defaults(synthetic.image_model("eps")) == {"guidance": 50.0, "size": (64, 64)}
    assert adapter.model_defaults(synthetic.video_model()) == {"guidance": 7.5, "size": (480, 832)}


def test_what_does_not_fit_ends_in_one_plain_line(adapter, synthetic, host_prior):
    three = synthetic.image_model()
    texts = ([synthetic.conditioning(1)], synthetic.conditioning(2))
    with pytest.raises(ValueError, match="latents of 4 channels but this MODEL .* takes 3"):
        adapter.HostPrior(three, synthetic.small_vae(), *texts)
    with pytest.raises(ValueError, match="There is no VAE"):
        adapter.HostPrior(three, None, *texts)
    with pytest.raises(ValueError, match="multiples of 2"):
        host_prior(vae="rgba_vae", model=four_channel_model(synthetic, 16), size=(15, 16))
    lying = synthetic.small_vae()
    lying.latent_channels = 3
    with pytest.raises(ValueError, match="1 x 4 x 2 x 2 .* same checkpoint"):
        adapter.HostPrior(three, lying, *texts, size=(16, 16)).encode(torch.zeros(1, 16, 16, 3))


def test_the_embedded_prior_goes_through_the_same_adapter(adapter, comfy, tmp_path):
    import comfy.samplers
    from prior_fixtures import write_untrained_prior

    from bloom4d.models.geometry.cameras import view_time_grid
    from bloom4d.nodes.host.prior import load_clip, load_model, load_vae

    file = str(write_untrained_prior(tmp_path / "prior.safetensors"))
    model, clip, vae = load_model(file), load_clip(file), load_vae(file)
    rose, empty = (clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in ("a red rose blooming", ""))
    cameras = view_time_grid(views=2, frames=2)
    prior = adapter.HostPrior(model, vae, [rose], empty)
    assert (prior.native_size, prior.default_guidance, prior.accepts_alpha) == ((64, 64), 3.0, True)
    with prior, torch.inference_mode(False), torch.enable_grad():
        rgb, alpha = torch.rand(4, 64, 64, 3).requires_grad_(), torch.rand(4, 64, 64).requires_grad_()
        x0 = prior.encode(rgb, alpha)
        sigma = prior.sigma_at(torch.full((4,), 0.3))
        z = prior.add_noise(x0.detach(), torch.randn(x0.shape), sigma)
        conditional, free = prior.denoise(z, sigma, cameras)
        elsewhere, _ = prior.denoise(z, sigma, view_time_grid(views=2, frames=2, azimuth_degrees=90))
        (x0 * (x0.detach() - conditional)).sum().backward()
        assert rgb.grad.abs().sum() > 0 and alpha.grad.abs().sum() > 0
    keys = {"bloom4d_camera": cameras.camera_to_world, "bloom4d_time": cameras.times, "bloom4d_frames": 4}
    told = [[[entry[0], entry[1] | keys] for entry in text] for text in (rose, empty)]
    seen = []
    comfy.samplers.sample(
        model, torch.zeros_like(z), *told, 2.0, model.load_device, comfy.samplers.sampler_object("euler"), torch.cat([sigma[:1], torch.zeros(1)]),
        latent_image=z, seed=0, disable_pbar=True, callback=lambda i, denoised, x, total: seen.append((x.clone(), denoised.clone())),
    )  # fmt: skip
    assert torch.equal(seen[0][0], z) and torch.equal(seen[0][1], free + (conditional - free) * 2.0)
    assert not torch.equal(elsewhere, conditional)


def test_a_checkpoint_in_the_layout_of_stable_diffusion_2_1_loads_samples_and_guides(adapter, synthetic, tmp_path, monkeypatch):
    import comfy.supported_models
    import folder_paths
    import nodes as host_nodes

    file = synthetic.write_sd21_checkpoint(tmp_path / "tiny.safetensors")
    assert file.stat().st_blocks * 512 < 120e6
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "checkpoints", ([str(tmp_path)], {".safetensors"}))
    model, clip, vae = host_nodes.CheckpointLoaderSimple().load_checkpoint("tiny.safetensors")
    assert isinstance(model.model.model_config, comfy.supported_models.SD20)
    encode = lambda text: host_nodes.CLIPTextEncode().encode(clip, text)[0]  # noqa: E731
    rose, candle, empty = encode("a red rose"), encode("a candle"), encode("")
    assert rose[0][0].shape == (1, 77, 1024) and not torch.equal(rose[0][0], candle[0][0])
    latent = host_nodes.EmptyLatentImage().generate(64, 64, 1)[0]
    (sampled,) = host_nodes.KSampler().sample(model, 0, 2, 5.0, "euler", "normal", rose, empty, latent)
    (picture,) = host_nodes.VAEDecode().decode(vae, sampled)
    assert picture.shape == (1, 64, 64, 3) and picture.isfinite().all() and picture.std() > 0.01
    assert adapter.model_defaults(model) == {"guidance": 50.0, "size": (512, 512)}
    prior = adapter.HostPrior(model, vae, [rose, candle], empty, size=(64, 64))
    with prior, torch.inference_mode(False), torch.enable_grad():
        rgb = torch.rand(2, 64, 64, 3).requires_grad_()
        z = prior.encode(rgb)
        sigma = prior.sigma_at(torch.tensor([0.3, 0.6]))
        conditional, free = prior.denoise(prior.add_noise(z.detach(), torch.randn(z.shape), sigma), sigma, text=[0, 1])
        (z * (z.detach() - conditional)).sum().backward()
    assert rgb.grad.isfinite().all() and rgb.grad.abs().sum() > 0 and not torch.equal(conditional, free)
