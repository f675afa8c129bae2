"""Files beside the code: help pages, the one script, workflows."""

import json
import re

import pytest
from rooms import ROOT

WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
API = sorted((ROOT / "workflows" / "api").glob("*.json"))


def nodes_in(workflow: dict):
    """Every node of a workflow in the browser's format, those in subgraphs too."""
    yield from workflow["nodes"]
    for graph in workflow.get("definitions", {}).get("subgraphs", []):
        yield from graph["nodes"]


def workflow_problems(workflow: dict, known: dict) -> list[str]:
    """Unknown node types, and nodes of ours that do not say which pack and version they come from."""
    inside = {graph["id"] for graph in workflow.get("definitions", {}).get("subgraphs", [])} | {"Note", "MarkdownNote", "Reroute", "PrimitiveNode"}
    found = []
    for node in nodes_in(workflow):
        properties = node.get("properties", {})
        if node["type"] not in known and node["type"] not in inside:
            found.append(f"{node['type']} is unknown")
        elif node["type"].startswith("Bloom4D"):
            if properties.get("cnr_id") != "bloom4d" or not re.fullmatch(r"\d+\.\d+\.\d+", properties.get("ver", "")):
                found.append(f"{node['type']} has no cnr_id and ver")
    return found


def foreign_sources(prompt: dict, told: set) -> list[str]:
    """Nodes that bring something into a graph and are neither ours nor empty nor typed in: files that only their author has.

    told: ids of loaders that say where everybody gets their files.
    """
    sources = [node for name, node in prompt.items() if name not in told and not any(isinstance(value, list) for value in node["inputs"].values())]
    return [node["class_type"] for node in sources if not node["class_type"].startswith(("Bloom4D", "Empty", "Primitive"))]


def test_one_script_is_imported_by_itself():
    assert [path.relative_to(ROOT).as_posix() for path in (ROOT / "web").rglob("*.js")] == ["web/bloom4d.js"]


def test_host_lists_that_script(server):
    ours = [name for name in server.get("/extensions") if "bloom4d" in name.lower()]
    assert ours == ["/extensions/bloom4d/bloom4d.js"]


def test_help_pages_belong_to_nodes(server):
    known = server.get("/object_info")
    ours = {name for name, info in known.items() if info["python_module"] == "custom_nodes.bloom4d"}
    assert {path.stem for path in (ROOT / "web" / "docs").glob("*.md")} == ours


def test_only_one_folder_of_templates():
    assert [name for name in ("example_workflows", "example", "examples", "workflow") if (ROOT / name).exists()] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_opens_everywhere(path, server):
    assert workflow_problems(json.loads(path.read_text(encoding="utf-8")), server.get("/object_info")) == []
    assert path.with_suffix(".jpg").is_file(), "the template browser shows a thumbnail of the same name"
    assert (ROOT / "workflows" / "api" / path.name).is_file(), "the command line queues the API twin"


@pytest.mark.parametrize("path", API, ids=lambda path: path.stem)
def test_api_workflow_has_known_nodes_and_values_that_the_browser_keeps(path, server):
    from node_infos import inputs_of
    from schemas import survives

    known = server.get("/object_info")
    for node in json.loads(path.read_text(encoding="utf-8")).values():
        limits = {name: (kind, options) for name, kind, options in inputs_of(known[node["class_type"]])}
        for name, value in node["inputs"].items():
            kind, options = limits.get(name, ("", {}))
            if kind in ("FLOAT", "INT") and isinstance(value, (int, float)):
                assert survives(value, options, kind), f"{node['class_type']}.{name} = {value}"


USERS_OWN = {"image_to_4d": ["LoadImage"]}  # what a graph on real models is there for: a picture of its user's


@pytest.mark.parametrize("path", API, ids=lambda path: path.stem)
def test_a_shipped_graph_takes_everything_from_the_pack_or_says_where_it_is(path):
    shown = json.loads((ROOT / "workflows" / path.name).read_text(encoding="utf-8"))
    told = {str(node["id"]) for node in shown["nodes"] if node["properties"].get("models")}
    assert foreign_sources(json.loads(path.read_text(encoding="utf-8")), told) == USERS_OWN.get(path.stem, [])


def test_a_picture_from_elsewhere_is_found():
    ours = {"class_type": "Bloom4DProcedural4DObject", "inputs": {"seed": 0}}
    assert foreign_sources({"1": ours, "2": {"class_type": "VAEEncode", "inputs": {"pixels": ["1", 0]}}}, set()) == []
    for name in ("LoadImage", "LoadVideo", "CheckpointLoaderSimple"):
        prompt = {"1": ours, "2": {"class_type": name, "inputs": {"image": "mine.png"}}}
        assert foreign_sources(prompt, set()) == [name] and foreign_sources(prompt, {"2"}) == []


def test_a_bad_workflow_is_found():
    known = {"Bloom4DEnvironment": {}, "SaveImage": {}}
    good = {"type": "Bloom4DEnvironment", "properties": {"cnr_id": "bloom4d", "ver": "0.1.0"}}
    assert workflow_problems({"nodes": [good, {"type": "SaveImage"}, {"type": "MarkdownNote"}]}, known) == []
    for bad in ({"type": "Nothing"}, {"type": "Bloom4DEnvironment"}, {**good, "properties": {"cnr_id": "bloom4d", "ver": "new"}}):
        assert len(workflow_problems({"nodes": [bad]}, known)) == 1
        assert len(workflow_problems({"nodes": [], "definitions": {"subgraphs": [{"id": "x", "nodes": [bad]}]}}, known)) == 1
