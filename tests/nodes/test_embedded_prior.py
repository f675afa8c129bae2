"""The embedded prior in the host: same numbers as its twin, every role through the host's own sampler and nodes."""

import pytest
import torch
from prior_fixtures import toy_pictures, write_untrained_prior

from bloom4d.models.geometry.cameras import CameraPath
from bloom4d.models.networks.prior_file import load_prior, prior_configs


@pytest.fixture(scope="module")
def prior_file(tmp_path_factory):
    return write_untrained_prior(tmp_path_factory.mktemp("prior") / "prior.safetensors")


@pytest.fixture
def loaded(comfy, prior_file):
    from bloom4d.nodes.host import prior

    with torch.inference_mode():
        yield prior.load_model(str(prior_file)), prior.load_clip(str(prior_file)), prior.load_vae(str(prior_file))


def encode(clip, text):
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def sample(model, positive, negative, batch, seed=1, steps=3):
    import comfy.sample

    empty = comfy.sample.fix_empty_latent_channels(model, torch.zeros(batch, 4, 8, 8), 8)
    noise = torch.randn(empty.shape, generator=torch.Generator().manual_seed(seed))
    return comfy.sample.sample(model, noise, steps, 1.5, "euler", "simple", positive, negative, empty, seed=seed, disable_pbar=True)


@pytest.mark.parametrize("frames, with_clean", [(1, False), (4, True), (8, False)])
def test_host_unet_equals_the_training_twin(loaded, prior_file, frames, with_clean):
    import comfy.model_management

    model = loaded[0]
    comfy.model_management.load_models_gpu([model])
    twin = load_prior(prior_file)[0]
    generator = torch.Generator().manual_seed(frames)
    x, context, condition = (torch.randn(*shape, generator=generator) for shape in ((8, 96, 8, 8), (8, 77, 64), (8, 343)))
    timesteps = torch.randint(1, 999, (8,), generator=generator).float()
    clean, extra = None, {}
    if with_clean:
        clean = torch.zeros(8 // frames, frames, dtype=torch.bool)
        clean[:, 1] = True
        extra = dict(bloom4d_clean=x, bloom4d_clean_mask=clean.flatten().float())
        timesteps = timesteps.masked_fill(clean.flatten(), 0.0)
    ours = model.model.diffusion_model(x, timesteps, context=context, y=condition, bloom4d_frames=frames, **extra)
    expected = twin(x, timesteps, context, condition, frames, clean)
    rows = slice(None) if clean is None else ~clean.flatten()
    assert (ours[rows] - expected[rows]).abs().max() <= 1e-5
    apart = twin(x, timesteps, context, condition, 1, None)
    assert frames == 1 or (apart[rows] - expected[rows]).abs().max() > 1e-3, "control: frames must see each other"
    if with_clean:
        assert torch.equal(ours[clean.flatten()], x[clean.flatten()])


def test_host_detects_a_stock_layout(loaded, prior_file):
    """The host's own detection recovers our configuration from the keys, so stock loaders fit files of this shape."""
    import comfy.model_detection
    from safetensors.torch import load_file

    keys = {name[5:]: value for name, value in load_file(prior_file).items() if name.startswith("unet.")}
    found = comfy.model_detection.detect_unet_config(keys, "")
    wanted = loaded[0].model.model_config.unet_config
    for name in ("in_channels", "model_channels", "channel_mult", "num_res_blocks", "transformer_depth", "context_dim", "adm_in_channels"):
        assert list(found[name]) == list(wanted[name]) if isinstance(found[name], (list, tuple)) else found[name] == wanted[name], name


def test_text_encoder_equals_its_twin(loaded, prior_file):
    clip = loaded[1]
    tokens = clip.tokenize("a red rose blooming, half open, seen from the left")
    hidden, pooled = clip.encode_from_tokens(tokens, return_pooled=True)
    ids = torch.tensor([[token for token, _ in tokens["l"][0]]])
    twin_hidden, twin_pooled = load_prior(prior_file)[1](ids)
    assert (hidden - twin_hidden).abs().max() <= 1e-5 and (pooled - twin_pooled).abs().max() <= 1e-5
    assert (pooled - clip.encode_from_tokens(clip.tokenize("a candle"), return_pooled=True)[1]).abs().max() > 1e-2


def test_vae_shows_pictures_over_white_and_keys_them_back(loaded):
    vae = loaded[2]
    picture = toy_pictures(4)
    shown = picture[:, :3] + 1 - picture[:, 3:]
    decoded = vae.decode(vae.encode(shown.movedim(1, -1)))
    assert decoded.shape == (4, 64, 64, 3)
    assert (decoded.movedim(-1, 1) - shown).square().mean().sqrt() < 0.05


@pytest.mark.parametrize("frames", [1, 4, 8])
def test_host_sampler_runs_every_scene_length(loaded, frames):
    from bloom4d.nodes.prior import Bloom4DCameraTimeCondition

    model, clip, vae = loaded
    path = CameraPath(frames=8)
    conditions = Bloom4DCameraTimeCondition.execute(encode(clip, "a rose"), encode(clip, ""), path, frames, "absolute", "absolute").result
    latents = sample(model, *conditions, batch=8)
    assert latents.shape == (8, 96, 8, 8) and latents.isfinite().all()
    assert vae.decode(latents).shape == (8, 64, 64, 3)


def test_cameras_and_times_change_the_picture_and_relative_ones_do_not_care_where_they_start(loaded):
    from bloom4d.nodes.prior import Bloom4DCameraTimeCondition

    model, clip, _ = loaded
    run = lambda path, camera: sample(model, *Bloom4DCameraTimeCondition.execute(encode(clip, "a rose"), encode(clip, ""), path, 0, camera, "none").result, batch=4)  # noqa: E731
    here, turned = CameraPath(frames=4), CameraPath(frames=4, azimuth_degrees=40)
    assert (run(here, "absolute") - run(turned, "absolute")).abs().max() > 1e-3
    assert (run(here, "relative") - run(turned, "relative")).abs().max() < 1e-4


def test_clean_frames_stay_and_reach_the_others(loaded):
    from bloom4d.nodes.prior import Bloom4DCameraTimeCondition, Bloom4DCleanFrameCondition

    model, clip, vae = loaded
    cameras = Bloom4DCameraTimeCondition.execute(encode(clip, ""), encode(clip, ""), CameraPath(frames=4), 0, "relative", "relative").result

    def with_picture(index):
        picture = toy_pictures(4)[index : index + 1]
        image, mask = picture[:, :3] / picture[:, 3:].clamp_min(1e-6), picture[:, 3]
        return sample(model, *Bloom4DCleanFrameCondition.execute(*cameras, vae, image.movedim(1, -1), 1, mask).result, batch=4)

    first, second = with_picture(0), with_picture(1)
    expected = vae.first_stage_model.encode(toy_pictures(4)[:1])
    assert (first[1] - expected[0]).abs().max() < 1e-3, "the clean frame comes back as given"
    assert (first[0] - second[0]).abs().max() > 1e-3, "and the other frames have seen it"


@pytest.mark.parametrize("batch, frames, says", [(6, 4, "no whole number of scenes of 4 frames"), (4, 8, "no whole number of scenes of 8 frames")])
def test_a_batch_that_frames_do_not_divide_is_refused(loaded, batch, frames, says):
    model, clip, _ = loaded
    text = [[entry[0], {**entry[1], "bloom4d_frames": frames}] for entry in encode(clip, "a rose")]
    with pytest.raises(ValueError, match=says):
        sample(model, text, text, batch=batch)


def test_another_models_text_is_refused(loaded):
    model, clip, _ = loaded
    foreign = [[entry[0], {**entry[1], "pooled_output": torch.zeros(1, 768)}] for entry in encode(clip, "a rose")]
    with pytest.raises(ValueError, match="pooled vector of 768"):
        sample(model, foreign, foreign, batch=1)


def test_a_reloaded_copy_is_made_of_ordinary_tensors(loaded):
    with torch.inference_mode(False):
        copy = loaded[0].clone(force_deepcopy=True)
        assert not any(parameter.is_inference() for parameter in copy.model.diffusion_model.parameters())
    control = any(parameter.is_inference() for parameter in loaded[0].model.diffusion_model.parameters())
    assert control, "control: what a node loads is made of inference tensors"


def test_a_foreign_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not a Bloom4D joint prior"):
        prior_configs({"kind": "other"}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="format 99"):
        prior_configs({"kind": "bloom4d.joint_prior", "format": "99"}, tmp_path / "x.safetensors")


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (1, 96, 8, 8, 8)])
def test_latents_of_another_model_are_not_decoded(loaded, shape):
    from bloom4d.nodes.prior import Bloom4DDecodeRGBA

    with pytest.raises(ValueError, match=r"The latents are 1 x \d+ x 8 x 8.*decodes batch x 96 x height x width"):
        Bloom4DDecodeRGBA.execute({"samples": torch.zeros(shape)}, loaded[2], 1.0)
