"""The graphs on real models in a real ComfyUI: on synthetic files of their layout they run, without files they say what is missing."""

import client
import demo_workflows as demo
import pytest
import real_files

LOADERS = {"Bloom4DMVDreamLoader": "Open RAIL", "Bloom4DZeroscopeLoader": "BY-NC", "Bloom4DZero123Loader": "MIT"}
OWN_WAYS = ("Loader", "Condition")  # how a model is loaded and shown a picture is its own


@pytest.fixture(scope="module")
def real_server(comfy, demo_server):
    """The suite's host with the synthetic files."""
    real_files.lay_out(demo_server.base / "models")
    real_files.put_picture(demo_server.base / "input")
    return demo_server


@pytest.fixture(scope="module")
def asset(real_server):
    """A saved field, for graphs that begin with one."""
    node = lambda kind, **inputs: {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}  # noqa: E731
    made = {
        "1": node("Bloom4DHashField", size="demo", initial_density="soft ball", blob_radius=0.55, background="none", seed=8),
        "2": node("Bloom4DSaveField", field=["1", 0], filename_prefix="bloom4d/fields/real"),
    }
    return real_server.run(made).outputs["2"]["text"][0]


@pytest.mark.parametrize("name", demo.REAL)
def test_the_graph_runs_on_files_of_the_true_layout(real_server, asset, name):
    prompt = real_files.smoke(name)
    for title in demo.of_class(prompt, "Bloom4DLoadField"):
        demo.change(prompt, {title: {"path": asset}})
    run = real_server.run(prompt)
    assert set(run.executed) | run.cached == set(prompt)
    saved = [entry["filename"] for node in run.outputs.values() for values in node.values() for entry in values if isinstance(entry, dict) and entry.get("type") == "output"]
    assert any(file.endswith(".mp4") for file in saved) and any(file.endswith(".safetensors") for file in saved)


@pytest.mark.parametrize("name", demo.REAL)
def test_without_files_the_queue_stops_with_names_folders_and_licences(bare_server, name):
    prompt = demo.load(name)
    answer = bare_server.reject(prompt)
    said = client.explain_rejection(answer, prompt)
    for kind in demo.classes(prompt) & LOADERS.keys():
        title, = demo.of_class(prompt, kind)
        error = answer["node_errors"][demo.titled(prompt, title)]["errors"][0]
        file = next(value for value in prompt[demo.titled(prompt, title)]["inputs"].values() if str(value).endswith((".pt", ".ckpt", ".safetensors")))
        for part in (file, str(bare_server.base / "models"), LOADERS[kind], "https://"):
            assert part in error["details"], (part, error["details"])
        assert file in said and LOADERS[kind] in said, "the command line says it too"
    assert said.count("\n") == len(answer["node_errors"]) - 1, "a line for each loader"


@pytest.mark.parametrize("name", demo.REAL)
def test_a_real_graph_is_its_demo_on_other_loaders(name):
    """Guidance, stages, optimisers and results carry the same titles and kinds, so that what is learned on one holds for the other."""
    real, small = (demo.load(graph) for graph in (name, f"{name}_demo"))
    parts = lambda prompt: {node["_meta"]["title"]: node["class_type"] for node in prompt.values() if node["class_type"].startswith("Bloom4D") and not node["class_type"].endswith(OWN_WAYS)}  # noqa: E731
    missing = parts(real).items() - parts(small).items()
    assert not missing, missing
