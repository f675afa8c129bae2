"""The contact sheet of the procedural objects: a row per phenomenon, time running to the right, then the truth behind it."""

from math import radians

import torch
from torch import Generator, Tensor

from ..geometry.cameras import RIG_DISTANCE, RIG_ELEVATION_DEGREES, RIG_FOV_DEGREES, Cameras, orbit
from .objects import render_object
from .styles import PHENOMENA, ObjectStyle, sample_style

SHOWN = {
    "flower blooming": ("rose", "red"),
    "flower withering": ("sunflower", "yellow"),
    "plant sprouting": ("tomato", "blue"),
    "candle burning": ("pillar", "purple"),
    "ice cream melting": ("cherry", "pink"),
    "banana rotting": ("bunch", "yellow"),
    "bread baking": ("loaf", "golden"),
}


def contact_sheet(size: int = 112, times: int = 6, seed: int = 0) -> Tensor:
    """Rows: PHENOMENA. Columns: `times` times from the front, one time from the side, albedo, normals, depth.

    Returns sRGB (rows * size, columns * size, 3) in [0, 1], over white, depth over black.
    """
    rows = [row(_shown(phenomenon, seed), size, times) for phenomenon in PHENOMENA]
    return torch.cat(rows, 0)


def _shown(phenomenon: str, seed: int) -> ObjectStyle:
    species, colour = SHOWN[phenomenon]
    return sample_style(phenomenon, Generator().manual_seed(seed), species, colour)


def row(style: ObjectStyle, size: int, times: int) -> Tensor:
    """One object's row of the sheet: (size, (times + 4) * size, 3)."""
    time = torch.cat((torch.arange(times) / (times - 1), torch.tensor([0.6])))
    azimuth = torch.cat((torch.zeros(times), torch.tensor([radians(110)])))
    ones = torch.ones(times + 1)
    pose = orbit(azimuth, ones * radians(RIG_ELEVATION_DEGREES), ones * RIG_DISTANCE)
    images = render_object(style, Cameras(pose, ones * radians(RIG_FOV_DEGREES), time), size, truth=True)
    picture = int((time[:times] - 0.6).abs().argmin())
    alpha = images.rgba[..., 3:]
    seen = alpha[picture] > 0
    over_white = images.rgba[..., :3] + 1 - alpha
    albedo = images.albedo[picture] * alpha[picture] + 1 - alpha[picture]
    normals = (0.5 + 0.5 * images.normals[picture]) * alpha[picture] + 1 - alpha[picture]
    near, far = RIG_DISTANCE - 0.75, RIG_DISTANCE + 0.75
    depth = torch.where(seen, (far - images.depth[picture, ..., None]) / (far - near), 0).clamp(0, 1)
    return torch.cat((*over_white, albedo, normals, depth.expand(-1, -1, 3)), 1)
