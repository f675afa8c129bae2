"""Resumable state of a training run: weights, averages and Adam's moments in one safetensors file, replaced atomically."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn


def save_training(path: Path, networks: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Write the state after `step` finished steps."""
    tensors = {f"networks.{name}": value for name, value in networks.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{name}": value for name, value in moments.items()}
    unfinished = path.with_suffix(".part")
    save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, unfinished, {"step": str(step)})
    os.replace(unfinished, path)


def load_training(path: Path, networks: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restore what `save_training` wrote; returns the number of finished steps."""
    with safe_open(path, "pt") as file:
        tensors, step = {name: file.get_tensor(name) for name in file.keys()}, int(file.metadata()["step"])
    networks.load_state_dict(_under(tensors, "networks."))
    average.load_state_dict(_under(tensors, "average."))
    moments: dict[int, dict[str, Tensor]] = {}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for name, value in _under(tensors, "adam.").items():
        index, kind = name.split(".")
        parameter = parameters[int(index)]
        same = value.shape == parameter.shape and value.dim() > 0
        moments.setdefault(int(index), {})[kind] = torch.empty_like(parameter).copy_(value) if same else value  # fused Adam wants one memory layout
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return step


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
