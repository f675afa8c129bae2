"""A ComfyUI killed (SIGKILL) in every phase of text to 4D; each time a new one gets the same graph. Are the files the same?

`.venv/bin/python benchmarks/kill_table.py` writes docs/kill_table.json and docs/kill_table.md. The workflow at smoke size with a
checkpoint after every step. All files of the run are compared: video, mesh, field, curves.
"""

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "host"), str(ROOT / "tests" / "nodes")]

import pack  # noqa: E402

pack.load_pack()

import demo_workflows as demo  # noqa: E402
import faults  # noqa: E402
import host  # noqa: E402
import real_host  # noqa: E402

ONE, TWO, THREE = demo.STAGES
LOOPS = (*demo.STAGES, "Polish")
STEPS = 4
TENSORS, TEXT, FIELD = "step_*.safetensors", "step_*.json", "text_to_4d*.safetensors"


def begins(title: str) -> dict:
    """Killed when this node begins."""
    return {"begins": title}


def step(title: str, number: int) -> dict:
    """Killed when this node reports a step."""
    return {"title": title, "step": number}


def call(where: str, what: str, match: str = "*", after: int = 0) -> dict:
    """Killed inside a call: see tests/host/fault_pack."""
    return {"fault": {"where": where, "what": what, "match": match, "after": after}}


PHASES = {
    "loading the prior": begins("Prior"),
    "encoding the text": begins("Prompt"),
    "stage 1, first step": step(ONE, 1),
    "stage 1, in the middle": step(ONE, 2),
    "stage 1, last step": step(ONE, STEPS),
    "inside the first checkpoint's tensors": call("fsync", "kill inside", TENSORS + ".tmp"),
    "inside a later checkpoint's tensors": call("fsync", "kill inside", TENSORS + ".tmp", 2),
    "before the tensors are renamed": call("replace", "kill", TENSORS, 2),
    "between tensors and description": call("replace", "kill after", TENSORS, 3),
    "inside the description": call("fsync", "kill inside", TEXT + ".tmp", 3),
    "before `latest` is written": call("replace", "kill", "latest", 2),
    "before old checkpoints are dropped": call("replace", "kill after", "latest", 2),
    "while old checkpoints are dropped": call("unlink", "kill after", TEXT),
    "between stage 1 and stage 2": begins(TWO),
    "stage 2, first step": step(TWO, 1),
    "stage 2, inside a checkpoint": call("fsync", "kill inside", TENSORS + ".tmp", STEPS + 2),
    "stage 3, first step": step(THREE, 1),
    "stage 3, in the middle": step(THREE, 2),
    "stage 3, last step": step(THREE, STEPS),
    "polish, first step": step("Polish", 1),
    "polish, between tensors and description": call("replace", "kill after", TENSORS, 3 * STEPS + 2),
    "polish, last step": step("Polish", STEPS),
    "rendering, first picture": step("Render", 1),
    "rendering, third picture": step("Render", 3),
    "isosurface": begins("Mesh of one instant"),
    "Save Video (ComfyUI's), before it writes": call("video", "kill"),
    "Save Video (ComfyUI's), when it has written": call("video", "kill after"),
    "Save Mesh (ComfyUI's), before it writes": call("mesh", "kill"),
    "inside Save Field": call("fsync", "kill inside", FIELD + ".tmp"),
    "Save Field, before the rename": call("replace", "kill", FIELD),
    "Save Field, after the rename": call("replace", "kill after", FIELD),
    "drawing the curves": begins("Curves"),
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="PHASE", choices=PHASES, default=list(PHASES), help="only these phases")
    parser.add_argument("--into", type=Path, help="a .json of an earlier call, whose rows of other phases are kept")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "kill_table")
    return parser.parse_args()


def graph() -> dict:
    """Text to 4D at smoke size, a checkpoint after every step."""
    return demo.smoke("text_to_4d_demo", **{title: {"steps": STEPS, "checkpoint_interval": 0.01, "preview_interval": 0} for title in LOOPS})


def files(run, prompt: dict, base: Path) -> dict[str, str]:
    """Every file that the run names as an output: where it comes from, and its SHA-256."""
    found = {}
    for node, values in run.outputs.items():
        entries = [entry for value in values.values() for entry in value if isinstance(entry, dict) and entry.get("type") == "output"]
        for number, entry in enumerate(entries):
            path = base / "output" / entry["subfolder"] / entry["filename"]
            found[f"{prompt[node]['_meta']['title']} {number}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


class Machine:
    """A base directory and the ComfyUI that is running on it, started again after each kill."""

    def __init__(self, folder: Path):
        self.tree = ROOT / ".host" if (ROOT / ".host" / "main.py").is_file() else host.tree()
        self.base = faults.prepare(folder)
        demo.give_prior(self.base)
        self.server = real_host.start(self.tree, self.base)

    def forget(self) -> None:
        """As if nothing had been computed: no result in memory, no file in the output folder."""
        faults.free(self.server)
        shutil.rmtree(self.base / "output")
        (self.base / "output").mkdir()

    def run_until_killed(self, prompt: dict, moment: dict) -> None:
        """Queue the prompt; AssertionError when it ended before the kill."""
        faults.arm(self.server, *([moment["fault"]] if "fault" in moment else []))

        async def watch(event, prompt_id, connection):
            begun = event.kind == "executing" and event.data.get("node") == demo.titled(prompt, moment.get("begins", ONE)) and "begins" in moment
            if event.kind == "progress_state" and "step" in moment:
                begun = event.data["nodes"].get(demo.titled(prompt, moment["title"]), {}).get("value", 0) >= moment["step"]
            if begun:
                self.server.host.kill()

        try:
            self.server.run(prompt, watch, expect=None)
        except OSError:  # the connection broke
            self.server.host.process.wait(60)
            assert self.server.host.process.returncode == -9
            self.server = real_host.start(self.tree, self.base)
            return
        raise AssertionError(f"the prompt ended before the host was to be killed: {moment}")


def resumed_at(run, prompt: dict) -> str:
    """Where the first optimiser that had something to do went on."""
    for title in LOOPS:
        done = demo.steps_of(run, prompt, title)
        if done:
            return f"{title.removeprefix('Optimize ').lower()}, step {done[0] - 1}"
    return "behind the last optimiser"


def one_kill(machine: Machine, prompt: dict, phase: str, moment: dict, whole: dict) -> dict:
    """Kill, queue again on a new host, compare."""
    started = time.monotonic()
    machine.run_until_killed(prompt, moment)
    left = faults.unfinished(machine.base / "output")
    written = {path for path in (machine.base / "output").rglob("*") if path.suffix in (".mp4", ".glb", ".png")}
    last = machine.server.run(prompt)
    found = files(last, prompt, machine.base)
    differing = [name for name in whole if found.get(name) != whole[name]]
    after = faults.unfinished(machine.base / "output")
    row = {
        "phase": phase, "unfinished after the kill": left, "resumed": resumed_at(last, prompt), "same bytes": not differing, "differing": differing, "unfinished at the end": after,
        "left by ComfyUI's savers": sorted(path.name for path in written), "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip
    print(json.dumps(row), flush=True)
    machine.forget()
    return row


def table(rows: list[dict], command: str) -> str:
    """The rows as a page."""
    good = sum(row["same bytes"] and not row["unfinished at the end"] for row in rows)
    head = ["| killed | on the disk then | went on from | same bytes | s |", "|---|---|---|---|---|"]
    lines = [
        f"| {row['phase']} | {', '.join(f'`{name}`' for name in row['unfinished after the kill']) or '-'} | {row['resumed']} | {'yes' if row['same bytes'] else 'NO'} | {row['seconds']:.0f} |"
        for row in rows
    ]
    text = (
        f"{len(rows)} kills (SIGKILL), each followed by the same graph on a new ComfyUI: {good} times video, mesh, field and curves had the bytes of the "
        f"undisturbed run and no temporary file was left. Text to 4D at smoke size, {STEPS} steps a stage, a checkpoint after every step; seconds include "
        f"the start of the new ComfyUI. Written by `{command}`."
    )
    return "\n".join(["# Killed in every phase", "", text, "", *head, *lines, ""])


def main() -> int:
    options = parse()
    prompt, rows = graph(), {}
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder) / "base")
        try:
            whole = files(machine.server.run(prompt), prompt, machine.base)
            print(json.dumps(whole), flush=True)
            machine.forget()
            for phase in options.only:
                rows[phase] = one_kill(machine, prompt, phase, PHASES[phase], whole)
        finally:
            machine.server.host.stop()
    earlier = json.loads(options.into.read_text(encoding="utf-8"))["kills"] if options.into else []
    rows = {row["phase"]: row for row in earlier} | rows
    rows = [rows[phase] for phase in PHASES if phase in rows]
    command = "benchmarks/kill_table.py"
    options.out.with_suffix(".json").write_text(json.dumps({"command": command, "kills": rows}, indent=1) + "\n", encoding="utf-8")
    options.out.with_suffix(".md").write_text(table(rows, command), encoding="utf-8")
    return int(not all(row["same bytes"] and not row["unfinished at the end"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
