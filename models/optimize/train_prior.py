"""Training of the embedded prior: denoise joint scenes in every role at once.

Roles are mixed by the layout of the scenes (images, views, videos, grids) and by what each scene is told: text, absolute or
relative cameras and times, clean frames. x0 output, loss in v space (x0 error over the noise's share, clamped), zero-terminal
SNR; the recipe was found by experiments on this data, its numbers are in the weights' card.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Callable

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..networks.joint_prior import JointPrior, alpha_bar
from ..networks.patch_codec import PatchCodec
from ..networks.prior_conditioning import condition_vector, thumbnail
from ..networks.text_encoder import TextEncoder
from .distributed import accelerator
from .prior_batches import Batch, Batches, PriorTrainingConfig, SceneSource, Tokenise
from .workpiece import MOST_SKIPPED


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


def reference_thumbnails(pictures: Tensor, clean: Tensor) -> Tensor | None:
    """Of each scene's first clean frame, (S, 256), zeros where it has none; None when no scene has one. pictures (S*V, 4, H, W)."""
    if clean.shape[1] == 1:
        return None
    chosen = pictures.unflatten(0, clean.shape)[torch.arange(len(clean), device=clean.device), clean.int().argmax(1)]
    return thumbnail(chosen) * clean.any(1, keepdim=True)


def training_loss(networks: nn.Module, codec: PatchCodec, pictures: Tensor, batch: Batch, bar: Tensor, config: PriorTrainingConfig) -> Tensor:
    """v-space error of the noisy frames of one batch (Salimans and Ho, "Progressive distillation", section 4; x0 output).

    pictures (S*V, 4, H, W), the batch and `bar` are on one device.
    """
    clean, timesteps = batch.clean.flatten(), batch.timesteps.flatten()
    with torch.autocast(pictures.device.type, enabled=False):
        latents = codec.encode(pictures)
    noise = torch.randn(latents.shape, generator=torch.Generator(latents.device).manual_seed(batch.seed), device=latents.device)
    signal = bar[timesteps][:, None, None, None]
    noisy = torch.where(clean[:, None, None, None], latents, signal.sqrt() * latents + (1 - signal).sqrt() * noise)
    told = Told(batch.camera, batch.time, batch.clean, reference_thumbnails(pictures, batch.clean))
    predicted = networks(noisy, timesteps.float(), batch.tokens, batch.keep_text, told, batch.clean.shape[1]).float()
    error = (predicted - latents).square().mean(dim=(1, 2, 3))
    weight = (1 / (1 - bar[timesteps]).clamp_min(1 / config.largest_weight)).masked_fill(clean, 0)
    return (error * weight).sum() / (~clean).sum().clamp_min(1)


def learning_rate(step: int, config: PriorTrainingConfig, time_share: float = 0.0) -> float:
    """Linear warm-up, then one cosine to `final_rate`; `time_share` of the time allowed is over, which may bring it down earlier."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    progress = min(max((step - config.warmup) / max(config.steps - config.warmup, 1), time_share), 1.0)
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
    """A state at step 0, on the networks' device; `average` is a second instance of the same networks."""
    average.load_state_dict(networks.state_dict())
    average.requires_grad_(False)
    fused = next(networks.parameters()).is_cuda
    optimizer = torch.optim.AdamW(networks.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay, fused=fused)
    return PriorTrainingState(networks, average, optimizer)


def train_prior(
    state: PriorTrainingState,
    codec: PatchCodec,
    source: SceneSource,
    tokenise: Tokenise,
    config: PriorTrainingConfig,
    callback: Callable[[PriorTrainingState, Tensor, float], None],
    until: float | None = None,
    workers: int = 0,
    anneal: bool = False,
) -> None:
    """Train `state` up to `config.steps`, or up to the clock time `until` (seconds since the epoch).

    With `anneal` the learning rate ends its cosine by that time; else a later call goes on with it. `tokenise(prompts)` gives
    (S, 77) ids; `workers` processes prepare batches; `callback(state, loss, rate)` runs after each step on every process, with
    a loss that may still be under way on its device. Each step draws from a generator of its own, so a resumed run continues
    exactly. Raises ValueError when no step had finite gradients for a while.
    """
    machine = accelerator()
    networks, optimizer = machine.prepare(state.networks, state.optimizer)
    codec, bar, began = codec.to(machine.device), alpha_bar().to(machine.device), time.time()
    batches = DataLoader(Batches(source, tokenise, config, state.step, machine.process_index), batch_size=None, num_workers=workers)
    skipped = 0
    for batch in batches:
        if until is not None and time.time() >= until:
            break
        rate = learning_rate(state.step, config, (time.time() - began) / (until - began) if anneal else 0.0)
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = batch.to(machine.device)
        pictures = source.look(batch.where).to(machine.device)
        with machine.autocast():
            loss = training_loss(networks, codec, pictures, batch, bar, config)
        optimizer.zero_grad()
        machine.backward(loss)
        norm = machine.clip_grad_norm_(networks.parameters(), config.clip)
        skipped = 0 if torch.isfinite(norm) else skipped + 1  # one step that is no number would be the end of all weights
        if skipped > MOST_SKIPPED:
            raise ValueError(f"{skipped} steps in a row, up to step {state.step}, had gradients that are not finite. Go on from the last checkpoint with a lower learning_rate (now {config.learning_rate}).")
        if not skipped:
            optimizer.step()
        state.step += 1
        _average(state, config)
        callback(state, loss.detach(), rate)


def _average(state: PriorTrainingState, config: PriorTrainingConfig) -> None:
    decay = min(config.average, (1 + state.step) / (10 + state.step))
    with torch.no_grad():
        torch._foreach_lerp_(list(state.average.parameters()), list(state.networks.parameters()), 1 - decay)
