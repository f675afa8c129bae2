"""Five prompts queued at once on one host: models are loaded once, and nothing is lost when the third one fails."""

import asyncio
import sys

import client
import demo_workflows as demo
import faults
import pytest
from faults import arm, short

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the fault pack looks through /proc")

STEPS = 4
OURS = ("EmbeddedPriorModel", "JointUNet", "PatchCodec")


def prompts() -> list[dict]:
    return [short(600 + number, steps=STEPS, Prompt={"text": text}) for number, text in enumerate(faults.TEXTS)]


async def queue_together(server, queued: list[dict]) -> list[dict]:
    """The host's history of prompts that were all waiting before the first one ended, in the order of queueing."""
    async with client.Client(server.host.address) as connection:
        ids = [await connection.queue(prompt) for prompt in queued]
        while True:
            history = await connection.get_json("/history")
            if set(ids) <= history.keys():
                return [history[name] for name in ids]
            await asyncio.sleep(0.3)


@pytest.fixture(scope="module")
def five(broken):
    """The five entries of the history, and what the host wrote to its log meanwhile; the third prompt breaks in its second step."""
    faults.free(broken)
    before = len(broken.log)
    arm(broken, {"where": "prior", "what": "error", "after": 2 * STEPS + 1})
    try:
        entries = asyncio.run(queue_together(broken, prompts()))
    finally:
        arm(broken)
    return entries, broken.log[before:]


def test_only_the_third_fails(five):
    assert [entry["status"]["status_str"] for entry in five[0]] == ["success", "success", "error", "success", "success"]


def test_models_are_loaded_once_for_all(five, broken):
    _, log = five
    loads = [line for line in log.splitlines() if "Requested to load" in line]
    assert len(loads) == len(set(loads)) >= 2, loads
    living = broken.get("/test/objects")["objects"]
    assert {name: living.get(name) for name in OURS} == dict.fromkeys(OURS, 1)


def test_nothing_is_lost(five, broken, output, demo_server):
    """The others have the bytes of a host that nothing happened to; queued again, the third goes on and has them too."""
    entries, _ = five
    for number, prompt in enumerate(prompts()):
        calm = demo.saved_field(demo_server.run(prompt), prompt, demo_server.base).read_bytes()
        if number == 2:
            again = broken.run(prompt)
            assert demo.steps_of(again, prompt, faults.STAGE)[0] == 2, "step 1 was kept"
            name, = again.outputs[demo.titled(prompt, "Save field")]["text"]
        else:
            name, = entries[number]["outputs"][demo.titled(prompt, "Save field")]["text"]
        assert (output / name).read_bytes() == calm, number


def test_the_failure_is_told_in_one_line(five):
    messages = dict(five[0][2]["status"]["messages"])
    assert messages["execution_error"]["exception_message"].splitlines()[0] == "an injected error"
