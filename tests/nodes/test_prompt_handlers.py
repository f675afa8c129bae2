"""Our handlers of POST /prompt leave alone what they do not understand; the host accepts some of it, and keeps it."""

import pytest

OURS = {"1": {"class_type": "Bloom4DEnvironment", "inputs": {}}}


@pytest.mark.parametrize("extra", ["text", [1], {"extra_pnginfo": "text"}, {"extra_pnginfo": [1]}, {"extra_pnginfo": 5}])
def test_metadata_of_another_shape_is_passed_on(comfy, extra):
    from bloom4d.nodes.host.provenance import mark_prompt

    request = {"prompt": OURS, "extra_data": extra}
    assert mark_prompt(request) is request


@pytest.mark.parametrize("extra", [{}, {"extra_data": None}, {"extra_data": {"extra_pnginfo": None, "client": "me"}}])
def test_a_prompt_without_metadata_gets_ours(comfy, extra):
    from bloom4d.nodes.host.provenance import mark_prompt

    marked = mark_prompt({"prompt": OURS, **extra})
    assert marked["extra_data"]["extra_pnginfo"].keys() == {"bloom4d"}
    assert marked["extra_data"].get("client") == ((extra.get("extra_data") or {}).get("client"))
