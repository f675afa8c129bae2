"""Many different prompts on one host: memory stays flat, finished runs do not pile up, and POST /free gives everything back."""

import sys

import demo_workflows as demo
import faults
import psutil
import pytest
import test_prior_controlnet

from bloom4d.models.optimize.checkpoint import FINISHED_KEPT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the fault pack looks through /proc")

PROMPTS, WARM = 9, 4  # sizes come again after three prompts
OURS = {"Scene", "HashField", "HashGrid", "StageHistory", "EmbeddedPriorModel", "JointUNet", "PatchCodec", "HashedEmbedding", "HostStage", "PriorSource"}
PASSING = {"Distiller", "Refiner", "Workpiece", "RoleOptimiser", "OccupancyState", "ScoreSession", "HostPrior", "DrawingPrior", "HostCallback", "Pool"}


def unshared(server) -> float:
    return psutil.Process(server.host.process.pid).memory_full_info().uss


@pytest.fixture(scope="module")
def queued(broken):
    """After each prompt: the process's own memory and what is alive in it; then the same after POST /free."""
    faults.arm(broken)
    states = []
    for number in range(PROMPTS):
        broken.run(faults.varied(number))
        states.append({"uss": unshared(broken), **broken.get("/test/objects")})
    return states


def test_memory_is_flat_over_different_prompts(queued):
    grown = min(state["uss"] for state in queued[-3:]) - min(state["uss"] for state in queued[WARM : WARM + 2])
    one_run = 4 * 4.6e6  # what a prompt would leave if its optimisers' states stayed
    assert grown < one_run, f"{grown / 1e6:.1f} MB more after {PROMPTS} prompts than after {WARM}"


def test_every_prompt_replaces_the_objects_of_the_last(queued):
    for earlier, later in zip(queued[WARM:], queued[WARM + 3 :]):
        assert {name: earlier["objects"].get(name, 0) for name in OURS} == {name: later["objects"].get(name, 0) for name in OURS}
        assert abs(later["tensor_bytes"] - earlier["tensor_bytes"]) < 1e6
        assert not PASSING & later["objects"].keys(), "a finished run is still alive"


def with_controlnet(base) -> dict:
    """Text to 4D whose prompts go through a ControlNet of the prior's layout."""
    folder = base / "models" / "controlnet"
    folder.mkdir(parents=True, exist_ok=True)
    test_prior_controlnet.write_controlnet(folder / "control.safetensors", demo.give_prior(base), 0.01)
    prompt = faults.short(301)
    node = lambda kind, **inputs: {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}  # noqa: E731
    positive, negative = demo.titled(prompt, "Prompt"), demo.titled(prompt, "Negative prompt")
    for guidance in [node for node in prompt.values() if "positive" in node["inputs"]]:
        guidance["inputs"] |= {"positive": ["102", 0], "negative": ["102", 1]}
    return prompt | {
        "100": node("ControlNetLoader", control_net_name="control.safetensors"),
        "101": node("EmptyImage", width=64, height=64, batch_size=1, color=255),
        "102": node("ControlNetApplyAdvanced", positive=[positive, 0], negative=[negative, 0], control_net=["100", 0], image=["101", 0], strength=1.0, start_percent=0.0, end_percent=1.0),
    }  # fmt: skip


def test_free_gives_everything_back(broken, queued, monkeypatch):
    monkeypatch.setattr(test_prior_controlnet, "STEM", (3, *test_prior_controlnet.STEM[1:]))  # the hint is an ordinary picture
    broken.run(with_controlnet(broken.base))
    before, held = broken.get("/test/objects"), unshared(broken)
    assert OURS & before["objects"].keys() >= {"Scene", "HashField", "JointUNet", "PatchCodec"} and before["objects"]["ControlNet"] >= 1
    assert before["tensor_bytes"] > 5e6
    faults.free(broken)
    after = broken.get("/test/objects")
    assert not (OURS | PASSING | {"ControlNet"}) & after["objects"].keys()
    assert after["tensor_bytes"] < 1e6
    assert unshared(broken) < held


def test_finished_runs_do_not_pile_up(broken, queued, output):
    runs = {path.parent for path in (output / "bloom4d" / "runs").rglob("latest")}
    assert 0 < len(runs) <= FINISHED_KEPT + 8  # and those that faults left unfinished
