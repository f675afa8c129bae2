"""24 prompts on one ComfyUI, on a Ray cluster of two nodes on this machine, and on that cluster when one node is lost halfway.

`.venv/bin/python benchmarks/cluster.py` (some ten minutes on two quiet cores). Every ComfyUI computes with one thread, so that
equal rows have equal bytes. Prints and writes docs/cluster.json and docs/cluster.md; fails when a row is missing or differs.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "host")]
os.environ["OMP_NUM_THREADS"] = "1"

import demo_workflows as demo  # noqa: E402
import host  # noqa: E402
import real_host  # noqa: E402
import two_nodes  # noqa: E402
from batch import summary  # noqa: E402
from batch.manifest import Manifest  # noqa: E402

PROMPTS = [f"a {colour} {thing}" for thing in ("rose blooming", "sunflower withering in a vase", "pillar candle burning", "ice cream melting")
           for colour in ("red", "yellow", "purple", "white", "pink", "orange")]
SIZES = {demo.STAGES[0]: {"steps": 16}, "Multi-view, one instant": {"width": 32, "height": 32}, "Prior": {"prior": "embedded_prior.safetensors"},
         "Render": {"width": 64, "height": 64}, "Orbit through time": {"frames": 8}}


@dataclass
class Phase:
    """A batch that has ended. Seconds since the command began: first answer of a ComfyUI, end of every row, end of the command."""

    name: str
    out: Path
    ready: float = 0.0
    rows: list = field(default_factory=list)
    end: float = 0.0
    killed: float | None = None
    load: tuple = ()

    @property
    def lines(self) -> list[dict]:
        return sorted(Manifest(self.out / "manifest.jsonl").lines, key=lambda line: line["row"])

    @property
    def pace(self) -> float:
        """Rows per minute, from the first ComfyUI's answer to the last row's end."""
        return 60.0 * len(self.rows) / (self.rows[-1] - self.ready)

    def describe(self) -> dict:
        return {"seconds_with_start": round(self.end, 1), "seconds_until_first_answer": round(self.ready, 1), "rows_per_minute": round(self.pace, 2),
                "rows": len(self.rows), "lost_node_at_second": self.killed and round(self.killed, 1), "load_average_before_and_after": self.load,
                "rows_by_place": {place: sum(line["where"] == place for line in self.lines) for place in sorted({line["where"] for line in self.lines})}}


def run(name: str, command: list[str], out: Path, variables: dict, halfway=None) -> Phase:
    """Run a batch and note when what happened; `halfway` is called after half of the rows."""
    phase, before, began = Phase(name, out), os.getloadavg()[0], time.monotonic()
    process = subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **variables})
    for line in process.stdout:
        now = time.monotonic() - began
        phase.ready = phase.ready or ("answers at" in line) * now
        if " success after " in line:
            phase.rows.append(now)
            if halfway is not None and len(phase.rows) == len(PROMPTS) // 2:
                halfway()
                phase.killed = now
        elif "was lost" in line or " error after " in line:
            print(line.rstrip(), flush=True)
    code, phase.end = process.wait(), time.monotonic() - began
    phase.load = tuple(round(value, 1) for value in (before, os.getloadavg()[0]))
    assert code == 0, f"{name} ended with code {code}"
    print(f"{name}: {json.dumps(phase.describe())}", flush=True)
    return phase


def digests(phase: Phase) -> dict:
    """Row -> hashes of its files, in the order in which they were saved."""
    read = lambda line, name: hashlib.sha256((phase.out / line["folder"] / name).read_bytes()).hexdigest()  # noqa: E731
    return {line["row"]: [read(line, name) for name in line["outputs"]] for line in phase.lines if line["status"] == "success"}


def base_of(folder: Path, name: str) -> Path:
    return real_host.prepare_base(folder / name, ROOT)


def measure(folder: Path, tree: Path) -> list[Phase]:
    """The three batches, each with ComfyUI folders of its own, so that none finds another's checkpoints."""
    (folder / "graph.json").write_text(json.dumps(two_nodes.one_stage(**SIZES)))
    (folder / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")
    command = [sys.executable, str(ROOT / "tools" / "run.py"), str(folder / "graph.json"), "--prompts", str(folder / "prompts.txt")]
    alone = {**two_nodes.variables(tree), "BLOOM4D_BASE": str(base_of(folder, "alone"))}
    phases = [run("one ComfyUI", command, folder / "out_alone", alone)]
    for name, lose in (("two nodes", False), ("two nodes, one lost halfway", True)):
        bases = [base_of(folder, f"{'lost' if lose else 'whole'}{number}") for number in (1, 2)]
        with ExitStack() as stack:
            cluster = stack.enter_context(two_nodes.TwoNodes(tree, bases))
            halfway = cluster.lose_second if lose else None
            phases.append(run(name, [*command, "--ray", cluster.address], folder / f"out_{'lost' if lose else 'whole'}", cluster.variables, halfway))
    return phases


def report(phases: list[Phase]) -> dict:
    alone, whole, lost = phases
    expected = digests(alone)
    same = {phase.name: sum(digests(phase).get(row) == found for row, found in expected.items()) for phase in (whole, lost)}
    return {
        "prompts": len(PROMPTS), "cores": os.cpu_count(), "threads_per_comfyui": 1, "rows_with_the_bytes_of_their_single_run": same,
        "different_rows": len({tuple(found) for found in expected.values()}),
        "throughput_of_two_nodes_over_one": round(whole.pace / alone.pace, 2), "throughput_with_the_loss_over_one": round(lost.pace / alone.pace, 2),
        "phases": {phase.name: phase.describe() for phase in phases}, "commit": commit(),
    }


def commit() -> str:
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()


def as_page(found: dict, lost: Phase) -> str:
    """docs/cluster.md: what was measured, and the manifest of the batch that lost a node."""
    phases = [f"| {name} | {values['rows']} | {values['rows_per_minute']} | {values['seconds_with_start']} | {values['load_average_before_and_after']} |"
              for name, values in found["phases"].items()]
    same = "; ".join(f"{name} {count}" for name, count in found["rows_with_the_bytes_of_their_single_run"].items())
    keys = ("row", "seed", "seconds", "status", "where", "outputs", "bytes")
    manifest = [json.dumps({"inputs": line["inputs"], **{key: line[key] for key in keys}}) for line in lost.lines]
    return "\n".join([
        "# 24 prompts on a Ray cluster", "",
        f"`.venv/bin/python benchmarks/cluster.py` at commit {found['commit']}: {found['prompts']} prompts, one seed, on {found['cores']} CPU cores; two Ray nodes on this machine, "
        "each with one ComfyUI of one thread and folders of its own. In the third batch the second node was killed (SIGKILL) after 12 rows.", "",
        "| batch | rows | rows per minute | seconds with start | load average before, after |", "|---|---|---|---|---|", *phases, "",
        f"Rows with the bytes of their single run on one ComfyUI: {same} (of {found['prompts']}; {found['different_rows']} rows differ from one another).",
        f"Throughput of two nodes over one ComfyUI: {found['throughput_of_two_nodes_over_one']}; with the loss: {found['throughput_with_the_loss_over_one']}. "
        "A load average above the number of cores means that other work shared the machine, which holds the ratio down.", "",
        "The table that the command printed for the batch with the loss:", "", "```", summary.table(lost.lines), "```", "",
        "Its manifest (some keys left out):", "", "```", *manifest, "```", ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="where cluster.json and cluster.md go (default docs/)")
    options = parser.parse_args()
    tree = ROOT / ".host" if (ROOT / ".host" / "main.py").is_file() else host.tree()
    with tempfile.TemporaryDirectory() as folder:
        phases = measure(Path(folder), tree)
        found = report(phases)
        (options.out / "cluster.json").write_text(json.dumps(found, indent=1) + "\n")
        (options.out / "cluster.md").write_text(as_page(found, phases[2]))
    print(json.dumps(found, indent=1))
    whole = all(count == len(PROMPTS) for count in found["rows_with_the_bytes_of_their_single_run"].values()) and found["different_rows"] == len(PROMPTS)
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
