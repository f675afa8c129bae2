"""The Gaussian Field node and what optimises, renders and saves it, run as the host runs them."""

import pytest
import torch
from test_field_nodes import call, oracle_model, output, state, same, tiny_field, tiny_stage  # noqa: F401

TINY_MOTION = {"motion": "custom", "channels": 4, "resolution": 4, "time_nodes": 3, "hidden": 8}


@pytest.fixture(scope="module")
def nodes(comfy):
    """The node modules by name."""
    import importlib

    names = ("cameras", "field", "gaussian_field", "render", "guidance", "optimize", "files", "runner")
    return {name: importlib.import_module(f"bloom4d.nodes.{name}") for name in names}


def gaussian_field(nodes, **changes):
    return call(nodes["gaussian_field"].Bloom4DGaussianField, **{"count": 200, "motion": TINY_MOTION, **changes})[0]


def optimise(nodes, field, stage, **changes):
    return call(nodes["optimize"].Bloom4DHybridSDSOptimizer, field=field, stage=stage, **{"steps": 6, **changes})


def render(nodes, scene, **changes):
    path = call(nodes["cameras"].Bloom4DCameraPath, frames=3)[0]
    return call(nodes["render"].Bloom4DRenderField, field=scene, cameras=path, width=24, height=16, background={"background": "field"}, **changes)


def cloud(comfy, frames=3):
    from bloom4d.models.gaussians.gaussians import Gaussians4D

    draws = torch.Generator().manual_seed(0)
    positions = 0.4 * torch.randn(frames, 50, 3, generator=draws)
    rotations = torch.nn.functional.normalize(torch.randn(1, 50, 4, generator=draws), dim=-1)
    return Gaussians4D(positions, rotations, torch.full((1, 50, 3), 0.1), torch.full((1, 50), 0.6), torch.randn(1, 50, 4, 3, generator=draws), torch.linspace(0, 1, frames))


def test_gaussians_go_where_every_field_goes(nodes, oracle_model, output):  # noqa: F811
    field, stage = gaussian_field(nodes), tiny_stage(nodes, oracle_model)
    before = state(field)
    scene, losses, preview = optimise(nodes, field, stage)  # no renderer connected: splats
    assert same(before, state(field)) and not same(before, state(scene)) and len(losses["loss"]) == 6
    assert preview.shape == (1, 4 * 128, 6 * 128, 3) and preview.min() < 0.9

    renderer = call(nodes["render"].Bloom4DSplatRenderer)[0]
    image, mask, depth, normals = render(nodes, scene, renderer=renderer)
    assert mask.max() > 0.3 and all(torch.isfinite(value).all() and value.min() >= 0 and value.max() <= 1 for value in (image, mask, depth, normals))
    assert depth.max() > 0 and normals.max() > 0
    for by_default, named in zip(render(nodes, scene), (image, mask, depth, normals)):
        assert torch.equal(by_default, named)

    refined = call(nodes["optimize"].Bloom4DPhotometricRefinement, field=scene, guidance=guidance(nodes, oracle_model), views=2, frames=2, denoising_steps=2, steps_per_round=2, rays=300, steps=3)[0]
    assert not same(state(scene), state(refined)) and [history.name for history in refined.history] == ["stage", "refinement"]
    saved = call(nodes["files"].Bloom4DSaveField, field=refined)[0]
    loaded = call(nodes["files"].Bloom4DLoadField, path=saved)[0]
    assert same(state(refined), state(loaded)) and torch.equal(render(nodes, loaded)[0], render(nodes, refined)[0])


def guidance(nodes, oracle_model):  # noqa: F811
    model, vae, text = oracle_model
    cameras = call(nodes["cameras"].Bloom4DCameraSampler)[0]
    return call(nodes["guidance"].Bloom4DMultiViewGuidance, cameras=cameras, model=model, vae=vae, positive=text, negative=text, width=16, height=16)[0]


def test_every_widget_of_a_new_field_matters(nodes):
    plain = gaussian_field(nodes)
    for changes in ({"count": 201}, {"radius": 0.7}, {"degree": 1}, {"seed": 1}, {"motion": {"motion": "none"}}, {"motion": {"motion": "demo"}}, {"motion": {**TINY_MOTION, "channels": 5}}):
        other = state(gaussian_field(nodes, **changes))
        assert state(plain).keys() != other.keys() or any(value.shape != other[name].shape or not torch.equal(value, other[name]) for name, value in state(plain).items()), changes
    assert gaussian_field(nodes, motion={"motion": "none"}).field.is_static() and not plain.field.is_static()
    assert plain.field.deformation.low.max() < -1 and plain.field.deformation.high.min() > 1  # all of the scene may move


def test_a_field_begins_with_connected_gaussians_at_an_instant(nodes, comfy):
    gaussians = cloud(comfy)
    for time, frame in ((0.0, 0), (1.0, 2)):
        field = gaussian_field(nodes, gaussians=gaussians, time=time).field
        now = field.at(torch.tensor([0.3]))
        assert field.count == 50 and torch.allclose(now.positions[0], gaussians.positions[frame], atol=1e-6)
        assert torch.allclose(now.opacities[0], gaussians.opacities[0], atol=1e-5) and torch.allclose(now.scales[0], gaussians.scales[0], atol=1e-6)
        assert torch.allclose(now.harmonics[0], gaussians.harmonics[0], atol=1e-6)


def test_settings_of_the_splat_renderer_change_the_picture(nodes):
    scene = gaussian_field(nodes)
    plain, wide = (render(nodes, scene, renderer=call(nodes["render"].Bloom4DSplatRenderer, dilation=dilation)[0])[1] for dilation in (0.3, 2.0))
    assert wide.sum() > 1.05 * plain.sum()
    assert [call(nodes["render"].Bloom4DSplatRenderer, max_alpha=text)[0].config.max_alpha for text in ("0.99", "0.999")] == [0.99, 0.999]


def test_pairs_that_do_not_fit_refuse_before_anything_runs(nodes, oracle_model, output, monkeypatch):  # noqa: F811
    stage = tiny_stage(nodes, oracle_model)
    monkeypatch.setattr(type(stage.sources[0]), "open", lambda source: pytest.fail("a prior was opened"))
    volume, splats = call(nodes["render"].Bloom4DVolumeRenderer)[0], call(nodes["render"].Bloom4DSplatRenderer)[0]
    gaussians, radiance = gaussian_field(nodes), tiny_field(nodes)
    surface = call(nodes["optimize"].Bloom4DStage, terms={"term0": guidance(nodes, oracle_model)}, orientation=1.0)[0]
    refine = nodes["optimize"].Bloom4DPhotometricRefinement
    for refused, remedy in (
        (lambda: optimise(nodes, gaussians, stage, renderer=volume), "Connect a Splat Renderer"),
        (lambda: optimise(nodes, radiance, stage, renderer=splats), "Connect a Volume Renderer"),
        (lambda: optimise(nodes, gaussians, surface), "Set it to 0"),
        (lambda: call(refine, field=gaussians, guidance=guidance(nodes, oracle_model), renderer=volume), "Connect a Splat Renderer"),
        (lambda: render(nodes, radiance, renderer=splats), "Connect a Volume Renderer"),
        (lambda: call(nodes["field"].Bloom4DIsosurface, field=gaussians), "Connect a Hash Field"),
    ):
        with pytest.raises(ValueError, match=remedy) as caught:
            refused()
        assert "\n" not in str(caught.value)
    assert not list(output.rglob("step_*"))


def test_an_exploded_cloud_is_no_start(nodes, comfy):
    gaussians = cloud(comfy)
    gaussians.positions[0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="finite"):
        gaussian_field(nodes, gaussians=gaussians)
