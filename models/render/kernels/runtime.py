"""Handing torch's memory to warp without copies, and launching kernels on it."""

import functools
import os
from concurrent.futures import ThreadPoolExecutor

import torch
import warp as wp
from torch import Tensor

VECTORS = {2: wp.vec2, 3: wp.vec3, 4: wp.vec4}


def vectors(tensor: Tensor) -> wp.array:
    """The memory of a float32 tensor (..., 2 to 4), seen as vectors of its last axis."""
    return wp.from_torch(tensor.detach(), VECTORS[tensor.shape[-1]], requires_grad=False)


def numbers(tensor: Tensor, unsigned: bool = False) -> wp.array:
    """The memory of a tensor of numbers; with `unsigned` the bits of int32 are those of 32-bit numbers without a sign."""
    return wp.from_torch(tensor.detach(), wp.uint32 if unsigned else None, requires_grad=False)


def launch(kernel, dim: tuple[int, ...], axis: int, inputs: list, device: torch.device) -> None:
    """Run `kernel` over `dim` where the tensors live. Its last two arguments say of `axis` where a launch starts and its step.

    On CUDA one launch in torch's stream takes all. A CPU kernel runs on one core, so there each of torch's threads takes an
    equal share of `axis`, along which tasks must not write to the same place. Returns when the CPU is done.
    """
    if device.type == "cuda":
        stream = wp.stream_from_torch(torch.cuda.current_stream(device))
        wp.launch(kernel, dim, [*inputs, 0, 1], device=wp.device_from_torch(device), stream=stream, record_tape=False)
        return
    shares = min(torch.get_num_threads(), dim[axis])

    def run(share: int) -> None:
        part = list(dim)
        part[axis] = -(-(dim[axis] - share) // shares)
        wp.launch(kernel, part, [*inputs, share, shares], device="cpu", record_tape=False)

    others = [_threads().submit(run, share) for share in range(1, shares)]
    run(0)
    for other in others:
        other.result()


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, (os.cpu_count() or 2) - 1), thread_name_prefix="bloom4d-kernels")
