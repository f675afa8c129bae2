"""One seed of the cheapest rows of the shipped ablation sets in the suite's real ComfyUI, at smoke size."""

import functools
import json

import ablate
import demo_workflows as demo
import pytest
from ablations import variants

ROWS = {"fourdfy": ("full", "no 3D, no image", "single stage"), "dream_in_4d": ("full", "no TV", "HexPlane")}


def small(name: str, folder):
    """The set with these rows alone, one seed and smoke sizes; its path."""
    content = json.loads((variants.FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    sizes = {f"{title}.{key}": value for title, inputs in demo.smoke_changes(demo.load(content["workflow"])).items() for key, value in inputs.items()}
    steps = {key: 2 for key in content["base"]["set"] if key.endswith(".steps")}
    content["base"]["set"] |= sizes | steps | {key: 0 for key in sizes if key.endswith(".preview_interval")}
    content["rows"] = {row: content["rows"][row] for row in ROWS[name]}
    for changes in content["rows"].values():
        changes["set"] = {key: value for key, value in changes.get("set", {}).items() if not key.endswith(".steps")}
    content |= {"seeds": [0], "expected": [entry for entry in content["expected"] if entry["row"] in ROWS[name]]}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("name", ROWS)
def test_one_seed_of_the_cheapest_rows_is_run_scored_and_compared(demo_server, tmp_path, monkeypatch, name):
    import judge_field

    monkeypatch.setattr(judge_field, "TIMES", 2)
    monkeypatch.setattr(judge_field, "real_objects", functools.partial(judge_field.real_objects, count=3))
    words = [str(small(name, tmp_path)), "--host", demo_server.url, "--work", str(tmp_path / "work"), "--out", str(tmp_path / "report")]
    assert ablate.main(words) == 0
    content = json.loads((tmp_path / "report" / f"{name}.json").read_text())
    assert tuple(content["rows"]) == ROWS[name] and (tmp_path / "report" / f"{name}_seed0.png").is_file()
    scores = [entry["scores"]["0"] for entry in content["rows"].values()]
    assert scores[0] != scores[-1], "a row changed nothing"  # (two steps in, a displacement has no variation to be charged for)
    assert content["directions"] and all(entry["of"] == 1 for entry in content["directions"])
