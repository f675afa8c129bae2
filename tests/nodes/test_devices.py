"""A prior on another device than the renderer's, as the host's Select Device nodes put it: data travel, results and numbers stay."""

import copy

import pytest
import second_device
import torch
from second_device import FIRST, SECOND, SecondDevice, label, place_of

SHAPE = (2, 3, 16, 16)


@pytest.fixture
def elsewhere(synthetic):
    """(MODEL, the same MODEL on the second device, devices at which its network was asked)."""
    model, asked = synthetic.image_model(condition_size=17), []
    moved = model.clone()
    moved.load_device = SECOND
    network = model.model.diffusion_model

    def note(module, inputs, keywords):
        asked.append({place_of(value) for value in (*inputs, *keywords.values()) if isinstance(value, torch.Tensor)})

    handle = network.register_forward_pre_hook(note, with_kwargs=True)
    yield model, moved, asked
    handle.remove()


def latents(seed=3):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def cameras():
    from bloom4d.models.geometry.cameras import view_time_grid

    return view_time_grid(2, 1)


def estimates(model, synthetic, z):
    from bloom4d.nodes.host.score import ScoreSession

    with ScoreSession(model, synthetic.conditioning(1), synthetic.conditioning(2)) as session:
        session.set_views(cameras())
        return session.both(z, torch.tensor([1.0, 2.0]))


def test_the_session_asks_the_model_on_its_device_and_answers_on_that_of_the_latents(elsewhere, synthetic):
    model, moved, asked = elsewhere
    expected = estimates(model, synthetic, latents())
    asked.clear()
    with SecondDevice():
        found = estimates(moved, synthetic, label(latents(), FIRST))
        assert [value.device for value in found] == [FIRST, FIRST]
    assert asked and all(places - {None} == {SECOND} for places in asked)
    assert all(torch.equal(*pair) for pair in zip(found, expected))


@pytest.mark.parametrize("kind", ["kl_vae", "rgba_vae"])
@pytest.mark.parametrize("one_at_a_time", [False, True])
def test_encoding_and_its_gradient_come_back_to_the_pictures_device(synthetic, kind, one_at_a_time):
    from bloom4d.nodes.host.encode import encode_with_gradient

    vae = getattr(synthetic, kind)()
    picture = torch.rand(2, 32, 32, 4, generator=torch.Generator().manual_seed(1))

    def outcome(vae, place):
        with torch.inference_mode(False), torch.enable_grad():
            rgba = picture.clone().requires_grad_()
            there = label(rgba * 1.0, place)
            encoded = encode_with_gradient(vae, there[..., :3], there[..., 3], one_at_a_time)
            encoded.square().sum().backward()
            return encoded, rgba.grad

    expected = outcome(vae, FIRST)
    away = copy.copy(vae)
    away.device = SECOND
    with SecondDevice() as mode:
        found = outcome(away, FIRST)
        assert found[0].device == FIRST
    assert {(FIRST, SECOND), (SECOND, FIRST)} <= set(mode.moves)
    assert all(torch.equal(*pair) for pair in zip(found, expected))


def test_decoded_pictures_come_back_to_the_latents_device(synthetic):
    from bloom4d.nodes.host.drawing import DrawingPrior

    def outcome(place):
        vae = synthetic.rgba_vae()
        vae.first_stage_model.decode_rgba = lambda space: torch.nn.functional.pixel_shuffle(space, 2)
        vae.device = place
        prior = object.__new__(DrawingPrior)  # decoding needs no conditioning
        prior.model, prior.vae, prior.accepts_alpha = synthetic.image_model(), vae, True
        return prior.decode(label(torch.rand(1, 16, 8, 8, generator=torch.Generator().manual_seed(2)), FIRST))

    expected = outcome(FIRST)
    with SecondDevice() as mode:
        found = outcome(SECOND)
        assert [value.device for value in found] == [FIRST, FIRST]
    assert {(FIRST, SECOND), (SECOND, FIRST)} <= set(mode.moves)
    assert all(torch.equal(*pair) for pair in zip(found, expected))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU beside the CPU; none is here")
def test_a_prior_on_a_real_gpu_answers_a_renderer_on_the_cpu(synthetic):
    from bloom4d.nodes.host.encode import encode_with_gradient

    answers = []
    for device in (torch.device("cpu"), torch.device("cuda", 0)):
        model, vae = synthetic.image_model(condition_size=17), synthetic.pixel_vae()
        model.load_device = vae.device = vae.patcher.load_device = device
        with torch.inference_mode(False), torch.enable_grad():
            rgb = torch.rand(2, 16, 16, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
            z = encode_with_gradient(vae, rgb)
            conditional, free = estimates(model, synthetic, z)
            (z * (conditional - free)).sum().backward()
        answers.append((z.detach(), conditional, free, rgb.grad))
    for expected, found in zip(*answers):
        assert found.device == expected.device == torch.device("cpu")
        assert (found - expected).abs().max() < 1e-2 * expected.abs().max()


def test_the_stand_in_refuses_to_mix_devices():
    """The control: code that forgets a move fails these tests."""
    with SecondDevice():
        here, there = label(torch.ones(2), FIRST), torch.ones(2).to(SECOND)
        assert (there * 2).device == second_device.SECOND and (here + 1.0).device == FIRST
        with pytest.raises(AssertionError, match="got tensors of"):
            here + there


def test_a_run_says_where_its_priors_are(synthetic):
    from bloom4d.nodes.guidance import PriorSource
    from bloom4d.nodes.runner import apart, places_of

    model, vae = synthetic.image_model(), synthetic.pixel_vae()
    text = synthetic.conditioning(1)
    here = PriorSource(model, vae, (text,), text)
    moved = model.clone()
    moved.load_device = SECOND
    away = PriorSource(moved, vae, (text,), text)
    assert not apart((here,)) and apart((here, away))
    assert places_of((here, away, here)) == "The field renders on cpu; CameraModel on cpu, its VAE on cpu; CameraModel on cpu:1, its VAE on cpu"


def test_the_name_of_a_run_does_not_depend_on_the_device(synthetic):
    from bloom4d.nodes.guidance import PriorSource

    model, vae, text = synthetic.image_model(), synthetic.pixel_vae(), synthetic.conditioning(1)
    moved = model.clone()
    moved.load_device = SECOND
    other = synthetic.image_model(seed=1)
    names = [PriorSource(item, vae, (text,), text).identity() for item in (model, moved, other)]
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize("family", ["zeroscope", "deepfloyd"])
def test_the_foreign_models_are_asked_on_their_device(family, synthetic, tmp_path):
    """diffusers' networks get everything where the host's nodes have put the MODEL, and answer where the latents are."""
    import checkpoints_video

    from bloom4d.nodes.host import foreign
    from bloom4d.nodes.host.score import ScoreSession

    name = getattr(checkpoints_video, f"write_{family}_files")(tmp_path)
    path = str(tmp_path / "diffusion_models" / name)
    model = foreign.load_zeroscope(path, (320, 576)) if family == "zeroscope" else foreign.load_deepfloyd(path)
    shape, width = ((1, 4, 2, 8, 8), 1024) if family == "zeroscope" else ((1, 3, 64, 64), 4096)
    z, texts = torch.randn(shape, generator=torch.Generator().manual_seed(3)), [synthetic.conditioning(seed, 77, width) for seed in (1, 2)]
    moved, asked = model.clone(), []
    moved.load_device = SECOND
    model.model.diffusion_model.register_forward_pre_hook(lambda part, inputs, keywords: asked.append({place_of(value) for value in (*inputs, *keywords.values()) if isinstance(value, torch.Tensor)}), with_kwargs=True)
    with ScoreSession(model, *texts) as session:
        expected = session.both(z, 1.0)
    asked.clear()
    with SecondDevice(), ScoreSession(moved, *texts) as session:
        found = session.both(label(z.clone(), FIRST), 1.0)
        assert [value.device for value in found] == [FIRST, FIRST]
    assert asked and all(places - {None} == {SECOND} for places in asked)
    assert all(torch.equal(*pair) for pair in zip(found, expected))
