"""The shipped workflows in a real ComfyUI at smoke size: every node runs, what is known is not computed again."""

import json

import demo_workflows as demo
import pytest

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
