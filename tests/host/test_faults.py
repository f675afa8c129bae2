"""Faults injected into a running ComfyUI: what the user reads, what is kept, and the bytes after queueing the same graph again.

Every result is compared with the one of another host on another folder that nothing happened to.
"""

import asyncio
import json
import shutil
import sys

import client
import demo_workflows as demo
import faults
import pytest
import real_host
from faults import STAGE, arm, first_line, interrupt, polished, short, stop_at
from safetensors.torch import load_file

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the fault pack looks through /proc, and the small disk is mounted")
ALWAYS = 10**6
RAYS = 4 * 32 * 32  # of the first stage's four views at half of their size


@pytest.fixture(autouse=True)
def disarmed(broken, output):
    yield
    arm(broken)
    assert faults.unfinished(output) == []


@pytest.fixture
def small(disk):
    if disk is None:
        pytest.skip("no file system may be mounted here")
    return disk


def content(run, prompt, output) -> bytes:
    name, = run.outputs[demo.titled(prompt, "Save field")]["text"]
    return (output / name).read_bytes()


@pytest.fixture
def same_as_calm(broken, demo_server, output):
    """Queue a prompt again on the host that broke; its field must have the bytes of the calm host's. Returns the run."""

    def queue(prompt):
        arm(broken)
        again = broken.run(prompt)
        calm = demo_server.run(prompt)
        assert content(again, prompt, output) == content(calm, prompt, demo_server.base / "output")
        return again

    return queue


@pytest.fixture
def fails(broken, record_property):
    """Queue a prompt that must fail; its first line, noted for docs/fault_table.md."""

    def queue(prompt, fault, watch=None):
        run = broken.run(prompt, watch, expect="error")
        record_property("fault", fault)
        record_property("first line", first_line(run))
        return first_line(run)

    return queue


def saved_fields(output) -> int:
    return len(list((output / "bloom4d" / "fields").glob("*")))


def test_a_full_disk_stops_at_the_checkpoint_in_plain_words(small, fails, same_as_calm, output, record_property):
    prompt, before = short(201), saved_fields(output)
    with small.full(left=8 << 20):
        line = fails(prompt, "disk full before a checkpoint")
    assert "The checkpoint of step 1 could not be written" in line and "Free some disk space and queue the same graph" in line
    assert saved_fields(output) == before
    same_as_calm(prompt)
    record_property("kept", "nothing yet; an older checkpoint stays as it was")
    record_property("queued again", "same bytes")


def test_a_disk_that_fills_inside_a_checkpoint_keeps_the_one_before(broken, fails, same_as_calm, record_property):
    prompt = short(202)
    arm(broken, {"where": "fsync", "what": "full", "match": "step_*.safetensors.tmp", "after": 2})
    line = fails(prompt, "disk full inside a checkpoint")
    assert "The checkpoint of step 3 could not be written" in line and "the last checkpoint, which is intact" in line
    assert demo.steps_of(same_as_calm(prompt), prompt, STAGE)[0] == 3
    record_property("kept", "the checkpoint of step 2")
    record_property("queued again", "same bytes, from step 2")


def test_a_disk_that_fills_while_a_field_is_saved_leaves_no_file(broken, fails, same_as_calm, output, record_property):
    prompt, before = short(203), saved_fields(output)
    arm(broken, {"where": "fsync", "what": "full", "match": "text_to_4d*.tmp"})
    line = fails(prompt, "disk full in Save Field")
    assert "The field could not be written" in line and "Free some disk space" in line
    assert saved_fields(output) == before
    assert same_as_calm(prompt).executed == [demo.titled(prompt, "Save field")]
    record_property("kept", "the field in memory and its checkpoint; no file")
    record_property("queued again", "same bytes, only Save Field runs")


def test_a_disk_that_fills_while_a_video_is_saved(small, broken, fails, same_as_calm, record_property):
    prompt = short(204, "Save video", "Save field")
    everything_else = short(204, "Frames to video", "Save field")
    same_as_calm(everything_else)
    with small.full(left=0):
        fails(prompt, "disk full in ComfyUI's Save Video")
    assert demo.titled(prompt, "Save video") in broken.run(prompt).outputs
    record_property("kept", "pictures and field; ComfyUI's node leaves its unfinished video")
    record_property("queued again", "a new video, only Save Video runs")


def test_a_read_only_output_folder_is_named(small, fails, same_as_calm, record_property):
    prompt = short(205)
    with small.readonly():
        line = fails(prompt, "output folder read-only, at the start of a run")
    assert "cannot be written to (Read-only file system). Make the output folder writable" in line
    same_as_calm(prompt)
    record_property("kept", "nothing yet")
    record_property("queued again", "same bytes")


def test_a_read_only_output_folder_stops_a_save(small, broken, fails, same_as_calm, record_property):
    prompt = short(206)
    same_as_calm(prompt)
    other_name = demo.change(short(206), {"Save field": {"filename_prefix": "bloom4d/fields/other"}})
    with small.readonly():
        line = fails(other_name, "output folder read-only, in Save Field")
    assert "The output folder" in line and "Make it writable" in line
    assert broken.run(other_name).executed == [demo.titled(prompt, "Save field")]
    record_property("kept", "the field in memory and its checkpoint")
    record_property("queued again", "saved, only Save Field runs")


def test_checkpoints_deleted_while_the_run_goes_on_cost_nothing(broken, output, demo_server, record_property):
    prompt = short(207, steps=6)

    async def delete(prompt_id, connection):
        shutil.rmtree(output / "bloom4d" / "runs", ignore_errors=True)  # the host may be writing into it

    run = broken.run(prompt, stop_at(prompt, STAGE, 2, delete))
    assert content(run, prompt, output) == content(demo_server.run(prompt), prompt, demo_server.base / "output")
    record_property("fault", "run folder deleted while the run goes on")
    record_property("first line", "none: the run goes on")
    record_property("kept", "the next checkpoint makes the folder again")
    record_property("queued again", "not needed, same bytes")


def stopped(broken, prompt, step=3):
    arm(broken, {"where": "render", "what": "slow", "after": step, "times": ALWAYS})  # so that the interrupt comes in time
    return broken.run(prompt, stop_at(prompt, STAGE, step, interrupt), expect="interrupted")


def test_an_interrupted_run_goes_on_where_it_was(broken, same_as_calm, record_property):
    prompt = short(208, steps=10)
    done = demo.steps_of(stopped(broken, prompt), prompt, STAGE)[-1]
    assert done < 10 and demo.steps_of(same_as_calm(prompt), prompt, STAGE)[0] >= done
    record_property("fault", "interrupt")
    record_property("first line", "none: interrupted")
    record_property("kept", "the checkpoint of the last whole step")
    record_property("queued again", "same bytes, from that step")


def newest(folder):
    """The run folder that was written last, and its newest checkpoint."""
    return max(folder.rglob("step_*.safetensors"), key=lambda path: path.stat().st_mtime_ns)


DAMAGE = {
    "checkpoints deleted between two runs": lambda path: shutil.rmtree(path.parent),
    "checkpoint cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "checkpoint description garbled": lambda path: path.with_suffix(".json").write_bytes(b'\xff{"step": '),
    "`latest` names nothing": lambda path: (path.parent / "latest").write_bytes(b"\xff\x00step_77"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_checkpoints_are_passed_over(broken, output, same_as_calm, damage, record_property):
    prompt = short(210 + list(DAMAGE).index(damage), steps=10)
    stopped(broken, prompt)
    path = newest(output / "bloom4d" / "runs")
    DAMAGE[damage](path)
    begun = demo.steps_of(same_as_calm(prompt), prompt, STAGE)[0]
    assert begun == 1 if "deleted" in damage else begun > 1
    record_property("fault", damage)
    record_property("first line", "none")
    record_property("kept", "nothing" if "deleted" in damage else "the newest one that is whole")
    record_property("queued again", "same bytes, from " + ("the start" if "deleted" in damage else "that one"))


def test_a_prior_that_answers_nan_twice_costs_two_steps(broken, record_property):
    prompt = short(220, "Curves", steps=6)
    arm(broken, {"where": "prior", "what": "nan", "after": 1, "times": 2})
    run = broken.run(prompt)
    texts = [event.data["text"] for event in run.of("text")]
    assert "2 steps skipped" in texts[-1] and run.status == "success"
    record_property("fault", "the prior answers NaN in two steps")
    record_property("first line", "none: the progress text counts skipped steps")
    record_property("kept", "parameters and moments as they were")
    record_property("queued again", "not needed")


@pytest.mark.parametrize("make", [short, polished])
def test_a_prior_that_only_answers_nan_stops_with_advice(broken, fails, same_as_calm, make, record_property):
    prompt = make(221, steps=24)
    arm(broken, {"where": "prior", "what": "nan", "times": ALWAYS})
    line = fails(prompt, f"the prior answers only NaN ({'Optimizer' if make is short else 'Refinement'})")
    assert line.startswith("20 steps in a row had gradients that are not finite") and "Lower the learning rates" in line
    same_as_calm(prompt)
    record_property("kept", "the last checkpoint before these steps")
    record_property("queued again", "same bytes, these steps are tried again")


def test_a_preview_that_fails_never_ends_a_run(broken, same_as_calm, record_property):
    prompt = short(222)
    arm(broken, {"where": "preview", "what": "error", "times": ALWAYS})
    assert broken.run(prompt).status == "success" and "no preview (RuntimeError: an injected error)" in broken.log
    same_as_calm(prompt)
    record_property("fault", "exception inside a preview")
    record_property("first line", "none: a line in the log")
    record_property("kept", "everything")
    record_property("queued again", "not needed, same bytes")


def first_checkpoint(runs, run_id=None) -> tuple[dict, dict, str]:
    """What the newest run, or the one of this id, wrote after its first step: moments of Adam, decisions about memory, and its id."""
    folder = newest(runs).parent if run_id is None else next(runs.rglob(run_id))
    path = folder / "step_00000001.safetensors"
    moments = {name: value for name, value in load_file(path).items() if name.startswith("adam.exp_avg.")}
    return moments, json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["memory"], folder.name


@pytest.mark.parametrize(("where", "passed"), [("render", 1), ("vae", 0), ("prior", 0)])
def test_too_little_memory_once_repeats_the_step_in_smaller_chunks(broken, demo_server, output, where, passed, record_property):
    """In the first step, whose gradient is a tenth of what Adam remembers of it; the probe of a ray's memory renders once before."""
    prompt = short(240 + len(where), steps=2, **{"Multi-view, one instant": {"width": 64, "height": 64}})
    arm(broken, {"where": where, "what": "oom", "after": passed})
    assert demo.steps_of(broken.run(prompt), prompt, STAGE) == [1, 2]
    found, memory, run_id = first_checkpoint(output / "bloom4d" / "runs")
    demo_server.run(prompt)
    calm, untouched, _ = first_checkpoint(demo_server.base / "output" / "bloom4d" / "runs", run_id)
    (_, share), = memory["shares"]
    assert memory["halved"] == 1 and share["chunk"] == RAYS // 2 and share["singly"] == (where != "render")
    assert untouched["halved"] == 0 and [share["chunk"] for _, share in untouched["shares"]] == [0]
    assert found.keys() == calm.keys() and "adam.exp_avg.static.table" in calm
    for name, value in calm.items():
        assert float((found[name] - value).norm()) <= 1e-5 * float(value.norm()), name
    record_property("fault", f"out of memory once, in the {where}")
    record_property("first line", "none: the chunk of rays is halved, the step repeated")
    record_property("kept", "everything")
    record_property("queued again", "not needed; another chunk rounds differently")


@pytest.mark.parametrize("make", [short, polished])
@pytest.mark.parametrize("where", ["render", "vae", "prior"])
def test_too_little_memory_for_good_is_left_to_the_host(broken, fails, same_as_calm, where, make, record_property):
    prompt = make(224 + len(where))
    arm(broken, {"where": where, "what": "oom", "times": ALWAYS})
    line = fails(prompt, f"out of memory always, in the {where} ({'Optimizer' if make is short else 'Refinement'})")
    assert line == "Allocation on device would exceed allowed memory. (out of memory)"  # as torch says it
    assert "Got an OOM, unloading all loaded models." in broken.log
    same_as_calm(prompt)
    record_property("kept", "the checkpoint of the last whole step")
    record_property("queued again", "same bytes")


def test_a_browser_that_is_closed_changes_nothing(broken, demo_server, output, record_property):
    prompt = short(230, steps=8)

    async def leave():
        async with client.Client(broken.host.address) as browser:
            prompt_id = await browser.queue(prompt)
            async for event in browser.events(prompt_id):
                if event.kind == "progress_state":
                    break
        async with client.Client(broken.host.address) as other:
            while prompt_id not in (history := await other.get_json(f"/history/{prompt_id}")):
                await asyncio.sleep(0.2)
        return history[prompt_id]

    left = asyncio.run(leave())
    assert left["status"]["status_str"] == "success"
    name, = left["outputs"][demo.titled(prompt, "Save field")]["text"]
    assert (output / name).read_bytes() == content(demo_server.run(prompt), prompt, demo_server.base / "output")
    record_property("fault", "browser closed in the middle of a run")
    record_property("first line", "none: the run ends, its outputs are in the history")
    record_property("kept", "everything")
    record_property("queued again", "not needed, same bytes")


def together(*jobs):
    """Run prompts at the same time: pairs of a host and a prompt; the finished runs."""

    async def one(server, prompt):
        async with client.Client(server.host.address) as browser:
            return await browser.run(prompt)

    async def every():
        return await asyncio.gather(*(one(server, prompt) for server, prompt in jobs))

    return asyncio.run(every())


def test_the_same_prompt_twice_at_once_on_one_host_is_done_once(broken, output):
    prompt = short(231)
    runs = together((broken, prompt), (broken, prompt))
    assert sorted(len(run.executed) > 0 for run in runs) == [False, True]
    assert content(runs[0], prompt, output) == content(runs[1], prompt, output)


@pytest.fixture(scope="module")
def second(host_tree, broken, output, tmp_path_factory):
    """Another host on the output folder of the first."""
    base = faults.prepare(tmp_path_factory.mktemp("second") / "base")
    demo.give_prior(base, like=broken.base)
    server = real_host.start(host_tree, base, ("--output-directory", output))
    yield server
    server.host.stop()


def test_two_hosts_on_one_output_folder_keep_apart(broken, second, demo_server, output):
    prompts = short(232), short(233)
    runs = together((broken, prompts[0]), (second, prompts[1]))
    assert len({run.outputs[demo.titled(prompts[0], "Save field")]["text"][0] for run in runs}) == 2
    for run, prompt in zip(runs, prompts):
        assert content(run, prompt, output) == content(demo_server.run(prompt), prompt, demo_server.base / "output")


def test_the_same_prompt_on_two_hosts_waits_for_its_owner(broken, second, output, record_property):
    prompt, refused = short(234, steps=12), []

    async def queue_elsewhere(prompt_id, connection):
        async with client.Client(second.host.address) as other:
            refused.append(await other.run(prompt))

    arm(broken, {"where": "render", "what": "slow", "after": 1, "times": ALWAYS})
    owner = broken.run(prompt, stop_at(prompt, STAGE, 2, queue_elsewhere))
    assert first_line(refused[0]).startswith("Another process is working on this very run")
    served = second.run(prompt)
    assert demo.steps_of(served, prompt, STAGE) == [] and content(served, prompt, output) == content(owner, prompt, output)
    record_property("fault", "the same prompt on two ComfyUIs at once")
    record_property("first line", first_line(refused[0]))
    record_property("kept", "the first one's run is not disturbed")
    record_property("queued again", "same bytes, from the first one's checkpoint")
