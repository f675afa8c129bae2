"""The evaluations that we ship fit the workflows that they name."""

import evaluations
import pytest
import workflow


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
