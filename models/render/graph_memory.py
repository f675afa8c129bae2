"""How much memory autograd keeps for a backward pass: counted, not guessed, since it follows the field and what is occupied."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ..fields.field import Field
from ..geometry.cameras import Cameras

PROBE = 32  # pixels a side of the probe's pictures
BACKWARD = 2.0  # the gradients on the way back need about as much again
LEAST = 64.0  # bytes per ray, where nothing is seen or trained: rays and maps themselves


def kept_bytes(forward: Callable[[], object], parameters: Iterable[Tensor] = ()) -> int:
    """Bytes of distinct memory that autograd keeps from `forward` for the backward pass, `parameters` aside."""
    kept, ours = {}, {parameter.untyped_storage().data_ptr() for parameter in parameters}

    def note(tensor):
        storage, alias = tensor.untyped_storage(), tensor.detach()  # an operation that saves its own output would hold itself for good
        if storage.data_ptr() not in ours:
            kept[storage.data_ptr()] = (storage.nbytes(), alias)  # the reference keeps the address from being used again
        return alias

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        forward()
    return sum(size for size, _ in kept.values())


def bytes_per_ray(field: Field, render: Callable, state, cameras: Cameras, height: int, width: int) -> float:
    """Bytes that one ray (pixel) of `cameras` takes at the peak of a step whose graph is kept, backward pass included.

    `render` is a renderer's `render_views`. Renders the first and the last camera with a graph, at most 32 x 32 pixels each, so it sees what is occupied at both times.
    Draws no random number and changes nothing; the same field, state and cameras give the same figure.
    """
    ends = cameras.select(torch.tensor(sorted({0, len(cameras) - 1}), device=cameras.times.device))
    rows, columns = min(height, PROBE), min(width, PROBE)
    kept = kept_bytes(lambda: render(field, state, ends, rows, columns), field.parameters())
    return max(BACKWARD * kept / (len(ends) * rows * columns), LEAST)
