"""`launch.py run` as a user meets it: lines, copies, errors, Ctrl-C, and no host left behind."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import real_host

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A base directory whose host also has the node TestSteps."""
    folder = real_host.prepare_base(tmp_path_factory.mktemp("run") / "base", ROOT)
    (folder / "custom_nodes" / "steps_pack").symlink_to(Path(__file__).parent / "steps_pack")
    return folder


@pytest.fixture
def start(base, host_tree, tmp_path):
    """Start tools/run.py on a workflow of TestSteps -> SaveImage; the process is ended after the test."""
    started = []

    def begin(*arguments, steps=3, seconds=0.0, fail_at=-1):
        workflow = {"1": {"class_type": "TestSteps", "inputs": {"steps": steps, "seconds": seconds, "fail_at": fail_at}, "_meta": {"title": "Slow"}},
                    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "sub/picture"}, "_meta": {"title": "Save"}}}
        file = tmp_path / "steps.json"
        file.write_text(json.dumps(workflow))
        variables = {"COMFYUI_PATH": str(host_tree), "BLOOM4D_BASE": str(base), "BLOOM4D_CPU": "1", "BLOOM4D_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, str(ROOT / "tools" / "run.py"), str(file), "--out", str(tmp_path / "out"), *arguments]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **variables}))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def read_until(process, words: str) -> str:
    """Read lines until one contains `words`; returns everything read."""
    text = ""
    for line in process.stdout:
        text += line
        if words in line:
            return text
    raise AssertionError(f"{words!r} never came:\n{text}")


def answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address + "/queue", timeout=2).close()
        return True
    except (urllib.error.URLError, OSError):
        return False


def test_a_run_ends_with_its_files_in_the_output_folder(start, tmp_path):
    process = start("--previews", "--set", "Slow.steps=4")
    text = process.communicate(timeout=120)[0]
    assert process.returncode == 0, text
    saved = list((tmp_path / "out").rglob("picture_*.png"))
    assert len(saved) == 1 and saved[0].parent.name == "sub" and str(saved[0]) in text
    assert "[ 1/2] Slow  step 4/4  loss 0.250" in text and "first preview after" in text
    assert len(list((tmp_path / "out" / "previews").iterdir())) == 4
    assert not answers(text.split("answers at ")[1].split()[0])


def test_a_node_error_is_its_first_line_and_title(start):
    process = start("--keep", fail_at=2)
    text = read_until(process, "keeps running")
    assert "Error in Slow: the field has no colour: connect a field that has one.\n" in text and "more lines" not in text
    address = text.split("answers at ")[1].split()[0]
    assert answers(address)  # --keep
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 1 and not answers(address)


def test_ctrl_c_interrupts_the_prompt_and_says_how_to_go_on(start):
    process = start(steps=10000, seconds=0.02)
    address = read_until(process, "answers at").split("answers at ")[1].split()[0]
    read_until(process, "Slow  step")
    process.send_signal(signal.SIGINT)
    text = process.communicate(timeout=30)[0]
    assert process.returncode == 130
    assert "The same command goes on from the last checkpoint: python3 launch.py run" in text
    assert not answers(address)


def test_a_killed_launcher_leaves_no_host_behind(start):
    process = start(steps=10000, seconds=0.02)
    address = read_until(process, "answers at").split("answers at ")[1].split()[0]
    process.kill()
    process.wait()
    for _ in range(100):
        if not answers(address):
            break
        time.sleep(0.1)
    assert not answers(address), "the host outlived its launcher"

