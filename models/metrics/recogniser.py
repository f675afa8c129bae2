"""A small recogniser of the procedural objects: which phenomenon, species, colour and stage a picture shows.

It judges sampled and distilled pictures. It was trained on objects of its own (another seed, every colour pair), blurred and
shifted at random, so that a soft picture is not punished for softness here; sharpness has measures of its own.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from ..formats.configs import read_config, read_json
from ..formats.header import order_metadata
from ..formats.tensors import mismatch, promised, read_tensors

KIND = "bloom4d.recogniser"


@dataclass(frozen=True)
class RecogniserConfig:
    """Names behind the outputs, the widths of the four stages that halve the picture, and of the head."""

    phenomena: tuple[str, ...]
    species: tuple[str, ...]
    colours: tuple[str, ...]
    widths: tuple[int, ...] = (24, 40, 64, 96)
    hidden: int = 160

    def __post_init__(self):
        if not self.widths or not all(8 <= width <= 4096 and width % 8 == 0 for width in self.widths) or not 1 <= self.hidden <= 65536:
            raise ValueError("a recogniser's widths are multiples of 8 up to 4096 and its head has 1 to 65536 numbers")


@dataclass(frozen=True)
class Recognition:
    """What B pictures show: probabilities (B, number of names) and the stage (B,) in [0, 1]."""

    phenomenon: Tensor
    species: Tensor
    colour: Tensor
    time: Tensor


class Residual(nn.Module):
    """x + two 3x3 convolutions of it."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Recogniser(nn.Module):
    """Premultiplied RGBA (B, 4, 64, 64) to class logits and time; `recognise` gives probabilities."""

    def __init__(self, config: RecogniserConfig):
        super().__init__()
        self.config = config
        stages, channels = [], 4
        for index, width in enumerate(config.widths):
            stages += [nn.Conv2d(channels, width, 5 if index == 0 else 3, stride=2, padding=2 if index == 0 else 1)]
            stages += [Residual(width)] if index in (1, 2) else []
            channels = width
        self.stages = nn.Sequential(*stages, nn.GroupNorm(8, channels), nn.SiLU())
        self.sizes = (len(config.phenomena), len(config.species), len(config.colours), 1)
        self.head = nn.Sequential(nn.Linear(2 * channels, config.hidden), nn.SiLU(), nn.Linear(config.hidden, sum(self.sizes)))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        features = self.stages(pictures)  # (B, C, 4, 4)
        pooled = torch.cat([features.mean((2, 3)), features.amax((2, 3))], dim=1)
        phenomenon, species, colour, time = self.head(pooled).split(self.sizes, dim=1)
        return phenomenon, species, colour, time[:, 0]

    @torch.no_grad()
    def recognise(self, pictures: Tensor) -> Recognition:
        phenomenon, species, colour, time = self(_at_size(pictures, 64))
        return Recognition(phenomenon.softmax(1), species.softmax(1), colour.softmax(1), time.clamp(0, 1))


def save_recogniser(path: Path, network: Recogniser, card: dict[str, str]) -> None:
    """Write float16 weights with the configuration in the metadata (through a temporary name)."""
    unfinished = path.with_suffix(".part")
    metadata = {"kind": KIND, "format": "1", "config": json.dumps(asdict(network.config)), **card}
    unfinished.write_bytes(order_metadata(save({name: value.half().contiguous() for name, value in network.state_dict().items()}, metadata)))
    os.replace(unfinished, path)


def load_recogniser(path: Path) -> Recogniser:
    """Read a recogniser in float32 and evaluation mode; ValueError for another kind of file."""
    remedy = "Use the file written by `launch.py train recogniser`"
    try:
        tensors, metadata = read_tensors(path)
    except ValueError as error:
        raise ValueError(f"{error}. {remedy}.") from None
    if metadata.get("kind") != KIND:
        raise ValueError(f"{Path(path).name} is not a Bloom4D recogniser. {remedy}.")
    try:
        config = read_config(RecogniserConfig, read_json(metadata.get("config", "")))
        if problem := mismatch(tensors, promised(lambda: Recogniser(config))):
            raise ValueError(problem)
    except ValueError as error:
        raise ValueError(f"{Path(path).name} is a damaged recogniser: {error}. {remedy}.") from None
    network = Recogniser(config)
    network.load_state_dict({name: value.float() for name, value in tensors.items()})
    return network.eval().requires_grad_(False)


def _at_size(pictures: Tensor, size: int) -> Tensor:
    if pictures.shape[-1] == size:
        return pictures
    return F.interpolate(pictures, (size, size), mode="bilinear", align_corners=False, antialias=True)
