"""Candles that burn down: a pillar, a taper in a brass stick, a twisted one and one in a saucer with a handle."""

from dataclasses import dataclass
from math import pi, radians

import torch
from torch import Tensor

from .patches import TINY, Patch, mix, ramp, revolve, shape, tube, turn, unit, yaw
from .styles import ObjectStyle

FLOOR = -0.80


@dataclass(frozen=True)
class Candle:
    """A species: the height of its foot, its radius, its first and last height and where its drips run (degrees)."""

    foot: float
    radius: float
    tall: float
    short: float
    drips: tuple[float, ...]
    drip_length: float
    drip_radius: float
    puddle: float


CANDLES = {
    "pillar": Candle(0.05, 0.33, 1.02, 0.16, (20, 75, 150, 215, 305), 0.60, 0.064, 0.50),
    "taper": Candle(0.47, 0.115, 0.80, 0.08, (30, 130, 255), 0.46, 0.042, 0.19),
    "twisted": Candle(0.05, 0.215, 1.08, 0.14, (40, 160, 280), 0.50, 0.055, 0.44),
    "saucer": Candle(0.06, 0.230, 0.98, 0.12, (15, 105, 200, 310), 0.54, 0.056, 0.38),
}


def build_candle(style: ObjectStyle, t: Tensor) -> list[Patch]:
    """The wax gets lower, runs down in drips and gathers at the foot; the flame sits on the wick."""
    candle = CANDLES[style.species]
    base = FLOOR + candle.foot
    rim = base + (candle.tall + (candle.short - candle.tall) * t) * (1 + 0.9 * (style.height - 1))  # (T,)
    stand = {"taper": _candlestick, "saucer": _saucer}.get(style.species, _plate)(style)
    return [*stand, _wax(style, candle, base, rim), _drips(style, candle, base, rim, t), _puddle(style, candle, base, t), *_fire(style, candle, rim, t)]


def _wax(style: ObjectStyle, candle: Candle, base: float, rim: Tensor) -> Patch:
    """The body with a molten hollow at the top."""
    rows, columns = 14, 24
    body = unit(rows)
    radius = torch.cat((torch.ones(rows), torch.tensor((0.97, 0.88, 0.70, 0.40, 0.0)))) * candle.radius * style.width
    dip = torch.tensor((0.012, 0.0, -0.035, -0.05, -0.055)) * min(1.0, candle.radius / 0.2)
    height = torch.cat((base + body * (rim - base)[:, None], rim[:, None] + dip), -1)  # (T, V)
    angle = turn(columns)[:, None]
    if style.species == "twisted":
        climb = (height - FLOOR)[:, None] * 9.0  # (T, 1, V)
        ridge = 1 + 0.20 * torch.cos(4 * (angle - 0.25 * climb)) * (torch.arange(rows + 5) < rows)
        groove = shape(ridge[:, None].flatten(0, 1), 0, 2, 3)
    else:
        ridge = (1 + 0.0 * angle).expand(columns, rows + 5)[None]
        groove = shape(ridge, 0, 2, 3)
    points = yaw(revolve(shape(radius, 3) * groove, shape(height, 0, 3), columns), torch.tensor(style.yaw))
    top = torch.cat((torch.zeros(rows), torch.tensor((0.1, 0.35, 0.55, 0.6, 0.6))))
    tone = 0.92 + 0.10 * body
    colour = mix(style.rgb() * torch.cat((tone, torch.ones(5)))[:, None], torch.tensor((1.0, 0.93, 0.75)), top * 0.6)
    shadow = 1 - 0.35 * (1 - (groove - 0.8) / 0.4).clamp(0, 1) if style.species == "twisted" else 1.0
    below = (rim[:, None] - height) / 0.28
    glow = 0.55 * (1 - below.clamp(0, 1)) ** 2
    return Patch("wax", points, colour.clamp(0, 1)[None, None, None], 0.45, occlusion=shadow, emission=shape(glow, 0, 3), wrap=True)


def _drips(style: ObjectStyle, candle: Candle, base: float, rim: Tensor, t: Tensor) -> Patch:
    """Runs of wax at canonical azimuths; each begins at the rim at its own time and gets longer until it reaches the foot."""
    count, rows = len(candle.drips), 9
    azimuth = torch.deg2rad(torch.tensor(candle.drips)) + style.yaw + style.wobble(0, count, radians(4))
    order = (torch.arange(count) * 2) % count
    start = 0.04 + 0.50 * order / count  # (K,)
    grown = ((t[:, None] - start) / 0.34).clamp(0, 1)
    longest = candle.drip_length * (0.75 + 0.25 * ((torch.arange(count) * 3) % 4) / 3)
    top = rim[:, None] + 0.012
    bottom = torch.minimum(torch.maximum(top - 0.02 - longest * grown, torch.tensor(base + 0.02)), top - 0.02)
    s = unit(rows)
    height = top[..., None] + (bottom - top)[..., None] * s  # (T, K, V)
    out = candle.radius * style.width * (1.0 if style.species != "twisted" else 1.08)
    path = torch.stack((out * torch.sin(azimuth)[:, None].expand_as(height), height, out * torch.cos(azimuth)[:, None].expand_as(height)), -1)
    bulb = torch.tensor((0.0, 0.95, 0.86, 0.78, 0.74, 0.78, 1.0, 1.08, 0.0))
    radius = candle.drip_radius * bulb * ramp(grown, 0.0, 0.15)[..., None].clamp(min=TINY)
    return Patch("drip", tube(path, radius, 8), mix(style.rgb(), torch.ones(3), 0.28), 0.35, wrap=True)


def _puddle(style: ObjectStyle, candle: Candle, base: float, t: Tensor) -> Patch:
    """Wax that has run down, with a lobed outline."""
    s, angle = unit(7), turn(28)
    lobes = 1 + 0.09 * torch.cos(3 * angle + 0.5) + 0.06 * torch.cos(5 * angle + 2)
    grown = ramp(t, 0.10, 1.0) ** 0.7
    size = candle.radius * 0.6 + (candle.puddle - candle.radius * 0.6) * grown * style.size
    radius = shape(s, 3) * shape(size, 0) * shape(lobes, 2)
    height = base + 0.004 + shape((1 - s**4) * 0.055, 3) * shape(grown, 0)
    points = yaw(revolve(radius, height.expand(len(t), 1, 28, 7), 28), torch.tensor(style.yaw))
    return Patch("puddle", points, (style.rgb() * 0.98 + 0.03).clamp(0, 1), 0.3, wrap=True)


def _fire(style: ObjectStyle, candle: Candle, rim: Tensor, t: Tensor) -> list[Patch]:
    """A wick and a flame that leans a little to its canonical side and breathes."""
    s = unit(5)
    wick_top = rim + 0.075
    path = torch.stack((0.012 * s**2 + 0 * rim[:, None], rim[:, None] - 0.06 + 0.135 * s, 0 * s + 0 * rim[:, None]), -1)
    wick = Patch("wick", tube(path[:, None], torch.full((1, 1, 5), 0.014), 6), torch.tensor((0.10, 0.07, 0.06)), 0.9, wrap=True)
    v = unit(12)
    size = (1.0 + 0.10 * torch.sin(t * 14)) * style.size  # (T,)
    width = torch.sin(v.clamp(0, 1) ** 0.62 * pi).clamp(min=0) * (1 - 0.25 * v) * 0.105
    height = shape(v * 0.33, 3) * shape(size, 0) + shape(wick_top, 0) - 0.035
    points = revolve(shape(width, 3) * shape(size**0.5, 0), height, 14)
    lean = shape(v**2 * 0.05, 3) * shape(1 + 0.6 * torch.sin(t * 9 + 1), 0)
    points = points + torch.stack(torch.broadcast_tensors(lean * 0.8, 0 * lean, lean * 0.5), -1)
    hot, body, tip = torch.tensor((1.0, 0.95, 0.62)), torch.tensor((1.0, 0.80, 0.20)), torch.tensor((1.0, 0.45, 0.08))
    colour = torch.where((v < 0.5)[:, None], mix(hot, body, v / 0.5), mix(body, tip, (v - 0.5) / 0.5))
    colour[0] = torch.tensor((0.45, 0.45, 0.95))
    flame = Patch("flame", points, colour[None, None, None], 1.0, occlusion=0.0, emission=1.0, wrap=True)
    return [wick, flame]


def _plate(style: ObjectStyle) -> list[Patch]:
    radius = torch.tensor((0.0, 0.40, 0.47, 0.555, 0.56, 0.50, 0.46, 0.0)) * style.width
    height = torch.tensor((0.0, 0.0, 0.02, 0.055, 0.075, 0.055, 0.045, 0.045)) + FLOOR
    return [Patch("plate", revolve(shape(radius, 3), shape(height, 3), 28), torch.tensor((0.36, 0.40, 0.46)), 0.4, wrap=True)]


def _saucer(style: ObjectStyle) -> list[Patch]:
    """A brass saucer with a ring to hold it by, on the right."""
    radius = torch.tensor((0.0, 0.30, 0.38, 0.44, 0.45, 0.40, 0.34, 0.0)) * style.width
    height = torch.tensor((0.0, 0.0, 0.03, 0.12, 0.135, 0.08, 0.055, 0.055)) + FLOOR
    brass = torch.tensor((0.78, 0.58, 0.22))
    s = unit(17) * 2 * pi
    path = torch.stack((0.53 + 0.115 * torch.cos(s), FLOOR + 0.16 + 0.115 * torch.sin(s), 0 * s), -1)
    ring = yaw(tube(path[None, None], torch.full((1, 1, 17), 0.030), 8), torch.tensor(style.yaw - radians(12)))
    return [
        Patch("saucer", revolve(shape(radius, 3), shape(height, 3), 28), brass, 0.35, 0.6, wrap=True),
        Patch("handle", ring, brass, 0.35, 0.6, wrap=True),
    ]


def _candlestick(style: ObjectStyle) -> list[Patch]:
    radius = torch.tensor((0.0, 0.30, 0.31, 0.22, 0.07, 0.05, 0.085, 0.05, 0.045, 0.08, 0.155, 0.165, 0.12, 0.0)) * style.width
    height = torch.tensor((0.0, 0.0, 0.03, 0.065, 0.11, 0.17, 0.205, 0.24, 0.36, 0.41, 0.46, 0.485, 0.47, 0.465)) + FLOOR
    return [Patch("candlestick", revolve(shape(radius, 3), shape(height, 3), 24), torch.tensor((0.78, 0.58, 0.22)), 0.35, 0.6, wrap=True)]
