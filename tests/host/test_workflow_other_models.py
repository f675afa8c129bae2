"""Swapping only the loader: text to 4D on a checkpoint in the format of Stable Diffusion 2.1, loaded by the stock loader."""

import demo_workflows as demo

CHECKPOINT = "tiny_sd21.safetensors"


def swapped(prompt: dict) -> dict:
    """The prompt with the host's own loader in place of ours; every link stays."""
    prompt[demo.titled(prompt, "Prior")] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": CHECKPOINT}, "_meta": {"title": "Prior"}}
    return prompt


def test_the_same_graph_runs_on_a_stable_diffusion_checkpoint(comfy, demo_server):
    import synthetic

    folder = demo_server.base / "models" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    synthetic.write_sd21_checkpoint(folder / CHECKPOINT)
    guidance = {"width": 16, "height": 16, "model_size": 64}
    titles = [node["_meta"]["title"] for node in demo.load("text_to_4d_demo").values() if node["class_type"].endswith("Guidance")]
    prompt = demo.smoke("text_to_4d_demo", **{title: guidance for title in titles}, **{stage: {"steps": 1} for stage in (*demo.STAGES, "Polish")})
    run = demo_server.run(swapped(prompt))
    assert set(run.executed) | run.cached == set(prompt)
    assert demo.saved_field(run, prompt, demo_server.base).stat().st_size > 1000
    assert "demo prior" not in str(run.outputs), "notes about the demo's limits are the demo's own"
