"""First lessons of the embedded prior's text encoder: say which phenomenon, species, colour, stage and side a sentence names.

Without them the denoiser, whose text input starts as noise, ignores the text for most of its training. The classifiers are
thrown away; the encoder goes on learning together with the denoiser.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from ..networks.joint_scenes import LabelledPrompts
from ..networks.text_encoder import TextEncoder


@dataclass(frozen=True)
class TextTrainingConfig:
    """`steps` batches of `batch` sentences."""

    steps: int = 700
    batch: int = 96
    learning_rate: float = 3e-3
    seed: int = 3


def train_text(
    encoder: TextEncoder,
    sizes: Mapping[str, int],
    sample: Callable[[Generator, int], LabelledPrompts],
    tokenise: Callable[[tuple[str, ...]], Tensor],
    config: TextTrainingConfig,
    callback: Callable[[int, float], None],
) -> dict[str, float]:
    """Train `encoder` in place; `sizes` is the number of answers per label. Returns the accuracy per label on the last 20 batches."""
    width = encoder.config.width
    heads = nn.ModuleDict({name: nn.Linear(width, size) for name, size in sizes.items()})
    parameters = [*encoder.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=config.steps)
    right = {name: [] for name in sizes}
    for step in range(config.steps):
        batch = sample(Generator().manual_seed(config.seed * 1000003 + step), config.batch)
        pooled = encoder(tokenise(batch.prompts))[1]
        answers = {name: head(pooled) for name, head in heads.items()}
        loss = sum(F.cross_entropy(answers[name], batch.labels[name]) for name in sizes)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        for name in sizes:
            right[name].append((answers[name].argmax(1) == batch.labels[name]).float().mean().item())
        callback(step + 1, loss.item())
    return {name: sum(values[-20:]) / len(values[-20:]) for name, values in right.items()}
