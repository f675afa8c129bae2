"""Bread that bakes: pale dough rises and browns. A loaf, a round one, a baguette and one in a tin."""

from dataclasses import dataclass
from math import pi, radians

import torch
from torch import Tensor

from .patches import Patch, mix, ramp, shape, smooth, turn, unit, yaw
from .styles import ObjectStyle

FLOOR = -0.46
DOUGH = (0.96, 0.91, 0.78)
CRUMB = (0.97, 0.86, 0.62)
CRUST = {"golden": (0.78, 0.50, 0.18), "brown": (0.52, 0.27, 0.10), "dark": (0.27, 0.14, 0.08)}
TURN = radians(20)


@dataclass(frozen=True)
class Bread:
    """A species: half length, half width and height when baked; how square it is (2 is an ellipse); its cuts."""

    length: float
    width: float
    height: float
    square: float
    cuts: int
    slant: float
    cut_width: float


BREADS = {
    "loaf": Bread(0.78, 0.50, 0.92, 2.6, 4, 0.30, 0.085),
    "round": Bread(0.76, 0.76, 0.84, 2.0, 0, 0.0, 0.085),
    "baguette": Bread(0.84, 0.31, 0.48, 2.3, 5, 0.75, 0.060),
    "tin": Bread(0.76, 0.42, 0.98, 3.4, 1, 0.0, 0.060),
}


def build_bread(style: ObjectStyle, t: Tensor) -> list[Patch]:
    """The dough gets higher and wider, cuts open, the crust takes its colour from the top down."""
    bread = BREADS[style.species]
    patches = [_dough(style, bread, t)]
    if style.species == "tin":
        patches.append(_tin(style, bread))
    return patches


def _cut(style: ObjectStyle, bread: Bread, x: Tensor, z: Tensor) -> Tensor:
    """1 in the middle of a cut, 0 away from it; x along the bread, z across, in units of its half sizes."""
    if style.species == "round":
        distance = torch.where(x.abs() < 0.62, torch.minimum(x.abs(), z.abs()), x.abs())  # a cross of a long and a short cut
        reach = (x**2 + z**2).sqrt() < 0.93
    elif style.species == "tin":
        distance, reach = z.abs(), x.abs() < 0.80
    else:
        place = (torch.arange(bread.cuts) + 0.5) / bread.cuts * 2 - 1
        place = place * 0.88 + style.wobble(0, bread.cuts, 0.02)
        distance = (x[..., None] + bread.slant * z[..., None] * bread.width / bread.length * 2 - place).abs().amin(-1)
        distance, reach = distance * (1.0 if style.species == "loaf" else 0.8), z.abs() < 0.80
    return torch.exp(-((distance / bread.cut_width) ** 2)) * reach


def _dough(style: ObjectStyle, bread: Bread, t: Tensor) -> Patch:
    columns, rows = 56, 26
    angle = turn(columns)[:, None]
    v = unit(rows)
    polar = v * pi / 2 * 1.22  # from the top over the side to below the belly
    rise = 0.42 + 0.58 * ramp(t, 0.0, 0.85) ** 0.85
    spread = 0.80 + 0.20 * ramp(t, 0.0, 0.7)
    power = 2 / bread.square
    corner = (torch.sin(angle).abs() ** bread.square + torch.cos(angle).abs() ** bread.square) ** (-1 / bread.square)
    below = ramp(v, 0.82, 1.0)
    ring = torch.sin(polar.clamp(max=pi / 2)) ** (power * 0.9) - 0.16 * below**1.5
    x, z = torch.sin(angle) * corner * ring, torch.cos(angle) * corner * ring  # (U, V), units of the half sizes
    dome = torch.cos(polar).clamp(min=0) ** (power * 0.95)
    foot = 0.16 * (1 - below)
    cut = _cut(style, bread, x, z) * (dome > 0.16)
    opened = shape(smooth(t, 0.10, 0.75), 0)
    height = (foot + (1 - 0.16) * dome) - 0.11 * cut * (0.35 + 0.65 * opened)
    height = height.clamp(min=0)
    level = FLOOR - (0.06 if style.species != "tin" else 0.0)
    top = bread.height * style.height
    y = height * top * shape(rise, 0) + level
    half_x, half_z = bread.length * style.size, bread.width * style.width
    grow = shape(spread, 0)
    if style.species == "tin":
        over = smooth(y, level + 0.42 * bread.height, level + 0.62 * bread.height)
        bulge = 0.80 + 0.25 * over
        x, z = (x * half_x * bulge).expand_as(y), (z * half_z * bulge).expand_as(y)
    else:
        x, z = (x * half_x * grow).expand_as(y), (z * half_z * grow).expand_as(y)
    points = yaw(torch.stack((x, y, z), -1), torch.tensor(TURN + style.yaw))
    return Patch("bread", points.flip(3), _crust(style, t, dome, cut).flip(3), 0.75, occlusion=_shadow(v, cut).flip(3), wrap=True)


def _crust(style: ObjectStyle, t: Tensor, dome: Tensor, cut: Tensor) -> Tensor:
    """(T, 1, U, V, 3)."""
    crust = torch.tensor(CRUST[style.colour]) * style.shade
    done = shape(ramp(t, 0.08, 1.0), 0)
    ragged = 0.05 * torch.cos(turn(56) * 7)[:, None] * torch.sin(dome * 9)
    brown = (done * 1.12 - 0.22 * (1 - dome) * (1 - 0.45 * done) + ragged * (1 - done)).clamp(0, 1)
    colour = mix(torch.tensor(DOUGH), torch.tensor((0.93, 0.75, 0.42)), (brown * 2).clamp(0, 1))
    colour = mix(colour, crust, (brown * 2 - 1).clamp(0, 1))
    pale = mix(torch.tensor(CRUMB), torch.tensor((0.97, 0.82, 0.52)), done)
    return mix(colour, pale, (cut * 1.25).clamp(0, 1) * 0.9)


def _shadow(v: Tensor, cut: Tensor) -> Tensor:
    return shape((1 - 0.45 * ramp(v, 0.72, 1.0)) * (1 - 0.25 * cut) * (1 - 0.40 * (4 * cut * (1 - cut)).clamp(0, 1)), 2, 3)


def _tin(style: ObjectStyle, bread: Bread) -> Patch:
    """A dark baking tin with a rolled rim."""
    columns = 40
    angle = turn(columns)[:, None]
    square = 5.0
    corner = (torch.sin(angle).abs() ** square + torch.cos(angle).abs() ** square) ** (-1 / square)
    ring = torch.tensor((0.0, 0.80, 0.83, 0.98, 1.04, 1.05, 0.99, 0.93))
    height = torch.tensor((0.0, 0.0, 0.01, 0.40, 0.40, 0.43, 0.43, 0.36)) - 0.02 + FLOOR
    x = torch.sin(angle) * corner * ring * bread.length * style.size
    z = torch.cos(angle) * corner * ring * bread.width * style.width
    points = yaw(torch.stack((x, height.expand_as(x), z), -1)[None, None], torch.tensor(TURN + style.yaw))
    return Patch("tin", points, torch.tensor((0.30, 0.32, 0.36)), 0.35, 0.5, wrap=True)
