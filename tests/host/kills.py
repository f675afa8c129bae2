"""Hosts that are killed at chosen moments, and started again on the same base directory."""

from pathlib import Path

import demo_workflows as demo
import faults
import real_host


def run_until_killed(tree: Path, base: Path, prompt: dict, title: str = "", step: int = 0, write: int = 0) -> list:
    """Start a host, queue the prompt and kill the host when the node `title` reports `step`, or inside its `write`-th checkpoint.

    Returns the events that came before; AssertionError when the prompt ended first.
    """
    server = real_host.start(tree, base)
    if write:
        faults.arm(server, {"where": "fsync", "what": "kill inside", "match": "step_*.safetensors.tmp", "after": write - 1})
    seen = []

    async def watch(event, prompt_id, connection):
        seen.append(event)
        if title and event.kind == "progress_state" and event.data["nodes"].get(demo.titled(prompt, title), {}).get("value", 0) >= step:
            server.host.kill()

    try:
        server.run(prompt, watch)
    except OSError:  # the connection broke
        server.host.process.wait(30)
        assert server.host.process.returncode == -9
        return seen
    finally:
        server.host.stop()
    raise AssertionError("the prompt ended before the host was to be killed")


def run_to_the_end(tree: Path, base: Path, prompt: dict):
    """Start a host, run the prompt, end the host; the finished run."""
    server = real_host.start(tree, base)
    try:
        return server.run(prompt)
    finally:
        server.host.stop()


def unfinished(base: Path) -> list[Path]:
    """Temporary files that a killed host left in its run folders."""
    return list((base / "output" / "bloom4d" / "runs").rglob("*.tmp"))
