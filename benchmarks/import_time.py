"""P10: what the pack costs at the host's start: `COMFYUI_PATH=... python benchmarks/import_time.py`.

In a fresh process per round: the host's own modules first, then ours, timed. Goal: under 0.3 s, and none of the packages that
only some nodes need. Without a host (COMFYUI_PATH or .host) the maths modules alone are imported.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import finish, report

ROOT = Path(__file__).resolve().parent.parent
OPTIONAL = ("diffusers", "warp", "gsplat", "tinycudann", "nerfacc", "skimage", "pygltflib", "accelerate", "torchmetrics", "lpips")
PREPARE = """
import json, sys, time
sys.path.insert(0, {tools!r})
import torch
"""
HOST = """
import compat
sys.argv = ["main.py", "--cpu"]
compat.apply()
sys.path.insert(0, {host!r})
import comfy.options
comfy.options.enable_args_parsing()
import comfy.sd, comfy.samplers, comfy_api.latest, folder_paths, nodes
"""
MEASURE = """
known = set(sys.modules)
start = time.perf_counter(), time.process_time()
import pack
pack.load_pack()
{imports}
took = time.perf_counter() - start[0], time.process_time() - start[1]
fresh = sorted({{name.split(".")[0] for name in set(sys.modules) - known}} & set({optional!r}))
print(json.dumps([*took, fresh]))
"""
NODES = """
import asyncio
from bloom4d.nodes.extension import Bloom4DExtension
asyncio.run(Bloom4DExtension().get_node_list())
"""
MODELS = """
import bloom4d.models.fields.hash_field, bloom4d.models.render.deferred, bloom4d.models.geometry.frames
"""


def main() -> None:
    host = Path(os.environ.get("COMFYUI_PATH", ROOT / ".host"))
    with_host = (host / "main.py").is_file()
    script = PREPARE + (HOST if with_host else "") + MEASURE
    script = script.format(tools=str(ROOT / "tools"), host=str(host), imports=NODES if with_host else MODELS, optional=OPTIONAL)
    with tempfile.TemporaryDirectory() as cache:  # compiled modules, as at every start of the host but the first
        rounds = [_round(script, cache) for _ in range(4)]
    seconds, processor = (min(values) for values in list(zip(*rounds))[:2])
    extra = sorted({name for *_, names in rounds for name in names})
    report(
        "import of all nodes" if with_host else "import of the maths modules",
        float(len(extra)),
        0.0,
        seconds=seconds,
        processor_seconds=processor,
        goal_seconds=0.3,
        optional_packages_imported=extra,
    )
    finish()


def _round(script: str, cache: str) -> list:
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
