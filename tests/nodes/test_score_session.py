"""A score session gives what the host's own sampler sees, and leaves nothing behind."""

import math

import pytest
import torch

SHAPE = (2, 3, 16, 16)
VIDEO_SHAPE = (1, 16, 2, 8, 8)


@pytest.fixture(scope="module")
def score(comfy):
    from bloom4d.nodes.host import score

    return score


def host_steps(model, positive, negative, cfg, shape, kind="euler", steps=3, latent=None):
    """(x, sigma, denoised) of every step of the host's sampler."""
    import comfy.samplers

    generator = torch.Generator().manual_seed(11)
    noise = torch.randn(shape, generator=generator)
    sampling = model.get_model_object("model_sampling")
    sigmas = torch.tensor([sampling.percent_to_sigma(p) for p in torch.linspace(0.1, 0.8, steps).tolist()] + [0.0])
    seen = []
    comfy.samplers.sample(
        model, noise, positive, negative, cfg, model.load_device, comfy.samplers.sampler_object(kind), sigmas,
        latent_image=torch.zeros(shape) if latent is None else latent, seed=0, disable_pbar=True,
        callback=lambda i, denoised, x, total: seen.append((x.clone(), sigmas[i], denoised.clone())),
    )  # fmt: skip
    return seen, noise, sigmas


def texts(synthetic, seed=1, **entries):
    return synthetic.conditioning(seed, **entries), synthetic.conditioning(seed + 1)


@pytest.mark.parametrize("kind", ["eps", "v", "x0", "flow", "edm"])
def test_every_step_of_the_host_sampler_is_reproduced_bit_for_bit(synthetic, score, kind):
    model = synthetic.image_model(kind)
    positive, negative = texts(synthetic)
    seen, _, _ = host_steps(model, positive, negative, 4.0, SHAPE)
    with score.ScoreSession(model, positive, negative, guidance=4.0) as session:
        for x, sigma, denoised in seen:
            assert torch.equal(session.denoised(x, sigma), denoised)
            conditional, free = session.both(x, sigma)
            assert torch.equal(free + (conditional - free) * 4.0, denoised)
        assert not torch.equal(conditional, free)


def test_video_latents_are_reproduced_bit_for_bit(synthetic, score):
    model = synthetic.video_model()
    positive, negative = texts(synthetic)
    seen, _, _ = host_steps(model, positive, negative, 3.0, VIDEO_SHAPE)
    with score.ScoreSession(model, positive, negative, guidance=3.0) as session:
        assert all(torch.equal(session.denoised(x, sigma), denoised) for x, sigma, denoised in seen)


def test_masks_areas_and_strengths_count(synthetic, score):
    """What a raw call of the network would lose: the negative control differs."""
    import comfy.model_management

    model = synthetic.image_model()
    mask = torch.zeros(1, 16, 16)
    mask[:, :, :9] = 1
    positive = synthetic.conditioning(1, mask=mask) + synthetic.conditioning(5, area=(8, 8, 2, 4), strength=0.7)
    negative = synthetic.conditioning(2)
    seen, _, _ = host_steps(model, positive, negative, 2.0, SHAPE, steps=1)
    x, sigma, denoised = seen[0]
    with score.ScoreSession(model, positive, negative, guidance=2.0) as session:
        assert torch.equal(session.denoised(x, sigma), denoised)
        comfy.model_management.load_models_gpu([model])
        text = positive[0][0].expand(2, -1, -1)
        raw = model.model.apply_model(x, sigma.expand(2), c_crossattn=text)
        assert not torch.allclose(session.both(x, sigma)[0], raw, atol=1e-3)


def test_guidance_patches_and_wrappers_of_the_model_apply(synthetic, score):
    model = synthetic.image_model().clone()
    model.set_model_sampler_post_cfg_function(lambda arguments: arguments["denoised"] * 0.5)
    positive, negative = texts(synthetic)
    seen, _, _ = host_steps(model, positive, negative, 4.0, SHAPE, steps=2)
    with score.ScoreSession(model, positive, negative, guidance=4.0) as session:
        for x, sigma, denoised in seen:
            assert torch.equal(session.denoised(x, sigma), denoised)
        conditional, free = session.both(x, sigma)
        assert torch.equal((free + (conditional - free) * 4.0) * 0.5, denoised)


def test_noise_levels_may_differ_between_items(synthetic, score):
    model = synthetic.image_model("v")
    positive, negative = texts(synthetic)
    x, levels = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3)), torch.tensor([0.3, 7.0])
    with score.ScoreSession(model, positive, negative) as session:
        together, _ = session.both(x, levels)
        for i in range(2):
            alone, _ = session.both(x[i : i + 1], levels[i : i + 1])
            assert (together[i : i + 1] - alone).abs().max() < 1e-5
        swapped, _ = session.both(x, levels.flip(0))
        assert (swapped - together).abs().max() > 1e-2


def test_mixed_noise_levels_refuse_conditioning_that_switches_with_the_level(synthetic, score):
    model = synthetic.image_model()
    positive, negative = texts(synthetic, start_percent=0.5, end_percent=1.0)
    with score.ScoreSession(model, positive, negative) as session:
        session.both(torch.zeros(SHAPE), 1.0)
        with pytest.raises(ValueError, match="one noise level per step"):
            session.both(torch.zeros(SHAPE), torch.tensor([0.3, 7.0]))


def test_results_are_ordinary_tensors_outside_inference_mode(synthetic, score):
    model = synthetic.image_model()
    positive, negative = texts(synthetic)
    with score.ScoreSession(model, positive, negative) as session, torch.inference_mode(False), torch.enable_grad():
        z = torch.zeros(SHAPE, requires_grad=True)
        conditional, free = session.both(z, 1.0)
        assert not conditional.is_inference() and not conditional.requires_grad
        (z * (z.detach() - conditional)).sum().backward()  # what the surrogate loss of every guidance does
        assert torch.equal(z.grad, -conditional)


def test_without_negative_there_is_no_unconditional_estimate(synthetic, score):
    model = synthetic.image_model()
    positive, _ = texts(synthetic)
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))
    with score.ScoreSession(model, positive, guidance=9.0) as session:
        conditional, free = session.both(x, 1.0)
        assert free is None and torch.equal(session.denoised(x, 1.0), conditional)


def test_a_new_shape_is_prepared_anew(synthetic, score):
    model = synthetic.image_model()
    mask = torch.zeros(1, 16, 16)
    mask[:, 4:12] = 1
    positive, negative = synthetic.conditioning(1, mask=mask), synthetic.conditioning(2)
    shapes = [(2, 3, 16, 16), (1, 3, 24, 8), (3, 3, 16, 16)]
    pictures = [torch.randn(shape, generator=torch.Generator().manual_seed(4)) for shape in shapes]
    with score.ScoreSession(model, positive, negative) as session:
        moving = [session.both(x, 2.0)[0] for x in pictures]
    for x, found in zip(pictures, moving):
        with score.ScoreSession(model, positive, negative) as session:
            assert torch.equal(session.both(x, 2.0)[0], found)


def test_sessions_on_one_model_do_not_disturb_each_other(synthetic, score):
    model = synthetic.image_model()
    prompts = [texts(synthetic, seed) for seed in (1, 7)]
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(5))
    alone = []
    for prompt in prompts:
        with score.ScoreSession(model, *prompt) as session:
            alone.append(session.both(x, 1.0)[0])
    first, second = (score.ScoreSession(model, *prompt) for prompt in prompts)
    with second:
        with first:
            assert torch.equal(first.both(x, 1.0)[0], alone[0])
            assert torch.equal(second.both(x, 1.0)[0], alone[1])
        assert torch.equal(second.both(x, 1.0)[0], alone[1])  # closing the first cleared the model's current patcher
    assert not torch.equal(*alone)


def test_a_lora_clone_that_was_loaded_in_between_leaves_the_session_alone(synthetic, score):
    import comfy.model_management

    model = synthetic.image_model()
    patched = model.clone()
    weight = "diffusion_model.out.2.weight"
    patched.add_patches({weight: ("diff", (torch.ones_like(model.model.diffusion_model.out[2].weight),))})
    positive, negative = texts(synthetic)
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(6))
    with score.ScoreSession(model, positive, negative) as session:
        before, _ = session.both(x, 1.0)
        comfy.model_management.load_models_gpu([patched])
        changed = model.model.diffusion_model.out[2].weight.clone()
        assert torch.equal(session.both(x, 1.0)[0], before)
        assert not torch.equal(changed, model.model.diffusion_model.out[2].weight)  # the clone shares its weights, so this was needed


def test_hooks_on_the_conditioning_patch_weights_for_its_own_calls_only(synthetic, score):
    import comfy.hooks

    model = synthetic.image_model()
    bias = torch.ones(3)
    hooks = comfy.hooks.create_hook_lora({"diffusion_model.out.2.diff_b": bias}, 1.0, 0.0)
    plain, negative = texts(synthetic)
    hooked = [[plain[0][0], plain[0][1] | {"hooks": hooks}]]
    seen, _, _ = host_steps(model, hooked, negative, 3.0, SHAPE)
    x, sigma, denoised = seen[0]
    first, second = score.ScoreSession(model, hooked, negative, guidance=3.0), score.ScoreSession(model, plain, negative, guidance=3.0)
    with first, second:
        unhooked = second.denoised(x, sigma)
        for _ in range(2):
            assert torch.equal(first.denoised(x, sigma), denoised)
            assert torch.equal(second.denoised(x, sigma), unhooked)
        assert not torch.equal(unhooked, denoised)
    assert not model.hook_patches and not model.hook_backup


def test_an_interrupt_inside_the_network_closes_the_session_and_the_next_run_works(synthetic, score):
    import comfy.model_management as management

    model = synthetic.image_model()
    positive, negative = texts(synthetic)
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(7))
    with pytest.raises(management.InterruptProcessingException):
        with score.ScoreSession(model, positive, negative) as session:
            expected, _ = session.both(x, 1.0)
            assert model.model.current_patcher is model
            management.interrupt_current_processing(True)
            session.both(x, 1.0)
    assert model.model.current_patcher is None
    with score.ScoreSession(model, positive, negative) as session:
        assert torch.equal(session.both(x, 1.0)[0], expected)


def test_the_conditioning_is_never_changed(synthetic, score):
    model = synthetic.image_model("eps", condition_size=17)
    positive, negative = texts(synthetic)
    keys, text = set(positive[0][1]), positive[0][0].clone()
    with score.ScoreSession(model, positive, negative) as session:
        session.set_views(rig(2))
        session.both(torch.zeros(SHAPE), 1.0)
    assert set(positive[0][1]) == keys and torch.equal(positive[0][0], text)


def rig(count, frames=1, turn=0.0):
    from bloom4d.models.geometry.cameras import Cameras, orbit

    angles = turn + torch.arange(count) * 2 * math.pi / count
    return Cameras(orbit(angles, torch.full((count,), 0.2), torch.full((count,), 2.9)), torch.full((count,), 0.7), torch.linspace(0, 1, count), frames)


def test_cameras_and_times_reach_the_model_as_they_do_through_conditioning(synthetic, score):
    model = synthetic.image_model("eps", condition_size=17)
    positive, negative = texts(synthetic)
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(8))
    cameras = [rig(2), rig(2, turn=1.0)]
    with score.ScoreSession(model, positive, negative) as session:
        nowhere, _ = session.both(x, 1.0)
        moving = []
        for views in cameras:
            session.set_views(views)
            moving.append(session.both(x, 1.0))
    assert not torch.equal(moving[0][0], moving[1][0]) and not torch.equal(moving[0][0], nowhere)
    for views, (conditional, free) in zip(cameras, moving):
        keys = {"bloom4d_camera": views.camera_to_world, "bloom4d_time": views.times, "bloom4d_frames": views.frames}
        told = [[[entry[0], entry[1] | keys]] for conditioning in (positive, negative) for entry in conditioning]
        with score.ScoreSession(model, *told) as session:
            direct = session.both(x, 1.0)
            assert torch.equal(direct[0], conditional) and torch.equal(direct[1], free)
            session.set_views(views, tells=())
            assert torch.equal(session.both(x, 1.0)[0], nowhere)


def test_models_that_know_no_camera_ignore_it(synthetic, score):
    model = synthetic.video_model()
    positive, negative = texts(synthetic)
    x = torch.randn(VIDEO_SHAPE, generator=torch.Generator().manual_seed(9))
    with score.ScoreSession(model, positive, negative) as session:
        before, _ = session.both(x, 0.5)
        session.set_views(rig(2))
        assert torch.equal(session.both(x, 0.5)[0], before)


def test_each_picture_gets_the_prompt_of_its_view(synthetic, score):
    model = synthetic.image_model()
    plain, negative = texts(synthetic)
    front, back = synthetic.conditioning(20), synthetic.conditioning(21, tokens=10)  # one is longer, as a long prompt is
    x = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(10))
    with score.ScoreSession(model, plain, negative, directions=[front, back]) as session:
        session.set_text([2, 0, 1])
        mixed, free = session.both(x, 1.0)
        session.set_text([1, 1, 1])
        fronts, _ = session.both(x, 1.0)
        session.set_text(None)
        plains, _ = session.both(x, 1.0)
    for position, text in enumerate([back, plain, front]):
        with score.ScoreSession(model, text, negative) as session:
            alone, alone_free = session.both(x[position : position + 1], 1.0)
        assert (mixed[position : position + 1] - alone).abs().max() < 1e-5
        assert (free[position : position + 1] - alone_free).abs().max() < 1e-5
    assert (mixed[2] - fronts[2]).abs().max() < 1e-5 and (mixed[1] - plains[1]).abs().max() < 1e-5
    assert (fronts - plains).abs().max() > 1e-2


def control_net(synthetic):
    import comfy.cldm.cldm
    import comfy.controlnet
    import comfy.ops

    shape = synthetic.unet_config()
    shape = {k: v for k, v in shape.items() if k not in ("out_channels", "transformer_depth_output")} | {"hint_channels": 5}
    network = comfy.cldm.cldm.ControlNet(**shape, device="cpu", operations=comfy.ops.disable_weight_init)
    return comfy.controlnet.ControlNet(synthetic.fill(network, 30), load_device=torch.device("cpu"), compression_ratio=8, extra_conds=[])


def test_hints_change_per_call_and_per_item_and_stay_inside_the_session(synthetic, score):
    model, net = synthetic.image_model(), control_net(synthetic)
    hints = torch.rand(3, 128, 128, 5, generator=torch.Generator().manual_seed(12))
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(13))

    def told(hint):
        control = net.copy().set_cond_hint(hint.movedim(-1, 1))
        return [[[entry[0], entry[1] | {"control": control}]] for conditioning in texts(synthetic) for entry in conditioning]

    def alone(hint, x):
        with score.ScoreSession(model, *told(hint)) as session:
            return session.both(x, 1.0)[0]

    conditionings = told(hints[2:])
    with score.ScoreSession(model, *conditionings) as session:
        first, _ = session.both(x, 1.0)
        assert len(session.controls) == 1  # positive and negative share it, which is what lets the host batch them
        session.set_hint(hints[:2])
        second, _ = session.both(x, 1.0)
        session.set_hint(hints[2:], position=0)
        assert torch.equal(session.both(x, 1.0)[0], first)
    assert torch.equal(first, alone(hints[2:], x))
    for i in range(2):
        assert (second[i : i + 1] - alone(hints[i : i + 1], x[i : i + 1])).abs().max() < 1e-5
    assert (first - second).abs().max() > 1e-2
    control = conditionings[0][0][1]["control"]
    assert torch.equal(control.cond_hint_original, hints[2:].movedim(-1, 1)) and control.cond_hint is None


@pytest.mark.parametrize("shape", [(1, 4, 16, 16), (1, 3, 2, 16, 16), (3, 16, 16)])
def test_wrong_latents_end_in_one_plain_line(synthetic, score, shape):
    model = synthetic.image_model()
    with score.ScoreSession(model, *texts(synthetic)) as session:
        with pytest.raises(ValueError) as failure:
            session.both(torch.zeros(shape), 1.0)
        assert " x ".join(map(str, shape)) in str(failure.value) and "same checkpoint" in str(failure.value)
        assert "\n" not in str(failure.value)
        session.both(torch.zeros(SHAPE), 1.0)  # and the session still works


def test_missing_text_ends_in_one_plain_line(synthetic, score):
    model = synthetic.image_model()
    good = synthetic.conditioning(1)
    for positive, negative, name in (([[None, {}]], good, "positive"), (good, [[None, {}]], "negative"), ([], good, "positive")):
        with pytest.raises(ValueError, match=f"The {name} conditioning .*CLIP Text Encode"):
            score.ScoreSession(model, positive, negative)


def test_text_of_another_encoder_ends_in_one_plain_line(synthetic, score):
    model, fitting = synthetic.image_model(), synthetic.conditioning(1)
    for texts, name in (((synthetic.conditioning(1, width=48), fitting), "positive"), ((fitting, synthetic.conditioning(1, width=48)), "negative")):
        with pytest.raises(ValueError, match=f"The {name} conditioning is 48 numbers wide, and this MODEL .* takes 32. Encode the prompts with the CLIP") as caught:
            score.ScoreSession(model, *texts)
        assert "\n" not in str(caught.value)
