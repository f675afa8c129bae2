"""A low-rank addition to a host MODEL that is there only while it is asked, and gradients through the MODEL to it.

The additions stand beside the layers' own forwards (the host calls it bypass mode), so one resident copy of the weights serves
the base and its addition, patched or quantised as it may be.
"""

import copy
import dis
import functools
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

import comfy.model_management
import torch
from comfy.ldm.modules.attention import attention_pytorch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.weight_adapter.bypass import BypassForwardHook
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from ...models.networks.low_rank import LowRank
from .inference import ordinary

ATTENTION = re.compile(
    r"(^|[._])(attn|attention)\d*\."
    r"|single_blocks\.\d+\.linear[12]$"  # Flux fuses attention with the MLP
    r"|blocks\.\d+\.(q|k|v|attn_out)$"  # CogVideoX
    r"|attentions\.\d+\.(to_[qkv]|add_[qkv]_proj|to_out\.\d+)$"  # DeepFloyd, in diffusers' names
)
"""Modules of self- and cross-attention by the names that the host's and our models give them."""

LISTS = (nn.ModuleList, nn.Sequential)

NORMS = (nn.functional.layer_norm, nn.functional.rms_norm)
INTO_ITSELF = {Tensor.add_: torch.add, Tensor.sub_: torch.sub, Tensor.mul_: torch.mul, Tensor.div_: torch.div}


def attention_layers(network: nn.Module, prefix: str) -> dict[str, nn.Module]:
    """Every linear layer of every attention by its full name; ValueError when no name tells of one."""
    layers = {name: part for name, part in network.named_modules(prefix=prefix) if hasattr(part, "out_features") and ATTENTION.search(name)}  # quantised ones are no nn.Linear
    if not layers:
        raise ValueError(f"This MODEL ({type(network).__name__}) has no layers that are called attention, so that there is nothing to put a LoRA on. Connect another model, or use SDS Guidance.")
    return layers


def embedding_width(network: nn.Module) -> int:
    """Length of the time embedding where the host lets patches add to it; 0 elsewhere."""
    return network.time_embed[-1].out_features if isinstance(network, UNetModel) else 0


@contextmanager
def beside(additions: Mapping[nn.Module, LowRank]) -> Iterator[None]:
    """While it is open, these layers give their own output plus their addition's; afterwards they are as they were.

    Not the host's own hook: that one moves additions to the default device instead of the MODEL's, and leaves an attribute.
    """
    kept = []
    try:
        for layer, addition in additions.items():
            kept.append((layer, layer.__dict__.get("forward")))
            layer.forward = functools.partial(_with_addition, layer.forward, addition)
        yield
    finally:
        for layer, forward in reversed(kept):
            if forward is None:
                layer.__dict__.pop("forward", None)  # the class's method shows again
            else:
                layer.forward = forward


def _with_addition(forward: Callable, addition: LowRank, x: Tensor, *arguments, **named) -> Tensor:
    return addition(x, forward(x, *arguments, **named))


@contextmanager
def ordinary_bypasses(network: nn.Module) -> Iterator[None]:
    """While it is open, LoRAs that the user put beside layers (the host's bypass mode) hold tensors that a graph may keep."""
    hooks = [getattr(vars(part).get("forward"), "__self__", None) for part in network.modules()]
    adapters = {id(hook.adapter): hook.adapter for hook in hooks if isinstance(hook, BypassForwardHook) and not isinstance(hook.adapter, nn.Module)}
    kept = [(adapter, adapter.weights) for adapter in adapters.values()]
    try:
        for adapter, weights in kept:
            adapter.weights = ordinary(weights)
        yield
    finally:
        for adapter, weights in kept:
            adapter.weights = weights


@contextmanager
def ungraded(controls: list) -> Iterator[None]:
    """While it is open, these ControlNets steer without a graph through themselves: they are told nothing that learns."""
    try:
        for control in controls:
            control.get_control = torch.no_grad()(control.get_control)
        yield
    finally:
        for control in controls:
            vars(control).pop("get_control", None)


@contextmanager
def trainable_forward(options: dict) -> Iterator[None]:
    """While it is open the host computes what autograd can follow: no in-place rotations, PyTorch's attention, skip connections
    that ControlNets may add to in place, and no writing into what a gradient needs."""
    transformer = options.setdefault("transformer_options", {})
    transformer["optimized_attention_override"] = _differentiable_attention
    patches = transformer.setdefault("patches", {})
    patches["input_block_patch_after_skip"] = [*patches.get("input_block_patch_after_skip", []), _apart]
    before, comfy.model_management.in_training = comfy.model_management.in_training, True
    try:
        with _NothingOverwritten():
            yield
    finally:
        comfy.model_management.in_training = before


class _NothingOverwritten(TorchFunctionMode):
    """Transformers of the host add into their residual stream in place, after a layer has kept it for its gradient.

    Here `x += y` makes a new tensor, and norms keep a copy of their own. In a recomputed block autograd would not even notice.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in NORMS and args[0].requires_grad:
            args = (args[0].clone(), *args[1:])
        elif function in INTO_ITSELF and _is_assigned(sys._getframe(1)) and any(isinstance(value, Tensor) and value.requires_grad for value in args):
            return INTO_ITSELF[function](*args).to(args[0].dtype)
        return function(*args, **(kwargs or {}))


def _is_assigned(frame: FrameType) -> bool:
    """Whether the caller runs `x += y`, which assigns the result, and not `x.add_(y)`; torch calls the same function for both."""
    return dis.opname[frame.f_code.co_code[frame.f_lasti]].startswith(("BINARY_OP", "INPLACE_"))


def _apart(hidden: Tensor, options: dict) -> Tensor:
    """What goes on into the next block, another tensor than what was kept for the skip connection."""
    return hidden.clone()


def _differentiable_attention(_, *arguments, **named) -> Tensor:
    return attention_pytorch(*arguments, **named)


@contextmanager
def recomputed_blocks(network: nn.Module, wanted: bool) -> Iterator[None]:
    """While it is open, forwards keep only the inputs of blocks, and backward computes the rest again; go backward inside."""
    kept = []
    try:
        for block in _blocks(network) if wanted else ():
            kept.append((block, block.__dict__.get("forward")))
            block.forward = functools.partial(_checkpointed, block.forward)
        yield
    finally:
        for block, forward in reversed(kept):
            if forward is None:
                block.__dict__.pop("forward", None)
            else:
                block.forward = forward


def _checkpointed(forward: Callable, *arguments, **named) -> Tensor:
    """`forward`, whose repetition sees the options as they were: the host notes in them where in the network it is."""
    noted, noted_names = [_as_it_is(value) for value in arguments], {name: _as_it_is(value) for name, value in named.items()}
    passes = []

    def run(*given):
        passes.append(True)
        if len(passes) == 1:
            return forward(*given, **named)
        with _NothingOverwritten():  # autograd may repeat it in a thread of its own
            return forward(*(note if isinstance(note, dict) else value for note, value in zip(noted, given)), **noted_names)

    return checkpoint(run, *arguments, use_reentrant=False)


def _as_it_is(value):
    return dict(value) if isinstance(value, dict) else value


def _blocks(network: nn.Module) -> list[nn.Module]:
    """The outermost parts that lists and sequences are made of and that have parts themselves: the blocks of any of the host's models."""
    found = []
    for child in network.children():
        listed = isinstance(network, LISTS) and not isinstance(child, LISTS)
        found += _blocks(child) if not listed else [child] if any(child.children()) else []
    return found


def ordinary_conditions(entries: list[dict]) -> list[dict]:
    """Processed conditioning whose tensors may be kept for a backward pass."""
    return [ordinary({name: value for name, value in entry.items() if name != "model_conds"}) | {"model_conds": _ordinary_conds(entry)} for entry in entries]


def _ordinary_conds(entry: dict) -> dict:
    conds = {name: copy.copy(cond) for name, cond in entry["model_conds"].items()}
    for cond in conds.values():
        cond.cond = ordinary(cond.cond)
    return conds
