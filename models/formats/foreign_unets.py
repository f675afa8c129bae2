"""Weight files of foreign UNets: what a file is by its names, its configuration by its shapes, and other layouts of the names.

Nothing here trusts a description in a file: layers are counted by the tensors that are there, so that a network is never larger
than its file says.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Wanted:
    """A kind of file for messages: what it is for, the names by which people find it, its folder, licence and place."""

    title: str
    file: str
    licence: str
    link: str
    folder: str = "diffusion_models"

    def advice(self) -> str:
        """Where the right file is and belongs, as a sentence."""
        return f"Get {self.file} ({self.link}, licence {self.licence}) and put it into ComfyUI's folder models/{self.folder}."


ZEROSCOPE = Wanted(
    title="Zeroscope v2 or ModelScope text-to-video",
    file="the folder zeroscope_v2_576w with unet, text_encoder and vae",
    licence="CC-BY-NC-4.0, not for commercial use",
    link="https://huggingface.co/cerspense/zeroscope_v2_576w",
)
DEEPFLOYD = Wanted(
    title="DeepFloyd IF stage I",
    file="unet/diffusion_pytorch_model.safetensors of IF-I-XL-v1.0 (or IF-I-L, IF-I-M)",
    licence="DeepFloyd IF License Agreement, to be accepted there",
    link="https://huggingface.co/DeepFloyd/IF-I-XL-v1.0",
)

MARKS = (  # what only one kind of file has, the most telling first
    ("transformer_in.proj_in.weight", ZEROSCOPE.title),
    ("input_blocks.0.1.proj_in.weight", ZEROSCOPE.title),
    ("add_embedding.pool.positional_embedding", "a DeepFloyd IF UNet"),
    ("camera_embed.0.weight", "an MVDream model"),
    ("model.diffusion_model.input_blocks.0.0.weight", "a whole checkpoint of the Stable Diffusion family"),
    ("encoder.block.0.layer.0.SelfAttention.q.weight", "a T5 text encoder"),
    ("text_model.embeddings.token_embedding.weight", "a CLIP text encoder"),
    ("transformer.resblocks.0.ln_1.weight", "an OpenCLIP text encoder"),
    ("decoder.conv_in.weight", "a VAE"),
    ("decoder.conv_out.weight", "a VAE"),
    ("down_blocks.0.motion_modules.0.temporal_transformer.norm.weight", "an AnimateDiff motion module"),
    ("time_embedding.linear_1.weight", "a picture UNet of the Stable Diffusion family"),
    ("input_blocks.0.0.weight", "a picture UNet of the Stable Diffusion family"),
)
LORA = re.compile(r"(lora_(up|down|A|B)\b|\.lora\.)")


def recognise(names: Collection[str]) -> str:
    """What kind of weight file has these tensor names, in words; "a file of something else" when nothing tells."""
    if any(LORA.search(name) for name in names):
        return "a LoRA"
    bare = {name.removeprefix("model.diffusion_model.") for name in names} | set(names)
    return next((title for mark, title in MARKS if mark in bare), "a file of something else")


def check_kind(tensors: Mapping[str, Tensor], wanted: Wanted, mark: str, file: str) -> None:
    """ValueError unless a file has the tensor that tells its kind."""
    if mark not in tensors:
        raise ValueError(f"{file} is {recognise(tensors)} and not {wanted.title}: it has no {mark}. {wanted.advice()}")


def check_tensors(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], wanted: Wanted, file: str) -> None:
    """ValueError when tensors of the network are missing in a file or have another shape; it names the first ones."""
    missing = [name for name in expected if name not in tensors]
    if missing:
        first = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise ValueError(f"{file} lacks {len(missing)} of the {len(expected)} tensors of {wanted.title} ({first}). It is a part of the model or was cut off while it was copied. {wanted.advice()}")
    for name, value in expected.items():
        if tensors[name].shape != value.shape:
            raise ValueError(f"{file} is no {wanted.title}: {name} is {_size(tensors[name])} and should be {_size(value)}. {wanted.advice()}")


def zeroscope_config(tensors: Mapping[str, Tensor], file: str) -> dict:
    """Arguments of diffusers' UNet3DConditionModel for a file in its layout; ValueError when it is something else."""
    check_kind(tensors, ZEROSCOPE, "transformer_in.proj_in.weight", file)
    need = lambda name: _tensor(tensors, name, ZEROSCOPE, file)  # noqa: E731
    blocks = count(tensors, "down_blocks")
    attends = [f"down_blocks.{i}.attentions.0.norm.weight" in tensors for i in range(blocks)]
    down = tuple("CrossAttnDownBlock3D" if has else "DownBlock3D" for has in attends)
    up = tuple("CrossAttnUpBlock3D" if has else "UpBlock3D" for has in reversed(attends))
    config = {
        "in_channels": need("conv_in.weight").shape[1],
        "out_channels": need("conv_out.weight").shape[0],
        "down_block_types": down,
        "up_block_types": up,
        "block_out_channels": tuple(need(f"down_blocks.{i}.resnets.0.conv1.weight").shape[0] for i in range(blocks)),
        "layers_per_block": count(tensors, "down_blocks.0.resnets"),
        "cross_attention_dim": need("mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight").shape[1],
        "attention_head_dim": need("transformer_in.proj_in.weight").shape[0] // 8,  # of its 8 heads
    }
    _check_widths(config, config["attention_head_dim"], ZEROSCOPE, file)
    return config


def deepfloyd_config(tensors: Mapping[str, Tensor], file: str) -> dict:
    """Arguments of diffusers' UNet2DConditionModel for stage I; ValueError when it is something else, stages II and III among it."""
    check_kind(tensors, DEEPFLOYD, "add_embedding.pool.positional_embedding", file)
    need = lambda name: _tensor(tensors, name, DEEPFLOYD, file)  # noqa: E731
    if (channels := need("conv_in.weight").shape[1]) != 3:
        raise ValueError(f"{file} is a later stage of DeepFloyd IF, which enlarges pictures: its first layer takes {channels} channels, stage I takes 3. {DEEPFLOYD.advice()}")
    blocks = count(tensors, "down_blocks")
    attends = [f"down_blocks.{i}.attentions.0.to_q.weight" in tensors for i in range(blocks)]
    config = {
        "sample_size": 64,
        "in_channels": 3,
        "out_channels": need("conv_out.weight").shape[0],
        "down_block_types": tuple("SimpleCrossAttnDownBlock2D" if has else "ResnetDownsampleBlock2D" for has in attends),
        "up_block_types": tuple("SimpleCrossAttnUpBlock2D" if has else "ResnetUpsampleBlock2D" for has in reversed(attends)),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "block_out_channels": tuple(need(f"down_blocks.{i}.resnets.0.conv1.weight").shape[0] for i in range(blocks)),
        "layers_per_block": count(tensors, "down_blocks.0.resnets"),
        "cross_attention_dim": need("mid_block.attentions.0.add_k_proj.weight").shape[1],
        "encoder_hid_dim": need("encoder_hid_proj.weight").shape[1],
        "attention_head_dim": 64,
        "addition_embed_type": "text",
        "cross_attention_norm": "group_norm",
        "resnet_time_scale_shift": "scale_shift",
        "act_fn": "gelu",
    }
    _check_widths({**config, "block_out_channels": config["block_out_channels"][1:]}, 64, DEEPFLOYD, file)  # the first block attends to nothing
    return config


def count(names: Collection[str], place: str) -> int:
    """How many numbered parts there are below a place: down_blocks.0, down_blocks.1, ... without a gap."""
    numbers = {int(match[1]) for name in names if (match := re.match(re.escape(place) + r"\.(\d{1,3})\.", name))}
    return next(number for number in range(len(numbers) + 1) if number not in numbers)


def _check_widths(config: dict, head: int, wanted: Wanted, file: str) -> None:
    widths = config["block_out_channels"]
    if not widths or not config["layers_per_block"] or head < 1 or any(width % head or width % 32 for width in widths):
        raise ValueError(f"{file} is no {wanted.title}: blocks of {', '.join(map(str, widths)) or 'no'} channels do not fit attention heads of {head}. {wanted.advice()}")


def _tensor(tensors: Mapping[str, Tensor], name: str, wanted: Wanted, file: str) -> Tensor:
    if name not in tensors or tensors[name].ndim < 2:
        raise ValueError(f"{file} is only a part of {wanted.title}: {name} is missing. {wanted.advice()}")
    return tensors[name]


def _size(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a single number"
