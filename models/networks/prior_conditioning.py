"""What the embedded prior is told beside its text: camera, time, clean reference, as one vector per picture.

Layout of the vector: camera code (12), time code (9), clean flag (1), has-reference flag (1), reference thumbnail
(8 x 8 RGBA, 256), pooled text (D). Camera and time may be absolute (our frame, DESIGN's convention), relative to the
reference picture (Zero123, section 3; image-to-video with an unknown start), or absent; the two flags in each code say
which. All zeros is "not told".
"""

from __future__ import annotations

from enum import IntEnum

import torch
import torch.nn.functional as F
from torch import Tensor

CAMERA_SIZE, TIME_SIZE, THUMBNAIL = 12, 9, 8
HARMONICS = 4


class Frame(IntEnum):
    """How a camera or a time is told."""

    ABSENT = 0
    ABSOLUTE = 1
    RELATIVE = 2


def condition_size(text_width: int) -> int:
    """Length of the vector for a pooled text of `text_width`."""
    return CAMERA_SIZE + TIME_SIZE + 2 + 4 * THUMBNAIL**2 + text_width


def camera_code(azimuth: Tensor, elevation: Tensor, frame: Tensor) -> Tensor:
    """Four harmonics of the azimuth, sine and cosine of the elevation, two flags. Radians (B,), frame (B,) of `Frame` -> (B, 12).

    Relative angles are differences to the reference picture.
    """
    orders = torch.arange(1, HARMONICS + 1, device=azimuth.device)
    phase = azimuth[:, None] * orders
    code = torch.cat([phase.sin(), phase.cos(), elevation[:, None].sin(), elevation[:, None].cos()], dim=1)
    return _flagged(code, frame)


def time_code(time: Tensor, frame: Tensor) -> Tensor:
    """The time, three octaves of its sine and cosine, two flags. time (B,) in [-1, 1], frame (B,) -> (B, 9)."""
    phase = time[:, None] * torch.pi * torch.tensor([1.0, 2.0, 4.0], device=time.device)
    return _flagged(torch.cat([time[:, None], phase.sin(), phase.cos()], dim=1), frame)


def thumbnail(pictures: Tensor) -> Tensor:
    """Premultiplied RGBA (B, 4, H, W) averaged to 8 x 8 and flattened: (B, 256)."""
    return F.adaptive_avg_pool2d(pictures, THUMBNAIL).flatten(1)


def condition_vector(camera: Tensor, time: Tensor, clean: Tensor, reference: Tensor | None, pooled: Tensor) -> Tensor:
    """Assemble the vectors of B pictures.

    camera (B, 12), time (B, 9), clean (B,) bool, reference (B, 256) thumbnails or None when no picture has one, pooled
    text (B, D) -> (B, condition_size(D)).
    """
    batch = camera.shape[0]
    has_reference = camera.new_zeros(batch, 1) if reference is None else (reference.abs().sum(1, keepdim=True) > 0).to(camera)
    reference = camera.new_zeros(batch, 4 * THUMBNAIL**2) if reference is None else reference
    return torch.cat([camera, time, clean[:, None].to(camera), has_reference, reference.to(camera), pooled], dim=1)


def wrap_angle(angle: Tensor) -> Tensor:
    """The same angle in (-pi, pi]."""
    return torch.atan2(angle.sin(), angle.cos())


def _flagged(code: Tensor, frame: Tensor) -> Tensor:
    frame = frame.to(code.device)
    flags = torch.stack([frame == Frame.ABSOLUTE, frame == Frame.RELATIVE], dim=1).to(code)
    return torch.cat([code * (frame != Frame.ABSENT)[:, None], flags], dim=1)
