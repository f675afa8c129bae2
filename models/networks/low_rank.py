"""What turns a frozen denoiser into a model of the pictures at hand: low-rank additions to its attention, and the camera.

Both begin as nothing at all, so that an untrained copy is its base to the bit.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..geometry.frames import to_z_up

CAMERA_SIZE = 16


class LowRank(nn.Module):
    """A linear layer's addition up(down(x)); its weights stay float32 whatever the layer computes in.

    `down` (rank, inputs) is drawn from N(0, 1 / rank^2), `up` (outputs, rank) is zero. Alpha equals the rank, so the scale is 1
    (specification 1.4).
    """

    def __init__(self, inputs: int, outputs: int, rank: int, generator: torch.Generator):
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, inputs, generator=generator) / rank)
        self.up = nn.Parameter(torch.zeros(outputs, rank))

    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        """`out` of the layer for `x`, with the addition."""
        hidden = F.linear(x, self.down.to(x.dtype)).float()
        return out + F.linear(hidden, self.up).to(out.dtype)


class CameraBranch(nn.Module):
    """Camera codes (B, 16) to an addition to the time embedding (B, width): linear, SiLU, linear; the last one begins at zero.

    The zero is our choice: the reference begins with random weights, and with a copy that is not its base.
    """

    def __init__(self, width: int, generator: torch.Generator):
        super().__init__()
        self.first = nn.Linear(CAMERA_SIZE, width)
        self.last = nn.Linear(width, width)
        with torch.no_grad():
            for parameter in self.first.parameters():
                parameter.copy_((2 * torch.rand(parameter.shape, generator=generator) - 1) / CAMERA_SIZE**0.5)
            for parameter in self.last.parameters():
                parameter.zero_()

    def forward(self, codes: Tensor) -> Tensor:
        return self.last(F.silu(self.first(codes)))


def camera_codes(camera_to_world: Tensor) -> Tensor:
    """Raw flattened poses (N, 16) in the frame with Z up, rows first, distances as they are (4D-fy's VSD; MVDream normalises)."""
    return to_z_up(camera_to_world).reshape(-1, CAMERA_SIZE)


def lora_tensors(learned: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters of `LowRank` parts by name ("layer.down", "layer.up") as a LoRA in the host's format; others are left out.

    Adding the result to the layers' weights gives what `LowRank` gives beside them.
    """
    found = {}
    for name, value in learned.items():
        layer, _, part = name.rpartition(".")
        if part == "down" and f"{layer}.up" in learned:
            up = learned[f"{layer}.up"]
            found |= {f"{layer}.lora_up.weight": up.clone(), f"{layer}.lora_down.weight": value.clone(), f"{layer}.alpha": torch.tensor(float(up.shape[1]))}
    return found
