"""`launch.py ablate` in the suite's real ComfyUI, at smoke size: it runs, reports, and goes on where it stopped."""

import functools
import json

import ablate
import demo_workflows as demo
import pytest
from ablations import variants

SMALL = {
    "Prior.prior": demo.PRIOR, "Optimize stage 1.steps": 1, "Optimize stage 2.steps": 1, "Optimize stage 3.steps": 2, "Renderer.samples": 12,
    "Renderer.occupancy_resolution": 8, "Renderer.time_slabs": 2, "Multi-view, one instant.width": 16, "Multi-view, one instant.height": 16, "Image, one instant.width": 16,
    "Image, one instant.height": 16, "Multi-view.width": 16, "Multi-view.height": 16, "Image.width": 16, "Image.height": 16,
}  # fmt: skip
SET = {
    "about": "two rows", "workflow": "text_to_4d_demo", "prompt": "a red candle burning", "seeds": [3], "field": "Save field",
    "columns": ["nearest PSNR", "back PSNR", "motion"],
    "base": {"terms": {"Stage 3": {"Multi-view": 0.5, "Image": 0.5}}, "link": {"Save field.field": ["Optimize stage 3", 0]}, "set": SMALL},
    "rows": {
        "full": {"about": "all"},
        "single grid": {"about": "one grid", "node": {"Field": {"class_type": "Bloom4DSingleGridField", "inputs": {
            "size": "demo", "initial_density": "soft ball", "blob_radius": 0.55, "background": "none", "seed": 0}}}},
    },
    "reading": ["Written about all seeds."],
    "expected": [{"row": "single grid", "score": "nearest PSNR", "direction": "down", "source": "4D-fy"}],
}  # fmt: skip


@pytest.fixture(scope="module")
def ablated(demo_server, tmp_path_factory):
    """A finished ablation, judged at two times against three real objects: the words of its command, its folder, its exit code."""
    import judge_field

    folder = tmp_path_factory.mktemp("ablation")
    (folder / "tiny.json").write_text(json.dumps(SET))
    words = [str(folder / "tiny.json"), "--host", demo_server.url, "--work", str(folder / "work"), "--out", str(folder / "report")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge_field, "TIMES", 2)
        patch.setattr(judge_field, "real_objects", functools.partial(judge_field.real_objects, count=3))
        return words, folder, ablate.main(words)


def test_every_row_is_scored_and_shown(ablated):
    _, folder, code = ablated
    content = json.loads((folder / "report" / "tiny.json").read_text())
    assert code == 0 and {path.name for path in (folder / "report").iterdir()} == {"tiny.json", "tiny.md", "tiny_seed3.png"}
    assert content["rows"].keys() == SET["rows"].keys() and all(set(SET["columns"]) <= entry["scores"]["3"].keys() for entry in content["rows"].values())
    assert content["rows"]["full"]["scores"]["3"]["nearest PSNR"] > 3 and content["rows"]["full"]["scores"] != content["rows"]["single grid"]["scores"]
    assert "Written about all seeds." in (folder / "report" / "tiny.md").read_text()
    only, = content["directions"]
    assert only["of"] == 1 and only["held"] == int(only["differences"]["3"] < 0)
    assert [run["status"] for run in content["runs"]] == ["success"] * 2 and "ablate" in content["command"] and content["commit"]


def test_the_judged_fields_are_of_the_swapped_kinds(ablated):
    from bloom4d.models.optimize.scene_files import load_scene

    _, folder, _ = ablated
    content = json.loads((folder / "report" / "tiny.json").read_text())
    lines = [json.loads(line) for line in (folder / "work" / "manifest.jsonl").read_text().splitlines()]
    kinds = {line["inputs"]["row"]: load_scene(ablate.field_of(line, folder / "work")).field.kind for line in lines}
    assert kinds == {"full": "hash", "single grid": "single grid"}
    assert content["rows"]["single grid"]["changes"] == SET["rows"]["single grid"]


def test_the_same_command_runs_nothing_again_and_a_lost_file_alone(ablated, capsys):
    words, folder, _ = ablated
    options = ablate.arguments(words)
    rows, work = ablate.rows_of(variants.load_set(options.name), options), folder / "work"
    before = ablate.run(rows, work, options)
    assert "2 of 2 rows are finished already" in capsys.readouterr().out
    lost = ablate.field_of(before[1], work)
    content = lost.read_bytes()
    lost.unlink()
    after = ablate.run(rows, work, options)
    assert "1 of 2 rows are finished already" in capsys.readouterr().out
    assert lost.read_bytes() == content and after[0] == before[0] and after[1]["hashes"] == before[1]["hashes"]
    options.report = True
    assert [line["key"] for line in ablate.run(rows, work, options)] == [row.key for row in rows] and capsys.readouterr().out == ""
