"""Sentences with what they say, for the first lessons of the embedded prior's text encoder."""

from __future__ import annotations

import math

import torch
from torch import Generator

from ..networks.joint_scenes import LabelledPrompts
from .prior_dataset import COLOUR_NAMES, SPECIES_NAMES, species_name
from .prompts import prompt, stage
from .styles import PHENOMENA, sample_style

STAGES, SIDES = 5, 8
LABEL_SIZES = {"phenomenon": len(PHENOMENA), "species": len(SPECIES_NAMES), "colour": len(COLOUR_NAMES), "stage": STAGES + 1, "side": SIDES + 1}
"""Number of answers per label; the last of "stage" and "side" is "not said"."""


def sample_prompts(generator: Generator, count: int) -> LabelledPrompts:
    """`count` training sentences; half of them say the stage, half the side that is seen."""
    sentences, labels = [], []
    for _ in range(count):
        draw = torch.rand(5, generator=generator).tolist()
        style = sample_style(PHENOMENA[int(draw[0] * len(PHENOMENA))], generator)
        time = draw[1] if draw[2] < 0.5 else None
        azimuth = draw[3] * 2 * math.pi if draw[4] < 0.5 else None
        sentences.append(prompt(style, time=time, azimuth=azimuth, generator=generator))
        side = SIDES if azimuth is None else round(azimuth / (2 * math.pi) * SIDES) % SIDES
        said = (PHENOMENA.index(style.phenomenon), SPECIES_NAMES.index(species_name(style)), COLOUR_NAMES.index(style.colour), STAGES if time is None else stage(time), side)
        labels.append(said)
    columns = torch.tensor(labels).T
    return LabelledPrompts(tuple(sentences), dict(zip(LABEL_SIZES, columns)))
