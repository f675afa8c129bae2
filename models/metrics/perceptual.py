"""LPIPS (Zhang et al. 2018) by the package lpips, with weights that the caller has read: nothing is downloaded."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

PUBLIC_FILE = "alexnet-owt-7be5be79.pth (torchvision's AlexNet, BSD-3)"
PICTURES_AT_ONCE = 8


def installed() -> bool:
    return importlib.util.find_spec("lpips") is not None


def backbone_of(weights: dict[str, Tensor]) -> str | None:
    """Which of LPIPS' networks a file holds: "alex", "vgg" or "squeeze", told by its first layers; None for anything else."""
    if "features.3.squeeze.weight" in weights or "net.slice2.3.squeeze.weight" in weights:
        return "squeeze"
    first = weights.get("features.0.weight", weights.get("net.slice1.0.weight"))
    return None if first is None else {(64, 3, 11, 11): "alex", (64, 3, 3, 3): "vgg"}.get(tuple(first.shape))


def packaged_linear_file(backbone: str) -> Path:
    """Where the installed package keeps its linear weights (version 0.1, BSD-2), for the caller to read."""
    return Path(importlib.util.find_spec("lpips").origin).parent / "weights" / "v0.1" / f"{backbone}.pth"


def has_linear(weights: dict[str, Tensor]) -> bool:
    return "lin0.model.1.weight" in weights


def build(backbone: str, weights: dict[str, Tensor], linear: dict[str, Tensor]) -> nn.Module:
    """The network. weights: torchvision's classifier (features.*), or a whole LPIPS (net.*); linear: lin0.model.1.weight and so on.

    ValueError names the first tensor that is missing or has another shape.
    """
    import lpips

    with warnings.catch_warnings():  # torchvision's renamed argument
        warnings.simplefilter("ignore")
        network = lpips.LPIPS(pretrained=False, pnet_rand=True, net=backbone, verbose=False)
    state = network.state_dict()
    for name in state:
        if not name.startswith("scaling_layer."):  # constants
            state[name] = _found(name, state[name], weights, linear)
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def _found(name: str, like: Tensor, weights: dict[str, Tensor], linear: dict[str, Tensor]) -> Tensor:
    """The tensor that belongs at `name` of the whole network."""
    room, _, rest = name.partition(".")
    if room == "net":
        value = weights.get(name, weights.get(f"features.{rest.partition('.')[2]}"))  # net.slice2.3.bias is features.3.bias
    else:
        index = rest.partition(".")[0] if room == "lins" else room.removeprefix("lin")  # the package lists its linear layers twice
        value = linear.get(f"lin{index}.model.1.weight")
    if value is None or value.shape != like.shape:
        raise ValueError(f"The LPIPS file has no fitting {name} {tuple(like.shape)}. Use {PUBLIC_FILE}.")
    return value.float()


@torch.no_grad()
def distance(network: nn.Module, pictures: Tensor, reference: Tensor, watch: Callable[[], None] = lambda: None) -> float:
    """Mean LPIPS over the pictures (N, 3, H, W) in [0, 1]; on the network's device. `watch` is called before every few and may raise."""
    device, found = next(network.parameters()).device, []
    for one, other in zip(pictures.split(PICTURES_AT_ONCE), reference.split(PICTURES_AT_ONCE)):
        watch()
        found.append(network(one.to(device), other.to(device), normalize=True).flatten().cpu())
    return float(torch.cat(found).mean())
