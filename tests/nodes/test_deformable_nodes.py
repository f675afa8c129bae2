"""Deformable Field and Displacement TV, run as the host runs them, on the oracle prior."""

import importlib

import pytest
import torch
from test_field_nodes import call, defaults, nodes, optimise, oracle_model, output, renderer, same, state, tiny_field, tiny_stage  # noqa: F401


SMALL = {"size": "custom", "levels": 2, "coarsest": 4, "finest": 8, "time_nodes": 4, "table": 10, "hidden": 16, "layers": 1}


@pytest.fixture(scope="module")
def moving(comfy):
    return importlib.import_module("bloom4d.nodes.deformable")


def animate(moving, canonical, **changes):
    return call(moving.Bloom4DDeformableField, canonical=canonical, **{"size": SMALL, "background": {"background": "keep"}, **changes})[0]


def video_stage(nodes, moving, oracle_model, weight=1000.0, **changes):  # noqa: F811
    """A stage whose only term is a video's, with a Displacement TV."""
    model, vae, text = oracle_model
    cameras = call(nodes["cameras"].Bloom4DCameraSampler, views=1, frames=3)[0]
    guidance = call(nodes["guidance"].Bloom4DVideoSDSGuidance, cameras=cameras, model=model, vae=vae, positive=text, negative=text, width=16, height=16)[0]
    calm = call(moving.Bloom4DDisplacementTV, guidance=guidance, weight=weight)[0]
    return call(nodes["optimize"].Bloom4DStage, terms={"term0": calm}, rate_dynamic=0.01, weight_decay=0.01, **changes)[0]


def shown(moving, field) -> str:
    return moving.canonical_text(field.field)


def test_a_finished_field_gets_motion_and_stays_itself(nodes, moving, oracle_model, output):  # noqa: F811
    static, *_ = optimise(nodes, tiny_field(nodes), tiny_stage(nodes, oracle_model))
    before = state(static)
    made = moving.Bloom4DDeformableField.execute(canonical=static, encoding=moving.GRID, deformation_scale=1.0, seed=3, time=0.0, frequencies=6, size=SMALL, background={"background": "keep"})
    field = made.result[0]
    assert made.ui["text"] == (shown(moving, field),) and field.field.canonical_hash() in made.ui["text"][0]
    node = nodes["optimize"].Bloom4DHybridSDSOptimizer
    result = node.execute(field=field, stage=video_stage(nodes, moving, oracle_model), renderer=renderer(nodes), **{**defaults(node), "steps": 6})
    scene = result.result[0]
    assert shown(moving, scene) in result.ui["text"][0] and shown(moving, scene) == shown(moving, field)
    assert same(before, {name.removeprefix("canonical."): value for name, value in state(scene).items() if name.startswith("canonical.")}) and same(before, state(static))
    assert not torch.equal(state(scene)["moving.grid.table"], state(field)["moving.grid.table"])
    assert [history.name for history in scene.history] == ["stage", "stage"] and len(scene.history[1].losses()) == 6

    saved = call(nodes["files"].Bloom4DSaveField, field=scene)[0]
    loaded = call(nodes["files"].Bloom4DLoadField, path=saved)[0]
    assert same(state(scene), state(loaded)) and shown(moving, loaded) == shown(moving, scene) and len(loaded.history) == 2
    path = call(nodes["cameras"].Bloom4DCameraPath, frames=3)[0]
    seen = [call(nodes["render"].Bloom4DRenderField, field=some, cameras=path, width=16, height=16, background={"background": "field"}, renderer=renderer(nodes)) for some in (scene, loaded)]
    assert all(torch.equal(one, other) for one, other in zip(*seen)) and seen[0][1].max() > 0.5


def test_the_node_changes_no_pixel_before_training(nodes, moving, output):  # noqa: F811
    field, path = tiny_field(nodes), call(nodes["cameras"].Bloom4DCameraPath, frames=3)[0]
    for encoding in (moving.GRID, moving.POSITIONAL):
        seen = [
            call(nodes["render"].Bloom4DRenderField, field=some, cameras=path, width=16, height=16, background={"background": "field"})[0]
            for some in (field, animate(moving, field, encoding=encoding))
        ]
        assert torch.equal(*seen)
    larger = call(nodes["render"].Bloom4DRenderField, field=animate(moving, field, deformation_scale=1.5), cameras=path, width=16, height=16, background={"background": "field"})[1]
    assert larger.sum() > 1.5 * call(nodes["render"].Bloom4DRenderField, field=field, cameras=path, width=16, height=16, background={"background": "field"})[1].sum()


def test_gaussians_get_motion_too(nodes, moving, oracle_model, output, comfy):  # noqa: F811
    gaussian_field, distil = (importlib.import_module(f"bloom4d.nodes.{name}") for name in ("gaussian_field", "distil_gaussians"))
    cloud = call(gaussian_field.Bloom4DGaussianField, count=80, motion={"motion": "none"})[0]
    field = animate(moving, cloud)
    assert field.field.kind == "deformable gaussians"
    node = nodes["optimize"].Bloom4DHybridSDSOptimizer
    scene = call(node, field=field, stage=video_stage(nodes, moving, oracle_model), steps=4)[0]
    assert shown(moving, scene) == shown(moving, field)
    baked = call(distil.Bloom4DGaussiansFromField, field=scene, frames=3)[0]
    assert baked.positions.shape == (3, 80, 3) and not torch.equal(baked.positions[0], baked.positions[2])
    loaded = call(nodes["files"].Bloom4DLoadField, path=call(nodes["files"].Bloom4DSaveField, field=scene)[0])[0]
    assert torch.equal(loaded.field.bake(3).positions, scene.field.bake(3).positions)
    assert importlib.import_module("bloom4d.models.optimize.forming").coarse_cloud(scene.field).count == 80
    with pytest.raises(ValueError, match="Connect a Splat Renderer"):
        optimise(nodes, field, video_stage(nodes, moving, oracle_model))
    with pytest.raises(ValueError, match="deformable gaussians has none"):
        call(nodes["field"].Bloom4DIsosurface, field=field, resolution=8)


def test_surfaces_and_forming_clouds_of_a_deformable_field(nodes, moving, output):  # noqa: F811
    from bloom4d.models.optimize.forming import coarse_cloud

    field = animate(moving, tiny_field(nodes))
    mesh = call(nodes["field"].Bloom4DIsosurface, field=field, times=2, resolution=16, threshold=5.0)[0]
    assert mesh.vertex_counts.min() > 20
    with torch.inference_mode(False):
        assert coarse_cloud(field.field).count > 20


def test_the_motion_is_drawn_and_measured(nodes, moving, output):  # noqa: F811
    node, path = moving.Bloom4DRenderDisplacement, call(nodes["cameras"].Bloom4DCameraPath, frames=3)[0]
    at_rest = animate(moving, tiny_field(nodes))
    picture, motion, jitter = call(node, field=at_rest, cameras=path, width=24, height=16)
    _, mask, *_ = call(nodes["render"].Bloom4DRenderField, field=at_rest, cameras=path, width=24, height=16, background={"background": "field"})
    assert motion == jitter == 0 and torch.allclose(picture, 0.5 * mask[..., None].expand_as(picture), atol=1e-5)

    class Risen(type(at_rest.field)):
        """Everything stands .2 higher than in the canonical scene: it came from .1 of the cube's side below."""

        def is_static(self):
            return False

        def displacement(self, positions, times):
            return positions.new_tensor([0.0, -0.1, 0.0]).expand_as(positions)

    field = at_rest.field
    with torch.inference_mode(False):
        risen = type(at_rest)(Risen(field.config, torch.Generator(), field.canonical))
    picture, motion, jitter = call(node, field=risen, cameras=path, width=24, height=16)
    seen = picture[..., 0] > 0.49
    assert motion == pytest.approx(0.2, rel=1e-3) and jitter > 0 and seen.any()
    assert torch.allclose(picture[seen][:, 1], torch.tensor(1.0), atol=0.02) and torch.allclose(picture[seen][:, 2], torch.tensor(0.5), atol=0.02)
    assert torch.equal(picture[:, 0, 0], torch.zeros(3, 3))
    with pytest.raises(ValueError, match="hash displaces nothing that could be drawn. Connect a Deformable Field"):
        call(node, field=tiny_field(nodes), cameras=path)


def test_a_term_with_tv_on_another_field_is_refused(nodes, moving, oracle_model, output):  # noqa: F811
    with pytest.raises(ValueError, match='^The term "video" has a Displacement TV, and a field of hash displaces nothing'):
        optimise(nodes, tiny_field(nodes), video_stage(nodes, moving, oracle_model))
    optimise(nodes, tiny_field(nodes), video_stage(nodes, moving, oracle_model, weight=0.0), steps=1)


def test_widgets_change_what_they_say(moving, nodes):  # noqa: F811
    field = tiny_field(nodes)
    config = lambda **changes: animate(moving, field, **changes).field.config  # noqa: E731
    assert config(encoding=moving.POSITIONAL).displacement.grid is None and config(encoding=moving.POSITIONAL, frequencies=3).displacement.frequencies == 3
    assert config(background={"background": moving.RELEARNED, "width": 64, "depth": 3}).background.layers == 3 and config(time=0.5).time == 0.5
    paper = moving.displacement_config({"size": "Dream-in-4D"}, moving.GRID, 6)
    assert (paper.grid.levels, paper.hidden, paper.layers) == (12, 64, 4)
    assert moving.displacement_config({"size": "demo"}, moving.GRID, 6).grid.levels == 6
    one, other = animate(moving, field, seed=1), animate(moving, field, seed=2)
    assert not torch.equal(state(one)["moving.grid.table"], state(other)["moving.grid.table"]) and shown(moving, one) == shown(moving, other)


def test_levels_join_one_by_one_through_the_stage_node(nodes, moving, oracle_model):  # noqa: F811
    stage = video_stage(nodes, moving, oracle_model, dynamic_levels=0.3333, levels_every=500).stage
    assert [stage.active_levels(step, 10000, (0, 12))[1] for step in (0, 499, 500, 4000)] == [4, 4, 5, 12]


def test_learning_rates_are_halved_through_the_stage_node(nodes, moving, oracle_model):  # noqa: F811
    stage = video_stage(nodes, moving, oracle_model, warm_up=0, final_rate=1.0, halve_rates_at="0.8, 0.9").stage
    assert [stage.rates.factor(step, 10) for step in (7, 8, 9)] == [1, 0.5, 0.25] and not video_stage(nodes, moving, oracle_model).stage.rates.halved_at
    with pytest.raises(ValueError, match="no list of fractions. Write halve_rates_at as"):
        video_stage(nodes, moving, oracle_model, halve_rates_at="late")


def test_a_refinement_keeps_the_canonical_field(nodes, moving, oracle_model, output):  # noqa: F811
    field = animate(moving, tiny_field(nodes))
    model, vae, text = oracle_model
    cameras = call(nodes["cameras"].Bloom4DCameraSampler)[0]
    guidance = call(nodes["guidance"].Bloom4DMultiViewGuidance, cameras=cameras, model=model, vae=vae, positive=text, negative=text)[0]
    refined = call(nodes["optimize"].Bloom4DPhotometricRefinement, field=field, guidance=guidance, views=2, frames=2, steps=3, rays=64, renderer=renderer(nodes))[0]
    assert shown(moving, refined) == shown(moving, field) and not torch.equal(state(refined)["moving.grid.table"], state(field)["moving.grid.table"])
