"""DeepFloyd IF, stage I: a UNet on pixels of 64 x 64, told by T5-XXL text; diffusers' module, asked as a host asks.

eps prediction with the cosine noise schedule over 1000 steps; six channels come out, of which the last three are a variance that
distillation does not need. Sizes M, L and XL of 0.4, 0.9 and 4.3 billion weights (DeepFloyd IF, 2023).
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from .foreign_unet import PLAIN, embody, missing_diffusers, skeleton


@functools.cache
def _network_class() -> type:
    try:
        from diffusers import UNet2DConditionModel
    except (ImportError, RuntimeError) as error:
        raise ValueError(missing_diffusers()) from error

    class PixelUNet(UNet2DConditionModel):
        """The library's forward under a host's argument names: the noise estimate without the variance."""

        stored = None

        @property
        def dtype(self) -> torch.dtype:
            return self.stored or next(self.parameters()).dtype

        def forward(self, x: Tensor, timesteps: Tensor, context: Tensor | None = None, control=None, transformer_options=None, **unused) -> Tensor:
            if control is not None:
                raise ValueError("A ControlNet is applied, and DeepFloyd IF takes none. Remove the Apply ControlNet node from its conditioning.")
            return super().forward(x, timesteps, context, return_dict=False)[0][:, : x.shape[1]]

    return PixelUNet


def deepfloyd_skeleton(config: dict) -> nn.Module:
    """The network with shapes only. `config`: arguments of diffusers' UNet2DConditionModel (`deepfloyd_config` reads them)."""
    return skeleton(lambda: _network_class()(**config))


def build_deepfloyd(config: dict, operations=PLAIN, device=None, dtype=None) -> nn.Module:
    """The network on the layers of `operations` with unset weights; x (B, 3, 64, 64), timesteps (B,), context (B, 77, 4096)."""
    network = embody(deepfloyd_skeleton(config), operations, device, dtype)
    network.stored = dtype
    return network
