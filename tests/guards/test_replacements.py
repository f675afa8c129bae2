"""The table of old node ids: every row fits the nodes as they are, and a prompt is renewed without losing anything."""

import pytest
from node_infos import inputs_of, node_classes


@pytest.fixture(scope="module")
def replacements(comfy):
    from bloom4d.nodes import replacements

    return replacements


@pytest.fixture(scope="module")
def known(comfy):
    return {node.GET_SCHEMA().node_id: node for node in node_classes()}


def test_every_row_leads_to_a_node_of_ours_and_hides_none(replacements, known):
    for row in replacements.REPLACEMENTS:
        assert row.new_node_id in known and row.old_node_id not in known


def test_every_row_sets_every_input_and_only_those(replacements, known):
    for row in replacements.REPLACEMENTS:
        there = {name for name, _, _ in inputs_of(known[row.new_node_id].GET_NODE_INFO_V1())} | {"control_after_generate"}
        assert {entry["new_id"] for entry in row.input_mapping} == there
        assert not any("." in name for name in there), "the frontend loses inputs with dots"


def test_no_row_moves_outputs(replacements, known):
    for row in replacements.REPLACEMENTS:
        assert [(entry["old_idx"], entry["new_idx"]) for entry in row.output_mapping] == [(index, index) for index in range(len(known[row.new_node_id].RETURN_TYPES))]


def test_a_prompt_is_renewed(replacements, monkeypatch):
    from comfy_api.latest import io

    row = io.NodeReplace("New", "Old", [], [{"new_id": "terms.term0", "old_id": "term"}, {"new_id": "mode.alpha", "set_value": 2}, {"new_id": "gone", "old_id": "gone"}])
    monkeypatch.setattr(replacements, "REPLACEMENTS", [row])
    kept = {"class_type": "Kept", "inputs": {"x": ["1", 0]}}
    request = {"prompt": {"1": {"class_type": "Old", "inputs": {"term": ["3", 1], "left": 5}}, "2": kept}, "client_id": "me"}
    renewed = replacements.renew_prompt(request)
    assert renewed["prompt"] == {"1": {"class_type": "New", "inputs": {"terms.term0": ["3", 1], "mode.alpha": 2}}, "2": kept}
    assert renewed["client_id"] == "me" and request["prompt"]["1"]["class_type"] == "Old"


@pytest.mark.parametrize("request_", [[], {}, {"prompt": None}, {"prompt": []}, {"prompt": {"1": None}}, {"prompt": {"1": {"class_type": ["x"]}}}])
def test_what_the_host_must_answer_is_passed_on(replacements, request_):
    assert replacements.renew_prompt(request_) is request_
