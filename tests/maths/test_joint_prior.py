"""The embedded prior's parts: attention bias, patch codec, conditioning vector, hashed text, training draws."""

import math

import pytest
import torch
from untrained import untrained_prior

from bloom4d.models.networks.joint_prior import BIAS_SLOPES, CLEAN_BIAS, JointPrior, JointPriorConfig, alpha_bar, joint_attention_bias, preconditioning
from bloom4d.models.networks.joint_scenes import JointScenes
from bloom4d.models.networks.patch_codec import PatchCodec, PatchCodecConfig, key_white
from bloom4d.models.networks.prior_conditioning import Frame, camera_code, condition_size, condition_vector, thumbnail, time_code
from bloom4d.models.networks.prior_file import load_prior, save_prior
from bloom4d.models.networks.text_encoder import END_TOKEN, TextEncoder, TextEncoderConfig, hash_tokens
from bloom4d.models.optimize.prior_batches import PriorTrainingConfig, choose_clean, draw_timesteps, tell
from bloom4d.models.optimize.train_prior import learning_rate, reference_thumbnails


def smooth_pictures(count: int, seed: int = 0) -> torch.Tensor:
    """Premultiplied RGBA (N, 4, 32, 32) made of few waves, so that patches have strong and weak directions."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 4, 6, 6, generator=generator)
    picture = torch.nn.functional.interpolate(coarse, (32, 32), mode="bicubic", align_corners=True).clamp(0, 1)
    return torch.cat([picture[:, :3] * picture[:, 3:], picture[:, 3:]], dim=1)


def test_attention_bias_is_the_squared_distance_in_full_resolution_tokens():
    bias = joint_attention_bias(2, 2, 4, 4, 8)  # 4x4 tokens of an 8x8 latent, two frames
    row, column, other_row, other_column = 1, 2, 3, 0
    squared = (2 * (row - other_row)) ** 2 + (2 * (column - other_column)) ** 2
    for head, slope in enumerate(BIAS_SLOPES):
        for frame in (0, 1):  # the same place in another frame is as near as in its own
            assert bias[0, head, row * 4 + column, frame * 16 + other_row * 4 + other_column].item() == pytest.approx(-slope * squared, rel=1e-5)


@pytest.mark.parametrize("passed", [0.05, 0.3])
def test_preconditioning_is_a_linear_estimate_and_the_spread_of_what_it_leaves_open(passed):
    generator = torch.Generator().manual_seed(0)
    variance = torch.tensor([4.0, 0.25])
    detail = torch.randn(200000, 2, generator=generator) * (passed * variance).sqrt()
    x0 = detail + torch.randn(detail.shape, generator=generator) * ((1 - passed) * variance).sqrt()
    for timestep in (30, 400, 900):
        signal, noise = alpha_bar()[timestep], torch.randn(x0.shape, generator=generator)
        noisy_detail = signal.sqrt() * detail + (1 - signal).sqrt() * noise
        skip, out = (value.flatten() for value in preconditioning(variance, signal[None], passed))
        regression = (noisy_detail * detail).mean(0) / (noisy_detail * noisy_detail).mean(0)  # least squares on the samples
        assert torch.allclose(skip, regression, rtol=0.03, atol=2e-3)
        x = signal.sqrt() * x0 + (1 - signal).sqrt() * noise
        assert torch.allclose(out, (x0 - skip * x).std(0), rtol=0.02)
    skip, out = preconditioning(variance, alpha_bar()[999:], passed)
    assert skip.abs().max() < 1e-3 and torch.allclose(out.flatten(), variance.sqrt(), rtol=1e-3), "from pure noise all is open"


def test_an_untrained_network_returns_the_linear_estimate():
    variance = torch.linspace(0.1, 3.0, 96)
    denoiser = JointPrior(JointPriorConfig(width=64, condition_size=condition_size(64)), variance)  # output layer starts at 0
    x, timesteps = torch.randn(2, 96, 8, 8), torch.tensor([100.0, 700.0])
    found = denoiser(x, timesteps, torch.zeros(2, 4, 64), torch.zeros(2, condition_size(64)))
    assert torch.allclose(found, preconditioning(variance, alpha_bar()[[100, 700]], denoiser.config.passed)[0] * x)


def test_clean_frames_attract_attention():
    clean = torch.tensor([[False, True], [False, False]])
    bias = joint_attention_bias(2, 2, 2, 2, 8, clean)
    assert torch.allclose(bias[0, :, :, 4:], bias[1, :, :, 4:] + CLEAN_BIAS)
    assert torch.equal(bias[0, :, :, :4], bias[1, :, :, :4])


def test_frames_of_one_scene_are_permuted_with_their_conditions():
    denoiser = untrained_prior(width=64)[0]
    generator = torch.Generator().manual_seed(1)
    x, context, condition = (torch.randn(*shape, generator=generator) for shape in ((4, 96, 8, 8), (4, 5, 64), (4, condition_size(64))))
    order = torch.tensor([2, 0, 3, 1])
    timesteps = torch.full((4,), 500.0)
    straight = denoiser(x, timesteps, context, condition, 4)
    permuted = denoiser(x[order], timesteps, context[order], condition[order], 4)
    assert (straight[order] - permuted).abs().max() < 1e-5
    changed = denoiser(torch.cat([x[:3], x[3:] + 1]), timesteps, context, condition, 4)
    assert (changed[:3] - straight[:3]).abs().max() > 1e-4, "a changed frame must change the others"


def test_codec_keeps_the_strongest_directions_and_half_whitens_them():
    pictures = smooth_pictures(64)
    codec = PatchCodec.fit(pictures, PatchCodecConfig(channels=24))
    latents = codec.encode(pictures)
    patches = torch.nn.functional.pixel_unshuffle(pictures, 8).movedim(1, -1).flatten(0, 2)
    variance = torch.linalg.svdvals(patches - patches.mean(0))[:24].square() / (len(patches) - 1)  # by another route
    spread = latents.movedim(1, -1).flatten(0, 2).var(0)
    assert torch.allclose(spread / spread[0], (variance / variance[0]) ** 0.5, rtol=2e-2)
    assert latents.var().item() == pytest.approx(1.0, rel=0.02)


def test_codec_round_trip_leaves_what_it_dropped():
    pictures = smooth_pictures(64)
    errors = []
    for channels in (8, 32, 96):
        codec = PatchCodec.fit(pictures, PatchCodecConfig(channels=channels))
        flat = (codec.encode(pictures).movedim(1, -1) * codec.scale) @ codec.basis + codec.mean
        errors.append((torch.nn.functional.pixel_shuffle(flat.movedim(-1, 1), 8) - pictures).square().mean().item())
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-2 * errors[0]


def test_decoding_removes_haze_and_keeps_matter():
    codec = PatchCodec(PatchCodecConfig(channels=256))  # identity
    faint, half, full = [0.05, 0.03, 0.01, 0.06], [0.2, 0.1, 0.1, 0.5], [0.6, 0.3, 0.2, 1.0]
    picture = torch.tensor([faint, half, full]).repeat_interleave(8, 0).view(3, 8, 4).movedim(-1, 1)[..., None].expand(3, 4, 8, 8).contiguous()
    decoded = codec.decode_rgba(codec.encode(picture))
    assert decoded[0].abs().max() == 0
    assert torch.allclose(decoded[1:], picture[1:], atol=1e-5)
    alpha = torch.linspace(0, 1, 101)[:, None, None, None].expand(101, 4, 8, 8)
    assert (codec.decode_rgba(codec.encode(alpha))[:, 3, 0, 0].diff() >= 0).all(), "more stays more"


def test_keyed_pictures_show_the_same_over_white():
    picture = smooth_pictures(3)
    shown = picture[:, :3] + 1 - picture[:, 3:]
    keyed = key_white(shown)
    assert torch.allclose(keyed[:, :3] + 1 - keyed[:, 3:], shown, atol=1e-5)
    assert (key_white(torch.ones(1, 3, 4, 4)) == 0).all(), "pure white is empty"


def test_codes_tell_absolute_relative_and_absent_apart():
    angle, zero = torch.tensor([0.7]), torch.zeros(1)
    absolute, relative, absent = (camera_code(angle, zero, torch.tensor([int(kind)])) for kind in (Frame.ABSOLUTE, Frame.RELATIVE, Frame.ABSENT))
    assert absolute[0, :4].tolist() == pytest.approx([math.sin(0.7 * k) for k in (1, 2, 3, 4)], abs=1e-6)
    assert absolute[0, -2:].tolist() == [1, 0] and relative[0, -2:].tolist() == [0, 1] and absent.abs().sum() == 0
    around = camera_code(angle + 2 * math.pi, zero, torch.tensor([1]))
    assert torch.allclose(around, absolute, atol=1e-5)
    assert time_code(torch.tensor([0.25]), torch.tensor([1]))[0, 0] == 0.25


def test_condition_vector_has_its_stated_layout():
    reference = thumbnail(torch.rand(2, 4, 64, 64))
    told = condition_vector(torch.ones(2, 12), torch.ones(2, 9), torch.tensor([True, False]), reference, torch.full((2, 64), 2.0))
    assert told.shape == (2, condition_size(64)) and told[:, 21].tolist() == [1, 0] and (told[:, 22] == 1).all()
    without = condition_vector(torch.ones(2, 12), torch.ones(2, 9), torch.tensor([True, False]), None, torch.zeros(2, 64))
    assert (without[:, 22:279] == 0).all()


def test_token_hashes_tell_the_whole_vocabulary_apart():
    first, second = hash_tokens(torch.arange(49408), TextEncoderConfig().table)
    unordered = {tuple(sorted(pair)) for pair in zip(first.tolist(), second.tolist())}
    assert len(unordered) > 0.97 * 49408
    assert len(set(first.tolist())) == TextEncoderConfig().table, "every row is used"


def test_text_behind_the_end_token_does_not_reach_the_pooled_vector():
    encoder = TextEncoder()
    tokens = torch.full((2, 77), END_TOKEN)
    tokens[:, :4] = torch.tensor([49406, 320, 736, END_TOKEN])
    tokens[1, 10] = 5
    pooled = encoder(tokens)[1]
    assert torch.allclose(pooled[0], pooled[1])
    tokens[1, 2] = 5
    assert not torch.allclose(pooled[0], encoder(tokens)[1][1])


def test_schedule_equals_the_hosts(comfy):
    import comfy.model_sampling

    class Config:
        sampling_settings = {"zsnr": True}

    sigmas = comfy.model_sampling.ModelSamplingDiscrete(Config).sigmas
    bar = alpha_bar()
    assert torch.allclose(((1 - bar) / bar).sqrt(), sigmas, rtol=1e-3)
    assert bar[-1] < 1e-7, "the last step is pure noise"


def scenes(count: int, frames: int) -> JointScenes:
    generator = torch.Generator().manual_seed(5)
    draw = lambda *shape: torch.rand(*shape, generator=generator)  # noqa: E731
    return JointScenes(torch.arange(count * frames), draw(count * frames) * 6 - 3, draw(count * frames), draw(count * frames), ("a rose",) * count, frames)


def test_relative_values_are_differences_to_the_clean_frame():
    batch, generator = scenes(64, 4), torch.Generator().manual_seed(0)
    clean = choose_clean(64, 4, 1.0, generator)
    time = tell(batch, clean, generator)[1].view(64, 4, 9)
    relative = time[:, 0, 8] == 1
    assert 10 < relative.sum() < 54
    reference = clean.int().argmax(1)
    assert time[torch.arange(64), reference, 0][relative].abs().max() == 0
    times = batch.times.view(64, 4)
    expected = times - times.gather(1, reference[:, None])
    assert torch.allclose(time[relative][..., 0], expected[relative])


def test_thumbnails_show_the_first_clean_frame():
    pictures = torch.rand(3 * 4, 4, 64, 64, generator=torch.Generator().manual_seed(1))
    clean = torch.zeros(3, 4, dtype=torch.bool)
    clean[0, 2] = clean[2, 1] = clean[2, 3] = True
    shown = reference_thumbnails(pictures, clean)
    assert torch.equal(shown[[0, 2]], thumbnail(pictures[[2, 9]])) and (shown[1] == 0).all()
    assert reference_thumbnails(pictures, torch.zeros(12, 1, dtype=torch.bool)) is None


def test_clean_frames_are_drawn_as_configured():
    generator = torch.Generator().manual_seed(0)
    clean = choose_clean(4000, 8, 0.5, generator)
    assert clean.any(1).float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert (clean.sum(1) == 2).float().mean().item() == pytest.approx(0.075, abs=0.02)
    assert not choose_clean(100, 1, 1.0, generator).any(), "a single picture cannot be its own condition"
    levels = draw_timesteps(clean, 0.25, generator)
    assert (levels[clean] == 0).all() and levels.max() <= 999
    mixed = (levels.float().std(1) > 0) & ~clean.any(1)
    assert (mixed.sum() / (~clean.any(1)).sum()).item() == pytest.approx(0.25, abs=0.03)


def test_learning_rate_warms_up_and_ends_at_nothing():
    config = PriorTrainingConfig(steps=1000, warmup=100)
    assert learning_rate(0, config) == pytest.approx(config.learning_rate / 100)
    assert learning_rate(100, config) == pytest.approx(config.learning_rate)
    assert learning_rate(550, config) == pytest.approx(config.learning_rate / 2, rel=1e-3)
    assert learning_rate(1000, config) == pytest.approx(0, abs=1e-9)
    assert learning_rate(150, config, time_share=0.5) == pytest.approx(config.learning_rate / 2, rel=1e-3), "the clock is ahead of the steps"
    assert learning_rate(150, config, time_share=1.2) == pytest.approx(0, abs=1e-9)


def test_the_file_brings_back_the_networks(tmp_path):
    networks = untrained_prior(width=64)
    save_prior(tmp_path / "p.safetensors", *networks, {"license": "Apache-2.0"})
    for saved, loaded in zip(networks, load_prior(tmp_path / "p.safetensors")):
        assert saved.config == loaded.config
        for name, value in loaded.state_dict().items():
            assert torch.allclose(value, saved.state_dict()[name], atol=2e-3), name
    assert not list(tmp_path.glob("*.part"))


def test_shipped_configuration_stays_under_twenty_megabytes():
    config = JointPriorConfig(condition_size=condition_size(64))
    halves = sum(parameter.numel() for parameter in JointPrior(config).parameters()) + sum(parameter.numel() for parameter in TextEncoder().parameters())
    assert 2 * halves + 4 * (97 * 256 + 96) < 20e6
