"""The shipped workflows in a real ComfyUI at smoke size: every node runs, what is known is not computed again."""

import json

import demo_workflows as demo
import pytest
from safetensors.torch import save_file

FIELD_SEED = 11  # these tests' own run, apart from those of other files


@pytest.fixture(scope="module")
def text_to_4d():
    return demo.smoke("text_to_4d_demo", Field={"seed": FIELD_SEED})


@pytest.fixture(scope="module")
def first_run(demo_server, text_to_4d):
    """The whole workflow, once."""
    return demo_server.run(text_to_4d)


def reached(run) -> set:
    return set(run.executed) | run.cached


def files(run) -> list[dict]:
    return [entry for node in run.outputs.values() for values in node.values() for entry in values if isinstance(entry, dict) and "filename" in entry]


def test_every_node_of_text_to_4d_runs(first_run, text_to_4d):
    assert reached(first_run) == set(text_to_4d)


def test_it_leaves_video_mesh_field_and_curves(demo_server, first_run, text_to_4d):
    kinds = {entry["filename"].rsplit(".", 1)[1]: demo_server.view(entry) for entry in files(first_run) if entry["type"] == "output"}
    assert kinds.keys() == {"mp4", "glb", "png", "safetensors"}
    assert kinds["mp4"][4:8] == b"ftyp" and kinds["glb"][:4] == b"glTF" and kinds["png"].startswith(b"\x89PNG")
    assert demo.saved_field(first_run, text_to_4d, demo_server.base).stat().st_size > 1000


def test_previews_come_while_each_stage_runs(first_run, text_to_4d):
    shown = {event.data["node_id"] for event in first_run.of("preview")}
    assert {demo.titled(text_to_4d, stage) for stage in demo.STAGES} <= shown
    texts = [event.data["text"] for event in first_run.of("text") if event.data["node"] == demo.titled(text_to_4d, demo.STAGES[2])]
    assert texts and "loss" in texts[-1] and f"step {demo.STEPS}/{demo.STEPS}" in texts[-1]


def test_a_second_identical_prompt_is_cached(demo_server, first_run, text_to_4d):
    again = demo_server.run(text_to_4d)
    assert again.executed == [] and again.cached == set(text_to_4d)


def test_a_changed_render_runs_only_what_depends_on_it(demo_server, first_run, text_to_4d):
    changed = demo.change(json.loads(json.dumps(text_to_4d)), {"Render": {"width": 40}})
    assert set(demo_server.run(changed).executed) == {demo.titled(changed, title) for title in ("Render", "Frames to video", "Save video")}


def test_another_seed_of_the_last_stage_keeps_the_first_two(demo_server, first_run, text_to_4d):
    changed = demo.change(json.loads(json.dumps(text_to_4d)), {"Optimize stage 3": {"seed": 5}})
    ran = set(demo_server.run(changed).executed)
    assert demo.titled(changed, "Optimize stage 3") in ran and demo.titled(changed, "Save field") in ran
    assert ran.isdisjoint({demo.titled(changed, title) for title in ("Optimize stage 1", "Optimize stage 2", "Prior", "Stage 3")})


def test_interrupt_reacts_within_a_step_and_the_same_prompt_goes_on(demo_server):
    stage = "Optimize stage 1"
    slow = {title: {"width": 64, "height": 64} for title in ("Multi-view, one instant",)}
    prompt = demo.smoke("text_to_4d_demo", **slow, **{stage: {"steps": 8}}, Field={"seed": 12})
    asked = []

    async def interrupt_after_two(event, prompt_id, connection):
        if event.kind == "progress_state" and not asked:
            state = event.data["nodes"].get(demo.titled(prompt, stage), {})
            if state.get("value", 0) >= 2:
                asked.append(int(state["value"]))
                await connection.interrupt(prompt_id)

    stopped = demo_server.run(prompt, interrupt_after_two, expect="interrupted")
    assert demo.steps_of(stopped, prompt, stage)[-1] <= asked[0] + 1
    resumed = demo_server.run(prompt)
    assert demo.steps_of(resumed, prompt, stage)[0] > asked[0], "the second run began from the start"
    assert resumed.status == "success"


def test_every_role_of_the_prior_is_sampled(demo_server):
    prompt = demo.smoke("embedded_prior_sampling_demo")
    run = demo_server.run(prompt)
    # equal empty latents are one to the host, so nodes are counted by kind, and all that show or save something
    assert {prompt[name]["class_type"] for name in reached(run)} == demo.classes(prompt)
    assert run.outputs.keys() == {name for name, node in prompt.items() if node["class_type"].startswith(("Save", "Preview"))}
    pictures = [entry["filename"].rsplit("_", 2)[0] for entry in files(run) if entry["type"] == "output"]
    assert {name: pictures.count(name) for name in pictures} == {"image": 4, "views": 4, "more_views": 4, "video": 1, "what_follows": 1}


def test_the_host_trains_a_lora_on_the_embedded_prior(demo_server):
    node = lambda kind, **inputs: {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}  # noqa: E731
    prompt = {
        "1": node("Bloom4DEmbeddedPriorLoader", prior=demo.PRIOR),
        "2": node("CLIPTextEncode", clip=["1", 1], text="a red rose blooming"),
        "3": node("EmptyImage", width=64, height=64, batch_size=1, color=255),
        "4": node("VAEEncode", pixels=["3", 0], vae=["1", 2]),
        "5": node(
            "TrainLoraNode", model=["1", 0], latents=["4", 0], positive=["2", 0], batch_size=1, grad_accumulation_steps=1, steps=1,
            learning_rate=1e-3, rank=2, optimizer="AdamW", loss_function="MSE", seed=0, training_dtype="fp32", lora_dtype="fp32",
            quantized_backward=False, algorithm="LoRA", gradient_checkpointing=True, checkpoint_depth=1, offloading=False,
            existing_lora="[None]", bucket_mode=False, bypass_mode=True,
        ),
        "6": node("SaveLoRA", lora=["5", 0], prefix="loras/bloom4d", steps=["5", 2]),
    }  # fmt: skip
    demo_server.run(prompt)
    assert list((demo_server.base / "output" / "loras").glob("bloom4d_1_steps*.safetensors"))


def test_every_fault_of_the_metrics_demo_is_found(demo_server):
    prompt = demo.smoke("four_d_metrics_demo")
    run = demo_server.run(prompt)
    assert reached(run) == set(prompt)
    titles = {prompt[name]["_meta"]["title"].removeprefix("Measure: "): output for name, output in run.outputs.items() if "scores" in output}
    values = {title: output["scores"][0]["values"] for title, output in titles.items()}
    good = values.pop("another of its kind")
    assert good["phenomenon"] == 1 and good["time correlation"] > 0.9
    assert values["blurred"]["sharpness"] < 0.8 * good["sharpness"]
    assert values["frozen"]["motion"] == 0 and values["frozen"]["time correlation"] < 0.5
    assert values["one face all around"]["multi-face"] > 0.99 > good["multi-face"] and values["one face all around"]["hull"] < good["hull"]
    assert values["another object"]["phenomenon"] < 0.2
    kinds = [file["filename"].rsplit(".", 1)[1] for file in files(run) if file["type"] == "output"]
    assert sorted(kinds) == ["json"] * 6 + ["md"] + ["png"] * 2
    markdown, = (demo_server.view(file).decode() for file in files(run) if file["filename"].endswith(".md"))
    assert markdown.startswith("| result | phenomenon (higher) |") and "| another of its kind | **1** |" in markdown


def test_a_prompt_becomes_gaussians_that_are_played_and_saved_in_all_formats(demo_server):
    prompt = demo.smoke("text_to_4d_gaussians_demo", Field={"seed": FIELD_SEED})
    run = demo_server.run(prompt)
    assert reached(run) == set(prompt)
    made = demo.titled(prompt, "Gaussians")
    assert demo.steps_of(run, prompt, "Gaussians")[-1] >= demo.STEPS
    report, = run.outputs[made]["text"]
    assert report.startswith("PSNR ") and "60 Gaussians at 3 times, 3 steps on 6 pictures of 16 x 16" in report
    assert made in {event.data["node_id"] for event in run.of("preview")}
    assert run.outputs[demo.titled(prompt, "Play it")]["bloom4d_view"][0]["type"] == "temp"
    saved = run.outputs[demo.titled(prompt, "Save all formats")]["text"]
    endings = (".bloom4d.safetensors", ".viewer.safetensors", "_ply", "_spz", ".glb")
    assert [any(ending in line for line in saved) for ending in endings] == [True] * 5, saved


def test_an_orbit_video_becomes_gaussians_that_are_shown_measured_and_saved(demo_server):
    prompt = demo.smoke("orbit_video_to_4d_gaussians_demo")
    run = demo_server.run(prompt)
    assert reached(run) == set(prompt)
    construct = demo.titled(prompt, "Construct")
    assert demo.steps_of(run, prompt, "Construct")[-1] == demo.STEPS + 2
    said = [event.data["text"] for event in run.of("text") if event.data["node"] == construct]
    assert said and "Gaussians" in said[-1] and construct in {event.data["node_id"] for event in run.of("preview")}
    assert list((demo_server.base / "temp").rglob(f"forming_{construct}.safetensors")), "the viewer was shown nothing while it ran"
    assert "the static orbit shows time 0 from 4 sides" in run.outputs[construct]["text"][0]
    scores, = run.outputs[demo.titled(prompt, "Measure")]["scores"]
    assert scores["values"]["PSNR"] > 10
    assert run.outputs[demo.titled(prompt, "Play it")]["bloom4d_view"][0]["type"] == "temp"
    kinds = {entry["filename"].rsplit(".", 1)[1] for entry in files(run) if entry["type"] == "output"}
    assert {"json", "mp4", "ply", "safetensors"} <= kinds


def test_a_saved_field_is_measured_on_a_grid_of_views_and_times(demo_server, first_run, text_to_4d):
    from tiny_judges import tiny_clip

    clip = demo_server.base / "models" / "clip_vision" / "tiny_clip.safetensors"
    clip.parent.mkdir(parents=True, exist_ok=True)
    save_file(tiny_clip().state_dict(), clip)
    node = lambda kind, **inputs: {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}  # noqa: E731
    path = demo.saved_field(first_run, text_to_4d, demo_server.base).relative_to(demo_server.base / "output").as_posix()
    real = {"phenomenon": "flower blooming", "species": "rose", "colour": "red", "seed": 3, "times": 3, "views": 4, "azimuth": 0.0, "elevation": 15.0, "size": 32}
    prompt = {
        "1": node("Bloom4DLoadField", path=path),
        "2": node("Bloom4DProcedural4DObject", **real),
        "3": node("Bloom4DRenderField", **{"field": ["1", 0], "cameras": ["2", 3], "width": 32, "height": 32, "background": "colour", "background.colour": "#000000"}),
        "4": node(
            "Bloom4DMetrics", images=["3", 0], mask=["3", 1], cameras=["2", 3], reference=["2", 0], reference_mask=["2", 1], label="field", views=0,
            prompt=["2", 4], phenomenon="read off the prompt", clip=clip.name, lpips="none", filename_prefix="bloom4d/scores/field",
        ),
    }  # fmt: skip
    found, = demo_server.run(prompt).outputs["4"]["scores"]
    assert found["label"] == "field" and {"CLIP", "hull", "multi-face", "PSNR", "SSIM", "phenomenon", "time correlation", "absolute flicker"} <= found["values"].keys()
    assert found["values"]["hull"] > 0.8, "renders of one field are views of one solid"
    prompt["4"]["inputs"]["views"] = 3
    refused = demo_server.run(prompt, expect="error").of("execution_error")[0].data["exception_message"]
    assert refused.startswith("The cameras do not show 3 views of each time")
