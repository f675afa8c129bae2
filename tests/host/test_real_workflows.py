"""The graphs on real models in a real ComfyUI: on synthetic files of their layout they run, without files they say what is missing."""

import client
import demo_workflows as demo
import pytest
import real_files
from graphs.shipped import GRAPHS

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


def named_files(name: str) -> list:
    """(title of the loader, file) of every file that a graph names, by ComfyUI's loaders and by ours."""
    graph = GRAPHS[name]()
    return [(graph.nodes[node]["_meta"]["title"], file) for node, files in graph.files.items() for file in files]


@pytest.mark.parametrize("name", demo.REAL)
def test_without_files_the_queue_stops_with_every_file(bare_server, name):
    """Name, folder, size, licence and link of each, on the command line; ComfyUI itself says of its own loaders' files that they are in no list."""
    prompt = demo.load(name)
    answer = bare_server.reject(prompt)
    said = client.explain_rejection(answer, prompt).splitlines()
    wanted = named_files(name)
    others = [line for line in said if not any(file.name in line for _, file in wanted)]
    assert len(wanted) >= 2 and len(said) == len(wanted) + len(others) and all("example.png" in line for line in others), said
    for title, file in wanted:
        line, = (line for line in said if line.startswith(f"{title}: "))
        for part in (file.name, f"models/{file.folder}", file.size, file.licence, file.url):
            assert part in line, (part, line)
    for kind in demo.classes(prompt) & LOADERS.keys():  # what the browser shows at the node
        title, = demo.of_class(prompt, kind)
        details = answer["node_errors"][demo.titled(prompt, title)]["errors"][0]["details"]
        for part in (str(bare_server.base / "models"), LOADERS[kind], "https://"):
            assert part in details, (part, details)


def test_a_batch_tells_every_file_in_its_row(bare_server, tmp_path):
    """`launch.py run --prompts`, `ablate` and `evaluate` keep the refusal in the row's one line."""
    from batch.executor import execute_row
    from batch.rows import make_row

    line = execute_row(bare_server.url, make_row(1, demo.load(demo.REAL[0]), {}, "test"), tmp_path)
    assert line["status"] == "error" and "\n" not in line["error"]
    assert all(file.name in line["error"] and file.licence in line["error"] for _, file in named_files(demo.REAL[0]))


@pytest.mark.parametrize("name", demo.REAL)
def test_a_real_graph_is_its_demo_on_other_loaders(name):
    """Guidance, stages, optimisers and results carry the same titles and kinds, so that what is learned on one holds for the other."""
    real, small = (demo.load(graph) for graph in (name, f"{name}_demo"))
    parts = lambda prompt: {node["_meta"]["title"]: node["class_type"] for node in prompt.values() if node["class_type"].startswith("Bloom4D") and not node["class_type"].endswith(OWN_WAYS)}  # noqa: E731
    missing = parts(real).items() - parts(small).items()
    assert not missing, missing
