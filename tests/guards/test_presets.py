"""Presets of the shipped workflows: they fit their graphs, set widgets and nothing else, and are what tools/graphs says."""

import json

import presets
import pytest
import run
import workflow
from graphs.presets import PRESETS

GIVEN = [(name, preset) for name in PRESETS for preset in PRESETS[name]]


def test_every_workflow_carries_the_presets_that_its_builder_has():
    for path in sorted((workflow.FOLDER.parent).glob("*.json")):
        carried = json.loads(path.read_text())["extra"].get(presets.KEY, {})
        assert carried == presets.by_node(workflow.load(path.stem), PRESETS.get(path.stem, {})), path.name


@pytest.mark.parametrize(("name", "preset"), GIVEN)
def test_a_preset_changes_widgets_and_no_connection(name, preset):
    before, after = workflow.load(name), workflow.load(name)
    presets.apply(after, [preset], presets.of_workflow(name))
    changed = {(node, entry) for node in before for entry in before[node]["inputs"] if before[node]["inputs"][entry] != after[node]["inputs"][entry]}
    told = presets.of_workflow(name)[preset]["values"]
    assert changed <= {(node, entry) for node, values in told.items() for entry in values}
    assert all(not isinstance(after[node]["inputs"][entry], list) for node, entry in changed)
    assert before.keys() == after.keys() and PRESETS[name][preset]["about"].endswith(".")


def test_some_preset_of_every_workflow_changes_something():
    for name, given in PRESETS.items():
        original = workflow.load(name)
        results = []
        for preset in given:
            prompt = workflow.load(name)
            presets.apply(prompt, [preset], presets.of_workflow(name))
            results.append(prompt)
        assert any(result != original for result in results), name


def test_the_command_line_applies_presets_before_single_values(monkeypatch):
    monkeypatch.setattr("sys.argv", ["run", "text_to_4d_demo", "--preset", "quick look", "--set", "Polish.steps=7"])
    prompt = run.read_workflow(run.arguments())
    steps = {workflow.title(*item): item[1]["inputs"]["steps"] for item in prompt.items() if "steps" in item[1]["inputs"]}
    assert steps["Optimize stage 3"] == 280 and steps["Polish"] == 7


@pytest.mark.parametrize(("name", "said"), [("text_to_4d_demo", "this workflow has quick look, demo"), ("four_d_metrics_demo", "this workflow has no presets")])
def test_an_unknown_preset_is_refused_with_those_that_there_are(name, said):
    with pytest.raises(workflow.WorkflowError, match=said):
        presets.apply(workflow.load(name), ["40 GB"], presets.of_workflow(name))


def test_a_preset_of_a_title_or_value_that_the_graph_lacks_is_a_mistake():
    prompt = workflow.load("text_to_4d_demo")
    for target, value in (("Polish.step", 3), ("Polisher.steps", 3), ("Polish.steps", "many"), ("Polish.field", 3)):
        with pytest.raises(workflow.WorkflowError):
            presets.by_node(prompt, {"x": {"about": "", "set": {target: value}}})
