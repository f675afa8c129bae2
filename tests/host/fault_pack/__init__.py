"""A node pack without nodes that breaks a running host on demand, and counts what lives in it.

POST /test/faults {"faults": [{"where", "what", "match", "after", "times"}]} replaces the faults that are armed.
where: prior, vae, render, preview (calls of ours), replace, fsync, unlink (calls of `os` on files whose name fits `match`),
video, mesh (the host's writing of a file).
what: nan (the answer), oom, error, full (no space left on the device), readonly, kill (before the call), kill after, kill inside
(half of the file is on the disk), slow. `after` calls pass first, `times` calls are hit.
GET /test/objects: resident bytes, and how many objects of the pack and bytes of tensors are alive after a collection.
"""

import errno
import fnmatch
import gc
import os
import signal
import sys
import time
from collections import Counter

import psutil
import torch
from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS = {}
ARMED: list[dict] = []
INSTALLED: list[bool] = []  # at the first request: by then the host has imported every pack
ERRORS = {
    "oom": lambda: torch.OutOfMemoryError("Allocation on device would exceed allowed memory. (out of memory)"),
    "error": lambda: RuntimeError("an injected error"),
    "full": lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "readonly": lambda: OSError(errno.EROFS, os.strerror(errno.EROFS)),
}


def due(where: str, name: str = "") -> str:
    """What shall happen to this call; empty: nothing."""
    for fault in ARMED:
        if fault["where"] == where and fnmatch.fnmatch(name, fault.get("match", "*")):
            fault["seen"] = fault.get("seen", 0) + 1
            first = fault.get("after", 0) + 1
            if first <= fault["seen"] < first + fault.get("times", 1):
                return fault["what"]
    return ""


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def as_nan(answer):
    if isinstance(answer, torch.Tensor):
        return answer * float("nan")
    return type(answer)(as_nan(part) for part in answer) if isinstance(answer, (list, tuple)) else answer


def broken(where: str, original, name_of=lambda *arguments: ""):
    """`original`, unless a fault is due."""

    def call(*arguments, **options):
        what = due(where, name_of(*arguments, *options.values()))
        if what in ERRORS:
            raise ERRORS[what]()
        if what == "kill inside":
            halve(arguments[0])
        if what.startswith("kill") and what != "kill after":
            die()
        if what == "slow":
            time.sleep(1.0)
        answer = original(*arguments, **options)
        if what == "kill after":
            die()
        return as_nan(answer) if what == "nan" else answer

    return call


def halve(file):
    """Leave half of an open file, as a crash between two blocks would."""
    descriptor = file if isinstance(file, int) else file.fileno()
    os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)


def last_name(*arguments) -> str:
    """The file name that a call of `os` is about: the target of a rename, the file behind a descriptor."""
    path = arguments[1] if len(arguments) > 1 and isinstance(arguments[1], (str, os.PathLike)) else arguments[0]
    descriptor = path if isinstance(path, int) else path.fileno() if hasattr(path, "fileno") else None
    return os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}") if descriptor is not None else os.fspath(path))


def ours(ending: str):
    """The pack's module of this name, as the host imported it."""
    found, = (module for name, module in sys.modules.items() if name.endswith(f"bloom4d.{ending}"))
    return found


def install():
    """Put every place of a fault in its place, once."""
    import comfy.samplers
    import nodes
    from comfy_api.latest import InputImpl

    places = [
        ("prior", comfy.samplers, "calc_cond_batch"),
        ("vae", ours("models.networks.patch_codec").PatchCodec, "encode"),
        ("render", ours("models.render.volume").VolumeRenderer, "render_jittered"),
        ("preview", ours("models.optimize.workpiece").Workpiece, "preview"),
        ("video", InputImpl.VideoFromComponents, "save_to"),
    ]
    for where, owner, name in places:
        setattr(owner, name, broken(where, getattr(owner, name)))
    host_module = nodes.NODE_CLASS_MAPPINGS["SaveGLB"].execute.__func__.__globals__  # the host imports it under no name of its own
    host_module["save_glb"] = broken("mesh", host_module["save_glb"])
    for name in ("replace", "fsync", "unlink"):
        setattr(os, name, broken(name, getattr(os, name), last_name))


@PromptServer.instance.routes.post("/test/faults")
async def arm(request):
    if not INSTALLED:
        install()
        INSTALLED.append(True)
    ARMED[:] = (await request.json())["faults"]
    return web.json_response({})


@PromptServer.instance.routes.get("/test/objects")
async def count(request):
    gc.collect()
    living, storages = Counter(), {}
    for thing in gc.get_objects():
        kind = type(thing)
        if kind in (torch.Tensor, torch.nn.Parameter):
            storages[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes()
        elif any(room in str(kind.__module__) for room in ("bloom4d.models", "bloom4d.nodes", "comfy.controlnet", "comfy.cldm")):
            living[kind.__qualname__] += 1
    memory = psutil.Process().memory_full_info()
    return web.json_response({"objects": living, "tensor_bytes": sum(storages.values()), "rss": memory.rss, "uss": memory.uss})
