"""Which implementation of each hot operation can run here, and why the others can't."""

import contextlib
import importlib.util
import os
from dataclasses import dataclass

import torch

FORCE_VARIABLE = "BLOOM4D_BACKEND"
OPERATIONS = ("hash grid", "volume rendering")


@dataclass(frozen=True)
class Backend:
    """One implementation of one operation; `reason` says why it can't be used, or what it is."""

    operation: str
    name: str
    usable: bool
    reason: str


def backends() -> list[Backend]:
    """Every row of the table, in order of preference per operation. Packages are looked for, never imported."""
    return [row for operation in OPERATIONS for row in (*_accelerators(operation), _reference(operation))]


def choose(operation: str) -> Backend:
    """The implementation that runs: the first usable one, or the one that the environment variable BLOOM4D_BACKEND names.

    Raises ValueError when that one can't be used; "auto" or an empty value chooses freely.
    """
    rows = [row for row in backends() if row.operation == operation]
    forced = os.environ.get(FORCE_VARIABLE, "").strip().lower()
    if forced in ("", "auto"):
        return next(row for row in rows if row.usable)
    for row in rows:
        if row.name == forced and row.usable:
            return row
    reasons = {row.name: row.reason for row in rows}
    names = ", ".join(row.name for row in rows if row.usable)
    raise ValueError(
        f'{FORCE_VARIABLE}={forced} can not run the {operation}: {reasons.get(forced, "there is no backend of that name")}. Set it to auto or {names}.'
    )


def _reference(operation: str) -> Backend:
    return Backend(operation, "torch", True, "reference in plain torch, CPU and GPU")


def _accelerators(operation: str) -> list[Backend]:
    if operation != "hash grid":
        return []
    return [Backend(operation, name, False, _why_not(package)) for name, package in (("tinycudann", "tinycudann"), ("warp", "warp"))]


def _why_not(package: str) -> str:
    if importlib.util.find_spec(package) is None:
        return "not installed"
    return "installed, but this version of Bloom4D has no kernels for it"


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
