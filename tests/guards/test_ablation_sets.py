"""Ablation sets: every row builds, differs from the reference only where it says so, and its report counts what it must."""

import json
import math
from dataclasses import replace

import ablate
import pytest
import workflow
from ablations import report, variants
from ablations.variants import Expected, SetError

NAMES = variants.names()


def write_set(folder, **changes):
    """A set of two rows over the shipped demo, and its path."""
    content = {
        "about": "what it asks", "workflow": "text_to_4d_demo", "prompt": "a red rose blooming", "seeds": [0, 1], "field": "Save field",
        "columns": ["motion", "sharpness"], "base": {"set": {"Optimize stage 1.steps": 7}},
        "rows": {"full": {"about": "all"}, "blunt": {"about": "less", "terms": {"Stage 2": {"Multi-view, one instant": 1.0}}}},
        "expected": [{"row": "blunt", "score": "sharpness", "direction": "down", "source": "a paper"}],
    }  # fmt: skip
    path = folder / "some.json"
    path.write_text(json.dumps({**content, **changes}))
    return path


@pytest.fixture
def some(tmp_path):
    return variants.load_set(str(write_set(tmp_path)))


def titled(prompt, title):
    return prompt[variants.find(prompt, title)]


def titles(prompt):
    return {workflow.title(*item) for item in prompt.items()}


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_row_is_a_graph_of_its_own(name):
    made = variants.load_set(name)
    prompts = [json.dumps(variants.build(made, row, seed)) for row in made.rows for seed in made.seeds]
    assert len(set(prompts)) == len(prompts) and len(made.seeds) >= 3
    for row in made.rows:
        prompt = variants.build(made, row, 5)
        for node in prompt.values():
            assert all(value[0] in prompt for value in node["inputs"].values() if isinstance(value, list)), "a link leads nowhere"
            assert node["inputs"].get("seed", 5) == 5
        assert made.rows[row]["about"] and {entry.row for entry in made.expected} <= made.rows.keys()


def test_only_what_the_judged_file_needs_is_run(some):
    prompt = variants.build(some, "full", 0)
    assert "Save field" in titles(prompt) and not {"Save video", "Save mesh", "Training curves", "Optimize stage 1: views x times"} & titles(prompt)


def test_a_row_changes_what_it_says_and_nothing_else(some):
    full, blunt = (variants.build(some, row, 3) for row in some.rows)
    assert titled(full, "Optimize stage 1")["inputs"]["steps"] == titled(blunt, "Optimize stage 1")["inputs"]["steps"] == 7
    stage = titled(blunt, "Stage 2")["inputs"]
    assert stage["terms.term0"] == [variants.find(blunt, "Multi-view, one instant"), 0] and "terms.term1" not in stage and stage["probabilities"] == "1"
    assert titles(full) - titles(blunt) == {"Image, one instant", "Single pictures of one instant"}
    stage2 = variants.find(blunt, "Stage 2")
    assert {name: node for name, node in blunt.items() if name != stage2} == {name: full[name] for name in blunt if name != stage2}


def test_a_node_is_swapped_and_its_links_stay(some):
    swap = {"about": "one grid", "node": {"Field": {"class_type": "Bloom4DSingleGridField", "inputs": {"size": "demo", "seed": 0}}, "Render": {"class_type": "Other", "inputs": {"field": ["Field", 0]}}}}
    prompt = variants.build(replace(some, rows={"full": {"about": ""}, "grid": swap}), "grid", 9)
    field = variants.find(prompt, "Field")
    assert prompt[field] == {"class_type": "Bloom4DSingleGridField", "inputs": {"size": "demo", "seed": 9}, "_meta": {"title": "Field"}}
    assert titled(prompt, "Optimize stage 1")["inputs"]["field"] == [field, 0]


def test_a_stage_is_skipped_by_a_link(some):
    prompt = variants.build(replace(some, rows={"full": {"about": ""}, "one": {"about": "", "link": {"Optimize stage 3.field": ["Field", 0]}}}), "one", 0)
    assert not {"Optimize stage 1", "Optimize stage 2", "Stage 1"} & titles(prompt) and "Stage 3" in titles(prompt)


@pytest.mark.parametrize(("row", "words"), [
    ({"set": {"Optimize stage 1.stepz": 3}}, "has no input stepz"),
    ({"set": {"Optimize stage 1.steps": "many"}}, "no value of that kind"),
    ({"terms": {"Stage 2": {"Nothing": 1.0}}}, '0 nodes are titled "Nothing"'),
    ({"terms": {"Stage 2": {"Image, one instant": 0.5}}}, "sum to 0.5"),
    ({"link": {"Save field.field": ["Nowhere", 0]}}, '0 nodes are titled "Nowhere"'),
    ({"sets": {}}, "has sets; a row may have"),
])
def test_a_slip_in_a_set_is_named_in_one_line(tmp_path, row, words):
    path = write_set(tmp_path, expected=[], rows={"full": {"about": ""}, "other": {"about": "", **row}})
    with pytest.raises(SetError, match=words) as caught:
        variants.build(variants.load_set(str(path)), "other", 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("changes", "words"), [
    ({"expected": [{"row": "gone", "score": "motion", "direction": "up", "source": ""}]}, "names no row"),
    ({"expected": [{"row": "full", "score": "motion", "direction": "sideways", "source": ""}]}, "no direction"),
    ({"colour": "red"}, "is no ablation set"),
])
def test_a_set_that_contradicts_itself_is_refused(tmp_path, changes, words):
    with pytest.raises(SetError, match=words):
        variants.load_set(str(write_set(tmp_path, **changes)))


def test_unknown_names_on_the_command_line_end_before_anything_starts(tmp_path, capsys):
    path = str(write_set(tmp_path))
    for words, message in ((["nothing"], f"Give a path or one of: {', '.join(NAMES)}"), ([path, "--rows", "gone"], "Its rows: full, blunt"), ([path, "--set", "Polish.x=1"], "has no input x")):
        assert ablate.main(words) == 2
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1


def test_rows_that_share_stages_follow_each_other_and_the_reference_always_runs(tmp_path):
    options = ablate.arguments([str(write_set(tmp_path)), "--seeds", "4,5", "--rows", "blunt"])
    rows = ablate.rows_of(variants.load_set(options.name), options)
    assert [(row.inputs["row"], row.inputs["seed"]) for row in rows] == [("full", 4), ("blunt", 4), ("full", 5), ("blunt", 5)]
    assert len({row.key for row in rows}) == 4


SCORES = {"full": {0: {"motion": 1.0, "sharpness": 0.5}, 1: {"motion": 2.0, "sharpness": 0.7}}, "blunt": {0: {"motion": 0.5, "sharpness": 0.4}, 1: {"motion": math.nan, "sharpness": 0.9}}}
RUN = {"command": "launch.py ablate some", "commit": "abc", "rows asked": ["full", "blunt"], "seeds asked": [0, 1], "runs": []}


def test_directions_are_counted_seed_by_seed(some):
    down, = report.verdicts(some, SCORES)
    assert down["differences"] == pytest.approx({"0": -0.1, "1": 0.2}) and (down["held"], down["of"]) == (1, 2)
    up, = report.verdicts(replace(some, expected=(Expected("blunt", "sharpness", "up", ""),)), SCORES)
    assert (up["held"], up["of"]) == (1, 2)
    nothing, = report.verdicts(some, {"full": SCORES["full"]})
    assert (nothing["held"], nothing["of"]) == (0, 0)
    undefined, = report.verdicts(replace(some, expected=(Expected("blunt", "motion", "down", ""),)), SCORES)
    assert (undefined["held"], undefined["of"]) == (1, 2), "a score that does not apply holds nothing"


def test_means_leave_out_what_does_not_apply(some):
    assert report.spread([1.0, 3.0]) == "2.00 ± 1.41" and report.spread([0.5, math.nan]) == "0.50" and report.spread([math.nan]) == "-"
    table = report.document(some, SCORES, RUN)["rows"]["blunt"]["table"]
    assert table == {"motion": "0.50", "sharpness": "0.65 ± 0.35"}


def test_the_reading_stands_on_the_page_of_the_whole_set(some):
    read = replace(some, reading=("It holds.",))
    assert "## Reading\n\nIt holds." in report.markdown(read, report.document(read, SCORES, RUN), [])
    assert "Reading" not in report.markdown(some, report.document(some, SCORES, RUN), [])


def test_the_page_says_what_is_missing(some):
    whole = report.markdown(some, report.document(some, SCORES, RUN), ["some_seed0.png"])
    assert "Not finished" not in whole and "| blunt | 0.50 | 0.65 ± 0.35 |" in whole and "![some_seed0.png](some_seed0.png)" in whole
    part = report.markdown(some, report.document(some, {**SCORES, "blunt": {0: SCORES["blunt"][0]}}, RUN), [])
    assert "Not finished: 1 of 4 runs are missing** (blunt: 1)" in part
