"""Bananas that rot: green tips, yellow, spots that spread, brown, black and shrivelled."""

from dataclasses import replace
from math import cos, pi, radians, sin

import torch
from torch import Generator, Tensor

from .patches import Patch, mix, pitch, ramp, shape, smooth, turn, unit, yaw
from .styles import ObjectStyle

COLUMNS, ROWS = 24, 40
BROWN, BLACK = (0.30, 0.17, 0.07), (0.12, 0.085, 0.07)
MOULD = (0.66, 0.70, 0.62)
SPOTS = 22
CROWN = (0.50, 0.48, 0.0)  # where a bunch hangs


def build_banana(style: ObjectStyle, t: Tensor) -> list[Patch]:
    """One banana lying like a smile, a pair joined at the stem, or a hanging bunch."""
    if style.species == "single":
        return [_moved(_fruit(style, t, 0, 0.88, 2.2), lift=-0.36, lean=radians(-18), turn_to=0.0, style=style)]
    if style.species == "pair":
        front = _moved(_spun(_fruit(style, t, 0, 0.74, 2.0), -0.02), lift=-0.50, lean=radians(22), turn_to=0.0, style=style, forward=0.06)
        back = _moved(_spun(_fruit(style, t, 5, 0.74, 1.9), -0.50), lift=-0.48, lean=radians(-12), turn_to=0.0, style=style, forward=-0.12)
        return [back, front]
    return _bunch(style, t)


def _spots(offset: int) -> tuple[Tensor, Tensor, Tensor]:
    """Canonical places of rot: along the fruit, around it (radians) and when they appear."""
    generator = Generator().manual_seed(11 + offset)
    along, around, when = torch.rand(3, SPOTS, generator=generator)
    along = (torch.arange(SPOTS) * 0.618 + 0.1 * along) % 1
    return along, around * 2 * pi, (torch.arange(SPOTS) / SPOTS * 0.8 + 0.2 * when)


def _rot(style: ObjectStyle, t: Tensor, offset: int) -> Tensor:
    """How rotten each point of the skin is: (T, U, V)."""
    along, around, when = _spots(offset)
    along = along + style.wobble(offset, SPOTS, 0.015)
    s, angle = unit(ROWS)[None, :, None], turn(COLUMNS)[:, None, None]
    around_distance = torch.atan2(torch.sin(angle - around), torch.cos(angle - around)).abs()
    distance = (((s - along) * 5.2) ** 2 + (around_distance * 0.55) ** 2).sqrt()  # (U, V, S), in units of the radius
    size = ((t[:, None] - 0.55 * when) * 1.35).clamp(0, 1.4) * (0.6 + 0.4 * torch.cos(torch.arange(SPOTS) * 2.1))  # (T, S)
    inside = (size[:, None, None] - distance) / 0.10 + 0.5 * (size[:, None, None] > 0)
    return inside.amax(-1).clamp(0, 1)


def _mould(style: ObjectStyle, t: Tensor, offset: int) -> Tensor:
    """Where grey mould has settled at the end: (T, U, V)."""
    return _rot(style, (t - 0.70).clamp(min=0) * 1.6, offset + 40) * 0.85


def _skin(style: ObjectStyle, t: Tensor, offset: int) -> Tensor:
    """Colour of the skin (T, 1, U, V, 3)."""
    s = unit(ROWS)
    green, yellow, red = (torch.tensor(c) for c in ((0.42, 0.68, 0.14), (1.00, 0.84, 0.12), (0.62, 0.16, 0.12)))
    ripe = {"yellow": yellow, "green": yellow, "red": red}[style.colour] * min(style.shade, 1.0)
    tips = (2 * (s - 0.5)).abs() ** 2.5
    if style.colour == "green":
        unripe = (1.05 - shape(ramp(t, 0.0, 0.42), 0) * 1.5 + 0.45 * tips).clamp(0, 1)
    else:
        unripe = ((0.15 + tips) * (1 - shape(ramp(t, 0.0, 0.26), 0))).expand(len(t), 1, 1, ROWS)
    facet = 1 - 0.07 * (torch.cos(turn(COLUMNS) * 5) < -0.5).float()
    colour = mix(ripe, green if style.colour != "red" else torch.tensor((0.42, 0.46, 0.13)), unripe) * shape(facet, 2)[..., None]
    overall = shape(ramp(t, 0.08, 1.0) ** 1.4, 0) * 0.85
    colour = mix(colour, torch.tensor((0.52, 0.33, 0.10)), overall)
    dark = mix(torch.tensor(BROWN), torch.tensor(BLACK), shape(ramp(t, 0.55, 1.0), 0))
    colour = mix(colour.expand(len(t), 1, COLUMNS, ROWS, 3), dark, _rot(style, t, offset)[:, None])
    late = shape(ramp(t, 0.70, 1.0), 0) * 0.85
    colour = mix(colour, torch.tensor(BLACK), late)
    colour = mix(colour, torch.tensor(MOULD), _mould(style, t, offset)[:, None])
    colour = mix(colour, torch.tensor((0.12, 0.09, 0.06)), shape((s < 0.04).float(), 3) * 0.95)  # the blossom end
    return mix(colour, torch.tensor((0.40, 0.32, 0.12)), shape(ramp(s, 0.90, 0.96), 3) * 0.6 * (1 - shape(ramp(t, 0.3, 0.8), 0)))


def _fruit(style: ObjectStyle, t: Tensor, offset: int, reach: float, sweep: float) -> Patch:
    """A banana on an arc in the x-y plane, lowest in the middle at the origin, stem to the right.

    reach: half of its width; sweep: the arc's angle.
    """
    s = unit(ROWS)
    radius = reach * style.width / torch.sin(torch.tensor(min(sweep, pi) / 2))
    angle = (s - 0.5) * sweep
    x, y = radius * torch.sin(angle), radius * (1 - torch.cos(angle))
    body = torch.sin((s.clamp(0, 0.93) / 0.93 * 0.97 + 0.03) * pi).clamp(min=0) ** 0.42
    body = torch.maximum(body, 0.30 * (s > 0.88)) * (1 - 0.10 * s)
    body[0], body[-1] = 0.0, 0.0
    body[1] = 0.30
    shrink = 1 - 0.34 * smooth(t, 0.25, 1.0)
    thick = 0.225 * style.size * shape(body, 3) * shape(shrink, 0)
    around = turn(COLUMNS)
    facet = 1 + 0.045 * torch.cos(5 * around)
    wrinkle = 1 - 0.10 * shape(smooth(t, 0.55, 1.0), 0) * shape((torch.cos(7 * around)[:, None] * torch.sin(s * 23)).clamp(min=0), 2, 3)
    out = thick * shape(facet, 2) * wrinkle  # (T, 1, U, V)
    normal_x, normal_y = -torch.sin(angle), torch.cos(angle)
    swing = shape(torch.cos(around), 2) * out
    sag = 1 - 0.22 * shape(smooth(t, 0.4, 1.0), 0)
    points = torch.stack((x + normal_x * swing, (y + normal_y * swing) * sag, shape(torch.sin(around), 2) * out), -1)
    under = 1 - 0.35 * (0.5 - 0.5 * torch.cos(around))
    return Patch("banana", points, _skin(style, t, offset), 0.45, occlusion=shape(under, 2), wrap=True)


def _spun(patch: Patch, angle: float) -> Patch:
    """Turn a fruit in its own plane about its stem end, which stays."""
    end = patch.points[:, :, :, -1:].mean(2, keepdim=True)
    x, y, z = (patch.points - end).unbind(-1)
    cosine, sine = cos(angle), sin(angle)
    return replace(patch, points=torch.stack((x * cosine - y * sine, x * sine + y * cosine, z), -1) + end)


def _moved(patch: Patch, lift: float, lean: float, turn_to: float, style: ObjectStyle, forward: float = 0.0) -> Patch:
    points = pitch(patch.points - torch.tensor((0.0, 0.28, 0.0)), torch.tensor(lean)) + torch.tensor((0.0, 0.28 + lift, forward))
    points = yaw(points, torch.tensor(style.yaw + turn_to))
    return replace(patch, points=points)


def _bunch(style: ObjectStyle, t: Tensor) -> list[Patch]:
    """Four bananas that hang from one stem and fan out."""
    patches = []
    for index, (spin, side) in enumerate(((0.98, -26.0), (0.62, -10.0), (0.24, 8.0), (-0.14, 26.0))):
        fruit = _spun(_fruit(style, t, 3 * index, 0.56, 1.75), spin)
        points = fruit.points - fruit.points[:, :, :, -1:].mean(2, keepdim=True)  # the stem end is the origin
        points = yaw(points, torch.tensor(radians(side))) + torch.tensor(CROWN)
        patches.append(replace(fruit, points=yaw(points, torch.tensor(style.yaw))))
    return [*patches, _crown(style, t)]


def _crown(style: ObjectStyle, t: Tensor) -> Patch:
    """The woody piece that the stems grow from."""
    s = unit(6)
    around = turn(12)[:, None]
    radius = torch.tensor((0.0, 0.10, 0.12, 0.085, 0.06, 0.0))
    points = torch.stack((torch.sin(around) * radius, (0.24 * s - 0.09).expand(12, 6), torch.cos(around) * radius), -1) + torch.tensor(CROWN)
    colour = mix(torch.tensor((0.52, 0.46, 0.16)), torch.tensor((0.12, 0.09, 0.06)), shape(ramp(t, 0.0, 0.8), 0))
    return Patch("crown", yaw(points[None, None], torch.tensor(style.yaw)), colour, 0.8, wrap=True)
