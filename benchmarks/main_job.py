"""Text to 4D in two real ComfyUIs, one with plain torch and one with our warp kernels, in turns: which is faster, and is the result the same?

`.venv/bin/python benchmarks/main_job.py` queues the whole shipped workflow (about 4 minutes a run on two cores) and writes
docs/main_job.json and .md; `--scale 0.1` takes a tenth of the steps and writes nothing. Optimisation amplifies rounding, so two
runs never end in the same bytes when their sums round differently; how far apart they may end is shown by a third ComfyUI, by
torch again but with another number of threads. Fields are compared as pictures of four views at three times.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "host")]

import pack  # noqa: E402

pack.load_pack()

import demo_workflows as demo  # noqa: E402
import faults  # noqa: E402
import host  # noqa: E402
import real_host  # noqa: E402
from bloom4d.models.geometry.cameras import view_time_grid  # noqa: E402
from bloom4d.models.optimize.scene_files import load_scene  # noqa: E402
from bloom4d.models.render.frames import over, render_frames  # noqa: E402
from bloom4d.models.render.volume import VolumeRenderer  # noqa: E402

TREE = ROOT / ".host" if (ROOT / ".host" / "main.py").is_file() else None  # COMFYUI_PATH otherwise
DOCS = ROOT / "docs"
SIDES = {"torch": {"BLOOM4D_BACKEND": "torch"}, "warp": {"BLOOM4D_BACKEND": "warp"}}
SIZE = 64
SLACK = 3.0  # decibels by which warp may end farther from torch than torch with other threads does


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the workflow's steps")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each side; every round has its own seed")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads of both sides; the control has one more or one less")
    return parser.parse_args()


def graph(seed: int, scale: float) -> dict:
    """The shipped prompt with this seed and a share of its steps."""
    prompt = demo.load("text_to_4d_demo")
    for title in demo.of_class(prompt, "Bloom4DHybridSDSOptimizer", "Bloom4DPhotometricRefinement"):
        inputs = prompt[demo.titled(prompt, title)]["inputs"]
        inputs |= {"seed": seed, "steps": max(2, round(inputs["steps"] * scale))}
    return prompt


def started(held: ExitStack, name: str, variables: dict, threads: int):
    """A host that has proved its backends and compiled its kernels."""
    base = faults.prepare(Path(held.enter_context(tempfile.TemporaryDirectory(prefix=f"main_job_{name}_"))))
    server = real_host.start(TREE or host.tree(), base, environment={**variables, "OMP_NUM_THREADS": str(threads)})
    held.callback(server.host.stop)
    server.run({"1": {"class_type": "Bloom4DEnvironment", "inputs": {}, "_meta": {"title": "Environment"}}})
    return server


def run(server, name: str, prompt: dict) -> dict:
    """Seconds by the clock and of the processor, and the field."""
    process = psutil.Process(server.host.process.pid)
    began, used = time.monotonic(), process.cpu_times()
    finished = server.run(prompt)
    spent = process.cpu_times()
    row = {"side": name, "seconds": time.monotonic() - began, "processor_seconds": spent.user + spent.system - used.user - used.system}
    print(json.dumps({key: round(value, 1) if isinstance(value, float) else value for key, value in row.items()}), flush=True)
    return {**row, "field": load_scene(demo.saved_field(finished, prompt, server.base)).field}


def pictures(field) -> torch.Tensor:
    """Four views at three times over white, by plain torch."""
    return over(render_frames(field, VolumeRenderer(), view_time_grid(4, 3), SIZE, SIZE, normals=False), (1.0, 1.0, 1.0))


def psnr(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(-10.0 * torch.log10((one - other).square().mean().clamp_min(1e-12)))


def compare(options) -> dict:
    others = options.threads - 1 if options.threads > 1 else 2
    with ExitStack() as held:
        servers = {name: started(held, name, variables, options.threads) for name, variables in SIDES.items()}
        servers["control"] = started(held, "control", SIDES["torch"], others)
        rounds = [{name: run(server, name, graph(seed, options.scale)) for name, server in servers.items()} for seed in range(options.rounds)]
    os.environ["BLOOM4D_BACKEND"] = "torch"
    seen = [{name: pictures(row.pop("field")) for name, row in sides.items()} for sides in rounds]
    rows = [row for sides in rounds for row in sides.values()]
    least = {f"{name}_{key}": min(row[key] for row in rows if row["side"] == name) for name in SIDES for key in ("seconds", "processor_seconds")}
    return {
        "scale": options.scale, "threads": options.threads, "control_threads": others, **least,
        "ratio": least["torch_seconds"] / least["warp_seconds"], "processor_ratio": least["torch_processor_seconds"] / least["warp_processor_seconds"],
        "psnr_warp": [psnr(pair["torch"], pair["warp"]) for pair in seen], "psnr_control": [psnr(pair["torch"], pair["control"]) for pair in seen],
        "rows": rows, "seen": seen,
    }  # fmt: skip


def page(result: dict) -> str:
    """The table for people."""
    lines = ["# The main job with and without warp", "", "The shipped text to 4D workflow in a real ComfyUI, least of the rounds, in turns.", "", "| | seconds | processor seconds |", "|---|---|---|"]
    lines += [f"| {name} | {result[f'{name}_seconds']:.0f} | {result[f'{name}_processor_seconds']:.0f} |" for name in SIDES]
    lines += ["", f"With warp {result['ratio']:.2f} times as fast ({result['processor_ratio']:.2f} in processor time), {result['threads']} threads.", "",
              f"Pictures of the two fields agree to {', '.join(f'{value:.1f}' for value in result['psnr_warp'])} dB; plain torch with {result['control_threads']} threads "
              f"instead of {result['threads']} ends {', '.join(f'{value:.1f}' for value in result['psnr_control'])} dB from itself.",
              "", f"`python benchmarks/main_job.py --scale {result['scale']:g}`, {platform.machine()}, {platform.system()}, torch {torch.__version__}.", ""]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    options = parse()
    result = compare(options)
    seen = result.pop("seen")
    print(page(result))
    if options.scale == 1.0:
        from PIL import Image

        (DOCS / "main_job.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        (DOCS / "main_job.md").write_text(page(result), encoding="utf-8")
        sheet = torch.cat([torch.cat(list(seen[0][name]), dim=1) for name in (*SIDES, "control")])
        Image.fromarray((sheet * 255).round().byte().numpy()).save(DOCS / "main_job.png")
    if min(result["psnr_warp"]) < min(result["psnr_control"]) - SLACK:
        raise SystemExit("the result by warp is farther from torch's than rounding explains")


if __name__ == "__main__":
    main()
