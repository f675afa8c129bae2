"""A batch on its own ComfyUI: killed in the middle of a row and started again, a host that crashes, scores; Ctrl-C on a shared server."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import demo_workflows as demo
import pytest
import real_host
import show
import workflow
from batch import engine, executor, places, rows, table

ROOT = Path(__file__).resolve().parent.parent.parent
STEPS = 20


@pytest.fixture(scope="module")
def base(demo_server, tmp_path_factory):
    """A base directory with the prior of random weights, whose host also has the pack of test nodes."""
    folder = real_host.prepare_base(tmp_path_factory.mktemp("batch") / "base", ROOT)
    (folder / "custom_nodes" / "steps_pack").symlink_to(Path(__file__).parent / "steps_pack")
    demo.give_prior(folder, like=demo_server.base)
    return folder


@pytest.fixture
def settings(base, host_tree):
    """What the launcher tells its tools, for a host on `base`."""
    return {"COMFYUI_PATH": str(host_tree), "BLOOM4D_BASE": str(base), "BLOOM4D_CPU": "1", "BLOOM4D_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}


def stage(steps: int = STEPS, **changes) -> dict:
    """The first stage of text to 4D at smoke size with a checkpoint after every step, and its field saved."""
    prompt = demo.smoke("text_to_4d_demo", **{"Optimize stage 1": {"steps": steps, "checkpoint_interval": 0.01}}, **changes)
    prompt[demo.titled(prompt, "Save field")]["inputs"]["field"] = [demo.titled(prompt, "Optimize stage 1"), 0]
    return demo.only(prompt, "Save field")


def wait_for_checkpoint(base: Path, run: int, step: int):
    """Until the `run`-th run folder holds a checkpoint of at least `step`."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        found = [[int(file.stem.split("_")[1]) for file in folder.glob("step_*.safetensors")] for folder in (base / "output" / "bloom4d" / "runs").glob("*/*")]
        if len(found) >= run and all(steps and max(steps) >= step for steps in found):
            return
        time.sleep(0.02)
    raise AssertionError(f"run {run} never reached step {step}: {found}")


def hosts_of(base: Path) -> list[int]:
    """Process numbers of hosts on this base directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(base).encode() in words and any(word.endswith(b"boot.py") for word in words):
                found.append(int(entry.name))
    return found


def wait_until_gone(base: Path):
    for _ in range(600):
        if not hosts_of(base):
            return
        time.sleep(0.1)
    raise AssertionError("the host outlived its tool")


def steps_shown(text: str, row: int) -> list[int]:
    """Steps of the optimiser that were shown for a row, in order."""
    part = text.split(f"  row {row}: ")[1].split("--- ")[0]
    return [int(line.split("step ")[1].split("/")[0]) for line in part.splitlines() if "Optimize stage 1  step " in line]


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the host in /proc")
def test_killed_batches_and_crashed_hosts_change_no_byte(demo_server, base, settings, monkeypatch, capsys, tmp_path):
    """The tool dies in row 2; started again, the host dies in row 3. Rows 4 and 5 have scores, row 6 fails."""
    graph, file, out = tmp_path / "stage.json", tmp_path / "rows.csv", tmp_path / "out"
    graph.write_text(json.dumps(stage()))
    file.write_text("seed\n61\n62\n63\n")
    command = [sys.executable, str(ROOT / "tools" / "run.py"), str(graph), "--prompts", str(file), "--out", str(out)]
    tool = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, **settings})
    try:
        wait_for_checkpoint(base, run=2, step=3)
    finally:
        tool.kill()
        tool.wait()
    wait_until_gone(base)
    first, = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    before = (out / first["folder"] / first["outputs"][0]).stat().st_mtime_ns

    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(show, "EVERY", 0.0)
    scores = [rows.make_row(3 + number, {"1": {"class_type": "TestScores", "inputs": {"value": value}}}, {"value": value})
              for number, value in enumerate((1.5, 2.5, 5000.0), 1)]
    killed = []

    def crash():
        wait_for_checkpoint(base, run=3, step=3)
        killed.extend(hosts_of(base))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=crash)
    killer.start()
    lines = engine.run_rows(rows.read_rows(file, stage()) + scores, out, announce=print)
    killer.join()
    text = capsys.readouterr().out

    assert [line["status"] for line in lines] == ["success"] * 5 + ["error"] and lines[0] == first
    assert (out / first["folder"] / first["outputs"][0]).stat().st_mtime_ns == before, "row 1 was not run again"
    assert steps_shown(text, 2)[0] > 2, "row 2 went on from its checkpoint"
    until, after = text.split("ComfyUI ended (code -9); starting it again ...")
    assert steps_shown(until, 3)[0] == 1 and STEPS not in steps_shown(until, 3) and "the host was lost in this row" in after
    assert steps_shown("  row 3: " + after, 3)[0] > 2, "row 3 went on from its checkpoint in the new host"
    for line, seed in zip(lines, (61, 62, 63)):
        single = stage()
        workflow.set_seed(single, seed)
        alone = demo.saved_field(demo_server.run(single), single, demo_server.base)
        assert (out / line["folder"] / line["outputs"][0]).read_bytes() == alone.read_bytes()
    assert [line["scores"] for line in lines[3:]] == [{"test": {"twice": 3.0, "no number": None}}, {"test": {"twice": 5.0, "no number": None}}, {}]
    assert "bigger than max" in lines[5]["error"]
    assert [point.numbers["twice"].mean for point in table.table_of(out).points if "twice" in point.numbers] == [3.0, 5.0]


@pytest.fixture
def command(demo_server, tmp_path):
    """tools/run.py with one row of very many steps on the suite's host."""
    (tmp_path / "stage.json").write_text(json.dumps(stage(steps=100000, Field={"seed": 71})))
    (tmp_path / "rows.txt").write_text("a red rose blooming\na candle burning\n")
    line = [sys.executable, str(ROOT / "tools" / "run.py"), str(tmp_path / "stage.json"), "--prompts", str(tmp_path / "rows.txt"),
            "--host", demo_server.url, "--out", str(tmp_path / "out")]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    yield process
    process.kill()
    process.wait()


def wait_for_queue(server, running: int, pending: int):
    for _ in range(600):
        queue = server.get("/queue")
        if (len(queue["queue_running"]), len(queue["queue_pending"])) == (running, pending):
            return
        time.sleep(0.1)
    raise AssertionError(f"the queue never had {running} running and {pending} waiting: {queue}")


def interrupted(process, out: Path) -> str:
    process.send_signal(signal.SIGINT)
    text = process.communicate(timeout=120)[0]
    assert process.returncode == 130, text
    line, = [json.loads(part) for part in (out / "manifest.jsonl").read_text().splitlines()]
    assert (line["row"], line["status"], line["outputs"], line["error"]) == (1, "interrupted", [], None)
    assert "Interrupted. The same command goes on where it stopped: python3 launch.py run" in text
    return text


def test_ctrl_c_interrupts_the_row_and_leaves_the_server(command, demo_server, tmp_path):
    wait_for_queue(demo_server, 1, 0)
    interrupted(command, tmp_path / "out")
    wait_for_queue(demo_server, 0, 0)
    assert demo_server.host.process.poll() is None


def test_ctrl_c_takes_a_row_that_waits_behind_others_out_of_the_queue(demo_server, tmp_path, request):
    ended = []
    other = threading.Thread(target=lambda: ended.append(demo_server.run(stage(steps=100000, Field={"seed": 72}), expect="interrupted")))
    other.start()
    wait_for_queue(demo_server, 1, 0)
    process = request.getfixturevalue("command")
    wait_for_queue(demo_server, 1, 1)
    interrupted(process, tmp_path / "out")
    wait_for_queue(demo_server, 1, 0)
    assert ended == [], "somebody else's prompt goes on"
    demo_server.post("/interrupt", {})
    other.join()


def test_a_server_that_went_away_is_waited_for_and_then_named(monkeypatch, demo_server):
    monkeypatch.setattr(places, "RECONNECT", 0.2)
    place = places.GivenServer("http://user:secret@127.0.0.1:1/path")
    with pytest.raises(executor.HostLost, match="does not answer any more"):
        executor.execute_row(place.address, rows.make_row(1, stage(), {}), Path("nowhere"))
    with pytest.raises(places.host.HostFailed, match="no ComfyUI answers at http://127.0.0.1:1/path "):
        place.recover()
