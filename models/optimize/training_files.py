"""Resumable state of a training run: weights, averages and Adam's moments in one safetensors file, replaced atomically."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..formats.tensors import mismatch, read_tensors


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
    """Restore what `save_training` wrote; returns the number of finished steps. ValueError when it is the state of other networks."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    remedy = "Remove it to begin again, or give the training the settings that it was begun with"
    try:
        tensors, metadata = read_tensors(path)
    except ValueError as error:
        raise ValueError(f"{error}. {remedy}.") from None
    moments = _moments(_under(tensors, "adam."), parameters)
    wanted = {f"networks.{name}": value for name, value in networks.state_dict().items()} | {f"average.{name}": value for name, value in average.state_dict().items()}
    wanted |= {f"adam.{index}.{kind}": like for index, parameter in enumerate(parameters) if index in moments for kind, like in _like(parameter).items()}
    if problem := mismatch(tensors, wanted) or ("" if metadata.get("step", "").isdecimal() and len(metadata["step"]) < 19 else "its step is no number"):
        raise ValueError(f"{Path(path).name} is no training state of these networks: {problem}. {remedy}.")
    networks.load_state_dict(_under(tensors, "networks."))
    average.load_state_dict(_under(tensors, "average."))
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(metadata["step"])


def _like(parameter: Tensor) -> dict[str, Tensor]:
    """What Adam stores of a parameter."""
    return {"step": torch.zeros(()), "exp_avg": parameter, "exp_avg_sq": parameter}


def _moments(tensors: dict[str, Tensor], parameters: list[Tensor]) -> dict[int, dict[str, Tensor]]:
    """Adam's state by the number of the parameter; what has another size is left for the comparison to name."""
    moments: dict[int, dict[str, Tensor]] = {}
    for index, parameter in enumerate(parameters):
        found = {kind: tensors[f"{index}.{kind}"] for kind in _like(parameter) if f"{index}.{kind}" in tensors}
        if found:  # fused Adam wants one memory layout
            moments[index] = {kind: torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape and value.dim() > 0 else value for kind, value in found.items()}
    return moments


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
