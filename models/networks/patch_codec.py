"""The embedded prior's "VAE": a fixed linear, half-whitened basis of picture patches.

Each 8x8 patch of premultiplied RGBA (256 numbers) becomes its strongest principal components, divided by the fourth root
of their variance: strong enough a lift that a squared error no longer ignores fine detail, not so strong that noise in the
last component weighs as much as shape. Encoding is one matrix, exactly differentiable; decoding is its pseudo-inverse,
followed by the removal of haze.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HAZE = 0.04  # what alpha is off by at both ends
FAINT = (0.06, 0.16)  # alpha fades out between: drawn objects have none below a fifth, the denoiser's noise has little else


@dataclass(frozen=True)
class PatchCodecConfig:
    """`patch` pixels per side and `channels` kept components."""

    patch: int = 8
    channels: int = 96

    def __post_init__(self):
        if not 1 <= self.patch <= 64 or not 1 <= self.channels <= 4 * self.patch**2:
            raise ValueError(f"a codec of patches of {self.patch} pixels cannot keep {self.channels} components: at most 64 pixels, and 4 x pixels^2 components")


class PatchCodec(nn.Module):
    """Pictures (B, 4, H, W), premultiplied RGBA in [0, 1], to latents (B, C, H/8, W/8) and back."""

    accepts_alpha = True

    def __init__(self, config: PatchCodecConfig = PatchCodecConfig()):
        super().__init__()
        self.config = config
        size = 4 * config.patch**2
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("basis", torch.eye(config.channels, size))  # orthonormal rows, strongest first
        self.register_buffer("scale", torch.ones(config.channels))
        self.register_buffer("variance", torch.ones(config.channels))  # of each latent channel over the fitted pictures

    @classmethod
    def fit(cls, pictures: Tensor, config: PatchCodecConfig = PatchCodecConfig()) -> "PatchCodec":
        """Principal components of all patches of `pictures` (N, 4, H, W); latents get unit overall variance."""
        codec = cls(config)
        patches = _patches(pictures.double(), config.patch)
        mean = patches.mean(0)
        covariance = torch.cov((patches - mean).T)
        variance, vectors = torch.linalg.eigh(covariance)
        variance, vectors = variance.flip(0)[: config.channels].clamp_min(1e-12), vectors.flip(1)[:, : config.channels]
        vectors = vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()  # one sign for every machine
        quarter = variance**0.25
        unit = (variance / quarter**2).mean().sqrt()
        codec.mean, codec.basis, codec.scale = mean.float(), vectors.T.contiguous().float(), (quarter * unit).float()
        codec.variance = (variance / codec.scale.double() ** 2).float()
        return codec

    def encode(self, pictures: Tensor) -> Tensor:
        if pictures.shape[1] == 3:
            pictures = key_white(pictures)
        patch = self.config.patch
        flat = F.pixel_unshuffle(pictures, patch).movedim(1, -1)  # (B, h, w, 4*64)
        return (((flat - self.mean) @ self.basis.T) / self.scale).movedim(-1, 1)

    def decode_rgba(self, latents: Tensor) -> Tensor:
        """Latents to premultiplied RGBA (B, 4, H, W) in [0, 1], haze removed."""
        flat = (latents.movedim(1, -1) * self.scale) @ self.basis + self.mean
        picture = F.pixel_shuffle(flat.movedim(-1, 1), self.config.patch)
        drawn = ((picture[:, 3:] - FAINT[0]) / (FAINT[1] - FAINT[0])).clamp(0, 1)
        alpha = ((picture[:, 3:] - HAZE) / (1 - 2 * HAZE)).clamp(0, 1) * drawn**2 * (3 - 2 * drawn)
        rgb = picture[:, :3].clamp_min(0) * (alpha / picture[:, 3:].clamp_min(HAZE))  # keeps the straight colour
        return torch.cat([torch.minimum(rgb, alpha), alpha], dim=1)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to RGB over white (B, 3, H, W)."""
        picture = self.decode_rgba(latents)
        return picture[:, :3] + 1 - picture[:, 3:]


def key_white(pictures: Tensor) -> Tensor:
    """Premultiplied RGBA (B, 4, H, W) that shows `pictures` (B, 3, H, W) over white: a pixel's alpha rises with its distance from white."""
    alpha = ((1 - pictures.amin(dim=1, keepdim=True)) / 0.08).clamp(0, 1)
    return torch.cat([(pictures - (1 - alpha)).clamp_min(0), alpha], dim=1)


def _patches(pictures: Tensor, patch: int) -> Tensor:
    return F.pixel_unshuffle(pictures, patch).movedim(1, -1).flatten(0, 2)  # (N*h*w, 4*patch^2)
