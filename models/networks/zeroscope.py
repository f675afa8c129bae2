"""The 3D UNet of ModelScope's text-to-video model and of its fine-tune Zeroscope v2: diffusers' module, asked as a host asks.

1.41 billion weights, eps prediction with Stable Diffusion's noise schedule, latents (B, 4, F, h, w) of its VAE frame by frame
(ModelScope Text-to-Video, Wang et al. 2023).
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from .foreign_unet import PLAIN, embody, missing_diffusers, skeleton


@functools.cache
def _network_class() -> type:
    try:
        from diffusers import UNet3DConditionModel
    except (ImportError, RuntimeError) as error:  # diffusers turns what goes wrong inside it into RuntimeError
        raise ValueError(missing_diffusers()) from error

    class VideoUNet(UNet3DConditionModel):
        """The library's forward under a host's argument names, computing in the dtype of its input."""

        stored = None  # dtype of the weights
        computing = None

        @property
        def dtype(self) -> torch.dtype:  # the library casts its time embedding to this, which float8 weights must not decide
            return self.computing or self.stored or next(self.parameters()).dtype

        def forward(self, x: Tensor, timesteps: Tensor, context: Tensor | None = None, control=None, transformer_options=None, **unused) -> Tensor:
            if control is not None:
                raise ValueError("A ControlNet is applied, and Zeroscope takes none. Remove the Apply ControlNet node from its conditioning.")
            self.computing = x.dtype
            try:
                return super().forward(x, timesteps, context, return_dict=False)[0]
            finally:
                self.computing = None

    return VideoUNet


def zeroscope_skeleton(config: dict) -> nn.Module:
    """The network with shapes only. `config`: arguments of diffusers' UNet3DConditionModel (`zeroscope_config` reads them)."""
    return skeleton(lambda: _network_class()(**config))


def build_zeroscope(config: dict, operations=PLAIN, device=None, dtype=None) -> nn.Module:
    """The network on the layers of `operations` with unset weights; x (B, 4, F, h, w), timesteps (B,), context (B, 77, 1024)."""
    network = embody(zeroscope_skeleton(config), operations, device, dtype)
    network.stored = dtype
    return network
