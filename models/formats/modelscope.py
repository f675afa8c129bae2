"""The first layout of ModelScope's text-to-video weights (text2video_pytorch_model.pth) under diffusers' names.

The original numbers its blocks through: input 0 is the first convolution with a temporal transformer behind it, then come two
residual blocks and a downsampling for each level, and the same backwards. Each block holds a residual part with its temporal
convolution, a spatial and a temporal transformer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

MARK = "input_blocks.0.1.proj_in.weight"
PREFIX = "model.diffusion_model."
FIXED = {
    "time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2", "input_blocks.0.0": "conv_in",
    "input_blocks.0.1": "transformer_in", "out.0": "conv_norm_out", "out.2": "conv_out",
    "middle_block.0": "mid_block.resnets.0", "middle_block.0.temopral_conv": "mid_block.temp_convs.0", "middle_block.1": "mid_block.attentions.0",
    "middle_block.2": "mid_block.temp_attentions.0", "middle_block.3": "mid_block.resnets.1", "middle_block.3.temopral_conv": "mid_block.temp_convs.1",
}  # fmt: skip
"""Places that have one name in each layout ("temopral" is the original's spelling)."""
RESNET = {
    "in_layers.0": "norm1", "in_layers.2": "conv1", "out_layers.0": "norm2", "out_layers.3": "conv2", "emb_layers.1": "time_emb_proj",
    "skip_connection": "conv_shortcut",
}  # fmt: skip
PARTS = ("resnets", "attentions", "temp_attentions")


def is_original(names) -> bool:
    """Whether these are tensor names of the original layout."""
    return any(name.removeprefix(PREFIX) == MARK for name in names)


def to_diffusers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the original layout under diffusers' names; linear projections that were stored as convolutions become matrices."""
    bare = {name.removeprefix(PREFIX): value for name, value in tensors.items()}
    levels = _levels(bare)
    renamed = {}
    for name, value in bare.items():
        new = renamed_key(name, levels)
        renamed[new] = value[:, :, 0] if _is_projection(new) and value.ndim == 3 else value
    return renamed


def renamed_key(name: str, per_level: int = 3) -> str:
    """One tensor's name in diffusers' layout; `per_level` input blocks make a level (two residual ones and a downsampling)."""
    place, rest = _split(name)
    if place in FIXED:
        return f"{FIXED[place]}.{_residual(rest)}"
    match = re.fullmatch(r"(input|output)_blocks\.(\d+)(?:\.(\d+))?", place)
    if match is None:
        return name
    side, number, part = match[1], int(match[2]), match[3]
    level, layer = divmod(number - 1 if side == "input" else number, per_level)
    block = f"{'down' if side == 'input' else 'up'}_blocks.{level}"
    if rest.startswith(("op.", "conv.")):
        return f"{block}.{'downsamplers' if side == 'input' else 'upsamplers'}.0.conv.{rest.split('.', 1)[1]}"
    if rest.startswith("temopral_conv."):
        return f"{block}.temp_convs.{layer}.{rest.split('.', 1)[1]}"
    return f"{block}.{PARTS[int(part)]}.{layer}.{_residual(rest)}"


def _split(name: str) -> tuple[str, str]:
    """A block's place and what follows: ("input_blocks.1.0", "in_layers.0.weight")."""
    match = re.match(r"(?:(?:in|out)put_blocks\.\d+(?:\.\d+)?|middle_block\.\d+(?:\.temopral_conv)?|time_embed\.\d+|out\.\d+)(?=\.)", name)
    return (match[0], name[match.end() + 1 :]) if match else ("", name)


def _residual(rest: str) -> str:
    """A tensor inside a block under the residual part's names; others keep theirs."""
    old = next((old for old in RESNET if rest.startswith(f"{old}.")), None)
    return rest if old is None else RESNET[old] + rest[len(old) :]


def _is_projection(name: str) -> bool:
    return name.endswith(("proj_in.weight", "proj_out.weight"))


def _levels(names) -> int:
    """Input blocks of a level: where the first downsampling stands."""
    places = [int(match[1]) for name in names if (match := re.match(r"input_blocks\.(\d+)\.(?:0\.)?op\.", name))]
    return min(places, default=3)
