"""Prompts with wrong inputs for every node class, posted to a real ComfyUI; and prompts at the edge of what it lets through, run."""

import json

import demo_workflows as demo
import pytest
from fuzzing import engine, plan, posting, prompts


@pytest.fixture(scope="module")
def target(comfy, demo_server):
    """The suite's host, with a file for every loader to list."""
    import checkpoints
    import checkpoints_video

    models = demo_server.base / "models"
    (models / "checkpoints").mkdir(parents=True, exist_ok=True)
    checkpoints.write_mvdream_checkpoint(models / "checkpoints" / "tiny_mvdream.safetensors", layout=checkpoints.SMALLEST)
    checkpoints.write_zero123_checkpoint(models / "checkpoints" / "tiny_zero123.safetensors", layout=checkpoints.SMALLEST_ZERO123)
    checkpoints_video.write_zeroscope_files(models)
    pack = prompts.Pack(demo_server.get("/object_info"), demo.PRIOR)
    return posting.Target(demo_server.url, pack, posting.waiting_run(demo_server.url))


def test_every_class_has_a_prompt_that_the_host_accepts(target):
    with posting.busy(target):
        for name in target.pack.classes:
            status, text = target.post("/prompt", prompts.body_of(target.pack.prompt(name)))
            assert status == 200 and '"node_errors": {}' in text, (name, text)
            target.delete(json.loads(text)["prompt_id"])
    assert posting.goes_on(target)


@pytest.mark.parametrize("share", plan.of_room("host"), ids=lambda share: share.make.__name__)
def test_wrong_prompts_are_refused_and_the_host_goes_on(share, target, demo_server):
    with posting.watched_host(target, demo_server.base, share.make is posting.posted_prompts):
        ends = engine.fuzz(share.make(target), share.cases, 3)
    assert sum(ends.values()) >= share.cases and plan.tested_something(ends), ends


def test_a_raw_error_of_a_node_is_found(target):
    error = {"exception_message": "'some key'\n", "exception_type": "KeyError", "node_type": "Bloom4DHashField", "traceback": []}
    with pytest.raises(AssertionError, match="raised KeyError"):
        posting.judged(error, target.pack)
    with pytest.raises(AssertionError, match="raw Python"):
        posting.judged({**error, "exception_type": "ValueError"}, target.pack)
