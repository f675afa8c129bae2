"""Saving memory changes no gradient: VAE picture by picture x renderer in parts x both, against one graph (1e-5 in float32, A9).

And how networks are asked: every frame of a video in one render, the prompt and the negative one in one call, half precision
inside with float32 around it, compiled where the user wants that.
"""

import pytest
import torch
from oracle_maths import GaussianOracle, OraclePrior
from toy_scenes import term, tiny_renderer, tiny_scene

FRAMES, SIZE, SIDE = 4, 16, 32
EVERYTHING = FRAMES * SIZE * SIZE


def calm_vae(synthetic):
    """The narrow VAE with quiet residual branches: as well conditioned as a trained one, so that 1e-5 is above float32's rounding."""
    vae = synthetic.kl_vae()
    with torch.no_grad():
        for name, weight in vae.first_stage_model.named_parameters():
            if "conv2." in name or "proj_out." in name:
                weight.mul_(0.1)
    return vae


@pytest.fixture(scope="module")
def vae(synthetic):
    return calm_vae(synthetic)


class Encoded:
    """An oracle in the latents of a host VAE: pictures go through the real encoder, with gradients.

    `carrying`: which share of the frames the biased shortcut of the public low-memory code lets through; 1 is exact.
    """

    accepts_alpha, default_guidance, native_size = False, 1.0, (SIDE, SIDE)

    def __init__(self, vae, singly=False, carrying=1.0):
        self.vae, self.one_at_a_time, self.carrying = vae, singly, carrying
        truth = torch.randn(FRAMES, 4, SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(4))
        self.oracle = OraclePrior(lambda z, a, b, cameras: GaussianOracle(truth, 0.1).denoise(z, a, b))

    def __getattr__(self, name):
        return getattr(self.oracle, name)

    def encode(self, rgb, alpha):
        from bloom4d.nodes.host.encode import encode_with_gradient

        kept = torch.arange(len(rgb)) < self.carrying * len(rgb)
        rgb = torch.where(kept[:, None, None, None], rgb, rgb.detach())
        large = torch.nn.functional.interpolate(rgb.movedim(-1, 1), (SIDE, SIDE), mode="bilinear").movedim(1, -1)
        return encode_with_gradient(self.vae, large, one_at_a_time=self.one_at_a_time)


def gradients(prior, chunk: int, precision=torch.float32) -> dict:
    """Of one video step, in every trained parameter."""
    from bloom4d.models.optimize.loop import Distiller
    from bloom4d.models.optimize.scene import Scene
    from bloom4d.models.optimize.stages import Backdrop, LearningRates, Stage

    stage = Stage((term("video", 1, FRAMES, motion=True),), rates=LearningRates(1e-2, 1e-2, 1e-3), backdrop=Backdrop(0.0))
    with torch.inference_mode(False), torch.enable_grad():
        scene = tiny_scene()
        job = Distiller(Scene(scene.field.to(precision)), stage, [prior], tiny_renderer(), 10, seed=6, chunk=chunk)
        job._gather()
        return {name: value.grad.clone() for name, value in job.work.field.named_parameters() if value.grad is not None}


@pytest.fixture(scope="module")
def whole(vae):
    """The monolithic graph."""
    return gradients(Encoded(vae), 0)


def difference(found: dict, expected: dict) -> float:
    """The relative error of the whole gradient, and of each grid's."""
    assert found.keys() == expected.keys() and {"static.table", "dynamic.table"} <= found.keys()
    joined = [torch.cat([values[name].flatten() for name in expected]) for values in (found, expected)]
    pairs = [joined, *((found[name], expected[name]) for name in ("static.table", "dynamic.table"))]
    return max(float((one - other).norm() / other.norm()) for one, other in pairs)


@pytest.mark.parametrize("singly", [False, True], ids=["VAE at once", "VAE picture by picture"])
@pytest.mark.parametrize("chunk", [0, 512, 97, EVERYTHING])
def test_saving_memory_changes_no_gradient(vae, whole, chunk, singly):
    assert difference(gradients(Encoded(vae, singly), chunk), whole) < 1e-5


@pytest.mark.parametrize("share", [0.75, 0.25])
def test_a_random_subset_of_the_frames_is_another_gradient(vae, whole, share):
    """The negative control: the shortcut that kills motion (4dfy issue 6)."""
    assert difference(gradients(Encoded(vae, carrying=share), 0), whole) > 0.1


def test_all_frames_are_rendered_in_one_call_of_renderer_and_field(vae, monkeypatch):
    from bloom4d.models.fields.hash_field import HashField
    from bloom4d.models.render.volume import VolumeRenderer

    calls = {"render_jittered": [], "forward": []}
    for owner, name in ((VolumeRenderer, "render_jittered"), (HashField, "forward")):
        def counted(itself, *arguments, original=getattr(owner, name), seen=calls[name], **options):
            seen.append(arguments)
            return original(itself, *arguments, **options)

        monkeypatch.setattr(owner, name, counted)
    gradients(Encoded(vae), 0)
    call, = calls["render_jittered"]
    origins, times = call[2], call[4]
    assert len(calls["forward"]) == 1 and len(origins) == EVERYTHING and len(times.unique()) == FRAMES


@pytest.fixture
def session(synthetic):
    """A score session on a tiny UNet, and the batches that its network was given."""
    from bloom4d.nodes.host.score import ScoreSession

    def build(model):
        seen, network = [], model.model.diffusion_model

        def counted(x, *arguments, original=network.forward, **options):
            seen.append((x.shape[0], x.dtype))
            return original(x, *arguments, **options)

        network.forward = counted
        return ScoreSession(model, synthetic.conditioning(1), synthetic.conditioning(2)), seen

    return build


def latents(seed: int) -> torch.Tensor:
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def test_prompt_and_negative_prompt_go_through_the_network_together(session, synthetic):
    held, seen = session(synthetic.image_model())
    with held:
        held.both(latents(1), 2.0)
    assert [batch for batch, _ in seen] == [8]


def half_model(synthetic, dtype):
    """The tiny UNet in half precision, as the host's loaders set one up on a device that prefers it."""
    model = synthetic.image_model().model
    model.manual_cast_dtype, model.model_config.unet_config["dtype"] = None, dtype
    model.diffusion_model.to(dtype)
    model.diffusion_model.dtype = dtype
    return synthetic.patcher(model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_networks_in_half_precision_take_and_give_float32(session, synthetic, dtype):
    full, _ = session(synthetic.image_model())
    half, seen = session(half_model(synthetic, dtype))
    with full, half:
        expected, _ = full.both(latents(1), 2.0)
        found, free = half.both(latents(1), 2.0)
    assert [kind for _, kind in seen] == [dtype] and found.dtype == free.dtype == torch.float32
    assert 0 < (found - expected).norm() / expected.norm() < (0.02 if dtype == torch.bfloat16 else 0.003)


def test_a_vae_in_half_precision_gives_float32_latents_and_gradients(synthetic, vae):
    half = calm_vae(synthetic)
    half.first_stage_model.to(torch.bfloat16)
    half.vae_dtype = torch.bfloat16
    found, expected = (gradients(Encoded(one), 0) for one in (half, vae))
    assert all(value.dtype == torch.float32 for value in found.values())
    assert 0 < difference(found, expected) < 0.1


def test_a_compiled_model_answers_as_the_plain_one(session, synthetic):
    """The host's own TorchCompileModel wraps the network in this way; "eager" traces it as the others do and needs no compiler."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper
    from comfy_extras.nodes_torch_compile import skip_torch_compile_dict

    model = synthetic.image_model()
    compiled = model.clone()
    traced = []

    def backend(graph, examples):
        traced.append(graph)
        return graph.forward

    set_torch_compile_wrapper(model=compiled, backend=backend, options={"guard_filter_fn": skip_torch_compile_dict})
    from bloom4d.nodes.host.score import ScoreSession

    texts = synthetic.conditioning(1), synthetic.conditioning(2)
    with ScoreSession(model, *texts) as plain, ScoreSession(compiled, *texts) as fast:
        expected = plain.both(latents(1), 2.0)
        found = fast.both(latents(1), 2.0)
        again = fast.both(latents(2), 3.0)
    assert traced, "nothing was compiled"
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(found, expected))
    assert not torch.equal(again[0], found[0]) and found[0].dtype == torch.float32
