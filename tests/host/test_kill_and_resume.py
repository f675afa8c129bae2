"""A host killed three times in the middle of text to 4D: queueing the same graph again gives the same bytes as one that never was."""

import sys

import demo_workflows as demo
import faults
import kills
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks through /proc for the file that is being written")


@pytest.fixture(scope="module")
def prompt():
    """The field of text to 4D at smoke size, with a checkpoint after every step."""
    every_step = {"steps": 4, "checkpoint_interval": 0.01}
    return demo.only(demo.smoke("text_to_4d_demo", Field={"seed": 41}, **{name: every_step for name in (*demo.STAGES, "Polish")}), "Save field")


def test_three_kills_change_no_byte(demo_server, host_tree, prompt, tmp_path):
    base = faults.prepare(tmp_path / "base")
    demo.give_prior(base, like=demo_server.base)

    kills.run_until_killed(host_tree, base, prompt, title=demo.STAGES[0], step=1)
    kills.run_until_killed(host_tree, base, prompt, write=5)
    assert len(kills.unfinished(base)) == 1, "the host died inside a write"
    kills.run_until_killed(host_tree, base, prompt, title=demo.STAGES[2], step=2)
    assert kills.unfinished(base) == []
    last = kills.run_to_the_end(host_tree, base, prompt)

    assert demo.steps_of(last, prompt, demo.STAGES[2])[0] > 2, "stage 3 went on where it was"
    assert demo.steps_of(last, prompt, demo.STAGES[0]) == [], "stage 1 was not done again"
    whole = demo_server.run(prompt)
    assert demo.steps_of(whole, prompt, demo.STAGES[0])[0] == 1, "the other run began at the start"
    assert demo.saved_field(last, prompt, base).read_bytes() == demo.saved_field(whole, prompt, demo_server.base).read_bytes()


def test_another_seed_gives_other_bytes(demo_server, prompt):
    """The control: equal bytes mean something."""
    other = demo.change({name: {**node, "inputs": dict(node["inputs"])} for name, node in prompt.items()}, {"Optimize stage 3": {"seed": 1}})
    fields = [demo.saved_field(demo_server.run(graph), graph, demo_server.base).read_bytes() for graph in (prompt, other)]
    assert fields[0] != fields[1]
