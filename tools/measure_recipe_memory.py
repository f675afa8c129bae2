"""Peak memory of the host process in the demos of the published recipes: pictures, fields and models at full size, fewer steps.

    COMFYUI_PATH=.host .venv/bin/python tools/measure_recipe_memory.py [RECIPE ...] [--steps 40]

A fresh host for each recipe; its largest resident size comes from the operating system (Linux, Windows) and not from samples.
Steps repeat the same work on the same sizes, so fewer of them need the same memory; the grid of what is empty begins full and
only becomes cheaper. Writes docs/recipe_memory.json; what earlier runs have written about other recipes stays.
"""

import argparse
import asyncio
import json
import os
import platform
import shlex
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import host  # noqa: E402
import judging  # noqa: E402
import psutil  # noqa: E402
from field_runs import make  # noqa: E402
from make_recipe_sheets import RECIPES, graph, known  # noqa: E402

STEPPED = ("Bloom4DHybridSDSOptimizer", "TrainLoraNode")
GB = 1e9


def shortened(content: dict, steps: int) -> dict:
    """The graph with at most so many steps in everything that trains, in place."""
    for node in content.values():
        if node["class_type"] in STEPPED:
            node["inputs"]["steps"] = min(node["inputs"]["steps"], steps)
    return content


def peak(process: psutil.Process) -> int:
    """Bytes of the largest resident size that a process has had; OSError where the system does not keep it."""
    if platform.system() == "Windows":
        return process.memory_info().peak_wset
    lines = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def measure(name: str, steps: int) -> dict:
    """One recipe in a host of its own: its first prompt."""
    recipe = RECIPES[name]
    content = shortened(graph(recipe, next(iter(recipe.prompts)), argparse.Namespace(seed=0, set=[])), steps)
    base = host.data_folder()
    with tempfile.TemporaryDirectory() as folder, host.Host(host.tree(), base / "host.log", host.working_arguments(base)) as running:
        process = psutil.Process(running.process.pid)
        before = peak(process)
        asyncio.run(make(running.address, content, Path(folder)))
        return {"workflow": recipe.workflow, "peak GB": round(peak(process) / GB, 2), "host alone GB": round(before / GB, 2)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=list(RECIPES), type=known, metavar="RECIPE", help=f"of {', '.join(RECIPES)} (default all)")
    parser.add_argument("--steps", type=int, default=40, help="steps of each optimiser and training, at most (default 40)")
    parser.add_argument("--out", type=Path, default=judging.pack.ROOT / "docs" / "recipe_memory.json")
    options = parser.parse_args()
    found = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {}
    command = f"python tools/measure_recipe_memory.py {shlex.join([*options.recipes, '--steps', str(options.steps)])}"
    for name in options.recipes:
        found[name] = {**measure(name, options.steps), "steps of each stage": options.steps, "threads": os.environ["OMP_NUM_THREADS"], "device": "CPU", "command": command, "commit": judging.commit()}
        judging.write_json(options.out, found)
        print(f"{name}: {json.dumps(found[name])}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
