"""Swapping only the loader: text to 4D on a checkpoint in the format of Stable Diffusion 2.1, loaded by the stock loader."""

import demo_workflows as demo
import pytest

CHECKPOINT = "tiny_sd21.safetensors"
LOADER = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": CHECKPOINT}, "_meta": {"title": "Prior"}}


@pytest.fixture(scope="module")
def checkpoint_server(comfy, demo_server):
    """The suite's host with such a checkpoint, of random weights and tiny width."""
    import synthetic

    folder = demo_server.base / "models" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    synthetic.write_sd21_checkpoint(folder / CHECKPOINT)
    return demo_server


def test_the_same_graph_runs_on_a_stable_diffusion_checkpoint(checkpoint_server):
    small = {"width": 16, "height": 16, "model_size": 64}
    titles = [node["_meta"]["title"] for node in demo.load("text_to_4d_demo").values() if node["class_type"].endswith("Guidance")]
    prompt = demo.smoke("text_to_4d_demo", **{title: small for title in titles}, **{stage: {"steps": 1} for stage in (*demo.STAGES, "Polish")})
    prompt[demo.titled(prompt, "Prior")] = LOADER  # every link stays
    run = checkpoint_server.run(prompt)
    assert set(run.executed) | run.cached == set(prompt)
    assert demo.saved_field(run, prompt, checkpoint_server.base).stat().st_size > 1000
    assert "demo prior" not in str(run.outputs), "notes about the demo's limits are the demo's own"


def test_a_model_with_the_vae_of_another_is_refused_in_one_line(checkpoint_server):
    prompt = demo.only(demo.smoke("text_to_4d_demo"), "Optimize stage 1: views x times")
    prompt["sd"] = {**LOADER, "_meta": {"title": "Other model"}}
    prompt["words"] = {"class_type": "CLIPTextEncode", "inputs": {"text": "a rose", "clip": ["sd", 1]}, "_meta": {"title": "Its prompt"}}
    prompt[demo.titled(prompt, "Multi-view, one instant")]["inputs"].update(model=["sd", 0], positive=["words", 0], negative=["words", 0])
    run = checkpoint_server.run(prompt, expect="error")
    line = run.error["exception_message"].strip().splitlines()[0]
    assert "MODEL and VAE must come from the same checkpoint" in line and "96 channels" in line
