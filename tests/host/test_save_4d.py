"""Save 4D in a running ComfyUI: a disk that fills in the middle, the files that a user gets, and what loading them gives."""

import sys

import faults
import pytest
from faults import arm, first_line

ENDINGS = [".bloom4d.safetensors", ".glb", ".viewer.safetensors", "ply", "spz"]


def prompt(prefix: str, seed: int, **values) -> dict:
    """Gaussians with an exact motion and a mesh that burns down, in every format."""
    thing = {"phenomenon": "candle burning", "species": "any", "colour": "any", "seed": seed, "times": 3, "views": 1, "azimuth": 0.0, "elevation": 15.0, "size": 16}
    save = {"filename_prefix": prefix, "master": True, "ply": True, "spz": True, "glb": True, "viewer": True, "fps": 8.0, "glb_mode": "auto", "spz_axes": "Y up", "gaussians": ["1", 0], "mesh": ["2", 2]}
    return {
        "1": {"class_type": "Bloom4DToyMotion", "inputs": {"seed": seed}, "_meta": {"title": "Toy Motion"}},
        "2": {"class_type": "Bloom4DProcedural4DObject", "inputs": thing, "_meta": {"title": "Object"}},
        "3": {"class_type": "Bloom4DSave4D", "inputs": {**save, **values}, "_meta": {"title": "Save 4D"}},
    }  # fmt: skip


def complete(server, prompt: dict) -> dict:
    """The prompt with the defaults of what it leaves out."""
    for node in prompt.values():
        required = server.get("/object_info")[node["class_type"]]["input"]["required"]
        for name, (kind, *rest) in required.items():
            options = rest[0] if rest else {}
            node["inputs"].setdefault(name, options.get("default", (options.get("options") or [None])[0]))
    return prompt


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.glob("*")) if folder.is_dir() else []


def note(record_property, fault: str, line: str, kept: str, again: str):
    """A row of docs/fault_table.md."""
    for column, text in (("fault", fault), ("first line", line), ("kept", kept), ("queued again", again)):
        record_property(column, text)


@pytest.mark.skipif(sys.platform != "linux", reason="the fault pack looks through /proc")
@pytest.mark.parametrize("where", ["frame_0001.ply", "*.bloom4d.safetensors", "*.glb"])
def test_a_disk_that_fills_in_the_middle_leaves_no_file(broken, demo_server, output, where, record_property):
    graph = complete(broken, prompt(f"four_d/{len(where)}/x", 31))
    arm(broken, {"where": "fsync", "what": "full", "match": where})
    failed = broken.run(graph, expect="error")
    assert first_line(failed).startswith("The 4D files could not be written (No space left on device). Free some disk space")
    folder = output / "four_d" / str(len(where))
    assert names(folder) == [] and faults.unfinished(output) == []
    arm(broken)
    assert broken.run(graph).executed == ["3"]
    assert names(folder) == sorted(f"x_00001_{ending}" for ending in ENDINGS)
    demo_server.run(graph)
    calm = demo_server.base / "output" / "four_d" / str(len(where))
    for path in folder.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (calm / path.relative_to(folder)).read_bytes(), path.name
    note(record_property, f"disk full in Save 4D, in {where}", first_line(failed), "the objects in memory; no file of this save, nor a part of one", "same bytes, only Save 4D runs")


def test_a_small_disk_is_refused_before_anything_is_written(broken, disk, output, record_property):
    if disk is None:
        pytest.skip("no file system may be mounted here")
    graph = complete(broken, prompt("four_d/small/x", 32))
    with disk.full(left=20_000):
        line = first_line(broken.run(graph, expect="error"))
    assert line.startswith("Save 4D would write about") and "kB free. Switch formats off" in line and names(output / "four_d" / "small") == []
    note(record_property, "disk too small for Save 4D", line, "the objects in memory; nothing is begun", "saved, only Save 4D runs")
    assert broken.run(graph).executed == ["3"]


def test_saved_files_are_loaded_by_another_prompt(demo_server):
    run = demo_server.run(complete(demo_server, prompt("four_d/again/x", 33)))
    assert len(run.outputs["3"]["files"]) == 3 + 2 * len([entry for entry in run.outputs["3"]["files"] if entry["filename"].endswith(".ply")])
    save = {"class_type": "Bloom4DSave4D", "inputs": {"filename_prefix": "four_d/again/y", "gaussians": ["1", 0], "mesh": ["1", 1], "ply": False}, "_meta": {"title": "Save"}}
    load = {"class_type": "Bloom4DLoad4D", "inputs": {"path": "four_d/again/x_00001_.bloom4d.safetensors"}, "_meta": {"title": "Load"}}
    demo_server.run(complete(demo_server, {"1": load, "2": save}))
    folder = demo_server.base / "output" / "four_d" / "again"
    one, other = ((folder / f"{name}_00001_.bloom4d.safetensors").read_bytes() for name in "xy")
    assert one[-10_000:] == other[-10_000:], "the numbers are not the same"
    before = names(folder)
    load["inputs"]["path"] = "four_d/again/x_00001_.glb"
    blocked = demo_server.run(complete(demo_server, {"1": load, "2": save}))
    told, = blocked.of("execution_error")
    assert 'x_00001_.glb" holds no Gaussians. Load another file' in told.data["exception_message"] and names(folder) == before
