"""Memory that something will take, said before it is taken."""

import torch

from .residency import free_bytes

SPARE = 0.9  # of what is free; the rest is for everybody else


def amount(size: float) -> str:
    """Bytes as people read them: 1.7 GB, 350 MB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def need_memory(size: float, what: str, remedy: str, device: torch.device = torch.device("cpu")) -> None:
    """ValueError "`what` about 12.0 GB ... `remedy`" unless `size` bytes are free on `device`, main memory by default."""
    free = free_bytes(device)
    if size > SPARE * free:
        raise ValueError(f"{what} about {amount(size)}, and {amount(free)} are free. {remedy}")
