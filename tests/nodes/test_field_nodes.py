"""The nodes of hybrid score distillation, run as the host runs them, on the oracle prior."""

import json
import math
from dataclasses import replace

import pytest
import torch


@pytest.fixture(scope="module")
def nodes(comfy):
    """The node modules by name."""
    import importlib

    names = ("cameras", "field", "render", "guidance", "optimize", "files", "runner")
    return {name: importlib.import_module(f"bloom4d.nodes.{name}") for name in names}


@pytest.fixture
def output(comfy, tmp_path):
    """The host's output folder, in a temporary place."""
    import folder_paths

    before = folder_paths.get_output_directory(), folder_paths.get_temp_directory()
    folder_paths.set_output_directory(str(tmp_path / "output"))
    folder_paths.set_temp_directory(str(tmp_path / "temp"))
    yield tmp_path / "output"
    folder_paths.set_output_directory(before[0])
    folder_paths.set_temp_directory(before[1])


def defaults(node) -> dict:
    """Every widget's default, as the frontend would send it."""
    values = {}
    for item in node.define_schema().inputs:
        if getattr(item, "default", None) is not None:
            values[item.id] = item.default
        elif item.get_io_type() == "COMBO":
            values[item.id] = item.options[0]
    return values


def call(node, **values):
    """Execute with defaults for everything that is not given."""
    return node.execute(**{**defaults(node), **values}).result


@pytest.fixture(scope="module")
def oracle_model(comfy):
    import oracle

    class Pixels(oracle.Pixels):
        """The oracle's codec, which also gives back alpha as the patch codec does."""

        def decode_rgba(self, latents):
            return latents.clamp(0, 1)

    with torch.inference_mode():
        pictures = torch.zeros(1, 4, 3, 4, 16, 16)
        pictures[..., 3, 5:11, 5:11] = 1.0
        pictures[..., 0, 5:11, 5:11] = 0.8
        pictures[:, :, 2, 1, 5:11, 5:11] = 0.9  # it turns yellow
        return *oracle.oracle_prior(pictures, codec=Pixels()), oracle.prompt()


TINY = {"size": "custom", "static_levels": 3, "static_coarsest": 4, "static_finest": 16, "dynamic_levels": 2, "dynamic_coarsest": 4, "dynamic_finest": 8, "time_nodes": 4, "table": 10, "hidden": 16, "layers": 1}


def tiny_field(nodes, **changes):
    return call(nodes["field"].Bloom4DHashField, size=TINY, background={"background": "none"}, **changes)[0]


def tiny_stage(nodes, oracle_model, probabilities="0.5, 0.5", **changes):
    model, vae, text = oracle_model
    cameras = call(nodes["cameras"].Bloom4DCameraSampler)[0]
    video_cameras = call(nodes["cameras"].Bloom4DCameraSampler, views=1, frames=3)[0]
    common = {"model": model, "vae": vae, "positive": text, "negative": text, "width": 16, "height": 16}
    terms = {
        "term0": call(nodes["guidance"].Bloom4DMultiViewGuidance, cameras=cameras, **common)[0],
        "term1": call(nodes["guidance"].Bloom4DVideoSDSGuidance, cameras=video_cameras, **common)[0],
    }
    return call(nodes["optimize"].Bloom4DStage, terms=terms, probabilities=probabilities, rate_dynamic=0.02, **changes)[0]


def renderer(nodes):
    return call(nodes["render"].Bloom4DVolumeRenderer, samples=12, occupancy_resolution=8, time_slabs=2)[0]


def optimise(nodes, field, stage, **changes):
    return call(nodes["optimize"].Bloom4DHybridSDSOptimizer, field=field, stage=stage, renderer=renderer(nodes), **{"steps": 6, **changes})


def state(scene) -> dict:
    return {name: value.clone() for name, value in scene.field.state_dict().items()}


def same(a, b) -> bool:
    return all(torch.equal(value, b[name]) for name, value in a.items())


def test_text_to_4d_from_field_to_files(nodes, oracle_model, output):
    field, stage = tiny_field(nodes), tiny_stage(nodes, oracle_model)
    before = state(field)
    scene, losses, preview = optimise(nodes, field, stage)
    assert same(before, state(field)) and not same(before, state(scene))
    assert len(losses["loss"]) == 6 and len(set(losses["loss"])) > 1
    assert preview.shape == (1, 4 * 128, 6 * 128, 3) and preview.min() >= 0 and preview.max() <= 1

    again, _, _ = optimise(nodes, scene, stage, seed=1)
    assert [history.name for history in again.history] == ["stage", "stage"]

    path = call(nodes["cameras"].Bloom4DCameraPath, frames=3)[0]
    image, mask, depth, normals = call(nodes["render"].Bloom4DRenderField, field=again, cameras=path, width=24, height=16, background={"background": "colour", "colour": "#00ff00"}, renderer=renderer(nodes))
    assert image.shape == depth.shape == normals.shape == (3, 16, 24, 3) and mask.shape == (3, 16, 24)
    assert torch.allclose(image[:, 0, 0], torch.tensor([0.0, 1.0, 0.0]).expand(3, 3), atol=1e-3) and mask[:, 0, 0].max() < 1e-3 and mask.max() > 0.5
    assert all(torch.isfinite(value).all() and value.min() >= 0 and value.max() <= 1 for value in (image, mask, depth, normals))

    curves, text = call(nodes["optimize"].Bloom4DTrainingCurves, field=again)
    stages = json.loads(text)["stages"]
    assert curves.shape[-1] == 3 and curves.std() > 0.01 and len(stages) == 2
    assert sum(len(values["loss"]) for values in stages[0]["terms"].values()) == 6 and set(stages[0]["learning_rates"]) == {"step", "static", "dynamic", "decoder"}

    saved = call(nodes["files"].Bloom4DSaveField, field=again)[0]
    loaded = call(nodes["files"].Bloom4DLoadField, path=saved)[0]
    assert same(state(again), state(loaded)) and [history.describe() for history in loaded.history] == [history.describe() for history in again.history]
    continued = [optimise(nodes, start, stage, filename_prefix=prefix)[0] for start, prefix in ((again, "one"), (loaded, "two"))]
    assert same(state(continued[0]), state(continued[1]))


def test_two_runs_on_one_prefix_do_not_meet(nodes, oracle_model, output):
    field, stage = tiny_field(nodes), tiny_stage(nodes, oracle_model)
    first, second = (optimise(nodes, field, stage, seed=seed)[0] for seed in (1, 2))
    folders = [path for path in (output / "bloom4d" / "runs" / "4d").iterdir()]
    assert len(folders) == 2 and not same(state(first), state(second))
    assert same(state(optimise(nodes, field, stage, seed=1)[0]), state(first))  # found again, not mixed up


def test_interrupt_then_the_same_graph_gives_the_uninterrupted_result(nodes, oracle_model, output, comfy, monkeypatch):
    field, stage = tiny_field(nodes), tiny_stage(nodes, oracle_model)
    whole = optimise(nodes, field, stage, filename_prefix="whole")[0]
    management, calls = comfy.model_management, []

    def interrupt():
        calls.append(1)
        if len(calls) == 4:
            raise management.InterruptProcessingException

    monkeypatch.setattr(management, "throw_exception_if_processing_interrupted", interrupt)
    with pytest.raises(management.InterruptProcessingException):
        optimise(nodes, field, stage)
    monkeypatch.undo()
    written = list((output / "bloom4d" / "runs" / "4d").rglob("step_*.safetensors"))
    assert written and all(int(path.stem[5:]) < 6 for path in written)
    assert same(state(optimise(nodes, field, stage)[0]), state(whole))


def test_run_id_changes_with_whatever_is_resolved(nodes, oracle_model, output):
    import oracle

    field, stage = tiny_field(nodes), tiny_stage(nodes, oracle_model)
    plain = renderer(nodes)

    def identity(field=field, stage=stage, renderer=plain, steps=6, seed=0):
        return nodes["runner"].run_id(field, stage.sources, renderer, stage.stage, steps, seed)

    model, vae, text = oracle_model
    other_model = oracle.oracle_prior(torch.rand(1, 4, 3, 4, 16, 16))
    other_text = oracle.prompt([0], 1)
    other_text[0][1]["bloom4d_weights"] = torch.tensor([0.5])
    more = call(nodes["render"].Bloom4DVolumeRenderer, samples=13, occupancy_resolution=8, time_slabs=2)[0]
    changed = [
        identity(steps=7), identity(seed=1), identity(renderer=more), identity(field=tiny_field(nodes, seed=1)),
        identity(field=tiny_field(nodes, blob_radius=0.5)),
        identity(stage=tiny_stage(nodes, oracle_model, "0.4, 0.6")),
        identity(stage=tiny_stage(nodes, oracle_model, rate_static=0.01)),
        identity(stage=tiny_stage(nodes, (*other_model, text))),
        identity(stage=tiny_stage(nodes, (model, vae, other_text))),
    ]  # fmt: skip
    assert len({identity(), *changed}) == len(changed) + 1
    assert identity() == identity(stage=tiny_stage(nodes, oracle_model), field=tiny_field(nodes))
    optimise(nodes, field, stage)  # loading the model for a run must not change its name
    assert identity() == identity(stage=tiny_stage(nodes, oracle_model))


def test_resume_new_and_file(nodes, oracle_model, output):
    field, stage = tiny_field(nodes), tiny_stage(nodes, oracle_model)
    scene = optimise(nodes, field, stage)[0]
    (checkpoint,) = (output / "bloom4d" / "runs" / "4d").rglob("step_00000006.safetensors")
    written = checkpoint.stat().st_mtime_ns
    assert same(state(optimise(nodes, field, stage, resume="new")[0]), state(scene)) and checkpoint.stat().st_mtime_ns > written
    name = checkpoint.relative_to(output).as_posix()
    longer = optimise(nodes, field, stage, steps=8, resume="file", checkpoint=name)[0]
    assert len(longer.history[0]) == 8
    for wrong, message in (("", "no checkpoint is named"), ("../secret.safetensors", "leads out of the folder"), ("none.safetensors", "There is no checkpoint")):
        with pytest.raises(ValueError, match=message):
            optimise(nodes, field, stage, resume="file", checkpoint=wrong)
    with pytest.raises(ValueError, match="made with another field: its layers is 1, here it is 2"):
        other = call(nodes["field"].Bloom4DHashField, size={**TINY, "layers": 2}, background={"background": "none"})[0]
        optimise(nodes, other, stage, steps=8, resume="file", checkpoint=name)


def test_refinement_fits_what_the_model_redraws(nodes, oracle_model, output):
    model, vae, text = oracle_model
    field, cameras = tiny_field(nodes), call(nodes["cameras"].Bloom4DCameraSampler)[0]
    guidance = call(nodes["guidance"].Bloom4DSDSGuidance, model=model, vae=vae, positive=text, negative=text, cameras=cameras)[0]
    settings = dict(field=field, guidance=guidance, views=2, frames=2, denoising_steps=2, steps_per_round=8, rays=256, rate_static=0.05, rate_decoder=0.02, renderer=renderer(nodes))
    scene, losses, preview = call(nodes["optimize"].Bloom4DPhotometricRefinement, steps=24, **settings)
    assert preview.shape[-1] == 3 and losses["loss"][-1] < 0.7 * losses["loss"][0]
    path = call(nodes["cameras"].Bloom4DCameraPath, frames=2, turns=0.0)[0]
    image = call(nodes["render"].Bloom4DRenderField, field=scene, cameras=path, width=16, height=16, background={"background": "field"}, renderer=renderer(nodes))[0]
    assert image[0, 8, 8, 0] > image[0, 8, 8, 2] + 0.1  # red, as the model knows it; the new field is grey
    assert len(list((output / "bloom4d" / "runs" / "4d").iterdir())) == 1
    other = call(nodes["optimize"].Bloom4DPhotometricRefinement, steps=24, **{**settings, "rays": 128})[0]
    assert not same(state(other), state(scene)) and len(list((output / "bloom4d" / "runs" / "4d").iterdir())) == 2


def test_time_budget_ends_early_and_goes_on(nodes, oracle_model, output):
    field, stage = tiny_field(nodes), tiny_stage(nodes, oracle_model)
    whole = optimise(nodes, field, stage, filename_prefix="whole")[0]
    node = nodes["optimize"].Bloom4DHybridSDSOptimizer
    short = optimise(nodes, field, stage, time_budget=1e-9)[0]
    assert len(short.history[0]) == 0
    assert same(state(optimise(nodes, field, stage)[0]), state(whole))
    assert node.fingerprint_inputs(time_budget=0, steps=1) == 0 != node.fingerprint_inputs(time_budget=1, steps=1)


def test_curves_of_a_job_from_its_checkpoint(nodes, oracle_model, output):
    optimise(nodes, tiny_field(nodes), tiny_stage(nodes, oracle_model), filename_prefix="job/one")
    node = nodes["optimize"].Bloom4DTrainingCurves
    curves, text = call(node, run="job/one")
    assert len(json.loads(text)["stages"]) == 1 and node.fingerprint_inputs(run="job/one") != ""
    with pytest.raises(ValueError, match="There is no checkpoint of"):
        call(node, run="job/two")
    with pytest.raises(ValueError, match="not been optimised yet"):
        call(node, field=tiny_field(nodes))


def test_bad_stages_have_first_lines_that_stand_alone(nodes, oracle_model):
    with pytest.raises(ValueError, match="The stage has no guidance term. Connect at least one"):
        call(nodes["optimize"].Bloom4DStage, terms={})
    with pytest.raises(ValueError, match=r'sums to 1\.5\. Normalised they are "0\.6667, 0\.3333"'):
        tiny_stage(nodes, oracle_model, "1, 0.5")
    with pytest.raises(ValueError, match="2 terms"):
        tiny_stage(nodes, oracle_model, "1")
    model, vae, text = oracle_model
    path = call(nodes["cameras"].Bloom4DCameraPath)[0]
    with pytest.raises(ValueError, match="connect a Camera Sampler, not a Camera Path"):
        call(nodes["guidance"].Bloom4DSDSGuidance, model=model, vae=vae, positive=text, negative=text, cameras=path)
    with pytest.raises(ValueError, match="comes first"):
        call(nodes["cameras"].Bloom4DCameraSampler, fov_min=50.0)


def test_terms_of_one_name_are_told_apart(nodes, oracle_model):
    model, vae, text = oracle_model
    cameras = call(nodes["cameras"].Bloom4DCameraSampler)[0]
    one = call(nodes["guidance"].Bloom4DSDSGuidance, model=model, vae=vae, positive=text, negative=text, cameras=cameras)[0]
    stage = call(nodes["optimize"].Bloom4DStage, terms={"term1": one, "term0": one, "term10": one})[0]
    assert [term.name for term in stage.stage.terms] == ["image", "image 2", "image 3"] and stage.stage.probabilities is None


def test_the_ball_of_the_start_grows_over_a_part_of_the_stage(nodes, oracle_model):
    model, vae, text = oracle_model
    cameras = call(nodes["cameras"].Bloom4DCameraSampler)[0]
    term = call(nodes["guidance"].Bloom4DSDSGuidance, model=model, vae=vae, positive=text, negative=text, cameras=cameras)[0]
    blob = lambda **values: call(nodes["optimize"].Bloom4DStage, terms={"term0": term}, blob_start=0.5, blob_end=5.0, **values)[0].stage.blob  # noqa: E731
    assert [blob().at(step, 100) for step in (0, 50, 100)] == pytest.approx([0.5, 2.75, 5.0])
    assert [blob(blob_until=0.5).at(step, 100) for step in (0, 25, 50, 100)] == pytest.approx([0.5, 2.75, 5.0, 5.0])


def test_each_penalty_comes_to_its_weight_by_its_own_schedule(nodes, oracle_model):
    """4D-fy: sparsity 10 all the time beside an opacity entropy that steps to 1000 at 10,000 of 100,000 steps."""
    model, vae, text = oracle_model
    cameras = call(nodes["cameras"].Bloom4DCameraSampler)[0]
    term = call(nodes["guidance"].Bloom4DSDSGuidance, model=model, vae=vae, positive=text, negative=text, cameras=cameras)[0]

    def weights(step, **values):
        stage = call(nodes["optimize"].Bloom4DStage, **{"terms": {"term0": term}, "opaque": 1000.0, "sparsity": 10.0, "penalties_until": 0.5, **values})[0].stage
        return stage.regularisers.weights(step, 100_000)

    paper = {"opaque_schedule": "0, 0.1, 0.1", "sparsity_schedule": "0, 0, 0"}
    assert weights(0, **paper) == weights(9_999, **paper) == {"sparsity": 10.0}
    assert weights(10_000, **paper) == weights(99_999, **paper) == {"opaque": 1000.0, "sparsity": 10.0}
    assert weights(0) == {} and weights(25_000) == pytest.approx({"opaque": 500.0, "sparsity": 5.0}), "empty: as always"
    assert weights(50_000, sparsity_schedule="30, 0.25, 0.75")["sparsity"] == pytest.approx(20.0)
    assert weights(0, z_variance=2.0, z_variance_schedule="1, 0.5, 0.5", orientation=4.0, orientation_schedule="0, 0, 0") == {"z_variance": 1.0, "orientation": 4.0}
    for wrong, words in (("0, 0.1", "three numbers"), ("much", "three numbers"), ("0, 0.2, 0.1", "in order"), ("0, 0, 2", "in order"), ("-1, 0, 1", "at least 0"), ("nan, 0, 1", "at least 0")):
        with pytest.raises(ValueError, match=words):
            weights(0, opaque_schedule=wrong)


def test_small_renders_may_come_in_larger_batches(nodes, oracle_model):
    """Dream-in-4D, image to 4D: 12 of 64, 4 of 128, 2 of 256 pixels, from steps 0, 200 and 300 of 2000."""
    model, vae, text = oracle_model
    cameras = call(nodes["cameras"].Bloom4DCameraSampler, views=1)[0]
    common = {"model": model, "vae": vae, "positive": text, "negative": text, "cameras": cameras, "width": 256, "height": 256, "coarse_factor": 0.25, "coarse_until": 0.1}
    item = call(nodes["guidance"].Bloom4DSDSGuidance, **common, scenes=2, coarse_scenes=12, half_until=0.15, half_scenes=4)[0]
    seen = [(item.term.resolution.at(step, 2000), item.term.scenes_at(step, 2000)) for step in (0, 199, 200, 299, 300, 1999)]
    assert seen == [((64, 64), 12), ((64, 64), 12), ((128, 128), 4), ((128, 128), 4), ((256, 256), 2), ((256, 256), 2)]
    plain = call(nodes["guidance"].Bloom4DSDSGuidance, **common, scenes=2)[0]
    assert [(plain.term.resolution.at(step, 2000), plain.term.scenes_at(step, 2000)) for step in (0, 200)] == [((64, 64), 2), ((256, 256), 2)]
    stage = call(nodes["optimize"].Bloom4DStage, terms={"term0": item, "term1": plain})[0].stage
    assert stage.together([0, 1]) == [[0], [1]], "terms whose batches differ do not see the same pictures"


def test_a_larger_batch_of_small_renders_is_what_the_prior_sees(nodes, oracle_model, output):
    model, vae, text = oracle_model
    cameras = call(nodes["cameras"].Bloom4DCameraSampler, views=1)[0]
    common = {"model": model, "vae": vae, "positive": text, "negative": text, "cameras": cameras, "width": 16, "height": 16, "coarse_factor": 0.5, "coarse_until": 0.5}
    made = {}
    for scenes in (0, 3):
        item = call(nodes["guidance"].Bloom4DSDSGuidance, **common, coarse_scenes=scenes)[0]
        stage = call(nodes["optimize"].Bloom4DStage, terms={"term0": item})[0]
        made[scenes] = state(optimise(nodes, tiny_field(nodes), stage, steps=4)[0])
    assert not same(made[0], made[3])


def test_guidance_widgets_reach_the_term(nodes, oracle_model):
    model, vae, text = oracle_model
    cameras = call(nodes["cameras"].Bloom4DCameraSampler)[0]
    front = [[None, {"front": True}]]
    values = {"weight": 0.5, "guidance_scale": 7.5, "t_max_end": 0.6, "t_min_start": 0.3, "anneal_until": 0.5, "rescale": 0.25, "clip": 2.0, "scenes": 3, "noise_level": "per scene"}
    item = call(nodes["guidance"].Bloom4DSDSGuidance, model=model, vae=vae, positive=text, negative=text, cameras=cameras, positive_front=front, train_motion=True, **values)[0]
    distillation = item.term.objective
    assert (distillation.guidance, distillation.rescale, distillation.clip, distillation.level_per, item.term.scenes) == (7.5, 0.25, 2.0, "scene", 3)
    assert distillation.levels.at(25, 100) == pytest.approx((0.16, 0.79)) and item.term.weight.at(0, 1) == 0.5 and "dynamic" in item.term.trains
    assert item.source.positives == (text, front, text, text)
    blind = {told: call(nodes["guidance"].Bloom4DSDSGuidance, model=model, vae=vae, positive=text, negative=text, cameras=cameras, told=told)[0].source for told in nodes["guidance"].TOLD}
    assert {told: source.tells for told, source in blind.items()} == {"camera and time": ("camera", "time"), "camera": ("camera",), "time": ("time",), "nothing": ()}
    assert len({source.identity() for source in blind.values()}) == 4, "a run would go on from checkpoints of another one"
    with blind["time"].open() as prior:
        assert prior.tells == ("time",) and prior.native_size == (16, 16)
    assert item.source.tells == ("camera", "time")
    video = call(nodes["guidance"].Bloom4DVideoSDSGuidance, model=model, vae=vae, positive=text, negative=text, cameras=cameras, motion_amplification=30.0)[0]
    assert video.term.objective.motion == 30.0 and video.source.positives == (text,)


def test_field_sizes_and_backgrounds(nodes):
    demo = call(nodes["field"].Bloom4DHashField, size={"size": "demo"}, background={"background": "network", "width": 8})[0]
    assert demo.field.config.static.levels == 8 and demo.field.config.background.hidden == 8
    assert not torch.equal(demo.field.static.table, call(nodes["field"].Bloom4DHashField, size={"size": "demo"}, background={"background": "none"}, seed=5)[0].field.static.table)
    config = tiny_field(nodes).field.config
    assert [level.nodes[0] for level in config.static.layout] == [4, 8, 16] and config.dynamic.time_cap == 4
    wide = nodes["field"].custom_config({**TINY, "time_nodes": 0})
    assert wide.dynamic.time_cap is None
    deep = call(nodes["field"].Bloom4DHashField, size={"size": "demo"}, background={"background": "network", "width": 64}, background_layers=3)[0]
    sizes = lambda scene: sorted(value.numel() for value in scene.field.roles()["background"] if value.dim() == 2)  # noqa: E731
    assert sizes(deep) == sorted([9 * 64, 64 * 64, 64 * 64, 64 * 3]) and sizes(demo) == sorted([9 * 8, 8 * 8, 8 * 3])
    solid = nodes["field"].background_config({"background": "solid", "colour": "#ff8000"}, 2)
    assert solid.colour == (1.0, 128 / 255, 0.0)
    for wrong in ("red", "#12345", "#gggggg"):
        with pytest.raises(ValueError, match="is no colour"):
            nodes["field"].hex_colour(wrong)
    with pytest.raises(ValueError, match="Swap them"):
        nodes["field"].custom_config({**TINY, "static_finest": 2})


def test_a_single_grid_field_takes_the_place_of_a_hash_field(nodes, oracle_model, output):
    node = nodes["field"].Bloom4DSingleGridField
    demo = call(node, size={"size": "demo"}, background={"background": "none"}, seed=3)[0]
    assert demo.field.config.grid.levels == 7 and not torch.equal(demo.field.grid.table, call(node, size={"size": "demo"}, background={"background": "none"})[0].field.grid.table)
    tiny = {"size": "custom", "levels": 3, "coarsest": 4, "finest": 16, "time_nodes": 4, "table": 10, "hidden": 16, "layers": 1}
    field = call(node, size=tiny, background={"background": "none"}, blob_radius=0.4)[0]
    assert [level.nodes for level in field.field.config.grid.layout] == [(4, 4, 4, 2), (8, 8, 8, 4), (16, 16, 16, 4)] and field.field.blob_radius == 0.4
    assert nodes["field"].custom_single_config({**tiny, "time_nodes": 0}).grid.time_cap is None
    before = state(field)
    scene, losses, _ = optimise(nodes, field, tiny_stage(nodes, oracle_model))
    assert same(before, state(field)) and not same(before, state(scene)) and len(losses["loss"]) == 6
    loaded = call(nodes["files"].Bloom4DLoadField, path=call(nodes["files"].Bloom4DSaveField, field=scene)[0])[0]
    assert same(state(scene), state(loaded)) and loaded.field.kind == "single grid"
    with pytest.raises(ValueError, match="Swap them"):
        nodes["field"].custom_single_config({**tiny, "finest": 2})


def test_hexplane_field_goes_wherever_a_hash_field_goes(nodes, oracle_model, output):
    node = nodes["field"].Bloom4DHexPlaneField
    demo = call(node, size={"size": "demo"}, background={"background": "none"}, seed=3)[0]
    assert demo.field.config.numbers == 599040 and not torch.equal(demo.field.spatial, call(node, size={"size": "demo"}, background={"background": "none"})[0].field.spatial)
    tiny = {"size": "custom", "channels": 4, "resolution": 8, "time_nodes": 3, "fusion": "concatenated", "hidden": 16, "layers": 1}
    field = call(node, size=tiny, background={"background": "none"}, blob_radius=0.4)[0]
    assert field.field.spatial.shape == (3, 4, 8, 8) and field.field.temporal.shape == (3, 4, 3, 8) and field.field.blob_radius == 0.4
    assert call(node, size={**tiny, "fusion": "added"}, background={"background": "none"})[0].field.density_decoder.weights[0].shape == (16, 4)
    before = state(field)
    scene, losses, _ = optimise(nodes, field, tiny_stage(nodes, oracle_model))
    assert same(before, state(field)) and len(losses["loss"]) == 6 and scene.field.temporal.any()
    loaded = call(nodes["files"].Bloom4DLoadField, path=call(nodes["files"].Bloom4DSaveField, field=scene)[0])[0]
    assert same(state(scene), state(loaded)) and loaded.field.kind == "hexplane"
    mesh = call(nodes["field"].Bloom4DIsosurface, field=loaded, times=2, resolution=16, threshold=5.0)[0]
    assert mesh.vertex_counts.min() > 20


def test_isosurface_is_a_mesh_batch_over_time(nodes):
    field = tiny_field(nodes)
    mesh = call(nodes["field"].Bloom4DIsosurface, field=field, times=2, time_start=0.0, resolution=24, threshold=10.0)[0]
    assert mesh.vertices.shape[0] == mesh.faces.shape[0] == 2 and mesh.vertex_colors.shape == mesh.vertices.shape and mesh.unlit
    count = int(mesh.vertex_counts[0])
    radii = mesh.vertices[0, :count].norm(dim=1)
    # density 8 softplus(5 (1 - r / .55) - 1) = 10 at r = .55 (1 - (log(e^1.25 - 1) + 1) / 5), but for the decoder's small share
    expected = 0.55 * (1 - (math.log(math.exp(1.25) - 1) + 1) / 5)
    assert (radii - expected).abs().max() < 0.05 and int(mesh.face_counts[0]) > 100
    dark = field.field(mesh.vertices[0, :1], torch.zeros(1))[1][0]
    linear = ((dark + 0.055) / 1.055) ** 2.4
    assert torch.allclose(mesh.vertex_colors[0, 0], linear, atol=1e-4)
    with pytest.raises(ValueError, match="has no surface at density 1000"):
        call(nodes["field"].Bloom4DIsosurface, field=field, resolution=16, threshold=1000.0)


def test_broken_field_files_are_named(nodes, output):
    saved = call(nodes["files"].Bloom4DSaveField, field=tiny_field(nodes))[0]
    path = output / saved
    content = path.read_bytes()
    for damaged, message in ((content[:-7], "no readable safetensors file"), (b"PK\x03\x04 pickle", "no readable safetensors file"), (content.replace(b"bloom4d.field", b"bloom4d.other"), "is no Bloom4D field")):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=message):
            call(nodes["files"].Bloom4DLoadField, path=saved)
    with pytest.raises(ValueError, match="There is no field"):
        call(nodes["files"].Bloom4DLoadField, path="bloom4d/fields/none.safetensors")
    with pytest.raises(ValueError, match="leads out"):
        call(nodes["files"].Bloom4DLoadField, path="../../etc/passwd")


def test_loss_map_prefers_a_stage_whose_losses_differ(nodes):
    from bloom4d.models.optimize.history import StageHistory
    from bloom4d.models.optimize.stages import LearningRates

    def history(*losses):
        made = StageHistory("s", ("t",), len(losses), 0, LearningRates(), ("static",))
        for step, loss in enumerate(losses):
            made.add(step=step, term=0, loss=loss)
        return made

    scene = replace(tiny_field(nodes), history=(history(1.0, 2.0, math.nan), history(3.0)))
    assert nodes["runner"].loss_map(scene) == {"loss": [1.0, 2.0]}
    assert nodes["runner"].loss_map(replace(scene, history=(history(3.0),))) == {"loss": [3.0]}
