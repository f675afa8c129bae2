"""What Zero123 is told of a view: where it is seen from, relative to the reference picture (Liu et al. 2023)."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..geometry.cameras import spherical


class Reference(NamedTuple):
    """Where the reference picture was taken from: degrees, and the distance in the world's units."""

    elevation: float = 0.0
    azimuth: float = 0.0
    distance: float = 3.8

    def code(self, stable: bool) -> Tensor:
        """The code (1, 4) of the reference's own view: [0, 0, 1, last]."""
        return torch.tensor([[0.0, 0.0, 1.0, _last(self, torch.tensor([self.distance]), stable).item()]])


def view_code(camera_to_world: Tensor, reference: Reference, stable: bool) -> Tensor:
    """Codes (N, 4) of cameras (N, 4, 4) around the origin: [e_ref - e, sin(a - a_ref), cos(a - a_ref), last], radians.

    The last number is d - d_ref of Zero123 and Zero123-XL, and the reference's polar angle, 90 degrees - e_ref, of Stable
    Zero123. Azimuth grows counter-clockwise seen from above in both worlds, so no axes are exchanged.
    """
    azimuth, elevation, distance = spherical(camera_to_world)
    turn = azimuth - math.radians(reference.azimuth)
    return torch.stack([math.radians(reference.elevation) - elevation, turn.sin(), turn.cos(), _last(reference, distance, stable)], dim=-1)


def _last(reference: Reference, distance: Tensor, stable: bool) -> Tensor:
    return torch.full_like(distance, math.radians(90.0 - reference.elevation)) if stable else distance - reference.distance


@dataclass(frozen=True)
class Framing:
    """How a reference picture becomes what the network was trained on: a white square of this size."""

    size: int = 256
    white: float = 0.9  # a border at least this light counts as white

    def composite(self, picture: Tensor, mask: Tensor | None) -> Tensor:
        """A picture (H, W, 3 or 4) in [0, 1] and its mask (h, w), 1 on the object, as (size, size, 3) on white, padded to a square.

        ValueError where there is no mask or alpha and the border is not white, where the mask is empty, and where it looks inverted.
        """
        channels = picture.movedim(-1, 0)[None].float()
        alpha = channels[:, 3:4] if mask is None and channels.shape[1] == 4 else None
        if mask is not None:
            alpha = torch.nn.functional.interpolate(mask[None, None].float(), channels.shape[-2:], mode="bilinear", align_corners=False)
        if alpha is None:
            self._need_white(channels)
        else:
            _check_mask(alpha)
            channels = channels[:, :3] * alpha + 1.0 - alpha
        height, width = channels.shape[-2:]
        wide, tall = max(height - width, 0), max(width - height, 0)
        square = torch.nn.functional.pad(channels[:, :3], (wide // 2, wide - wide // 2, tall // 2, tall - tall // 2), value=1.0)
        return torch.nn.functional.interpolate(square, (self.size, self.size), mode="bilinear", align_corners=False, antialias=True)[0].movedim(0, -1).clamp(0, 1)

    def _need_white(self, channels: Tensor):
        level = float(_border(channels).mean())
        if level < self.white:
            raise ValueError(
                f"The reference picture has no mask and no alpha, and its border is no white background (mean {level:.2f}, needed {self.white:g}). "
                "Connect a mask of the object, out of a background removal node or Flat Background Mask, or put the object on white."
            )


def _check_mask(alpha: Tensor):
    inside, border = float(alpha.mean()), float(_border(alpha).mean())
    if inside < 1e-3:
        raise ValueError("The mask of the reference picture is empty. Give a mask that is 1 on the object.")
    height, width = alpha.shape[-2:]
    middle = float(alpha[..., height // 3 : -(height // 3) or None, width // 3 : -(width // 3) or None].mean())
    if border > 0.9 and middle < 0.1:
        raise ValueError("The mask of the reference picture marks its border and not its middle: it looks inverted, as Load Image gives it. Put Invert Mask in front, so that it is 1 on the object.")


def _border(picture: Tensor) -> Tensor:
    """Every pixel (..., 2 W + 2 H) of the outermost rows and columns."""
    return torch.cat([picture[..., 0, :], picture[..., -1, :], picture[..., :, 0], picture[..., :, -1]], dim=-1)
