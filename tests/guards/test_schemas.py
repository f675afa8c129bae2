"""Saved workflows keep their meaning, and every input explains and limits itself."""

import copy
import json
from pathlib import Path

import pytest
from schemas import SNAPSHOT, breaks, describe_all, input_problems, read_snapshot, survives

OLDER = Path(__file__).resolve().parent.parent / "web" / "older"
TOLD = {"tooltip": "what it does"}


@pytest.fixture(scope="module")
def infos(comfy):
    from node_infos import node_infos

    return node_infos()


def test_schemas_are_those_of_the_snapshot(infos):
    now, before = describe_all(infos), read_snapshot()
    assert breaks(before, now) == []
    assert now == before, "new nodes or inputs: run tests/guards/write_schema_snapshot.py"


def test_removing_renaming_or_moving_is_a_break(infos):
    before = describe_all(infos)
    name = "Bloom4DCameraTimeCondition"
    for damage in (lambda new: new.pop(name), lambda new: new[name]["inputs"].pop(0), lambda new: new[name]["inputs"].reverse(),
                   lambda new: new[name]["inputs"][3][2].update(max=1), lambda new: new[name]["outputs"].clear()):
        new = copy.deepcopy(before)
        damage(new)
        assert len(breaks(before, new)) == 1
    appended = copy.deepcopy(before)
    appended[name]["inputs"].append(["more", "INT", {}])
    assert breaks(before, appended) == []


def test_ids_names_and_categories(infos):
    for name, info in infos.items():
        assert name.startswith("Bloom4D") and info["category"].startswith("4d/") and info["display_name"] and info["description"], name


def test_every_input_has_a_tooltip_and_limits_that_the_browser_keeps(infos):
    assert [line for name, info in infos.items() for line in input_problems(name, info)] == []


@pytest.mark.parametrize(("kind", "options"), [
    ("IMAGE", {}),
    ("FLOAT", {"default": 1.0, "max": 2.0, "step": 0.1, **TOLD}),
    ("INT", {"default": 1, "min": 0, "step": 1, **TOLD}),
    ("FLOAT", {"default": 0.25, "min": 0.0, "max": 1.0, "step": 0.1, **TOLD}),
    ("FLOAT", {"default": 0.001, "min": 0.0, "max": 1.0, "step": 0.01, **TOLD}),
    ("INT", {"default": 9, "min": 0, "max": 5, "step": 1, **TOLD}),
])
def test_a_bad_input_is_found(kind, options):
    info = {"input": {"required": {"value": (kind, options)}}}
    assert len(input_problems("Node", info)) == 1


def test_a_bad_input_inside_a_dynamic_one_is_found():
    option = {"key": "a", "inputs": {"required": {"inner": ("FLOAT", {"default": 0.5})}}}
    info = {"input": {"required": {"mode": ("COMFY_DYNAMICCOMBO_V3", {"options": [option], **TOLD})}}}
    assert any("Node.mode.a.inner has no tooltip" in line for line in input_problems("Node", info))


def test_rounding_is_the_browsers():
    assert not survives(0.25, {"max": 1.0})  # step .5 by default rounds to tenths
    assert survives(0.25, {"max": 1.0, "step": 0.01})
    assert survives(1e-4, {"max": 1.0, "step": 1e-6}) and not survives(1e-7, {"max": 1.0, "step": 1e-6})


def test_readme_names_every_node(infos):
    table = [line for line in (SNAPSHOT.parents[2] / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    told = {name.strip() for line in table for name in line.split("|")[1].split(",")}
    assert [info["display_name"] for info in infos.values() if info["display_name"] not in told] == [], "add a row to README.md's table of nodes"


def test_schemas_of_earlier_versions_still_hold(infos):
    """Kept apart from the snapshot, which one command rewrites: these only ever grow."""
    kept = sorted(OLDER.rglob("schema_snapshot.json"))
    assert kept
    for path in kept:
        assert breaks(json.loads(path.read_text(encoding="utf-8")), describe_all(infos)) == [], path.parent.name
