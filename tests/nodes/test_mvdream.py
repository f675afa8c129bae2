"""MVDream on the host's own UNet: what joint attention and camera codes must do (A5 of the specification), with controls."""

import math

import pytest
import torch

POSES = ((0.0, 15.0), (90.0, 15.0), (180.0, 15.0), (-90.0, 15.0))  # azimuth and elevation in degrees


@pytest.fixture(scope="module")
def checkpoints(comfy):
    import checkpoints

    return checkpoints


@pytest.fixture(scope="module")
def model(checkpoints, tmp_path_factory):
    """A MODEL of the smallest layout, from a file of the UNet alone."""
    from bloom4d.nodes.host import mvdream

    file = tmp_path_factory.mktemp("mvdream") / "unet.safetensors"
    checkpoints.write(file, checkpoints.mvdream_unet(checkpoints.SMALLEST))
    with torch.inference_mode():
        return mvdream.load_model(str(file))


def seeded(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def poses(angles=POSES, distance=2.0):
    from bloom4d.models.geometry.cameras import orbit

    azimuth, elevation = (torch.tensor(column) * math.pi / 180 for column in zip(*angles))
    return orbit(azimuth, elevation, torch.full_like(azimuth, distance))


def codes():
    from bloom4d.models.networks.mvdream import camera_code

    return camera_code(poses())


def asked(model, z, camera, views=4):
    """The network's answer to latents `z`, one level and one text for all."""
    text = seeded(9, 1, 7, 1024).expand(len(z), -1, -1)
    return model.model.diffusion_model(z, torch.full((len(z),), 400.0), context=text, bloom4d_views=views, bloom4d_camera=camera)


def test_views_permuted_with_their_cameras_permute_the_answer(model):
    z, order = seeded(1, 4, 4, 8, 8), [2, 0, 3, 1]
    answer, permuted = asked(model, z, codes()), asked(model, z[order], codes()[order])
    assert (permuted - answer[order]).abs().max() < 1e-5
    assert (asked(model, z[order], codes()) - answer[order]).abs().max() > 1e-3, "control: cameras that stay behind are noticed"


def test_every_view_hears_of_every_other(model):
    z = seeded(1, 4, 4, 8, 8)
    for changed in range(4):
        other = z.clone()
        other[changed] = seeded(2, 4, 8, 8)
        difference = (asked(model, other, codes()) - asked(model, z, codes())).abs().amax((1, 2, 3))
        assert (difference > 1e-4).all()
        alone = (asked(model, other, codes(), views=1) - asked(model, z, codes(), views=1)).abs().amax((1, 2, 3))
        assert [bool(value) for value in alone > 0] == [view == changed for view in range(4)], "control: without joint attention nobody else hears"


def test_scenes_of_a_batch_do_not_hear_of_each_other(model):
    z = seeded(1, 8, 4, 8, 8)
    both = asked(model, z, codes().repeat(2, 1))
    assert (both[:4] - asked(model, z[:4], codes())).abs().max() < 1e-5
    assert (both[4:] - asked(model, z[4:], codes())).abs().max() < 1e-5


def test_four_equal_views_are_the_ordinary_picture(model):
    z, camera = seeded(1, 1, 4, 8, 8).expand(4, -1, -1, -1), codes()[:1].expand(4, -1)
    assert (asked(model, z, camera) - asked(model, z, camera, views=1)).abs().max() < 1e-5
    unequal = seeded(1, 4, 4, 8, 8)
    assert (asked(model, unequal, camera) - asked(model, unequal, camera, views=1)).abs().max() > 1e-3, "control: unequal ones are not"


def test_the_camera_is_added_to_the_time_embedding(model):
    """embedding + W2 silu(W1 code + b1) + b2, from the file's own tensors."""
    unet, seen = model.model.diffusion_model, []
    handle = unet.input_blocks[1][0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1]))
    z = seeded(1, 4, 4, 8, 8)
    asked(model, z, None)
    asked(model, z, codes())
    handle.remove()
    weights = {name: value for name, value in unet.state_dict().items() if name.startswith("camera_embed")}
    hidden = codes() @ weights["camera_embed.0.weight"].T + weights["camera_embed.0.bias"]
    added = (hidden * hidden.sigmoid()) @ weights["camera_embed.2.weight"].T + weights["camera_embed.2.bias"]
    assert (seen[1] - seen[0] - added).abs().max() < 1e-5


def test_camera_codes_are_mvdreams():
    from bloom4d.models.networks.mvdream import camera_code

    given = poses()
    kept = given.clone()
    code = camera_code(given).view(4, 4, 4)
    assert torch.equal(given, kept), "the poses that came in are untouched"
    assert (code[:, :3, 3].norm(dim=1) - 1).abs().max() < 1e-6
    for (azimuth, elevation), pose in zip(POSES, code):
        a, e = math.radians(azimuth), math.radians(elevation)
        place = torch.tensor([math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e)])
        assert (pose[:3, 3] - place).abs().max() < 1e-6 and (pose[:3, 2] - place).abs().max() < 1e-6  # it looks at the origin
        assert (pose[:3, 0] - torch.tensor([-math.sin(a), math.cos(a), 0.0])).abs().max() < 1e-6  # right
    front = camera_code(poses(((0.0, 0.0),)))[0]
    assert (front - torch.tensor([0, 0, 1, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1.0])).abs().max() < 1e-6, "row by row"
    assert torch.allclose(camera_code(poses(distance=9.0)), code.reshape(4, 16), atol=1e-6), "distance is not told"
    assert torch.isfinite(camera_code(torch.eye(4)[None])).all()


@pytest.mark.parametrize("frames, times, views", [(1, [0.3], 1), (4, [0.3] * 4, 4), (4, None, 4), (8, [0.1] * 4 + [0.6] * 4, 4), (3, [0.1, 0.2, 0.3], 1), (8, None, 4)])
def test_pictures_of_one_instant_are_asked_together(frames, times, views):
    from bloom4d.models.networks.mvdream import views_at_once

    assert views_at_once(frames, None if times is None else torch.tensor(times)) == views


@pytest.mark.parametrize("frames, times, given", [(5, [0.3] * 5, 5), (2, [0.3] * 2, 2), (8, [0.3] * 8, 8), (5, None, 5), (6, [0.1] * 2 + [0.5] * 2 + [0.9] * 2, 2)])
def test_other_numbers_of_views_are_refused_in_one_line(frames, times, given):
    from bloom4d.models.networks.mvdream import views_at_once

    with pytest.raises(ValueError, match=f"^MVDream was given {given} views of one instant; it was trained on 4 .*Set the Camera Sampler's views to 4") as failure:
        views_at_once(frames, None if times is None else torch.tensor(times))
    assert "\n" not in str(failure.value)


@pytest.fixture
def prior(model, synthetic):
    from bloom4d.nodes.host.adapter import HostPrior

    text, empty = synthetic.conditioning(1, tokens=7, width=1024), synthetic.conditioning(2, tokens=7, width=1024)
    with HostPrior(model, synthetic.small_vae(), [text], empty, size=(64, 64)) as opened:
        yield opened


def rig(scenes=2):
    from bloom4d.models.geometry.cameras import CameraSampler

    return CameraSampler().sample(torch.Generator().manual_seed(1), scenes)


def estimates(prior, config, cameras):
    """(x0, D_c, D_u, gradient of the loss with respect to x0, guided estimate) of one evaluation."""
    from bloom4d.models.guidance.distillation import distillation_gradient, surrogate_loss

    x0, noise = seeded(3, len(cameras), 4, 8, 8), seeded(4, len(cameras), 4, 8, 8)
    sigma = prior.sigma_at(torch.full((len(cameras),), 0.4))
    conditional, free = prior.denoise(prior.add_noise(x0, noise, sigma), sigma, cameras)
    with torch.inference_mode(False), torch.enable_grad():
        gradient, denoised = distillation_gradient(x0, noise, sigma, prior, cameras, config)
        latents = x0.clone().requires_grad_()
        surrogate_loss(latents, gradient.clone()).backward()
    return x0, conditional, free, latents.grad, denoised, sigma


def test_the_reconstruction_gradient_is_what_mvdream_trains_with(prior):
    from bloom4d.models.guidance.distillation import multi_view

    cameras = rig()
    assert (prior.default_guidance, prior.native_size) == (50.0, (64, 64))
    x0, conditional, free, gradient, denoised, _ = estimates(prior, multi_view(), cameras)
    guided = free + 50 * (conditional - free)
    groups = lambda value: value.reshape(2, -1).std(1)  # noqa: E731  over the four views of each scene
    factor = (groups(conditional) / groups(guided)).repeat_interleave(4)[:, None, None, None]
    expected = 0.5 * guided * factor + 0.5 * guided
    assert (gradient - (x0 - expected) / 8).abs().max() < 1e-4 * gradient.abs().max()
    per_view = (conditional.flatten(1).std(1) / guided.flatten(1).std(1))[:, None, None, None]
    assert (gradient - (x0 - 0.5 * guided * (per_view + 1)) / 8).abs().max() > 3e-3 * gradient.abs().max(), "control: rescaled view by view it is another"


def test_without_rescaling_it_is_sds_weighted_by_sigma_over_alpha(prior):
    from bloom4d.models.guidance.distillation import multi_view

    x0, conditional, free, gradient, _, sigma = estimates(prior, multi_view(rescale=0.0, guidance=7.5), rig())
    noise, guided = seeded(4, 8, 4, 8, 8), free + 7.5 * (conditional - free)
    level = sigma[:, None, None, None]  # sigma_t / alpha_t in the host's units
    predicted = (x0 + level * noise - guided) / level
    assert (gradient - level * (predicted - noise) / 8).abs().max() < 1e-4 * gradient.abs().max()


def test_full_rescaling_gives_the_unguided_contrast(prior):
    from bloom4d.models.guidance.distillation import multi_view

    _, conditional, _, _, denoised, _ = estimates(prior, multi_view(rescale=1.0), rig())
    assert torch.allclose(denoised.reshape(2, -1).std(1), conditional.reshape(2, -1).std(1), rtol=1e-4)
    _, conditional, _, _, denoised, _ = estimates(prior, multi_view(rescale=0.0), rig())
    assert not torch.allclose(denoised.reshape(2, -1).std(1), conditional.reshape(2, -1).std(1), rtol=0.1), "control"


def test_the_session_tells_the_model_its_cameras(prior):
    z, sigma = seeded(5, 4, 4, 8, 8), prior.sigma_at(torch.full((4,), 0.4))
    here, turned = (prior.denoise(z, sigma, rig(1).select(order, frames=4))[0] for order in ([0, 1, 2, 3], [1, 2, 3, 0]))
    assert (here - turned).abs().max() > 1e-4
    hidden = type(prior)(prior.model, prior.vae, prior.session.texts, prior.session.negative, size=(64, 64), tells=())
    with hidden:
        first, second = (hidden.denoise(z, sigma, rig(1).select(order, frames=4))[0] for order in ([0, 1, 2, 3], [1, 2, 3, 0]))
    assert torch.equal(first, second), "control: told nothing, it cannot know"


def test_five_views_are_refused_by_the_sampler_and_by_guidance(prior, synthetic):
    from bloom4d.models.geometry.cameras import CameraSampler

    five = CameraSampler(views=5).sample(torch.Generator().manual_seed(1))
    with pytest.raises(ValueError, match="^MVDream was given 5 views of one instant"):
        prior.denoise(seeded(5, 5, 4, 8, 8), prior.sigma_at(torch.full((5,), 0.4)), five)
    with pytest.raises(ValueError, match="^A batch of 5 latents is no whole number of scenes of 4 frames"):
        sampled(prior.model, synthetic, batch=5)


def keys(frames=4, **further):
    return {"bloom4d_frames": frames, "bloom4d_camera": poses(), **further}


def sampled(model, synthetic, batch=4, told=None, positive=None, negative=None, steps=2):
    import nodes as host_nodes

    told = keys() if told is None else told
    positive = positive or synthetic.conditioning(1, tokens=7, width=1024, **told)
    negative = negative or synthetic.conditioning(2, tokens=7, width=1024, **told)
    latent = {"samples": torch.zeros(batch, 4, 8, 8)}
    return host_nodes.KSampler().sample(model, 0, steps, 5.0, "euler", "normal", positive, negative, latent)[0]["samples"]


def test_the_hosts_sampler_draws_four_views_and_single_pictures(model, synthetic):
    views, single = sampled(model, synthetic), sampled(model, synthetic, told={})
    assert views.shape == single.shape == (4, 4, 8, 8) and views.isfinite().all()
    assert (views - single).abs().max() > 1e-3
    other = keys() | {"bloom4d_camera": poses(((10.0, 40.0), (100.0, 40.0), (190.0, 40.0), (280.0, 40.0)))}
    assert (sampled(model, synthetic, told=other) - views).abs().max() > 1e-3, "cameras reach the sampler's model"


def lora_file(path, strength=1.0):
    """A LoRA as trainers write it, by kohya's and by diffusers' names."""
    from safetensors.torch import save_file

    targets = {"lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q": (64, 64), "lora_unet_up_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k": (64, 1024)}
    tensors = {}
    for number, (name, (out, into)) in enumerate(targets.items()):
        tensors |= {f"{name}.lora_up.weight": seeded(number, out, 4) * strength, f"{name}.lora_down.weight": seeded(number + 5, 4, into), f"{name}.alpha": torch.tensor(4.0)}
    save_file(tensors, path)
    return str(path)


def test_a_lora_applies_and_comes_off_again(model, synthetic, tmp_path):
    import comfy.sd
    import comfy.utils

    weights = comfy.utils.load_torch_file(lora_file(tmp_path / "lora.safetensors"))
    plain = sampled(model, synthetic)
    patched = comfy.sd.load_lora_for_models(model, None, weights, 1.0, 0.0)[0]
    assert len(patched.patches) == 2, "both names were found"
    assert (sampled(patched, synthetic) - plain).abs().max() > 1e-3
    assert torch.equal(sampled(model, synthetic), plain)


def test_a_controlnet_of_stable_diffusion_steers_it(model, synthetic, checkpoints, tmp_path):
    import comfy.controlnet
    import nodes as host_nodes

    control = comfy.controlnet.load_controlnet(str(checkpoints.write_controlnet(tmp_path / "control.safetensors", checkpoints.SMALLEST)))
    hint = torch.rand(4, 64, 64, 3, generator=torch.Generator().manual_seed(1))
    told = [synthetic.conditioning(seed, tokens=7, width=1024, **keys()) for seed in (1, 2)]
    steered = host_nodes.ControlNetApplyAdvanced().apply_controlnet(*told, control, hint, 1.0, 0.0, 1.0)
    assert (sampled(model, synthetic, positive=steered[0], negative=steered[1]) - sampled(model, synthetic)).abs().max() > 1e-3


def test_a_copy_on_another_device_or_of_ordinary_tensors_answers_the_same(model, synthetic):
    from second_device import SECOND, SecondDevice

    plain = sampled(model, synthetic)
    with torch.inference_mode(False):
        deep = model.clone(force_deepcopy=True)
        assert not any(parameter.is_inference() for parameter in deep.model.diffusion_model.parameters())
    assert torch.equal(sampled(deep, synthetic), plain)
    moved = model.clone()
    moved.load_device = SECOND
    with SecondDevice():
        away = sampled(moved, synthetic)
    assert torch.equal(away, plain)


def test_every_tensor_is_the_hosts(model):
    """Nothing of the model lives where the host could not move or free it: patches hold no tensors."""
    names = {name for name, _ in model.model.diffusion_model.named_parameters()}
    assert {"camera_embed.0.weight", "camera_embed.2.bias"} <= names
    assert model.model_size() >= sum(parameter.nbytes for parameter in model.model.parameters())
    assert not model.model_options["transformer_options"].get("patches") and not model.object_patches


def test_a_run_tells_two_checkpoints_apart(model, checkpoints, tmp_path):
    from bloom4d.nodes.host import mvdream
    from bloom4d.nodes.host.identity import identify

    checkpoints.write(tmp_path / "other.safetensors", checkpoints.mvdream_unet(checkpoints.SMALLEST, seed=1))
    assert identify(model) != identify(mvdream.load_model(str(tmp_path / "other.safetensors")))
