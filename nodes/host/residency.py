"""What lies in the accelerator's memory: the host's models while they are asked, ours while we render.

The host evicts idle models by itself, but only when told what is about to be needed. An evicted model also loses its LoRA
and object patches until it is loaded again, so `make_resident` runs before every call of a model; it costs a tenth of a
millisecond when nothing is to do.
"""

from collections import Counter
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import comfy.model_management
import torch


LEAST_SHARE = 0.125  # of a device's memory
CPU_SHARE = 0.5  # of main memory


@dataclass(frozen=True)
class Placement:
    """One model the host knows: bytes in the compute device's memory of all its bytes."""

    name: str
    device: str
    loaded_bytes: int
    total_bytes: int

    def __str__(self):
        return f"{self.name}: {self.loaded_bytes / 2**20:.0f} of {self.total_bytes / 2**20:.0f} MiB on {self.device}"


_exchanges: ContextVar[Counter | None] = ContextVar("exchanges", default=None)


@contextmanager
def counting():
    """While it is open, how often each model had to be loaded: {(name of its class, which of them): times}."""
    loads: Counter = Counter()
    token = _exchanges.set(loads)
    try:
        yield loads
    finally:
        _exchanges.reset(token)


def make_resident(patchers, required_bytes: float, minimum_bytes: float | None = None):
    """Load the models of `patchers`, leaving room for `required_bytes` of activations (at least `minimum_bytes`)."""
    loads = _exchanges.get()
    if loads is not None:
        loads.update((type(patcher.model).__name__, id(patcher)) for patcher in absent(patchers))
    with torch.inference_mode():
        comfy.model_management.load_models_gpu(list(patchers), memory_required=required_bytes, minimum_memory_required=minimum_bytes)


def absent(patchers) -> list:
    """Those of them that the host does not hold on its device."""
    held = [item.model for item in comfy.model_management.current_loaded_models if item.model is not None]
    return [patcher for patcher in patchers if not any(other is patcher for other in held)]


def make_room(required_bytes: float, device: torch.device | None = None):
    """Let the host evict models until `required_bytes` are free for our own renderer; does nothing on the CPU."""
    device = device or comfy.model_management.get_torch_device()
    if device.type != "cpu":
        comfy.model_management.free_memory(required_bytes, device)


def free_bytes(device: torch.device | None = None) -> int:
    """Free memory of `device` (default: the host's compute device) as the host counts it."""
    return int(comfy.model_management.get_free_memory(device or comfy.model_management.get_torch_device()))


def plannable_bytes(device: torch.device, patchers=()) -> float:
    """What a run whose models are `patchers` may plan with on `device`: what is free, less those that are still to be loaded; and
    at least a share of all there is, since the host takes turns with models that do not fit together.

    Main memory belongs to every program of the machine, and what they leave free must not decide the bytes of a result: half of
    all there is.
    """
    if device.type == "cpu":
        return CPU_SHARE * comfy.model_management.get_total_memory(device)
    free = free_bytes(device)
    coming = sum(patcher.model_size() for patcher in absent(patchers) if patcher.load_device == device)
    return max(free - coming, LEAST_SHARE * comfy.model_management.get_total_memory(device))


class RunRoom:
    """The memory of the device where a field lies, for the run whose models are `patchers` (a `Room`)."""

    def __init__(self, patchers, device: torch.device | None = None):
        self.patchers = list(patchers)
        self.device = device or comfy.model_management.get_torch_device()

    def free(self, wanted: float) -> float:
        """Let the host evict what this run does not ask (text encoders, models of earlier prompts) until `wanted` bytes are free."""
        if self.device.type != "cpu":
            ours = [item for item in comfy.model_management.current_loaded_models if any(item.model is patcher for patcher in self.patchers)]
            comfy.model_management.free_memory(wanted, self.device, keep_loaded=ours)
        return plannable_bytes(self.device, self.patchers)

    def make(self, required: float) -> None:
        """Others first, then our own models, which come back when they are asked."""
        self.free(required)
        make_room(required, self.device)

    def plannable(self, device: torch.device) -> float:
        """See `plannable_bytes`, with every model of the run, on whichever device they are to be."""
        return plannable_bytes(device, self.patchers)


def placements() -> list[Placement]:
    """Every model the host holds and where it lies, the most recently used first."""
    return [
        Placement(item.model.model.__class__.__name__, str(item.device), int(item.model_loaded_memory()), int(item.model_memory()))
        for item in comfy.model_management.current_loaded_models
        if item.model is not None
    ]


def report() -> str:
    """The placements as lines of text, for logs and the environment report."""
    return "\n".join(map(str, placements())) or "no model is loaded"
