"""Leaving the host's inference mode: gradients need it off, and tensors made under it cannot take part.

The host executes nodes under `torch.inference_mode()`. Whatever earlier nodes made there (pictures, loaded weights, even the
buffers of a noise schedule) refuses to be saved for a backward pass; a clone made outside is an ordinary tensor.
"""

import copy
import dataclasses
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def gradients():
    """Run the body outside inference mode with gradients on.

    The flag belongs to the thread: never `await` inside, or other nodes run without inference mode.
    """
    with torch.inference_mode(False), torch.enable_grad():
        yield


def ordinary(value):
    """Clone every tensor inside `value` into an ordinary one, so that it may be optimised or saved for a backward pass.

    Follows dicts, lists, tuples, frozen or plain dataclasses, and modules (parameters, buffers and their `requires_grad`);
    anything else is returned as it is. Nothing of the input is shared or changed. Call it inside `gradients()`.
    """
    assert not torch.is_inference_mode_enabled(), "clones made under inference mode would be inference tensors again"
    if isinstance(value, nn.Module):
        return copy.deepcopy(value)
    if isinstance(value, Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if isinstance(value, dict):
        return {key: ordinary(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(ordinary(item) for item in value))
    if isinstance(value, (list, tuple)):
        return type(value)(ordinary(item) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(value, **{f.name: ordinary(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init})
    return value
