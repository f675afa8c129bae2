"""Tensor files of ours: opened with plain words for what is wrong, and held against what their own description promises."""

from collections.abc import Callable
from pathlib import Path

import safetensors
import torch
from safetensors import safe_open
from torch import Tensor, nn


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Every tensor of a safetensors file, and its metadata; ValueError in one clause when the file is none."""
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        reason = str(error).splitlines()[0][:120]
    raise ValueError(f'"{Path(path).name}" is no readable safetensors file ({reason})')


def promised(build: Callable[[], nn.Module]) -> dict[str, Tensor]:
    """The state of the module that `build` makes, without memory behind it: sizes are compared before anything is allocated."""
    with torch.device("meta"):
        return build().state_dict()


def mismatch(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> str:
    """How two states differ in names, shapes or kinds of number, as a clause; empty when they do not."""
    for name, tensor in wanted.items():
        if name not in found:
            return f"the tensor {name} is missing"
        if found[name].shape != tensor.shape:
            return f"the tensor {name} is {_size(found[name])} and should be {_size(tensor)}"
        if found[name].is_floating_point() != tensor.is_floating_point() or found[name].is_complex() != tensor.is_complex():
            return f"the tensor {name} holds {found[name].dtype} and should hold {tensor.dtype}"
    unknown = sorted(found.keys() - wanted.keys())
    return f"the tensor {unknown[0][:60]} is unknown" if unknown else ""


def _size(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a single number"
