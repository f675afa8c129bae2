"""Prompts posted to a running ComfyUI: what it refuses, what it runs, and that it goes on answering."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from .engine import HANGS_AFTER, Reader, pattern, problem_of
from .prompts import PACK, Pack, Wrong, body_of, edge_prompts, wrong_prompts

REFUSALS = ("ValueError", "OSError", "torch.OutOfMemoryError", "Hopeless")
"""Types of exception that a node of ours may end with."""

KNOWN_HOST_ANSWERS: tuple[tuple[str, str], ...] = ()
"""(part of the case, part of the answer): status 500 that is the host's own doing."""


@dataclass
class Target:
    """A running host. `run` queues a prompt and waits for its end: (status, error or None)."""

    url: str
    pack: Pack
    run: Callable[[dict], tuple[str, dict | None]]

    def get(self, path: str):
        with urllib.request.urlopen(self.url + path, timeout=HANGS_AFTER) as answer:
            return json.loads(answer.read())

    def post(self, path: str, body: bytes) -> tuple[int, str]:
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=HANGS_AFTER) as answer:
                return answer.status, answer.read().decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode("utf-8", "replace")

    def delete(self, prompt_id: str) -> None:
        self.post("/queue", json.dumps({"delete": [prompt_id]}).encode())


class Refused(ValueError):
    """The host or a node refused a prompt; the text is what a person reads first."""


def posted_prompts(target: Target) -> Reader:
    """Prompts with wrong inputs, validated and never run: something else must keep the host's queue busy meanwhile."""

    def read(case: Wrong) -> str:
        status, text = target.post("/prompt", body_of(case.applied(target.pack)))
        if status == 200:
            answer = json.loads(text)
            target.delete(answer["prompt_id"])
            return "refused in part: " + first_error({"error": {"message": "-", "type": "-"}, **answer}) if answer["node_errors"] else "accepted"
        if any(part in str(case) and answer in text for part, answer in KNOWN_HOST_ANSWERS):
            return "the host's own failure"
        assert status == 400, f"status {status}: {text[:300]}"
        return "refused: " + first_error(json.loads(text))

    return Reader("posted prompt", wrong_prompts(target.pack), read, (Refused,))


def first_error(answer: dict) -> str:
    """The kind of the first error that the host names; it must name at least one in words."""
    assert answer["error"]["message"], "a refusal without a word"
    problems = [error for node in answer["node_errors"].values() for error in node["errors"]]
    assert all(error["message"] for error in problems)
    return problems[0]["type"] if problems else answer["error"]["type"]


def executed_prompts(target: Target) -> Reader:
    """Prompts that pass validation, run to their end."""

    def read(case: Wrong) -> str:
        prompt = case.applied(target.pack)
        status, text = target.post("/prompt", body_of(prompt))
        if status == 400:
            return "refused by the host: " + first_error(json.loads(text))
        assert status == 200, f"status {status}: {text[:300]}"
        end, error = target.run(json.loads(text)["prompt_id"])
        if end == "success":
            return "ran"
        return judged(error, target.pack)

    return Reader("executed prompt", edge_prompts(target.pack), read, (Refused,))


def judged(error: dict, pack: Pack) -> str:
    """How a failed node failed: AssertionError unless a node of ours said why in one line."""
    line = (error["exception_message"].strip().splitlines() or [""])[0]
    kind = error["exception_type"].rpartition(".")[2]
    if pack.infos.get(error["node_type"], {}).get("python_module") != PACK:
        return f"a node of the host failed: {error['node_type']}"
    where = "".join(error["traceback"])[-600:]
    assert kind in {name.rpartition(".")[2] for name in REFUSALS}, f"{error['node_type']} raised {error['exception_type']}: {line}\n{where}"
    assert not (problem := problem_of(line)), f"{error['node_type']} said a first line that {problem}: {line[:400]}"
    return f"refused: {pattern(line)}"


def waiting_run(target_url: str) -> Callable[[str], tuple[str, dict | None]]:
    """A function that waits for a queued prompt through the host's history: (status, execution error or None)."""

    def wait(prompt_id: str) -> tuple[str, dict | None]:
        while True:
            with urllib.request.urlopen(f"{target_url}/history/{prompt_id}", timeout=HANGS_AFTER) as answer:
                entry = json.loads(answer.read()).get(prompt_id)
            if entry is not None:
                errors = [data for kind, data in entry["status"]["messages"] if kind == "execution_error"]
                return entry["status"]["status_str"], errors[0] if errors else None
            time.sleep(0.02)

    return wait


@contextmanager
def busy(target: Target):
    """Keep the host's queue busy with an optimisation without end, so that what is posted meanwhile waits and can be taken back."""
    prompt = target.pack.prompt("Bloom4DHybridSDSOptimizer")
    prompt["target"]["inputs"] |= {"steps": 1_000_000, "preview_interval": 0, "checkpoint_interval": 0}
    status, text = target.post("/prompt", body_of(prompt))
    assert status == 200, text
    try:
        yield
    finally:
        while target.get(f"/history/{json.loads(text)['prompt_id']}") == {}:  # an interrupt that comes before the prompt begins is lost
            target.post("/interrupt", b"{}")
            time.sleep(0.1)


@contextmanager
def watched_host(target: Target, base: Path, waiting: bool):
    """Around the cases of one reader: the host goes on afterwards and wrote nothing outside its output. waiting: nothing posted runs."""
    before = files_outside_output(base)
    with busy(target) if waiting else nullcontext():
        yield
    assert goes_on(target), "the host does not go on"
    assert (made := files_outside_output(base) - before) == set(), f"files were made outside the output folder: {sorted(made)[:5]}"


def goes_on(target: Target) -> bool:
    """Whether the host still answers, has nothing left to do, and renders a field."""
    empty = target.get("/queue") == {"queue_running": [], "queue_pending": []}
    status, text = target.post("/prompt", body_of(target.pack.prompt("Bloom4DRenderField")))
    return empty and status == 200 and target.run(json.loads(text)["prompt_id"])[0] == "success"


def files_outside_output(base: Path) -> set[str]:
    """Every file of a host's base directory that is not in its output and temp folders, compiled kernels aside, which are kept in the pack's own user folder."""
    inside, kernels = {"output", "temp", "host.log", "custom_nodes"}, ("user", "__bloom4d")
    paths = [path.relative_to(base) for path in base.rglob("*")]
    return {path.as_posix() for path in paths if path.parts[0] not in inside and path.parts[:2] != kernels}
