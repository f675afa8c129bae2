"""Batch count 3 with a seed that moves, in the real frontend: three results, each in its own run folder, each found again."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import demo_workflows as demo
import pytest
import workflow_page
from safetensors.numpy import load_file

LONG, COUNT, FIRST_SEED = 240, 3, 70
STAGE, LAST = demo.STAGES[0], demo.STAGES[2]


@pytest.fixture(scope="module")
def prompts(page, server):
    """The three prompts as the host's history has them, after one click on Run."""
    demo.give_prior(server.base)
    before = set(aside(server.get, "/history"))
    changes = demo.smoke_changes(demo.load("text_to_4d_demo")) | {"Field": {"seed": 71}}
    moving = {"seed": FIRST_SEED, "control_after_generate": "increment", "filename_prefix": "batch_count/first"}
    workflow_page.open_workflow(page, "text_to_4d_demo", {**changes, STAGE: {**changes[STAGE], **moving}, LAST: {**changes[LAST], "filename_prefix": "batch_count/last"}})
    workflow_page.set_batch_count(page, COUNT)
    workflow_page.press_run(page)
    workflow_page.wait_for_ends(page, COUNT, LONG)
    workflow_page.set_batch_count(page, 1)
    history = {name: entry for name, entry in aside(server.get, "/history").items() if name not in before}
    return sorted(history.values(), key=lambda entry: entry["prompt"][0])


def aside(call, *arguments):
    """Call the host from another thread: this one runs the browser's event loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call, *arguments).result()


def graph_of(entry: dict) -> dict:
    return entry["prompt"][2]


def value(entry: dict, title: str, name: str):
    return graph_of(entry)[demo.titled(graph_of(entry), title)]["inputs"][name]


def saved(entry: dict, base: Path) -> dict:
    """The field's tensors; the file also holds the graph, which a prompt without a browser does not have."""
    name, = entry["outputs"][demo.titled(graph_of(entry), "Save field")]["text"]
    return tensors(base / "output" / name)


def tensors(path: Path) -> dict:
    return {name: value.tobytes() for name, value in load_file(path).items()}


def run_folders(base: Path, name: str) -> set:
    return {path.name for path in (base / "output" / "bloom4d" / "runs" / "batch_count" / name).iterdir()}


def test_one_click_queues_three_prompts_whose_seeds_move(prompts):
    assert [value(entry, STAGE, "seed") for entry in prompts] == [FIRST_SEED, FIRST_SEED + 1, FIRST_SEED + 2]
    assert [entry["status"]["status_str"] for entry in prompts] == ["success"] * COUNT


def test_each_has_its_own_result_and_its_own_run_folder(prompts, server):
    assert len({tuple(saved(entry, server.base).items()) for entry in prompts}) == COUNT
    assert len(run_folders(server.base, "first")) == len(run_folders(server.base, "last")) == COUNT


def test_each_is_found_again_when_it_is_queued_again(prompts, server):
    """From the checkpoints on the disk: the host has forgotten its results."""
    for entry in prompts:
        aside(server.post, "/free", {"unload_models": True, "free_memory": True})
        prompt = json.loads(json.dumps(graph_of(entry)))
        again = aside(server.run, prompt)
        assert {demo.titled(prompt, title) for title in demo.STAGES} <= set(again.executed), "nothing came out of the host's cache"
        assert [demo.steps_of(again, prompt, title) for title in (*demo.STAGES, "Polish")] == [[]] * 4, "no step was done twice"
        assert tensors(demo.saved_field(again, prompt, server.base)) == saved(entry, server.base)
    assert len(run_folders(server.base, "first")) == COUNT
