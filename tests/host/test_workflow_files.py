"""The workflow files themselves: written from their Python source, complete, and offered by ComfyUI as templates."""

import json
import tomllib
import urllib.request
from pathlib import Path

import demo_workflows as demo
import pytest
from graphs.builder import Graph, ModelFile
from graphs.layout import arrange
from graphs.shipped import GRAPHS

ROOT = Path(__file__).resolve().parent.parent.parent


def read(name: str) -> dict:
    return json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(params=(*demo.NAMES, *demo.REAL))
def name(request):
    return request.param


def test_these_are_all_the_workflows():
    for folder in (ROOT / "workflows", ROOT / "workflows" / "api"):
        assert {path.stem for path in folder.glob("*.json")} == {*demo.NAMES, *demo.REAL} == GRAPHS.keys()


def test_both_formats_are_what_the_source_says(name):
    """After a change of tools/graphs: `python tools/write_workflows.py`."""
    graph = GRAPHS[name]()
    prompt, shown = demo.load(name), {str(node["id"]): node for node in read(name)["nodes"]}
    assert prompt.keys() == graph.nodes.keys()
    for key, node in graph.nodes.items():
        assert prompt[key]["class_type"] == node["class_type"] == shown[key]["type"]
        assert prompt[key]["_meta"]["title"] == node["_meta"]["title"] == shown[key]["title"]
        assert {entry: prompt[key]["inputs"][entry] for entry in node["inputs"]} == node["inputs"]
    note = next(node for node in shown.values() if node["type"] == "MarkdownNote")
    assert note["widgets_values"] == [graph.note()] and [group["title"] for group in read(name)["groups"]] == [group.title for group in graph.groups]


@pytest.fixture(scope="module")
def widgets():
    """Class of ours -> input -> default, of all plain widgets."""
    snapshot = json.loads((ROOT / "tests" / "guards" / "schema_snapshot.json").read_text(encoding="utf-8"))
    return {kind: {name: options["default"] for name, _, options in entry["inputs"] if "default" in options} for kind, entry in snapshot.items()}


def test_what_the_source_leaves_open_is_the_nodes_default(name, widgets):
    """A browser that had another graph open before would give its values to nodes of the same number."""
    prompt, graph = demo.load(name), GRAPHS[name]()
    for key, node in graph.nodes.items():
        defaults = widgets.get(node["class_type"], {})
        given = {entry: prompt[key]["inputs"][entry] for entry in prompt[key]["inputs"].keys() & defaults.keys() - node["inputs"].keys()}
        assert given == {entry: defaults[entry] for entry in given}, node["_meta"]["title"]


def test_every_node_says_which_pack_it_comes_from(name):
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    for node in read(name)["nodes"]:
        ours = node["type"].startswith("Bloom4D")
        assert node["properties"]["cnr_id"] == ("bloom4d" if ours else "comfy-core"), node["type"]
        assert node["properties"]["ver"] == (version if ours else "0.30.0")


def inside(node: dict, group: dict) -> bool:
    x, y, width, height = group["bounding"]
    left, top = node["pos"][0], node["pos"][1] - 30  # the title bar stands above the position
    return x <= left and y <= top and left + node["size"][0] <= x + width and node["pos"][1] + node["size"][1] <= y + height


def overlap(one: dict, other: dict) -> bool:
    apart = [one["pos"][axis] + one["size"][axis] <= other["pos"][axis] - 30 * axis or other["pos"][axis] + other["size"][axis] <= one["pos"][axis] - 30 * axis for axis in (0, 1)]
    return not any(apart)


def test_every_node_has_its_place_in_one_group(name):
    workflow = read(name)
    nodes = [node for node in workflow["nodes"] if node["type"] != "MarkdownNote"]
    for node in nodes:
        assert sum(inside(node, group) for group in workflow["groups"]) == 1, node["title"]
    assert not [(one["title"], other["title"]) for place, one in enumerate(nodes) for other in nodes[place + 1 :] if overlap(one, other)]


def test_seeds_stay_as_they_are_between_runs(name):
    """The browser would draw a new seed after each run, and a run that was stopped could not go on."""
    for node in read(name)["nodes"]:
        assert "randomize" not in node.get("widgets_values", [])


def test_titles_name_one_node_each(name):
    """`--set "Title.input=value"` and people need that; --prompt needs the title Prompt."""
    titles = [node["_meta"]["title"] for node in demo.load(name).values()]
    assert len(set(titles)) == len(titles) and "Prompt" in titles


LOADS = {  # class -> the widgets that name files, and the folders below models in which the host looks for them
    "CheckpointLoaderSimple": {"ckpt_name": "checkpoints"}, "LoraLoaderModelOnly": {"lora_name": "loras"}, "LoadBackgroundRemovalModel": {"bg_removal_name": "background_removal"},
    "UNETLoader": {"unet_name": "diffusion_models"}, "CLIPLoader": {"clip_name": "text_encoders"}, "VAELoader": {"vae_name": "vae"}, "LoraLoader": {"lora_name": "loras"},
    "Bloom4DMVDreamLoader": {"checkpoint": "checkpoints"}, "Bloom4DZero123Loader": {"checkpoint": "checkpoints"}, "Bloom4DZeroscopeLoader": {"model": "diffusion_models"},
}  # fmt: skip
NO_FILE = {"LoadImage", "LoraModelLoader", "Bloom4DLoadField", "Bloom4DEmbeddedPriorLoader"}  # pictures, fields and LoRAs of the user's or the graph's; the prior that the pack ships
OWN = {"sks_dog_sd21.safetensors"}  # files that nobody but the user has
FRONTEND_HOSTS = ("https://huggingface.co/", "https://civitai.com/", "https://civitai.red/", "http://localhost:")
FRONTEND_SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pth", ".pt")
"""What comfyui-frontend-package 1.47 offers to download (its missingModelDownload module)."""


def loaded_files(name: str) -> dict:
    """Title -> {file: folder} of every loader; a node that looks like one and is unknown here is a mistake."""
    found = {}
    for node in demo.load(name).values():
        kind = node["class_type"]
        assert kind in LOADS or kind in NO_FILE or "Load" not in kind, f"say in LOADS which files {kind} names"
        if kind in LOADS:
            found[node["_meta"]["title"]] = {node["inputs"][widget]: folder for widget, folder in LOADS[kind].items()}
    return found


def offered_files(workflow: dict) -> dict:
    """Title -> what the browser is told about the files that a node loads."""
    return {node["title"]: node["properties"]["models"] for node in workflow["nodes"] if "models" in node["properties"]}


def note_of(workflow: dict) -> str:
    return next(node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == "MarkdownNote")


def test_a_demo_needs_no_file_and_a_real_graph_offers_each_that_it_loads_but_those_of_the_user(name):
    needed, offered = loaded_files(name), offered_files(read(name))
    assert bool(needed) == (name in demo.REAL)
    told = {title: {file["name"]: file["directory"] for file in files} for title, files in offered.items()}
    assert told == {title: files for title, files in needed.items() if not files.keys() <= OWN}
    for file in (file for files in offered.values() for file in files):
        assert file.keys() == {"name", "url", "directory"}
        assert file["url"].startswith(FRONTEND_HOSTS) and file["url"].endswith(FRONTEND_SUFFIXES) and file["name"].endswith(FRONTEND_SUFFIXES), file
        assert Path(file["url"]).suffix == Path(file["name"]).suffix


def test_the_note_of_a_real_graph_names_every_file_with_folder_size_licence_and_link(name):
    workflow = read(name)
    links = {file["name"]: file["url"] for files in offered_files(workflow).values() for file in files}
    for file, folder in ((file, folder) for files in loaded_files(name).values() for file, folder in files.items()):
        line, = (line for line in note_of(workflow).splitlines() if line.startswith(f"- `{file}` in "))
        assert f"`models/{folder}`" in line and " GB, " in line and any(licence in line for licence in ("RAIL", "MIT", "CC BY-NC", "yours")), line
        assert line.endswith(f"[Link]({links[file]})") if file in links else file in OWN and "a file that you make" in line


def test_files_of_a_loader_reach_the_browser_and_the_note():
    file = ModelFile("big.safetensors", "checkpoints", "https://huggingface.co/us/big.safetensors", "5 GB", "MIT", "the image model")
    graph = Graph("Why.")
    graph.group("One", "#444")
    graph.add("CheckpointLoaderSimple", "Image model", models=(file,), ckpt_name=file.name)
    shown = {"nodes": [{"id": 1, "type": "CheckpointLoaderSimple", "size": [200, 100], "properties": {}, "inputs": [], "outputs": []}], "links": [], "groups": []}
    node, note = arrange(shown, graph, {"": ("comfy-core", "1")})["nodes"]
    assert node["properties"]["models"] == [{"name": "big.safetensors", "url": "https://huggingface.co/us/big.safetensors", "directory": "checkpoints"}]
    assert note["widgets_values"][0].startswith("Why.\n\n") and note["widgets_values"][0].endswith(
        "- `big.safetensors` in `models/checkpoints`: the image model; 5 GB, MIT. [Link](https://huggingface.co/us/big.safetensors)")
    with pytest.raises(AssertionError, match="loads no"):
        graph.add("CheckpointLoaderSimple", "Another", models=(file,), ckpt_name="other.safetensors")
    own = Graph("Why.")
    own.group("One", "#444")
    own.add("CheckpointLoaderSimple", "Image model", models=(ModelFile("mine.safetensors", "checkpoints", "", "1 GB", "yours", "made by you"),), ckpt_name="mine.safetensors")
    shown["nodes"] = [{**shown["nodes"][0], "properties": {}}]
    node, note = arrange(shown, own, {"": ("comfy-core", "1")})["nodes"]
    assert "models" not in node["properties"] and note["widgets_values"][0].endswith("- `mine.safetensors` in `models/checkpoints`: made by you; 1 GB, yours.")


@pytest.mark.parametrize("url", ["http://huggingface.co/x.safetensors", "https://example.org/x.safetensors", "https://github.com/google/dreambooth", "https://huggingface.co/us/page"])
def test_a_link_that_the_frontend_would_never_offer_is_a_mistake(url):
    with pytest.raises(AssertionError, match="ComfyUI's frontend offers"):
        ModelFile("x.safetensors", "loras", url, "1 GB", "MIT", "")


def test_comfyui_offers_them_with_a_picture(server, name):
    assert name in server.get("/workflow_templates")["bloom4d"]
    with urllib.request.urlopen(f"{server.url}/api/workflow_templates/bloom4d/{name}.jpg", timeout=30) as answer:
        assert answer.read(3) == b"\xff\xd8\xff"
    assert "nodes" in server.get(f"/api/workflow_templates/bloom4d/{name}.json")
