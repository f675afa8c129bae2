"""What people do wrong with text to 4D: the first line of each error stands alone, and the queue goes on."""

import fcntl
from pathlib import Path

import demo_workflows as demo
import pytest

SHEETS = tuple(f"{stage}: views x times" for stage in demo.STAGES)
RUNS = "bad_input"


def stage(number: int, **titles) -> dict:
    """Text to 4D at smoke size up to a stage; runs of its own folder."""
    optimisers = {name: {"filename_prefix": RUNS, "steps": 1} for name in demo.STAGES}
    for name, values in titles.items():
        optimisers[name] = {**optimisers.get(name, {}), **values}
    return demo.only(demo.smoke("text_to_4d_demo", **optimisers), SHEETS[number - 1])


def first_line(server, prompt: dict, title: str) -> str:
    """The first line of the error that a prompt ends with, in the node of this title; then the host still answers."""
    run = server.run(prompt, expect="error")
    assert run.error["node_id"] == demo.titled(prompt, title)
    assert server.get("/queue") == {"queue_running": [], "queue_pending": []}
    return run.error["exception_message"].strip().splitlines()[0]


def text_of(run, prompt: dict, title: str) -> str:
    return "\n".join(run.outputs[demo.titled(prompt, title)]["text"])


@pytest.mark.parametrize("words, expected", [("a corgi on a skateboard", 'does not know "a corgi on a skateboard"'), ("", "The prompt is empty")])
def test_a_prompt_that_the_demo_cannot_follow_runs_and_says_so(demo_server, words, expected):
    prompt = stage(1, Prompt={"text": words})
    run = demo_server.run(prompt)
    assert expected in text_of(run, prompt, demo.STAGES[0])
    assert any(expected in event.data["text"] for event in run.of("text")), "it is also said while the stage runs"


def test_a_stage_without_a_term(demo_server):
    prompt = stage(1)
    del prompt[demo.titled(prompt, "Stage 1")]["inputs"]["terms.term0"]
    assert "no guidance term. Connect at least one" in first_line(demo_server, prompt, "Stage 1")


def test_probabilities_that_do_not_add_up(demo_server):
    line = first_line(demo_server, stage(2, **{"Stage 2": {"probabilities": "0.5, 0.75"}}), "Stage 2")
    assert "1.25" in line and "0.4, 0.6" in line  # what they would be, to copy


def test_a_checkpoint_of_another_field(demo_server):
    demo_server.run(stage(1))
    found = next((demo_server.base / "output" / "bloom4d" / "runs" / RUNS).rglob("step_*.safetensors"))
    name = found.relative_to(demo_server.base / "output").as_posix()
    prompt = stage(1, **{"Field": {"blob_radius": 0.3}, demo.STAGES[0]: {"resume": "file", "checkpoint": name}})
    assert "another field" in first_line(demo_server, prompt, demo.STAGES[0])


def test_two_runs_on_one_folder_at_once(demo_server):
    prompt = stage(1, **{"Field": {"seed": 31}})
    before = set(folders(demo_server.base))
    demo_server.run(prompt)
    mine, = set(folders(demo_server.base)) - before
    again = stage(1, **{"Field": {"seed": 31}, demo.STAGES[0]: {"resume": "new"}})
    with open(mine / "lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "Another process is working on this very run" in first_line(demo_server, again, demo.STAGES[0])
    assert demo_server.run(again).status == "success"


def folders(base: Path) -> list[Path]:
    return list((base / "output" / "bloom4d" / "runs" / RUNS).glob("*"))


def test_a_truncated_prior_and_a_file_of_something_else(demo_server):
    whole = demo.give_prior(demo_server.base)
    (whole.parent / "half.safetensors").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (whole.parent / "poem.safetensors").write_text("O rose, thou art sick.\n" * 10)
    for name in ("half", "poem"):
        line = first_line(demo_server, stage(1, Prior={"prior": f"{name}.safetensors"}), "Prior")
        assert line.startswith(f"{name}.safetensors is no readable safetensors file") and "copy your own file again" in line


def test_a_truncated_field_and_one_that_is_not_there(demo_server):
    folder = demo_server.base / "output" / "bloom4d" / "fields"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "half.safetensors").write_bytes(b"\x80\x00\x00\x00\x00\x00\x00\x00{")
    load = {"class_type": "Bloom4DLoadField", "inputs": {"path": "bloom4d/fields/half.safetensors"}, "_meta": {"title": "Load"}}
    save = {"class_type": "Bloom4DSaveField", "inputs": {"field": ["1", 0], "filename_prefix": "x"}, "_meta": {"title": "Save"}}
    assert '"half.safetensors" is no readable safetensors file' in first_line(demo_server, {"1": load, "2": save}, "Load")
    load["inputs"]["path"] = "bloom4d/fields/nobody.safetensors"
    assert "There is no field" in first_line(demo_server, {"1": load, "2": save}, "Load")
    load["inputs"]["path"] = "../../secret.safetensors"
    assert "leads out of the folder" in first_line(demo_server, {"1": load, "2": save}, "Load")


@pytest.mark.parametrize(
    "title, name, options",
    [("Field", "size", "demo, 4D-fy, custom"), ("Field", "background", "none, solid, network"), ("Render", "background", "field, colour")],
)
def test_a_value_that_is_none_of_the_options_in_a_prompt_written_by_hand(demo_server, title, name, options):
    prompt = demo.smoke("text_to_4d_demo")
    demo.change(prompt, {title: {name: "huge"}})
    line = first_line(demo_server, prompt, title)
    assert f'"{name}"' in line and options in line


@pytest.mark.parametrize(("title", "changes", "told"), [
    ("Orbit video", {"mask": "Static orbit"}, "The mask of the video is 3 x 32 x 32, its pictures are 4 x 32 x 32"),
    ("Orbit video: cameras", {"frames": 1}, "The video has one picture"),
    ("Construct", {"initial_gaussians": 2000}, "max_gaussians allows 300"),
])
def test_videos_that_make_no_object(demo_server, title, changes, told):
    prompt = demo.only(demo.smoke("orbit_video_to_4d_gaussians_demo", Construct={"filename_prefix": RUNS}, **{"Static orbit: cameras": {"frames": 3}}), "Report")
    inputs = prompt[demo.titled(prompt, title)]["inputs"]
    if "mask" in changes:  # the mask of another video
        inputs, changes = prompt[demo.titled(prompt, "Construct")]["inputs"], {"mask": [demo.titled(prompt, changes["mask"]), 1]}
    inputs.update(changes)
    assert told in first_line(demo_server, prompt, "Construct")
