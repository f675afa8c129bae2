"""Which implementation of each hot operation runs on a device: the one table of fast twins, why each can or can't be used, the choice.

A twin is used only after it has proved itself: imported, run forward and backward on the device, and compared with the
reference. That happens once per process and device, when something is first rendered there; loading the pack imports nothing.
"""

import contextlib
import importlib
import importlib.util
import logging
import os
import re
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..fields.hash_grid import HashGrid, encode
from . import mesh_nvdiffrast, proofs, splats_torch

FORCE_VARIABLE = "BLOOM4D_BACKEND"
OPERATIONS = ("hash grid", "splats", "mesh", "volume rendering")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Backend:
    """One implementation of one operation on one device; `reason` says why it can't be used there, or what it is."""

    operation: str
    name: str
    usable: bool
    reason: str


@dataclass(frozen=True)
class Twin:
    """A fast implementation that may be installed: `function` of `module` in this folder, which needs `package`.

    `about` is told when it runs. An `opt_in` twin runs only where the environment variable names it.
    """

    operation: str
    name: str
    package: str
    module: str
    function: str
    about: str
    opt_in: bool = False


KERNELS = "our kernels, CPU and CUDA"
TWINS = (
    Twin("hash grid", "tinycudann", "tinycudann", "hash_grid_tinycudann", "encode", "unverified: never run on the package itself", opt_in=True),
    Twin("hash grid", "warp", "warp", "warp_hash_grid", "encode", KERNELS),
    Twin("splats", "gsplat", "gsplat", "splats_gsplat", "composite", "unverified: no machine of ours with gsplat has run it; it agreed with the reference here"),
    Twin("splats", "warp", "warp", "splats_warp", "composite", KERNELS),
)
"""In order of preference for each operation; the plain torch reference stands behind them all."""

REFERENCES = {"hash grid": encode, "splats": splats_torch.composite}
PROOFS = {"hash grid": proofs.hash_grid, "splats": proofs.splats}

kernel_folder: Path | None = None  # where compiled kernels are kept; None: warp's own place

_lock = threading.RLock()  # a host may render in one thread while another asks for the table
_proved: dict[tuple[str, str, str], str] = {}
_announced: set[tuple[str, str, str]] = set()


def backends(device: torch.device = CPU) -> list[Backend]:
    """Every row of the table for `device`, in order of preference per operation; imports and proves what was not proved before."""
    return [row for operation in OPERATIONS for row in rows(operation, device)]


def rows(operation: str, device: torch.device = CPU) -> list[Backend]:
    """The rows of one operation."""
    found = [_nvdiffrast(device)] if operation == "mesh" else []
    for twin in TWINS:
        if twin.operation == operation:
            trouble = _not_asked_for(twin) or _trouble(twin, device)
            found.append(Backend(operation, twin.name, not trouble, trouble or twin.about))
    return [*found, Backend(operation, "torch", True, "reference in plain torch, CPU and GPU")]


def installed() -> list[str]:
    """Names of the packages of fast twins that can be found, whether they work or not; nothing is imported."""
    return [package for package in dict.fromkeys(twin.package for twin in TWINS) if importlib.util.find_spec(package) is not None]


def forced() -> str:
    """The backend that the environment variable BLOOM4D_BACKEND names; empty when the choice is free.

    ValueError when no operation has a backend of that name.
    """
    name = os.environ.get(FORCE_VARIABLE, "").strip().lower()
    names = ["torch", *dict.fromkeys(twin.name for twin in TWINS)]
    if name in ("", "auto"):
        return ""
    if name not in names:
        raise ValueError(f"{FORCE_VARIABLE}={name} names no backend. Set it to auto, {', '.join(names[:-1])} or {names[-1]}.")
    return name


def choose(operation: str, device: torch.device = CPU, name: str = "") -> Backend:
    """The implementation that runs on `device`: the first usable one, or the one that `name`, else BLOOM4D_BACKEND, names.

    An operation that has no backend of the variable's name chooses freely, so that naming one twin leaves the others as they are.
    ValueError when the named one can't be used.
    """
    table = rows(operation, device)
    if name and name not in [row.name for row in table]:
        raise ValueError(f'The {operation} can not run by "{name}". Choose {" or ".join(row.name for row in table)}.')
    name = name or forced()
    named = [row for row in table if row.name == name]
    if named and not named[0].usable:
        raise ValueError(f"The backend {name} can't run the {operation} on {device}: {named[0].reason}. Set {FORCE_VARIABLE} to auto or torch.")
    chosen = named[0] if named else next(row for row in table if row.usable)
    _announce(operation, chosen.name, str(device))
    return chosen


def implementation(operation: str, device: torch.device = CPU, name: str = "") -> Callable:
    """The function that runs `operation` on `device`, as `choose` chooses; all have the signature of the reference."""
    name = choose(operation, device, name).name
    twins = {twin.name: twin for twin in TWINS if twin.operation == operation}
    return _function(twins[name]) if name in twins else REFERENCES[operation]


def equip(module: nn.Module, device: torch.device) -> None:
    """Let every hash grid inside `module` encode by the backend that is chosen for `device`, where the module is."""
    for part in module.modules():
        if isinstance(part, HashGrid):
            part.encoder = implementation("hash grid", device)


def keep_kernels_in(folder: Path) -> None:
    """Keep compiled kernels in `folder`, or, where nothing can be written, in a temporary one; before the first is needed."""
    global kernel_folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        kernel_folder = folder if os.access(folder, os.W_OK) else Path(tempfile.mkdtemp(prefix="bloom4d_kernels_"))
    except OSError:
        kernel_folder = Path(tempfile.mkdtemp(prefix="bloom4d_kernels_"))


def summary(device: torch.device = CPU) -> str:
    """What runs each operation on `device`, in words, for the record of what made a file."""
    return ", ".join(f"{operation} by {choose(operation, device).name}" for operation in OPERATIONS)


def _announce(operation: str, name: str, device: str) -> None:
    if (operation, name, device) not in _announced:
        _announced.add((operation, name, device))
        logging.info("Bloom4D: %s on %s by %s", operation, device, name)


def _not_asked_for(twin: Twin) -> str:
    return f"only with {FORCE_VARIABLE}={twin.name}; {twin.about}" if twin.opt_in and forced() != twin.name else ""


def _nvdiffrast(device: torch.device) -> Backend:
    usable, reason = mesh_nvdiffrast.state()
    return Backend("mesh", "nvdiffrast", usable and device.type == "cuda", reason)


def _trouble(twin: Twin, device: torch.device) -> str:
    """Why a twin does not work on `device`, empty when it does; asked once per process."""
    key = (twin.operation, twin.name, str(device))
    with _lock:
        if key not in _proved:
            _proved[key] = _try(twin, device)
        return _proved[key]


def _try(twin: Twin, device: torch.device) -> str:
    try:
        if importlib.util.find_spec(twin.package) is None:
            return "not installed"
        with torch.inference_mode(False), torch.enable_grad():  # nodes run without either
            PROOFS[twin.operation](_function(twin), REFERENCES[twin.operation], device)
    except torch.OutOfMemoryError:
        raise  # says nothing about the twin
    except Exception as error:  # whatever a foreign package raises, the reference still runs
        line = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        return re.sub(r"\S*[/\\]\S*", "...", line)  # users paste the table into issues: no paths of theirs
    return ""


def _function(twin: Twin) -> Callable:
    return getattr(importlib.import_module(f".{twin.module}", __package__), twin.function)


@contextlib.contextmanager
def flushed_denormals():
    """Treat denormal numbers as zero on this thread, inside the `with`; for the whole of an optimisation loop.

    The gradients of hidden samples are denormal and cost a CPU ten times an ordinary product. Worker threads of torch keep
    their own setting, and torch can not say what the setting was: afterwards denormals are on again, torch's default.
    """
    supported = torch.set_flush_denormal(True)
    try:
        yield supported
    finally:
        torch.set_flush_denormal(False)
