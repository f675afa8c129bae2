"""The demos of the published recipes in a real ComfyUI at smoke size: every node runs, what is frozen stays as it was."""

import demo_workflows as demo
import pytest
from safetensors.torch import load_file

RECIPES = ("text_to_4d_4dfy_demo", "text_to_4d_dream_in_4d_demo", "reanimate_4d_demo")
FROZEN = "Moving field"


@pytest.fixture(scope="module")
def ran(demo_server):
    """Every recipe once: name -> (prompt, run)."""
    prompts = {name: demo.smoke(name) for name in RECIPES}
    return {name: (prompt, demo_server.run(prompt)) for name, prompt in prompts.items()}


def loaded(run, prompt, base):
    from bloom4d.models.optimize.scene_files import load_scene

    return load_scene(demo.saved_field(run, prompt, base))


def outputs(run) -> list[dict]:
    return [entry for node in run.outputs.values() for values in node.values() for entry in values if isinstance(entry, dict) and entry.get("type") == "output"]


@pytest.mark.parametrize("name", RECIPES)
def test_every_node_runs_and_a_video_scores_and_the_field_are_saved(ran, demo_server, name):
    prompt, run = ran[name]
    assert set(run.executed) | run.cached == set(prompt)
    kinds = {entry["filename"].rsplit(".", 1)[1]: demo_server.view(entry) for entry in outputs(run)}
    assert {"mp4", "json", "png", "safetensors"} <= kinds.keys() and kinds["mp4"][4:8] == b"ftyp"
    assert "absolute motion" in run.outputs[demo.titled(prompt, "Scores")]["scores"][0]["values"]


def test_4dfy_trains_motion_in_its_third_stage_by_videos_alone(ran, demo_server):
    prompt, run = ran["text_to_4d_4dfy_demo"]
    scene = loaded(run, prompt, demo_server.base)
    assert [history.name for history in scene.history] == ["shape", "look", "motion"]
    terms = {node["_meta"]["title"]: node["inputs"]["train_motion"] for node in prompt.values() if "train_motion" in node["inputs"]}
    assert [title for title, trains in terms.items() if trains] == ["Video, stage 3"]
    stage = prompt[demo.titled(prompt, "Stage 3")]["inputs"]
    first = prompt[demo.titled(prompt, "Stage 1")]["inputs"]
    assert stage["rate_static"] == pytest.approx(first["rate_static"] / 100) and first["rate_dynamic"] == 0 < stage["rate_dynamic"]


def test_what_vsd_learned_goes_on_from_stage_to_stage_and_is_saved_as_a_lora(ran, demo_server):
    prompt, run = ran["text_to_4d_4dfy_demo"]
    stages = {title: set(loaded(run, prompt, demo_server.base).learned) for title in ("Save field",)}
    assert stages == {"Save field": {"VSD"}}
    files = (demo_server.base / "output" / "bloom4d" / "loras").glob("text_to_4d_4dfy*.safetensors")  # other tests run the graph too
    file = max(files, key=lambda path: path.stat().st_mtime_ns)
    assert any("lora_up" in name or "lora_B" in name for name in load_file(file)), "the host's own node wrote it"


@pytest.mark.parametrize("name", RECIPES[1:])
def test_the_frozen_asset_is_the_same_to_the_byte_after_its_motion_stage(ran, demo_server, name):
    prompt, run = ran[name]
    said, = run.outputs[demo.titled(prompt, FROZEN)]["text"]
    field = loaded(run, prompt, demo_server.base).field
    assert said.endswith(field.canonical_hash()) and field.displacement is not None
    assert any(bool(parameter.any()) for parameter in field.roles()["dynamic"]), "nothing was learned"


def test_reanimation_takes_files_of_either_kind_of_field(ran, demo_server):
    node = lambda kind, **inputs: {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}  # noqa: E731
    made = {
        "1": node("Bloom4DGaussianField", count=40, radius=0.5, degree=0, motion="none", seed=3, time=0.0),
        "2": node("Bloom4DSaveField", field=["1", 0], filename_prefix="bloom4d/fields/cloud"),
    }
    cloud, = demo_server.run(made).outputs["2"]["text"]
    prompt, _ = ran["reanimate_4d_demo"]
    prompt = demo.only(prompt, "Save field")
    prompt[demo.titled(prompt, "Asset")]["inputs"]["path"] = cloud
    prompt[demo.titled(prompt, "Optimize stage 2")]["inputs"].pop("renderer")  # Gaussians are splatted: the optimiser knows
    prompt = demo.only(prompt, "Save field")
    run = demo_server.run(prompt)
    field = loaded(run, prompt, demo_server.base).field
    assert field.canonical.kind == "dynamic gaussians" and "Make the asset" not in {entry["_meta"]["title"] for entry in prompt.values()}
    said, = run.outputs[demo.titled(prompt, FROZEN)]["text"]
    assert said.endswith(field.canonical_hash())
