"""The pack in a real ComfyUI: it loads, its nodes are there and one of them runs."""

import client
import offline


def environment_prompt() -> dict:
    return {"1": {"class_type": "Bloom4DEnvironment", "inputs": {}, "_meta": {"title": "Versions"}}}


def test_every_node_is_offered_and_nothing_failed_to_import(server):
    offered = {name for name, info in server.get("/object_info").items() if info["python_module"] == "custom_nodes.bloom4d"}
    assert "Bloom4DEnvironment" in offered
    assert all(name.startswith("Bloom4D") for name in offered)
    assert "IMPORT FAILED" not in server.log
    assert "Error while calling comfy_entrypoint" not in server.log


def test_the_log_has_one_line_of_the_pack(server):
    count = len([name for name, info in server.get("/object_info").items() if info["python_module"] == "custom_nodes.bloom4d"])
    lines = [line for line in server.log.splitlines() if "Bloom4D" in line and "nodes;" in line]
    assert len(lines) == 1 and f"{count} nodes; fast backends found: " in lines[0]


def test_environment_reports_versions(server):
    run = server.run(environment_prompt())
    text, = run.outputs["1"]["text"]
    assert "Bloom4D 0." in text and "torch 2." in text and "Device: " in text
    assert "/" not in text.replace("https://", "")  # no path of the user's machine in a text meant for a public issue


def test_unknown_node_is_refused(server):
    answer = server.reject({"1": {"class_type": "Bloom4DNoSuchNode", "inputs": {}}})
    assert answer["error"]["type"] == "missing_node_type"


def test_a_refused_workflow_names_node_and_input(server):
    prompt = {"1": {"class_type": "EmptyImage", "inputs": {"width": 0, "height": 64, "batch_size": 1, "color": 0}, "_meta": {"title": "Blue"}},
              "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}
    assert client.explain_rejection(server.reject(prompt), prompt) == "Blue: Value 0 smaller than min of 1 (width)"


def test_host_made_no_outside_connection(server):
    assert offline.WORDS not in server.log
