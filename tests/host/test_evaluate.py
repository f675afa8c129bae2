"""`launch.py evaluate` in the suite's real ComfyUI, at smoke size, on the demo's graph: a row a prompt, scores beside published numbers."""

import json

import demo_workflows as demo
import evaluate
import evaluations
import pytest

SMALL = [
    f"Prior.prior={demo.PRIOR}", "Optimize stage 1.steps=1", "Optimize stage 2.steps=1", "Optimize stage 3.steps=1", "Polish.steps=1", "Polish.views=2", "Polish.frames=2",
    "Polish.denoising_steps=1", "Renderer.samples=8", "Renderer.occupancy_resolution=8", "Renderer.time_slabs=2", "Multi-view.width=16", "Multi-view.height=16",
    "Views and times together.width=16", "Views and times together.height=16", "Image.width=16", "Image.height=16", "Video.width=16", "Video.height=16",
    "Orbit through time.frames=2", "Render.width=16", "Render.height=16", "Mesh of one instant.resolution=8", "Fine renderer.samples=8",
]  # fmt: skip
PROMPTS = ["a red candle burning", "a yellow banana rotting"]


@pytest.fixture
def words(demo_server, tmp_path, monkeypatch):
    real = evaluations.load("4dfy")
    monkeypatch.setattr(evaluations, "load", lambda name: evaluations.replace(real, orbit={**real.orbit, "frames": 3}, size=16))
    changes = [part for setting in SMALL for part in ("--set", setting)]
    return ["4dfy", "--workflow", "text_to_4d_demo", "--clip", "none", "--host", demo_server.url, "--out", str(tmp_path / "out"), "--prompts", *PROMPTS, *changes]


def test_every_prompt_is_scored_beside_what_others_report(words, tmp_path, capsys):
    assert evaluate.main(words) == 0, capsys.readouterr()
    content = json.loads((tmp_path / "out" / "4dfy.json").read_text())
    assert [entry["prompt"] for entry in content["ours"]] == PROMPTS
    assert all(entry["scores"]["absolute sharpness"] >= 0 and "CLIP" not in entry["scores"] for entry in content["ours"]) and content["mean CLIP"] is None  # no network that could say
    page = (tmp_path / "out" / "4dfy.md").read_text()
    assert "| 4D-fy, 28 prompts | 34.20 |" in page and "theirs: 4D-fy, table 2" in page and "not as a comparison" in page
    capsys.readouterr()
    assert evaluate.main(words) == 0 and "2 of 2 rows are finished already" in capsys.readouterr().out


def settings(name: str) -> list[str]:
    """The words that make a demo small, for the command line."""
    from workflow import load

    changes = [f"{title}.{entry}={json.dumps(value) if not isinstance(value, str) else value}" for title, inputs in demo.smoke_changes(load(name)).items() for entry, value in inputs.items()]
    return [part for change in changes for part in ("--set", change)]


def test_the_other_evaluation_with_a_clip_of_the_public_files_layout(demo_server, tmp_path, monkeypatch, capsys):
    """Dream-in-4D's own prompts with the weights of its table, scored by a CLIPModel file of random weights."""
    from safetensors.torch import save_file
    from tiny_judges import tiny_clip

    folder = demo_server.base / "models" / "clip_vision"
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in tiny_clip().state_dict().items()}, folder / "tiny_clip.safetensors")
    real = evaluations.load("dream_in_4d")
    small = evaluations.replace(real, orbit={**real.orbit, "frames": 3}, size=16, prompts=real.prompts[:2])
    monkeypatch.setattr(evaluations, "load", lambda name: small)
    words = ["dream_in_4d", "--workflow", "text_to_4d_dream_in_4d_demo", "--clip", "tiny_clip.safetensors", "--host", demo_server.url, "--out", str(tmp_path / "out")]
    assert evaluate.main([*words, *settings("text_to_4d_dream_in_4d_demo")]) == 0, capsys.readouterr()
    content = json.loads((tmp_path / "out" / "dream_in_4d.json").read_text())
    assert [entry["prompt"] for entry in content["ours"]] == [case.prompt for case in real.prompts[:2]]
    scores = [entry["scores"]["CLIP"] for entry in content["ours"]]
    assert all(-100 <= score <= 100 for score in scores) and scores[0] != scores[1] and content["mean CLIP"] == pytest.approx(sum(scores) / 2)


def test_without_the_judge_nothing_is_queued_and_the_file_is_named(capsys):
    assert evaluate.main(["4dfy"]) == 2
    assert "clip_vision" in (said := capsys.readouterr().err) and "openai/clip-vit-base-patch32 (MIT)" in said
    assert evaluate.main(["5dfy", "--clip", "none"]) == 2 and "Choose one of: 4dfy, dream_in_4d" in capsys.readouterr().err


def test_a_mean_is_over_ours_alone():
    made = evaluations.load("4dfy")
    lines = [{"status": "success", "inputs": {"prompt": name, "seed": 0}, "seconds": 1.0, "scores": {evaluations.JUDGE: {"CLIP": value}}} for name, value in (("a", 30.0), ("b", 33.0))]
    content, page = evaluate.report(made, [*lines, {"status": "error"}], "command")
    assert content["mean CLIP"] == 31.5 and "| ours: mean of 2 | 31.50 |" in page
