"""What one training step of the embedded prior sees: scenes in every role, what is told about them, clean frames, noise levels.

A batch holds numbers of pictures and small tensors only, so other processes can prepare it while the pictures stay on the GPU.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Callable, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..networks.joint_prior import TIMESTEPS
from ..networks.joint_scenes import JointScenes
from ..networks.prior_conditioning import Frame, camera_code, time_code, wrap_angle

Tokenise = Callable[[tuple[str, ...]], Tensor]


@dataclass(frozen=True)
class PriorTrainingConfig:
    """What `launch.py train prior` does; `steps` of `frames_per_batch` pictures each."""

    steps: int = 24000
    frames_per_batch: int = 32
    learning_rate: float = 1e-3
    warmup: int = 200
    final_rate: float = 0.0  # of the learning rate, at the end of the cosine
    weight_decay: float = 0.01
    clip: float = 1.0
    average: float = 0.998  # of the exponential moving average
    largest_weight: float = 25.0  # of the v-space loss
    clean_scenes: float = 0.5  # share of joint scenes with a clean frame
    text_drop: float = 0.1
    text_drop_with_clean: float = 0.6
    mixed_noise: float = 0.25  # share of joint scenes whose frames have noise levels of their own
    seed: int = 0

    def as_dict(self) -> dict:
        return asdict(self)


class SceneSource(Protocol):
    """What the prior is trained on; `models/data/prior_dataset.py` has one."""

    def sample(self, generator: torch.Generator, pictures: int) -> JointScenes: ...

    def look(self, where: Tensor) -> Tensor: ...  # (N,) -> (N, 4, H, W)


@dataclass(frozen=True)
class Batch:
    """One step's scenes and all that is drawn for them but the noise."""

    where: Tensor  # (S*V,) of the pictures
    camera: Tensor  # (S*V, 12)
    time: Tensor  # (S*V, 9)
    clean: Tensor  # (S, V) bool
    timesteps: Tensor  # (S, V) int64
    tokens: Tensor  # (S, 77)
    keep_text: Tensor  # (S,) 0 or 1
    seed: int  # of the noise

    def to(self, device) -> "Batch":
        return Batch(**{name: value.to(device) if isinstance(value, Tensor) else value for name, value in vars(self).items()})


class Batches(Dataset):
    """The batch of each step from `first` on; a step's batch depends on the seed, its number and the process only."""

    def __init__(self, source: SceneSource, tokenise: Tokenise, config: PriorTrainingConfig, first: int, process: int):
        self.source, self.tokenise, self.config, self.first, self.process = source, tokenise, config, first, process

    def __len__(self) -> int:
        return max(self.config.steps - self.first, 0)

    def __getitem__(self, index: int) -> Batch:
        seed = (self.config.seed * 1000003 + self.first + index) * 64 + self.process
        generator = torch.Generator().manual_seed(seed)
        scenes = self.source.sample(generator, self.config.frames_per_batch)
        clean = choose_clean(scenes.scenes, scenes.frames, self.config.clean_scenes, generator)
        camera, time_codes = tell(scenes, clean, generator)
        timesteps = draw_timesteps(clean, self.config.mixed_noise, generator)
        prompts, keep_text = drop_text(scenes, clean, self.config, generator)
        return Batch(scenes.where, camera, time_codes, clean, timesteps, self.tokenise(prompts), keep_text, seed)


def choose_clean(scenes: int, frames: int, share: float, generator: torch.Generator) -> Tensor:
    """Which frames are given clean, (S, V) bool: none for single pictures, else one frame (15 % two) in `share` of the scenes."""
    if frames == 1:
        return torch.zeros(scenes, 1, dtype=torch.bool)
    order = torch.rand(scenes, frames, generator=generator).argsort(dim=1)
    first = torch.rand(scenes, generator=generator) < 0.3  # image-to-video starts from the first frame
    order[first, 0] = 0
    count = 1 + (torch.rand(scenes, generator=generator) < 0.15).int()
    count = count * (torch.rand(scenes, generator=generator) < share)
    clean = torch.zeros(scenes, frames, dtype=torch.bool)
    clean[torch.arange(scenes), order[:, 0]] = count > 0
    clean[torch.arange(scenes), order[:, 1]] |= count > 1
    return clean


def choose_frame(scenes: int, absolute: float, relative: float, generator: torch.Generator) -> Tensor:
    """Per scene whether cameras (or times) are told absolutely, relatively or not at all, (S,) of `Frame`."""
    draw = torch.rand(scenes, generator=generator)
    return torch.where(draw < absolute, int(Frame.ABSOLUTE), torch.where(draw < absolute + relative, int(Frame.RELATIVE), int(Frame.ABSENT)))


def tell(scenes: JointScenes, clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw how cameras and times are told: codes (S*V, 12) and (S*V, 9). Relative ones are differences to the first clean frame, or to frame 0."""
    count, frames = clean.shape
    single = frames == 1
    camera_frame = choose_frame(count, 0.5 if single else 0.65, 0.0 if single else 0.25, generator)
    time_frame = choose_frame(count, 0.5, 0.0 if single else 0.4, generator)
    reference = clean.int().argmax(dim=1)  # 0 when none is clean
    scene_frame = lambda kind: kind[:, None].expand(count, frames)  # noqa: E731

    def relate(values: Tensor, kind: Tensor) -> Tensor:
        grid = values.view(count, frames)
        difference = grid - grid.gather(1, reference[:, None])
        return torch.where(scene_frame(kind) == Frame.RELATIVE, difference, grid).flatten()

    azimuth, elevation = wrap_angle(relate(scenes.azimuth, camera_frame)), relate(scenes.elevation, camera_frame)
    camera = camera_code(azimuth, elevation, scene_frame(camera_frame).flatten())
    return camera, time_code(relate(scenes.times, time_frame), scene_frame(time_frame).flatten())


def draw_timesteps(clean: Tensor, mixed: float, generator: torch.Generator) -> Tensor:
    """Noise levels (S, V): high levels more often, most often where a clean frame leaves shape to be inferred; 0 for clean frames."""
    scenes, frames = clean.shape
    own = (torch.rand(scenes, generator=generator) < mixed)[:, None]
    shared = torch.rand(scenes, 1, generator=generator).expand(scenes, frames)
    draw = torch.where(own, torch.rand(scenes, frames, generator=generator), shared)
    power = torch.where(clean.any(1, keepdim=True), 0.45, 0.75)
    return ((draw**power) * TIMESTEPS).long().clamp_max(TIMESTEPS - 1).masked_fill(clean, 0)


def drop_text(scenes: JointScenes, clean: Tensor, config: PriorTrainingConfig, generator: torch.Generator) -> tuple[tuple[str, ...], Tensor]:
    """Prompts of which some become empty, and a factor (S,) that zeroes a fifth of those: hosts say "no text" in both ways."""
    share = torch.where(clean.any(1), config.text_drop_with_clean, config.text_drop)
    dropped = torch.rand(scenes.scenes, generator=generator) < share
    zeroed = dropped & (torch.rand(scenes.scenes, generator=generator) < 0.2)
    return tuple("" if drop else prompt for prompt, drop in zip(scenes.prompts, dropped)), (~zeroed).float()
