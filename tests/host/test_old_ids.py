"""An API prompt with an old node id runs in the real host, with and without what the browser adds to prompts."""

import demo_workflows as demo
import pytest


def with_old_id(**changes) -> dict:
    prompt = demo.smoke("text_to_4d_demo", **{demo.STAGES[0]: {"filename_prefix": "old_ids", "steps": 1, **changes}})
    prompt = demo.only(prompt, f"{demo.STAGES[0]}: views x times")
    prompt[demo.titled(prompt, demo.STAGES[0])]["class_type"] = "Bloom4DHybridSDSOptimiser"
    return prompt


def test_the_host_offers_the_table(server):
    row, = server.get("/node_replacements")["Bloom4DHybridSDSOptimiser"]
    assert row["new_node_id"] == "Bloom4DHybridSDSOptimizer" and {"new_id": "steps", "old_id": "steps"} in row["input_mapping"]


def test_a_prompt_with_the_old_id_runs(demo_server):
    prompt = with_old_id()
    optimiser = demo.titled(prompt, demo.STAGES[0])
    assert "Bloom4DHybridSDSOptimizer" not in demo.classes(prompt)
    run = demo_server.run(prompt)
    assert optimiser in run.executed


def test_it_runs_without_meta_and_without_the_optional_renderer(demo_server):
    """Where the host's own replacement ends with 500."""
    prompt = with_old_id(seed=1)
    del prompt[demo.titled(prompt, demo.STAGES[0])]["inputs"]["renderer"]
    assert demo_server.run({name: {"class_type": node["class_type"], "inputs": node["inputs"]} for name, node in prompt.items()}).status == "success"


@pytest.mark.parametrize("name, value, expected", [("steps", 0, "value_smaller_than_min"), ("resume", "maybe", "value_not_in_list")])
def test_wrong_values_are_still_found(demo_server, name, value, expected):
    prompt = with_old_id(**{name: value})
    answer = demo_server.reject(prompt)
    assert answer["node_errors"][demo.titled(prompt, demo.STAGES[0])]["errors"][0]["type"] == expected
