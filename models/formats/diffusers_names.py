"""diffusers' names of a Stable Diffusion UNet's tensors, turned into ldm's."""

import re

RESIDUAL = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
TOP = {"conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_norm_out": "out.0", "conv_out": "out.2"}
EXTRA = {
    "class_embedding.linear_1": "camera_embed.0", "class_embedding.linear_2": "camera_embed.2",
    "camera_embedding.linear_1": "camera_embed.0", "camera_embedding.linear_2": "camera_embed.2",
}  # fmt: skip
"""How converters of MVDream write the camera embedding; some keep its own name."""
_BLOCK = re.compile(r"(down_blocks|up_blocks)\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")


def is_diffusers(names) -> bool:
    """Whether a UNet's tensors carry diffusers' names."""
    return "conv_in.weight" in names and "time_embedding.linear_1.weight" in names


def ldm_names(names) -> dict[str, str]:
    """{diffusers name: ldm name} of a UNet's tensors; a name that is none of diffusers' stays as it is.

    Blocks per level and which levels attend are read off the names themselves.
    """
    names = list(names)
    blocks = {way: _counts(names, way, "resnets") for way in ("down_blocks", "up_blocks")}
    attending = {way: _counts(names, way, "attentions").keys() for way in ("down_blocks", "up_blocks")}
    return {name: _ldm_name(name, blocks, attending) for name in names}


def _counts(names: list[str], way: str, kind: str) -> dict[int, int]:
    """{level: number of such parts}."""
    found: dict[int, int] = {}
    for name in names:
        if (match := _BLOCK.fullmatch(name)) and match[1] == way and match[3] == kind:
            found[int(match[2])] = max(found.get(int(match[2]), 0), int(match[4]) + 1)
    return found


def _ldm_name(name: str, blocks: dict, attending: dict) -> str:
    if match := _BLOCK.fullmatch(name):
        return _in_level(*match.groups(), blocks=blocks, attending=attending)
    if match := _MIDDLE.fullmatch(name):
        kind, number, rest = match.groups()
        return f"middle_block.1.{rest}" if kind == "attentions" else f"middle_block.{2 * int(number)}.{_residual(rest)}"
    stem, _, leaf = name.rpartition(".")
    known = TOP | EXTRA
    return f"{known[stem]}.{leaf}" if stem in known else name


def _in_level(way: str, level: str, kind: str, number: str, rest: str, blocks: dict, attending: dict) -> str:
    """The name of a tensor on the way down (blocks, then a downsampler) or up (blocks, the last with an upsampler)."""
    level, number, counts = int(level), int(number), blocks[way]
    before = sum(counts.get(earlier, 0) for earlier in range(level))
    if way == "down_blocks":
        index = 1 + before + level + number  # an input convolution first, a downsampler after every level
        if kind == "downsamplers":
            return f"input_blocks.{index + counts[level]}.0.op.{rest.removeprefix('conv.')}"
        return f"input_blocks.{index}.1.{rest}" if kind == "attentions" else f"input_blocks.{index}.0.{_residual(rest)}"
    if kind == "upsamplers":
        return f"output_blocks.{before + counts[level] - 1}.{2 if level in attending[way] else 1}.{rest}"
    return f"output_blocks.{before + number}.1.{rest}" if kind == "attentions" else f"output_blocks.{before + number}.0.{_residual(rest)}"


def _residual(rest: str) -> str:
    part, _, leaf = rest.partition(".")
    return f"{RESIDUAL.get(part, part)}.{leaf}"
