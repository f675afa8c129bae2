"""Deterministic sampling of the embedded prior outside the host: for training sheets, for judging its weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Callable

import torch
from torch import Tensor

from .joint_prior import JointPrior
from .patch_codec import PatchCodec
from .prior_conditioning import Frame, camera_code, condition_vector, thumbnail, time_code, wrap_angle
from .text_encoder import TextEncoder


@dataclass(frozen=True)
class Views:
    """What S scenes of V pictures are told beside their text; None is not told. Angles in radians, (S, V) each."""

    frames: int
    azimuth: Tensor | None = None
    elevation: Tensor | None = None
    times: Tensor | None = None
    camera_frame: Frame = Frame.ABSOLUTE
    time_frame: Frame = Frame.ABSOLUTE
    clean: Tensor | None = None  # (S, V) bool
    pictures: Tensor | None = None  # (S, V, 4, H, W), read where `clean`

    def to(self, device: torch.device) -> "Views":
        """The same views with every tensor on `device`."""
        return replace(self, **{name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)})


@dataclass(frozen=True)
class PriorSampler:
    """The three networks of a prior file and a tokeniser, sampled by DDIM (Song et al., eq. 12 with eta 0).

    Works where the networks lie, all on one device; noise is drawn on the CPU, so a seed means the same everywhere.
    """

    denoiser: JointPrior
    text: TextEncoder
    codec: PatchCodec
    tokenise: Callable[[tuple[str, ...]], Tensor]
    alpha_bar: Tensor  # (1000,)

    @property
    def device(self) -> torch.device:
        return self.codec.mean.device

    @torch.no_grad()
    def sample(self, prompts: tuple[str, ...], views: Views, guidance: float = 1.5, steps: int = 16, seed: int = 0) -> Tensor:
        """One picture per frame: premultiplied RGBA (S, V, 4, H, W)."""
        scenes, frames, views = len(prompts), views.frames, views.to(self.device)
        config = self.denoiser.config
        noise = self._noise((scenes * frames, config.latent_channels, config.latent_size, config.latent_size), seed)
        asked = self._told(prompts, views)
        blind = self._told(("",) * scenes, views) if guidance != 1.0 else None
        latents = self._clean_latents(views, noise)
        result = self._ddim(noise, asked, blind, views.clean, latents, frames, guidance, steps)
        return self.codec.decode_rgba(result).unflatten(0, (scenes, frames))

    @torch.no_grad()
    def denoise_once(self, prompts: tuple[str, ...], views: Views, pictures: Tensor, timestep: int, seed: int = 0) -> Tensor:
        """x0 estimate of `pictures` (S, V, 4, H, W) from one noise level, as pictures of the same shape."""
        views = views.to(self.device)
        latents = self.codec.encode(pictures.flatten(0, 1).to(self.device))
        noise = self._noise(latents.shape, seed)
        signal = self.alpha_bar[timestep]
        noisy = signal.sqrt() * latents + (1 - signal).sqrt() * noise
        clean = self._clean_latents(views, noise)
        noisy = noisy if clean is None else torch.where(views.clean.flatten()[:, None, None, None], clean, noisy)
        predicted = self._predict(noisy, timestep, self._told(prompts, views), views.clean, views.frames)
        return self.codec.decode_rgba(predicted).unflatten(0, pictures.shape[:2])

    def _noise(self, shape: tuple[int, ...], seed: int) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(self.device)

    def _ddim(self, noise, asked, blind, clean, latents, frames, guidance, steps) -> Tensor:
        rows = None if clean is None else clean.flatten()[:, None, None, None]
        hold = lambda x: x if rows is None else torch.where(rows, latents, x)  # noqa: E731
        levels = torch.linspace(len(self.alpha_bar) - 1, 0, steps + 1).round().long()
        x = hold(noise)
        for now, after in zip(levels[:-1].tolist(), levels[1:].tolist()):
            predicted = self._predict(x, now, asked, clean, frames)
            if blind is not None:
                unasked = self._predict(x, now, blind, clean, frames)
                predicted = unasked + guidance * (predicted - unasked)
            signal = self.alpha_bar[now]
            following = self.alpha_bar[after] if after > 0 else torch.ones(())
            direction = (x - signal.sqrt() * predicted) / (1 - signal).sqrt()
            x = hold(following.sqrt() * predicted + (1 - following).sqrt() * direction)
        return x

    def _predict(self, x: Tensor, timestep: int, told: tuple[Tensor, Tensor], clean: Tensor | None, frames: int) -> Tensor:
        timesteps = x.new_full((x.shape[0],), float(timestep))
        if clean is not None:
            timesteps = timesteps.masked_fill(clean.flatten(), 0.0)
        return self.denoiser(x, timesteps, *told, frames, clean)

    def _told(self, prompts: tuple[str, ...], views: Views) -> tuple[Tensor, Tensor]:
        """Context (S*V, L, D) and condition vectors (S*V, Y)."""
        scenes, frames = len(prompts), views.frames
        hidden, pooled = self.text(self.tokenise(prompts).to(self.device))
        spread = lambda value: value.repeat_interleave(frames, dim=0)  # noqa: E731
        clean = torch.zeros(scenes, frames, dtype=torch.bool, device=self.device) if views.clean is None else views.clean
        reference = None if views.pictures is None else spread(self._thumbnails(views))
        condition = condition_vector(self._camera(views, scenes, clean), self._time(views, scenes, clean), clean.flatten(), reference, spread(pooled))
        return spread(hidden), condition

    def _camera(self, views: Views, scenes: int, clean: Tensor) -> Tensor:
        count = scenes * views.frames
        if views.azimuth is None:
            return camera_code(*torch.zeros(3, count, device=self.device))
        azimuth, elevation = (_related(value.expand(scenes, -1), views.camera_frame, clean) for value in (views.azimuth, views.elevation))
        return camera_code(wrap_angle(azimuth), elevation, torch.full((count,), int(views.camera_frame)))

    def _time(self, views: Views, scenes: int, clean: Tensor) -> Tensor:
        count = scenes * views.frames
        if views.times is None:
            return time_code(*torch.zeros(2, count, device=self.device))
        times = _related(views.times.expand(scenes, -1), views.time_frame, clean)
        return time_code(times, torch.full((count,), int(views.time_frame)))

    @staticmethod
    def _thumbnails(views: Views) -> Tensor:
        first = views.clean.int().argmax(1)
        return thumbnail(views.pictures[torch.arange(len(first)), first]) * views.clean.any(1, keepdim=True)

    def _clean_latents(self, views: Views, like: Tensor) -> Tensor | None:
        return None if views.clean is None else self.codec.encode(views.pictures.flatten(0, 1)).view_as(like)


def _related(values: Tensor, frame: Frame, clean: Tensor) -> Tensor:
    """Flattened (S*V,), as differences to the first clean frame (or frame 0) when `frame` is relative."""
    if frame is Frame.RELATIVE:
        values = values - values.gather(1, clean.int().argmax(1, keepdim=True))
    return values.flatten()
