"""Density activations: a softplus over the decoder's output plus a blob that starts every scene as a soft ball."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class DensityBlob:
    """sigma = scale * softplus(gain * m + blob(|x|) + bias), m the decoder's output.

    `shape` "cone": blob = height * (1 - |x| / radius) (Magic3D, the default of threestudio); "gaussian":
    height * exp(-|x|^2 / (2 radius^2)) (DreamFusion). `radius` may be scheduled (4D-fy lets it grow in its last stage).
    """

    shape: str = "cone"
    height: float = 10.0
    radius: float = 0.5
    bias: float = 0.0
    gain: float = 1.0
    scale: float = 1.0

    def __post_init__(self):
        if self.shape not in ("cone", "gaussian"):
            raise ValueError(f'Density blob "{self.shape}" is unknown. Choose "cone" or "gaussian".')
        if not (self.radius > 0 and self.scale > 0):
            raise ValueError("A density blob's radius and scale must be above 0.")

    def density(self, decoded: Tensor, positions: Tensor, radius: float) -> Tensor:
        """Densities (M,) from decoder outputs (M,) at `positions` (M, 3)."""
        squared = positions.square().sum(dim=-1)
        if self.shape == "cone":
            blob = self.height - (self.height / radius) * squared.clamp_min(1e-12).sqrt()  # the root's slope at 0 is infinite
        else:
            blob = self.height * torch.exp(squared / (-2.0 * radius * radius))
        return F.softplus(self.gain * decoded + (blob + self.bias)) * self.scale


MAGIC3D_BLOB = DensityBlob()
DREAMFUSION_BLOB = DensityBlob(shape="gaussian")
DEMO_BLOB = DensityBlob(height=5.0, radius=0.55, bias=-1.0, gain=4.0, scale=8.0)
