"""A workflow that an earlier version of the pack saved opens with the values it had, and queues."""

import copy
import json
from pathlib import Path

import browser
import demo_workflows as demo
import pytest
import workflow_page
from fuzzing import posting, prompts

OLDER = Path(__file__).parent / "older"
SAVED = sorted(path.relative_to(OLDER).with_suffix("").as_posix() for path in OLDER.rglob("*.json") if path.with_suffix(".api.json").is_file())


def read(name: str, ending: str) -> dict:
    return json.loads((OLDER / f"{name}{ending}").read_text(encoding="utf-8"))


def changed_values(then: dict, now: dict) -> list[str]:
    """Inputs of an older prompt that are not the same in the present one; what was appended since does not count."""
    found = [f"{key} is gone" for key in then.keys() - now.keys()]
    for key in then.keys() & now.keys():
        before, after = then[key], now[key]
        found += [f"{before['class_type']} became {after['class_type']}"] * (before["class_type"] != after["class_type"])
        found += [f"{before['_meta']['title']}.{name}: {value!r} became {after['inputs'].get(name)!r}" for name, value in before["inputs"].items() if after["inputs"].get(name) != value]
    return found


@pytest.fixture(scope="module")
def target(server):
    demo.give_prior(server.base)
    host = posting.Target(server.url, None, posting.waiting_run(server.url))
    host.pack = prompts.Pack(host.get("/object_info"), demo.PRIOR)
    return host


def test_every_kept_set_is_there():
    assert {"first/text_to_4d_demo", "before_release/text_to_4d_demo", "before_release/embedded_prior_sampling_demo"} <= set(SAVED)


@pytest.mark.parametrize("name", SAVED)
def test_it_opens_with_its_values_and_queues(page, target, name):
    page.problems.clear()
    now = browser.to_api(page, read(name, ".json"))
    assert workflow_page.unknown_nodes(page) == []
    assert changed_values(read(name, ".api.json"), now) == []
    with posting.busy(target):
        status, text = target.post("/prompt", prompts.body_of(now))
        assert status == 200 and json.loads(text)["node_errors"] == {}, text[:500]
        target.delete(json.loads(text)["prompt_id"])
    assert page.locator('[data-testid="error-overlay"]').count() == 0 and page.problems == []


def test_a_widget_put_before_the_others_would_be_seen(page):
    """The control: values are stored by place, so a schema that grew in front reads them wrongly."""
    moved = copy.deepcopy(read("first/text_to_4d_demo", ".json"))
    stage = next(node for node in moved["nodes"] if node["type"] == "Bloom4DStage")
    stage["widgets_values"].insert(0, "new")
    assert len(changed_values(read("first/text_to_4d_demo", ".api.json"), browser.to_api(page, moved))) > 3
