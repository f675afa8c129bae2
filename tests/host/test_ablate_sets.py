"""One seed of the cheapest rows of the shipped ablation sets in the suite's real ComfyUI, at smoke size."""

import functools
import json

import ablate
import demo_workflows as demo
import pytest
import torch
from ablations import variants

ROWS = {"fourdfy": ("full", "no 3D, no image", "single stage"), "dream_in_4d": ("full", "no TV", "HexPlane")}
AGAIN = "full again"  # the same graph in files of other names: what differs from the full row must be the row's doing, and not chance


def small(name: str, folder):
    """The set with these rows alone, one seed and smoke sizes; its path."""
    content = json.loads((variants.FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    sizes = {f"{title}.{key}": value for title, inputs in demo.smoke_changes(demo.load(content["workflow"])).items() for key, value in inputs.items()}
    steps = {key: 3 for key in content["base"]["set"] if key.endswith(".steps")}  # a displacement has its first variation in the second
    content["base"]["set"] |= sizes | steps | {key: 0 for key in sizes if key.endswith(".preview_interval")}
    prefixes = {f"{title}.filename_prefix": "again" for title in demo.of_class(demo.load(content["workflow"]), "Bloom4DHybridSDSOptimizer")}
    content["rows"] = {row: content["rows"][row] for row in ROWS[name]} | {AGAIN: {"about": "a control", "set": prefixes}}
    for changes in content["rows"].values():
        changes["set"] = {key: value for key, value in changes.get("set", {}).items() if not key.endswith(".steps")}
    content |= {"seeds": [0], "expected": [entry for entry in content["expected"] if entry["row"] in ROWS[name]]}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))
    return path


def learned(work) -> dict:
    """Row -> the tensors of its saved field."""
    from bloom4d.models.optimize.scene_files import load_scene

    lines = [json.loads(line) for line in (work / "manifest.jsonl").read_text().splitlines()]
    return {line["inputs"]["row"]: load_scene(ablate.field_of(line, work)).field.state_dict() for line in lines}


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("name", ROWS)
def test_one_seed_of_the_cheapest_rows_is_run_scored_and_compared(demo_server, tmp_path, monkeypatch, name):
    import judge_field

    monkeypatch.setattr(judge_field, "TIMES", 2)
    monkeypatch.setattr(judge_field, "real_objects", functools.partial(judge_field.real_objects, count=3))
    words = [str(small(name, tmp_path)), "--host", demo_server.url, "--work", str(tmp_path / "work"), "--out", str(tmp_path / "report")]
    assert ablate.main(words) == 0
    content = json.loads((tmp_path / "report" / f"{name}.json").read_text())
    assert tuple(content["rows"]) == (*ROWS[name], AGAIN) and (tmp_path / "report" / f"{name}_seed0.png").is_file()
    fields = learned(tmp_path / "work")
    assert {row: same(fields["full"], fields[row]) for row in fields} == {row: row in ("full", AGAIN) for row in fields}, "a row changed nothing"
    scores = {row: entry["scores"]["0"] for row, entry in content["rows"].items()}
    assert scores[AGAIN] == scores["full"] != scores[ROWS[name][-1]]
    assert content["directions"] and all(entry["of"] == 1 for entry in content["directions"])
