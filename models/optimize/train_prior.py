"""Training of the embedded prior: denoise joint scenes in every role at once.

Roles are mixed by the layout of the scenes (images, views, videos, grids) and by what each scene is told: text, absolute or
relative cameras and times, clean frames. x0 output, loss in v space (x0 error over the noise's share, clamped), zero-terminal
SNR; the recipe was found by experiments on this data, its numbers are in the weights' card.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import Callable

import torch
from torch import Tensor, nn

from ..networks.joint_prior import TIMESTEPS, JointPrior, alpha_bar
from ..networks.joint_scenes import JointScenes
from ..networks.patch_codec import PatchCodec
from ..networks.prior_conditioning import Frame, camera_code, condition_vector, thumbnail, time_code, wrap_angle
from ..networks.text_encoder import TextEncoder
from .distributed import accelerator

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


class PriorNetworks(nn.Module):
    """Denoiser and text encoder, trained together (one module, so that Accelerate wraps both)."""

    def __init__(self, denoiser: JointPrior, text: TextEncoder):
        super().__init__()
        self.denoiser, self.text = denoiser, text

    def forward(self, noisy, timesteps, tokens, keep_text, told: "Told", frames: int) -> Tensor:
        context, pooled = self.text(tokens)  # (S, L, D), (S, D)
        context, pooled = context * keep_text[:, None, None], pooled * keep_text[:, None]
        spread = lambda value: value.repeat_interleave(frames, dim=0)  # noqa: E731
        reference = None if told.reference is None else spread(told.reference)
        condition = condition_vector(told.camera, told.time, told.clean.flatten(), reference, spread(pooled))
        return self.denoiser(noisy, timesteps, spread(context), condition, frames, told.clean)


@dataclass(frozen=True)
class Told:
    """What the denoiser is told about S scenes of V pictures beside their text."""

    camera: Tensor  # (S*V, 12)
    time: Tensor  # (S*V, 9)
    clean: Tensor  # (S, V) bool
    reference: Tensor | None  # (S, 256) thumbnails, zeros where a scene has none


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


def tell(batch: JointScenes, clean: Tensor, generator: torch.Generator) -> Told:
    """Draw what each scene is told; relative values are differences to the first clean frame, or to frame 0."""
    scenes, frames = clean.shape
    single = frames == 1
    camera_frame = choose_frame(scenes, 0.5 if single else 0.65, 0.0 if single else 0.25, generator)
    time_frame = choose_frame(scenes, 0.5, 0.0 if single else 0.4, generator)
    reference = clean.int().argmax(dim=1)  # 0 when none is clean
    scene_frame = lambda kind: kind[:, None].expand(scenes, frames)  # noqa: E731

    def relate(values: Tensor, kind: Tensor) -> Tensor:
        grid = values.view(scenes, frames)
        difference = grid - grid.gather(1, reference[:, None])
        return torch.where(scene_frame(kind) == Frame.RELATIVE, difference, grid).flatten()

    azimuth, elevation = wrap_angle(relate(batch.azimuth, camera_frame)), relate(batch.elevation, camera_frame)
    camera = camera_code(azimuth, elevation, scene_frame(camera_frame).flatten())
    times = time_code(relate(batch.times, time_frame), scene_frame(time_frame).flatten())
    thumbnails = None
    if clean.any():
        chosen = batch.pictures.unflatten(0, (scenes, frames))[torch.arange(scenes), reference]
        thumbnails = thumbnail(chosen) * clean.any(1, keepdim=True)
    return Told(camera, times, clean, thumbnails)


def draw_timesteps(clean: Tensor, mixed: float, generator: torch.Generator) -> Tensor:
    """Noise levels (S, V): high levels more often, most often where a clean frame leaves shape to be inferred; 0 for clean frames."""
    scenes, frames = clean.shape
    own = (torch.rand(scenes, generator=generator) < mixed)[:, None]
    shared = torch.rand(scenes, 1, generator=generator).expand(scenes, frames)
    draw = torch.where(own, torch.rand(scenes, frames, generator=generator), shared)
    power = torch.where(clean.any(1, keepdim=True), 0.45, 0.75)
    return ((draw**power) * TIMESTEPS).long().clamp_max(TIMESTEPS - 1).masked_fill(clean, 0)


def drop_text(batch: JointScenes, clean: Tensor, config: PriorTrainingConfig, generator: torch.Generator) -> tuple[tuple[str, ...], Tensor]:
    """Prompts of which some become empty, and a factor (S,) that zeroes a fifth of those: hosts say "no text" in both ways."""
    share = torch.where(clean.any(1), config.text_drop_with_clean, config.text_drop)
    dropped = torch.rand(batch.scenes, generator=generator) < share
    zeroed = dropped & (torch.rand(batch.scenes, generator=generator) < 0.2)
    return tuple("" if drop else prompt for prompt, drop in zip(batch.prompts, dropped)), (~zeroed).float()


def training_loss(networks: nn.Module, codec: PatchCodec, batch: JointScenes, tokenise: Tokenise, bar: Tensor, config: PriorTrainingConfig, generator: torch.Generator) -> Tensor:
    """v-space error of the noisy frames of one batch (Salimans and Ho, "Progressive distillation", section 4; x0 output)."""
    device = bar.device
    clean = choose_clean(batch.scenes, batch.frames, config.clean_scenes, generator)
    told = tell(batch, clean, generator)
    timesteps = draw_timesteps(clean, config.mixed_noise, generator).flatten()
    prompts, keep_text = drop_text(batch, clean, config, generator)
    latents = codec.encode(batch.pictures)
    noise = torch.randn(latents.shape, generator=generator)
    move = lambda value: None if value is None else value.to(device)  # noqa: E731
    latents, noise, timesteps, clean_flat = move(latents), move(noise), move(timesteps), move(clean.flatten())
    signal = bar[timesteps][:, None, None, None]
    noisy = torch.where(clean_flat[:, None, None, None], latents, signal.sqrt() * latents + (1 - signal).sqrt() * noise)
    told = Told(move(told.camera), move(told.time), move(told.clean), move(told.reference))
    predicted = networks(noisy, timesteps.float(), move(tokenise(prompts)), move(keep_text), told, batch.frames).float()
    error = (predicted - latents).square().mean(dim=(1, 2, 3))
    weight = (1 / (1 - bar[timesteps]).clamp_min(1 / config.largest_weight)).masked_fill(clean_flat, 0)
    return (error * weight).sum() / (~clean_flat).sum().clamp_min(1)


def learning_rate(step: int, config: PriorTrainingConfig) -> float:
    """Linear warm-up, then one cosine to `final_rate`."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    progress = min((step - config.warmup) / max(config.steps - config.warmup, 1), 1.0)
    cosine = 0.5 * (1 + torch.cos(torch.tensor(progress * torch.pi)).item())
    return config.learning_rate * (config.final_rate + (1 - config.final_rate) * cosine)


@dataclass
class PriorTrainingState:
    """Everything a resumed run needs: `step` finished steps, averaged weights and Adam's moments."""

    networks: PriorNetworks
    average: PriorNetworks
    optimizer: torch.optim.Optimizer
    step: int = 0


def new_state(networks: PriorNetworks, average: PriorNetworks, config: PriorTrainingConfig) -> PriorTrainingState:
    """A state at step 0; `average` is a second instance of the same networks."""
    average.load_state_dict(networks.state_dict())
    average.requires_grad_(False)
    optimizer = torch.optim.AdamW(networks.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay)
    return PriorTrainingState(networks, average, optimizer)


def train_prior(
    state: PriorTrainingState,
    codec: PatchCodec,
    sample: Callable[[torch.Generator, int], JointScenes],
    tokenise: Tokenise,
    config: PriorTrainingConfig,
    callback: Callable[[PriorTrainingState, float, float], None],
    until: float | None = None,
) -> None:
    """Train `state` up to `config.steps`, or up to the clock time `until` (seconds since the epoch).

    `sample(generator, frames)` draws one batch of scenes, `tokenise(prompts)` gives (S, 77) ids, `callback(state, loss, rate)`
    runs after each step on every process. Each step draws from a generator of its own, so a resumed run continues exactly.
    """
    machine = accelerator()
    networks, optimizer = machine.prepare(state.networks, state.optimizer)
    state.average.to(machine.device)
    bar = alpha_bar().to(machine.device)
    while state.step < config.steps and (until is None or time.time() < until):
        generator = torch.Generator().manual_seed((config.seed * 1000003 + state.step) * 64 + machine.process_index)
        batch = sample(generator, config.frames_per_batch)
        rate = learning_rate(state.step, config)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with machine.autocast():
            loss = training_loss(networks, codec, batch, tokenise, bar, config, generator)
        optimizer.zero_grad()
        machine.backward(loss)
        machine.clip_grad_norm_(networks.parameters(), config.clip)
        optimizer.step()
        state.step += 1
        _average(state, config)
        callback(state, loss.item(), rate)


def with_steps(config: PriorTrainingConfig, steps: int) -> PriorTrainingConfig:
    """The same recipe stretched to `steps`."""
    return replace(config, steps=steps)


def _average(state: PriorTrainingState, config: PriorTrainingConfig) -> None:
    decay = min(config.average, (1 + state.step) / (10 + state.step))
    with torch.no_grad():
        for averaged, current in zip(state.average.parameters(), state.networks.parameters()):
            averaged.lerp_(current, 1 - decay)
