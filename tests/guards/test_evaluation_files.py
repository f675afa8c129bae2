"""The evaluations that we ship fit the workflows that they name."""

import re
import shlex
from pathlib import Path

import evaluate
import evaluations
import pytest
import workflow

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = {"evaluate.py": evaluate.__doc__, "README.md": (ROOT / "README.md").read_text(encoding="utf-8")}
COMMANDS = [(page, command.strip()) for page, text in PAGES.items() for command in re.findall(r"launch\.py evaluate ([^`\n]+)", text)]


@pytest.mark.parametrize("name", evaluations.names())
def test_every_case_of_an_evaluation_can_be_queued(name):
    made = evaluations.load(name)
    for case in made.prompts:
        prompt = evaluations.build(made, case, 3, "judge.safetensors", [])
        node, text = workflow.prompt_place(prompt, "the test")
        assert prompt[node]["inputs"][text] == case.prompt
        for target, value in case.set.items():
            node, entry = workflow.resolve(prompt, target)
            assert prompt[node]["inputs"][entry] == value
        judge = prompt["evaluation_scores"]["inputs"]
        assert judge["prompt"] == case.prompt and judge["clip"] == "judge.safetensors" and prompt["evaluation_render"]["inputs"]["field"][0] in prompt


def test_the_ten_prompts_of_dream_in_4d_have_the_weights_of_its_table():
    weights = [case.set["Image, static.weight"] for case in evaluations.load("dream_in_4d").prompts]
    assert weights == [1.2, 1.2, 1, 1, 1.2, 1, 1, 1.2, 1, 1.2]


def test_published_numbers_name_their_source():
    entries = evaluations.load("4dfy").published
    assert entries and all(entry["source"] and 0 < entry["CLIP"] < 100 for entry in entries)


def test_commands_are_shown():
    assert len(COMMANDS) >= 3 and {page for page, _ in COMMANDS} == set(PAGES)


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_every_command_that_is_shown_fits_its_workflow(page, command):
    """Parsed as typed, and its changes made in the graph that it runs: a title that is gone fails here and not at the user's."""
    options = evaluate.arguments(shlex.split(command))
    options.clip = options.clip or evaluations.NO_CLIP
    made = evaluate.chosen(options)
    rows = evaluate.rows_of(made, options)
    assert len(rows) == len(made.prompts) * len(options.seeds)


def test_a_title_that_is_no_more_is_found():
    options = evaluate.arguments(["dream_in_4d", "--clip", "none", "--set", "Optimize motion.steps=2000"])
    with pytest.raises(workflow.WorkflowError, match="no node is titled like"):
        evaluate.rows_of(evaluate.chosen(options), options)
