"""What lies in the accelerator's memory: the host's models while they are asked, ours while we render.

The host evicts idle models by itself, but only when told what is about to be needed. An evicted model also loses its LoRA
and object patches until it is loaded again, so `make_resident` runs before every call of a model; it costs a tenth of a
millisecond when nothing is to do.
"""

from dataclasses import dataclass

import comfy.model_management
import torch


@dataclass(frozen=True)
class Placement:
    """One model the host knows: bytes in the compute device's memory of all its bytes."""

    name: str
    device: str
    loaded_bytes: int
    total_bytes: int

    def __str__(self):
        return f"{self.name}: {self.loaded_bytes / 2**20:.0f} of {self.total_bytes / 2**20:.0f} MiB on {self.device}"


def make_resident(patchers, required_bytes: float, minimum_bytes: float | None = None):
    """Load the models of `patchers`, leaving room for `required_bytes` of activations (at least `minimum_bytes`)."""
    with torch.inference_mode():
        comfy.model_management.load_models_gpu(list(patchers), memory_required=required_bytes, minimum_memory_required=minimum_bytes)


def make_room(required_bytes: float, device: torch.device | None = None):
    """Let the host evict models until `required_bytes` are free for our own renderer; does nothing on the CPU."""
    device = device or comfy.model_management.get_torch_device()
    if device.type != "cpu":
        comfy.model_management.free_memory(required_bytes, device)


def free_bytes(device: torch.device | None = None) -> int:
    """Free memory of `device` (default: the host's compute device) as the host counts it."""
    return int(comfy.model_management.get_free_memory(device or comfy.model_management.get_torch_device()))


def chunk_size(bytes_per_item: float, largest: int, device: torch.device | None = None, share: float = 0.5) -> int:
    """How many items of `bytes_per_item` fit in `share` of the free memory: from 1 to `largest`, a power of two below it."""
    fitting = int(share * free_bytes(device) / max(bytes_per_item, 1))
    return largest if fitting >= largest else 1 << max(fitting.bit_length() - 1, 0)


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
