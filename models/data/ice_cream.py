"""Ice cream that melts: a scoop, two scoops or a scoop with a cherry on a waffle cone, and a popsicle on a stick."""

from math import pi, radians

import torch
from torch import Tensor

from .patches import TINY, Patch, ball, ramp, revolve, shape, smooth, tube, turn, unit, yaw
from .styles import ObjectStyle

FLOOR = -0.80
CONE_TOP = -0.06
CONE_RADIUS = 0.34


def build_ice_cream(style: ObjectStyle, t: Tensor) -> list[Patch]:
    """It sags and shrinks, runs down in drips and spreads in a puddle."""
    if style.species == "popsicle":
        return _popsicle(style, t)
    if style.species == "double scoop":
        scoops = ((0.340, 0.0), (0.280, 0.10))
    else:
        scoops = ((0.45 if style.species == "scoop" else 0.40, 0.0),)
    patches = [_cone(style)]
    top = None
    for index, (radius, early) in enumerate(scoops):
        patch, top = _scoop(style, t, radius, early, index, top)
        patches.append(patch)
    if style.species == "cherry":
        patches += _cherry(style, t, top)
    return [*patches, _drips(style, t), _puddle(style, t, 0.46)]


def _cone(style: ObjectStyle) -> Patch:
    """A waffle cone: dark lines on the diagonals of the mesh, raised rim."""
    columns, rows = 40, 21
    s = unit(rows)
    radius = (0.035 + (CONE_RADIUS - 0.035) * s) * style.width
    radius[-2:] += 0.018
    height = FLOOR + 0.03 + (CONE_TOP - FLOOR - 0.03) * s
    column, row = torch.arange(columns)[:, None], torch.arange(rows)
    line = ((column + row) % 5 == 0) | ((column - row) % 5 == 0)
    light, dark = torch.tensor((0.90, 0.64, 0.32)), torch.tensor((0.56, 0.32, 0.12))
    albedo = torch.where(line[..., None], dark, light)
    shadow = 1 - 0.45 * s**5
    points = yaw(revolve(shape(radius, 3), shape(height, 3), columns), torch.tensor(style.yaw))
    return Patch("cone", points, albedo[None, None], 0.8, occlusion=shape(shadow, 3), wrap=True)


def _melt(t: Tensor, early: float) -> Tensor:
    """How much of a scoop has gone (T,)."""
    return (t / (1 - 0.5 * early)).clamp(0, 1) ** 0.95


def _scoop(style: ObjectStyle, t: Tensor, radius: float, early: float, index: int, below: Tensor | None):
    """A ball with a ruffled skirt that sags into a low cap; returns it and the height of its top (T,)."""
    columns, rows = 32, 17
    gone = _melt(t, early)
    size = radius * style.size
    wide = size * (1 - 0.28 * gone)
    tall = size * (1 - 0.66 * gone)
    rest = (torch.full_like(t, CONE_TOP) if below is None else below - 0.17 * (1 - gone))  # what it sits on
    centre = rest + tall * (0.62 if below is None else 0.72) + (0.06 * (1 - gone))
    polar = unit(rows) * pi
    angle = turn(columns)[:, None]
    skirt = torch.exp(-(((polar - 0.92) / 0.16) ** 2))
    ruffle = 1 + skirt * (0.12 + 0.06 * torch.cos(9 * angle + index))
    crag = 1 + 0.012 * torch.cos(5 * angle + 3 * polar) * torch.sin(polar * 3)
    ring = torch.sin(polar) * ruffle * crag
    points = revolve(shape(ring, 2, 3) * shape(wide, 0), shape(-torch.cos(polar), 3) * shape(tall, 0) + shape(centre, 0), columns)
    tone = 1.0 - 0.10 * index if below is None else 1.0
    colour = style.rgb() * (tone * (0.93 + 0.07 * (torch.cos(4 * angle + 5 * polar) > 0.2)))[..., None]
    shadow = 1 - 0.50 * torch.exp(-((polar / 0.75) ** 2))
    points = yaw(points, torch.tensor(style.yaw))
    return Patch("scoop", points, colour.clamp(0, 1)[None, None], 0.5, occlusion=shape(shadow, 3), wrap=True), centre + tall


def _cherry(style: ObjectStyle, t: Tensor, top: Tensor) -> list[Patch]:
    """A cherry that sinks with its scoop and tips over to the right."""
    tip = smooth(t, 0.55, 1.0)
    out = 0.05 * tip
    y = top + 0.065 - 0.03 * tip
    centre = torch.stack((out, y, 0.02 + out * 0.4), -1)[:, None]
    fruit = ball(centre, torch.full((1, 1, 3), 0.112), 16, 10)
    s = unit(7)
    lean = (0.25 + 0.9 * tip)[:, None]
    path = centre + torch.stack((0.20 * s * lean * (0.5 + s * 0.5), 0.09 + 0.15 * s * (1.1 - 0.5 * lean * s), 0.02 * s + 0 * lean), -1)
    stalk = tube(path[:, None], torch.full((1, 1, 7), 0.013), 6)
    return [
        Patch("cherry", fruit, torch.tensor((0.80, 0.03, 0.08)), 0.15, wrap=True),
        Patch("stalk", stalk, torch.tensor((0.30, 0.42, 0.12)), 0.7, wrap=True),
    ]


def _drips(style: ObjectStyle, t: Tensor) -> Patch:
    """Runs down the cone at canonical azimuths, each with a bulb at its end."""
    rows = 10
    azimuth = torch.deg2rad(torch.tensor((8.0, 58.0, 118.0, 172.0, 236.0, 305.0))) + style.yaw + style.wobble(0, 6, radians(4))
    start = torch.tensor((0.08, 0.38, 0.20, 0.45, 0.14, 0.30))
    longest = torch.tensor((0.60, 0.44, 0.66, 0.40, 0.52, 0.62))
    grown = ((t[:, None] - start) / 0.50).clamp(0, 1)
    s = unit(rows)
    height = CONE_TOP + 0.03 - (longest * grown)[..., None] * s - 0.01 * s
    share = ((height - FLOOR) / (CONE_TOP - FLOOR)).clamp(0.05, 1)
    out = CONE_RADIUS * share * style.width + 0.012
    path = torch.stack((out * torch.sin(azimuth)[:, None], height, out * torch.cos(azimuth)[:, None]), -1)
    bulb = torch.tensor((0.9, 0.95, 0.9, 0.84, 0.80, 0.78, 0.84, 1.05, 1.0, 0.0))
    radius = 0.047 * bulb * ramp(grown, 0.0, 0.15)[..., None].clamp(min=TINY)
    return Patch("drip", tube(path, radius, 8), (style.rgb() * 1.04).clamp(0, 1), 0.3, wrap=True)


def _puddle(style: ObjectStyle, t: Tensor, size: float) -> Patch:
    """A lobed puddle on the floor; it is a point before the first drop."""
    s, angle = unit(8), turn(32)
    lobes = 1 + 0.10 * torch.cos(2 * angle + 0.6) + 0.07 * torch.cos(5 * angle + 1.4)
    grown = (ramp(t, 0.16, 1.0) ** 0.65).clamp(min=TINY)
    radius = shape(s, 3) * shape(grown * size * style.size, 0) * shape(lobes, 2)
    height = FLOOR - 0.01 + shape((1 - s**4) * 0.05, 3) * shape(grown, 0)
    points = yaw(revolve(radius, height.expand(len(t), 1, 32, 8), 32), torch.tensor(style.yaw))
    return Patch("puddle", points, (style.rgb() * 0.97).clamp(0, 1), 0.2, wrap=True)


def _popsicle(style: ObjectStyle, t: Tensor) -> list[Patch]:
    """A round-topped slab on a flat stick, drips from its lower edge."""
    columns, rows = 32, 16
    gone = t**0.95
    foot, top = -0.26 + 0.04 * gone, (0.82 - 0.66 * gone) * style.height
    s = unit(rows)
    profile = torch.sin((s * pi).clamp(0, pi)).clamp(min=0) ** 0.28
    half = (0.33 - 0.10 * gone) * style.width
    angle = turn(columns)[:, None]
    cosine, sine = torch.cos(angle), torch.sin(angle)
    squarish = lambda v: v.sign() * v.abs() ** 0.55  # noqa: E731
    groove = 1 - 0.14 * torch.exp(-((sine.abs() - 0.45) / 0.13) ** 2) * (torch.sin(s * pi) > 0.3)
    x = shape(squarish(sine) * profile, 2, 3) * shape(half, 0)
    z = shape(squarish(cosine) * profile * groove, 2, 3) * shape(half * 0.45, 0)
    waist = shape(0.06 * torch.sin(s * 9), 3) * shape(gone, 0)
    y = (shape(s, 3) * shape(top - foot, 0) + shape(foot, 0)).expand_as(x)
    points = yaw(torch.stack((x * (1 + waist), y, z * (1 + waist)), -1), torch.tensor(style.yaw))
    groovy = (1 - 0.12 * torch.exp(-((sine.abs() - 0.45) / 0.13) ** 2)) * torch.ones(rows)
    colour = (style.rgb() * groovy[..., None]).clamp(0, 1)
    ice = Patch("ice", points, colour[None, None], 0.25, wrap=True)
    return [ice, _stick(style), *_icicles(style, t, foot, half), _puddle(style, t, 0.46)]


def _stick(style: ObjectStyle) -> Patch:
    s = unit(10)
    width = torch.cat((torch.zeros(1), torch.full((8,), 1.0), torch.zeros(1)))
    angle = turn(12)[:, None]
    x, z = torch.sin(angle) * width * 0.070, torch.cos(angle) * width * 0.030
    y = (FLOOR + s * 0.84).expand_as(x)
    points = yaw(torch.stack((x, y, z), -1)[None, None], torch.tensor(style.yaw))
    return Patch("stick", points, torch.tensor((0.86, 0.70, 0.46)), 0.9, wrap=True)


def _icicles(style: ObjectStyle, t: Tensor, foot: Tensor, half: Tensor) -> list[Patch]:
    """Icicles of melt below the slab, and runs along the stick."""
    rows = 8
    place = torch.tensor((-0.78, -0.35, 0.40, 0.80, 0.10))
    start = torch.tensor((0.10, 0.34, 0.18, 0.46, 0.06))
    longest = torch.tensor((0.20, 0.28, 0.24, 0.16, 0.44))
    grown = ((t[:, None] - start) / 0.42).clamp(0, 1)
    s = unit(rows)
    height = foot[:, None, None] + 0.06 - ((longest + 0.03) * grown)[..., None] * s
    x = (place * half[:, None])[..., None].expand_as(height)
    path = torch.stack((x, height, torch.full_like(height, 0.03)), -1)
    bulb = torch.tensor((1.0, 1.0, 0.9, 0.8, 0.78, 1.0, 1.0, 0.0))
    radius = 0.05 * bulb * ramp(grown, 0.0, 0.15)[..., None].clamp(min=TINY)
    points = yaw(tube(path, radius, 8), torch.tensor(style.yaw))
    return [Patch("drip", points, (style.rgb() * 1.04).clamp(0, 1), 0.25, wrap=True)]


