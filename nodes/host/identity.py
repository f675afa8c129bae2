"""Naming host objects by content, so that a run is found again in another process and never mistaken for another.

Addresses, UUIDs and load states change from process to process; weights, patches, prompts and settings do not.
"""

import functools

import torch
from comfy.controlnet import ControlBase
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ...models.optimize.identity import fingerprint

SAMPLED = 256  # elements of each weight tensor that are read; prompts and settings are read whole
DEEPEST = 8
VOLATILE = {
    "multigpu_clones", "cond_hint", "timestep_range", "current_patcher", "device", "load_device", "offload_device", "patches_uuid",
    "current_weight_patches_uuid", "lowvram_patch_counter", "model_loaded_weight_memory", "model_lowvram", "model_offload_buffer_memory",
    "skip_injection",
}  # fmt: skip
"""What the host notes on objects while it loads and runs them."""


def identify(*values) -> str:
    """A fingerprint of host values: MODEL, VAE, CONDITIONING, ControlNets, LoRA and object patches, nested at will."""
    return fingerprint(*(describe(value) for value in values))


def describe(value, depth: int = 0):
    """`value` as plain values and tensors that `fingerprint` takes."""
    if value is None or isinstance(value, (bool, int, float, str, Tensor)):
        return value
    if depth > DEEPEST:
        return type(value).__qualname__
    if isinstance(value, dict):
        return {str(key): describe(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(item, depth + 1) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    return _describe_object(value, depth + 1)


def _describe_object(value, depth: int):
    if isinstance(value, ModelPatcher):
        return _describe_patcher(value, depth)
    if isinstance(value, ControlBase):
        return _describe_control(value, depth)
    if isinstance(value, nn.Module):
        return [_kinds(value), sample_weights(value.state_dict()), _plain(value, depth)]
    if isinstance(value, functools.partial):
        return [describe(part, depth) for part in (value.func, value.args, value.keywords)]
    if callable(value) and hasattr(value, "__qualname__"):
        return [value.__qualname__, describe(_captured(value), depth)]
    return [_kinds(value), _plain(value, depth)]


def _kinds(value) -> str:
    """The class and its bases: the host makes up classes of one name for eps, v and flow out of different bases."""
    return " ".join(kind.__qualname__ for kind in type(value).__mro__)


def _captured(function) -> list:
    """What a function carries with it besides its code: closures, defaults, and the object of a bound method."""
    cells = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    owner = getattr(function, "__self__", None)
    return [cells, list(getattr(function, "__defaults__", None) or ()), None if owner is None else type(owner).__qualname__]


def _plain(value, depth: int) -> dict:
    """The public attributes of an object that are data; modules and other objects below are left to their owners."""
    kinds = (bool, int, float, str, Tensor, dict, list, tuple, ModelPatcher)
    attributes = {name: item for name, item in getattr(value, "__dict__", {}).items() if not name.startswith("_") and name not in VOLATILE}
    return {name: describe(item, depth) for name, item in attributes.items() if isinstance(item, kinds) or callable(item) and not isinstance(item, nn.Module)}


def _describe_patcher(patcher: ModelPatcher, depth: int) -> dict:
    return {
        "model": type(patcher.model).__qualname__,
        "weights": sample_weights(unpatched_weights(patcher)),
        "patches": describe(patcher.patches, depth),
        "objects": describe(patcher.object_patches, depth),
        "options": describe(patcher.model_options, depth),
        "wrappers": describe([patcher.wrappers, patcher.callbacks, sorted(patcher.injections)], depth),
        "sampling": describe(patcher.get_model_object("model_sampling"), depth) if hasattr(patcher.model, "model_sampling") else None,
    }


def _describe_control(control: ControlBase, depth: int) -> dict:
    return {
        "kind": type(control).__qualname__,
        "hint": describe(control.cond_hint_original, depth),
        "strength": control.strength,
        "range": list(control.timestep_percent_range),
        "weights": describe(getattr(control, "control_model_wrapped", None) or getattr(control, "control_weights", None), depth),
        "extra": describe(control.extra_concat_orig, depth),
        "previous": describe(control.previous_controlnet, depth),
    }


def unpatched_weights(patcher: ModelPatcher) -> dict[str, Tensor]:
    """The model's own weights, also while a LoRA is merged into them; the noise schedule, which patches exchange, is apart."""
    weights = {name: value for name, value in patcher.model.state_dict().items() if not name.startswith("model_sampling.")}
    return weights | {name: kept.weight for name, kept in patcher.backup.items() if name in weights}


def sample_weights(weights: dict) -> dict:
    """Shape and evenly spaced elements of every tensor, in float32 on the CPU; small tensors whole."""
    return {name: _sample(value) for name, value in weights.items() if isinstance(value, Tensor)}


def _sample(weight: Tensor):
    flat = weight.detach().reshape(-1)
    stride = max(flat.numel() // SAMPLED, 1)
    with torch.inference_mode():
        return [list(weight.shape), flat[::stride][: SAMPLED + 1].float().cpu()]
