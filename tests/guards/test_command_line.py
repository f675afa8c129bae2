"""Workflows changed from the command line, and what a terminal shows of a run."""

import io
import json

import client
import pytest
import run
import show
import workflow


@pytest.fixture
def prompt() -> dict:
    return {
        "1": {"class_type": "CLIPTextEncode", "inputs": {"text": "a rose", "clip": ["9", 0]}, "_meta": {"title": "Prompt"}},
        "2": {"class_type": "Stage", "inputs": {"steps": 100, "rate": 0.5, "resume": True, "seed": 1, "mode.alpha": 2}, "_meta": {"title": "Stage 1"}},
        "3": {"class_type": "Stage", "inputs": {"steps": 100, "noise_seed": 1, "seed": ["2", 0]}, "_meta": {"title": "Stage 1.b"}},
    }


@pytest.mark.parametrize(("assignment", "node", "name", "value"), [
    ("Stage 1.steps=20", "2", "steps", 20),
    ("Stage 1.rate=1e-3", "2", "rate", 0.001),
    ("Stage 1.resume=false", "2", "resume", False),
    ("Stage 1.mode.alpha=3", "2", "mode.alpha", 3),
    ("Stage 1.b.steps=7", "3", "steps", 7),
    ("3.steps=8", "3", "steps", 8),
    ("CLIPTextEncode.text=a lily", "1", "text", "a lily"),
    ("Prompt.text=a = b", "1", "text", "a = b"),
    ("Prompt.text=12", "1", "text", "12"),
])
def test_set_changes_one_value_in_its_type(prompt, assignment, node, name, value):
    before = json.loads(json.dumps(prompt))
    workflow.change(prompt, assignment)
    assert prompt[node]["inputs"][name] == value and type(prompt[node]["inputs"][name]) is type(value)
    before[node]["inputs"][name] = value
    assert prompt == before


@pytest.mark.parametrize(("assignment", "words"), [
    ("Stage 1.steps", 'has no "="'),
    ("Stage 9.steps=1", "titles: Prompt, Stage 1, Stage 1.b"),
    ("Stage 1.pace=1", "has no input pace; it has steps"),
    ("Stage 1.steps=many", "is no value of that kind"),
    ("Stage 1.resume=1", "is no value of that kind"),
    ("Prompt.clip=1", "is connected to another node"),
])
def test_a_bad_change_says_what_there_is(prompt, assignment, words):
    with pytest.raises(workflow.WorkflowError, match=words.replace(".", r"\.")):
        workflow.change(prompt, assignment)


def test_a_class_stands_for_titles_of_another_language(prompt):
    prompt["1"]["_meta"]["title"] = "CLIP文本编码"
    for name in ("CLIP文本编码", "CLIPTextEncode", "1"):
        workflow.change(prompt, f"{name}.text={name}")
        assert prompt["1"]["inputs"]["text"] == name
    prompt["1"]["_meta"]["title"] = "CLIPTextEncode"  # a title that is the class: one node, not two
    workflow.change(prompt, "CLIPTextEncode.text=once")
    with pytest.raises(workflow.WorkflowError, match="fits several nodes"):
        workflow.change(prompt, "Stage.steps=1")


def test_two_nodes_of_one_title_need_an_id(prompt):
    prompt["3"]["_meta"]["title"] = "Stage 1"
    with pytest.raises(workflow.WorkflowError, match="use an id: 2.steps, 3.steps"):
        workflow.change(prompt, "Stage 1.steps=1")


def test_prompt_and_seed(prompt):
    workflow.set_prompt(prompt, "a candle")
    workflow.set_seed(prompt, 7)
    assert prompt["1"]["inputs"]["text"] == "a candle"
    assert (prompt["2"]["inputs"]["seed"], prompt["3"]["inputs"]["noise_seed"], prompt["3"]["inputs"]["seed"]) == (7, 7, ["2", 0])
    with pytest.raises(workflow.WorkflowError, match='exactly one node titled "Prompt"'):
        workflow.set_prompt({}, "x")


def test_files_that_are_no_api_workflow(tmp_path):
    broken, browser, other = (tmp_path / name for name in ("broken.json", "browser.json", "other.json"))
    broken.write_text("{")
    browser.write_text('{"nodes": [], "links": []}')
    other.write_text('{"a": 1}')
    for path, words in ((broken, "is not JSON"), (browser, "browser's format"), (other, "not a workflow in API format"),
                        ("nothing", "there is no workflow nothing")):
        with pytest.raises(workflow.WorkflowError, match=words):
            workflow.load(str(path))


class Clock:
    def __init__(self):
        self.time = 0.0

    def __call__(self):
        return self.time


@pytest.fixture
def lines():
    return show.Lines({"1": "Loader", "2": "Stage 1", "3": "Save"}, io.StringIO(), Clock())


def progress(value, of, state="running"):
    return client.Event("progress_state", {"nodes": {"2": {"value": value, "max": of, "state": state}}})


def executing(node):
    return client.Event("executing", {"node": node, "display_node": node})


def test_a_line_per_node_with_step_loss_and_time_left(lines):
    lines.handle(client.Event("execution_cached", {"nodes": ["1"]}))
    lines.handle(executing("2"))
    for value in (1, 2, 11):
        lines.now.time += 6.0
        lines.handle(progress(value, 101))
        lines.handle(client.Event("text", {"node": "2", "text": f"loss {value}.5"}))
    lines.handle(client.Event("preview", {}))
    lines.handle(executing("3"))
    lines.finish()
    text = lines.stream.getvalue().splitlines()
    assert text[0].strip() == "unchanged since an earlier run: Loader"
    assert "[ 1/3] Stage 1  step 11/101  loss 2.5  1:48 left" in text  # 10 steps took 12 s, 90 are left
    assert text[-2] == "[ 2/3] Stage 1  step 11/101  loss 11.5  18.0 s"
    assert text[-1].startswith("[ 3/3] Save") and lines.first_preview == 18.0


def test_a_text_that_counts_steps_is_shown_alone(lines):
    lines.handle(executing("2"))
    lines.now.time += 6.0
    lines.handle(progress(5, 10))
    lines.handle(client.Event("text", {"node": "2", "text": "step 5/10, loss 0.1, 8 s left"}))
    lines.now.time += 6.0
    lines.handle(progress(6, 10))
    assert lines.stream.getvalue().splitlines()[-1] == "[ 0/3] Stage 1  step 5/10, loss 0.1, 8 s left"


def test_binary_messages():
    text = (3).to_bytes(4, "big") + (2).to_bytes(4, "big") + b"12" + "loss .5".encode()
    assert client.parse_binary(text) == client.Event("text", {"node": "12", "text": "loss .5"})
    head = json.dumps({"node_id": "12"}).encode()
    picture = (4).to_bytes(4, "big") + len(head).to_bytes(4, "big") + head + b"\xff\xd8jpeg"
    assert client.parse_binary(picture) == client.Event("preview", {"node_id": "12"}, b"\xff\xd8jpeg")
    assert client.parse_binary((1).to_bytes(4, "big") + b"old") is None


def test_only_files_of_the_output_folder_are_results():
    saved = {"filename": "a.png", "subfolder": "", "type": "output"}
    outputs = {"1": {"images": [saved, {**saved, "type": "temp"}], "animated": [True]}, "2": {"text": ["hello"]}}
    assert run.files_of(outputs) == [saved] and run.texts_of(outputs) == [("2", "hello")]


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3601, "1:00:01")])
def test_clock(seconds, text):
    assert show.clock(seconds) == text


def test_a_line_that_is_too_long_keeps_the_time_left():
    line = "[22/38] Optimize stage 1  step 1/90, multi-view loss 8.01e+03 at t 0.76, 30 s left"
    assert show.fitted(line, 79).endswith("..., 30 s left") and len(show.fitted(line, 79)) == 79
    assert show.fitted(line, 90) == line and show.fitted("x" * 90, 79) == "x" * 79


def test_of_many_titles_those_that_look_like_it_are_named():
    prompt = {str(number): {"class_type": "X", "inputs": {"steps": 1}, "_meta": {"title": f"Stage {number}" if number < 3 else f"Other {number}"}} for number in range(40)}
    with pytest.raises(workflow.WorkflowError, match=r"titles: Stage [0-9], Stage [0-9], Stage [0-9] \(of 40\)$"):
        workflow.change(prompt, "Stag.steps=1")
    with pytest.raises(workflow.WorkflowError, match=r"titles: Other 10(, Other \d+){5} \(of 40\)$"):
        workflow.change(prompt, "?.steps=1")
