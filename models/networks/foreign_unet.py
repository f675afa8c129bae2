"""UNets of the diffusers library on the layers of another library: built without memory, layer by layer exchanged.

A host moves, casts and patches weights through layer classes of its own. A network whose Linear, Conv and Norm layers are of
those classes is managed like any other; the names of its weights stay the library's.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import nn

PLAIN = SimpleNamespace(Linear=nn.Linear, Conv2d=nn.Conv2d, Conv3d=nn.Conv3d, GroupNorm=nn.GroupNorm, LayerNorm=nn.LayerNorm)
"""Torch's own layers, as `operations`."""


def skeleton(build: Callable[[], nn.Module]) -> nn.Module:
    """The network that `build` makes, with shapes only (meta device): milliseconds and no memory at any size."""
    with torch.device("meta"):
        return build().requires_grad_(False).eval()


def embody(network: nn.Module, operations=PLAIN, device=None, dtype=None) -> nn.Module:
    """Exchange, in place, every layer of a `skeleton` for one of `operations`, with unset weights on `device`."""
    made: dict[int, nn.Module] = {}  # a layer that has two names stays one
    for part in list(network.modules()):
        for name, child in list(part._modules.items()):
            if (arguments := _arguments(child)) is not None:
                if id(child) not in made:
                    made[id(child)] = getattr(operations, type(child).__name__)(**arguments, device=device, dtype=dtype)
                part._modules[name] = made[id(child)]
    for part in network.modules():
        for name, value in part._parameters.items():
            if value is not None and value.is_meta and part not in made.values():
                part._parameters[name] = nn.Parameter(torch.empty(value.shape, device=device, dtype=dtype), requires_grad=False)
    return network.requires_grad_(False).eval()


def _arguments(part: nn.Module) -> dict | None:
    """What makes a layer of the same shape; None for anything but a plain layer of torch's own."""
    if type(part) is nn.Linear:
        return dict(in_features=part.in_features, out_features=part.out_features, bias=part.bias is not None)
    if type(part) in (nn.Conv2d, nn.Conv3d):
        names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
        return {name: getattr(part, name) for name in names} | {"bias": part.bias is not None}
    if type(part) is nn.GroupNorm:
        return dict(num_groups=part.num_groups, num_channels=part.num_channels, eps=part.eps, affine=part.affine)
    if type(part) is nn.LayerNorm:
        return dict(normalized_shape=part.normalized_shape, eps=part.eps, elementwise_affine=part.elementwise_affine, bias=part.bias is not None)
    return None


def missing_diffusers() -> str:
    """What to do when the library is not there, in one line."""
    return 'This model needs the package diffusers: install it with "pip install diffusers" in ComfyUI\'s Python, then start ComfyUI again.'
