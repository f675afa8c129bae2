"""Training of the recogniser that judges samples and distilled objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..metrics.recogniser import Recogniser
from ..networks.joint_scenes import LabelledPictures


@dataclass(frozen=True)
class RecogniserTrainingConfig:
    """`steps` batches; augmentation strengths in pixels of a 64-pixel picture."""

    steps: int = 2600
    batch: int = 64
    learning_rate: float = 2e-3
    blurred: float = 0.6  # share of the batches
    blur: float = 1.6  # largest standard deviation
    shift: int = 2
    noise: float = 0.04
    seed: int = 5


def augment(pictures: Tensor, config: RecogniserTrainingConfig, generator: Generator) -> Tensor:
    """Blur, shift, scale the brightness and add noise, as soft or slightly wrong samples would look."""
    shift = torch.randint(-config.shift, config.shift + 1, (2,), generator=generator).tolist()
    pictures = pictures.roll(shift, dims=(2, 3))
    draw = torch.rand(2, generator=generator).tolist()
    if draw[1] < config.blurred:
        pictures = blur(pictures, draw[0] * config.blur)
    gain = 1 + 0.16 * (torch.rand(len(pictures), 1, 1, 1, generator=generator) - 0.5)
    noise = torch.randn(pictures.shape, generator=generator) * float(torch.rand((), generator=generator)) * config.noise
    return (torch.cat([pictures[:, :3] * gain, pictures[:, 3:]], dim=1) + noise).clamp(0, 1)


def blur(pictures: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of pictures (B, 4, H, W) on nothing; `sigma` in pixels, below .3 no change."""
    if sigma <= 0.3:
        return pictures
    kernel = torch.exp(-0.5 * (torch.arange(-4, 5).float() / sigma) ** 2)
    kernel = kernel / kernel.sum()
    for shape in ((1, 1, 9, 1), (1, 1, 1, 9)):
        padding = (shape[2] // 2, shape[3] // 2)
        pictures = F.conv2d(pictures, kernel.view(shape).expand(4, 1, -1, -1), padding=padding, groups=4)
    return pictures


def recogniser_loss(network: Recogniser, batch: LabelledPictures) -> Tensor:
    """Cross entropies of the names plus the squared error of the time."""
    phenomenon, species, colour, time = network(batch.pictures)
    names = F.cross_entropy(phenomenon, batch.phenomenon) + F.cross_entropy(species, batch.species) + F.cross_entropy(colour, batch.colour)
    return names + 10 * F.mse_loss(time, batch.times)


def train_recogniser(
    network: Recogniser,
    sample: Callable[[Generator, int], LabelledPictures],
    config: RecogniserTrainingConfig,
    callback: Callable[[int, float], None],
) -> None:
    """Train `network` in place; `callback(step, loss)` after each step."""
    network.to(memory_format=torch.channels_last)  # faster on a processor
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=config.steps)
    for step in range(config.steps):
        generator = Generator().manual_seed(config.seed * 1000003 + step)
        batch = sample(generator, config.batch)
        batch = LabelledPictures(augment(batch.pictures, config, generator), batch.phenomenon, batch.species, batch.colour, batch.times)
        loss = recogniser_loss(network, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        callback(step + 1, loss.item())
