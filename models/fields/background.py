"""What lies infinitely far behind an object: nothing, one colour, or a small network of the viewing direction."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .mlp import MLP, check_decoder


@dataclass(frozen=True)
class BackgroundConfig:
    """`kind` "none" (transparent), "solid" (`colour`, sRGB, fixed) or "network" (4D-fy: two hidden layers of 16)."""

    kind: str = "none"
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    hidden: int = 16
    layers: int = 2

    def __post_init__(self):
        if self.kind not in ("none", "solid", "network"):
            raise ValueError(f'Background "{self.kind}" is unknown. Choose "none", "solid" or "network".')
        check_decoder(self.hidden, self.layers)


class Background(nn.Module):
    """Colours (R, 3) in [0, 1] of unit directions (R, 3), or None when there is no background."""

    def __init__(self, config: BackgroundConfig, generator: torch.Generator):
        super().__init__()
        self.config = config
        self.network = MLP((9, *[config.hidden] * config.layers, 3), generator) if config.kind == "network" else None

    def forward(self, directions: Tensor) -> Tensor | None:
        if self.network is not None:
            return torch.sigmoid(self.network(spherical_harmonics(directions)))
        if self.config.kind == "solid":
            return directions.new_tensor(self.config.colour).expand(directions.shape[0], 3)
        return None


def spherical_harmonics(directions: Tensor) -> Tensor:
    """The nine real spherical harmonics up to degree 2 (R, 9) of unit directions (R, 3), orthonormal over the sphere."""
    x, y, z = directions.unbind(dim=-1)
    terms = [
        torch.full_like(x, 0.28209479177387814),
        0.4886025119029199 * y,
        0.4886025119029199 * z,
        0.4886025119029199 * x,
        1.0925484305920792 * x * y,
        1.0925484305920792 * y * z,
        0.31539156525252005 * (3.0 * z * z - 1.0),
        1.0925484305920792 * x * z,
        0.5462742152960396 * (x * x - y * y),
    ]
    return torch.stack(terms, dim=-1)
