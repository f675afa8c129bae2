"""The host's own Select Model Device and Select VAE Device in front of a guidance term."""

import json

import demo_workflows as demo
import pytest

STAGE = demo.STAGES[0]


@pytest.fixture(scope="module")
def prompt():
    """Stage 1 of text to 4D at smoke size."""
    return demo.only(demo.smoke("text_to_4d_demo", Field={"seed": 61}), "Optimize stage 1: views x times")


def on_device(prompt: dict, device: str) -> dict:
    """The graph with the terms' MODEL and VAE led through the host's nodes."""
    prompt = json.loads(json.dumps(prompt))
    prior = demo.titled(prompt, "Prior")
    for node in prompt.values():
        inputs = node["inputs"]
        inputs.update({name: [f"select_{name}", 0] for name in ("model", "vae") if inputs.get(name, [None])[0] == prior})
    for name, kind, slot in (("model", "SelectModelDevice", 0), ("vae", "SelectVAEDevice", 2)):
        prompt[f"select_{name}"] = {"class_type": kind, "inputs": {name: [prior, slot], "device": device}, "_meta": {"title": kind}}
    return prompt


def test_the_graph_runs_through_the_host_s_nodes_and_stays_the_same_run(demo_server, prompt):
    moved = on_device(prompt, "cpu")
    first = demo_server.run(moved)
    assert {"select_model", "select_vae"} <= set(first.executed)
    assert demo.steps_of(first, moved, STAGE) == list(range(1, demo.STEPS + 1))
    assert demo_server.log.count("Bloom4D: The field renders on cpu; EmbeddedPriorModel on cpu, its VAE on cpu") > 0
    again = demo_server.run(prompt)
    assert set(again.executed) >= {demo.titled(prompt, STAGE)} and demo.steps_of(again, prompt, STAGE) == [], "its checkpoint was found"


def test_a_device_that_is_not_there_is_passed_over(demo_server, prompt):
    """A graph made for two GPUs opens on a machine with none."""
    assert demo_server.run(on_device(prompt, "gpu:1")).status == "success"
