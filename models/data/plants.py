"""Plants that sprout from the soil of a coloured pot: basil, bean, fern and tomato."""

from math import pi, radians

import torch
from torch import Tensor

from .patches import TINY, Patch, ball, blade, mix, petal_width, ramp, revolve, shape, smooth, tube, unit
from .styles import ObjectStyle

SOIL = -0.40
FLOOR = -0.82
YOUNG = (0.58, 0.80, 0.26)
ROWS = 7


def build_plant(style: ObjectStyle, t: Tensor) -> list[Patch]:
    """A pot of soil; a sprout breaks through, unfolds and grows to a plant that fills the picture."""
    species = {"basil": _basil, "bean": _bean, "fern": _fern, "tomato": _tomato}[style.species]
    return [*_pot(style), _seed(t), *species(style, t)]


def _pot(style: ObjectStyle) -> list[Patch]:
    height = torch.tensor((0.0, 0.0, 0.02, 0.30, 0.30, 0.32, 0.44, 0.46, 0.46, 0.40))
    radius = torch.tensor((0.0, 0.26, 0.275, 0.36, 0.400, 0.415, 0.425, 0.42, 0.38, 0.37))
    points = revolve(shape(radius, 3) * style.width, shape(height, 3) + FLOOR, 24)
    colour = style.rgb() * torch.tensor((1, 1, 0.95, 1, 0.75, 1.0, 1.0, 1.05, 0.9, 0.6))[:, None]
    s = unit(6)
    soil = revolve(shape(s, 3) * 0.375 * style.width, shape(SOIL + 0.035 * (1 - s**2), 3), 20)
    grain = 1 + 0.25 * (((torch.arange(20)[:, None] * 7 + torch.arange(6) * 11) % 5) / 2 - 1)
    earth = torch.tensor((0.26, 0.17, 0.11)) * grain[..., None]
    return [
        Patch("pot", points, colour.clamp(0, 1)[None, None, None], 0.6, wrap=True),
        Patch("soil", soil, earth[None, None], 1.0, occlusion=shape(1 - 0.45 * s**3, 3), wrap=True),
    ]


def _seed(t: Tensor) -> Patch:
    """The seed on the soil; the sprout uses it up."""
    left = (1 - smooth(t, 0.06, 0.26)).clamp(min=TINY)[:, None]
    centre = torch.stack((0.0 * left, SOIL + 0.055 + 0.0 * left, 0.06 + 0.0 * left), -1)
    radii = torch.stack((0.085 * left, 0.05 * left, 0.06 * left), -1)
    return Patch("seed", ball(centre, radii, 12, 7), torch.tensor((0.90, 0.78, 0.50)), 0.6, wrap=True)


def _stalk(style: ObjectStyle, height: Tensor, radius: float, sway: float, colour=(0.36, 0.60, 0.20)) -> tuple[Patch, Tensor]:
    """A stem of `height` (T,) that starts as a bent hook; returns it and its points (T, V, 3)."""
    s = unit(14)
    hook = (1 - ramp(height, 0.03, 0.25))[:, None]  # a young shoot hangs its head
    up = s * height[:, None].clamp(min=TINY)
    aside = sway * torch.sin(s * 2.2 * pi) * height[:, None] + hook * 0.05 * s**2
    path = torch.stack((aside, SOIL + 0.02 + up - hook * 0.03 * s**4, 0.5 * aside), -1)
    thick = radius * (0.35 + 0.65 * ramp(height, 0.0, 0.8))[:, None] * (1.2 - 0.7 * s) * ramp(height, 0.0, 0.02)[:, None].clamp(min=TINY)
    points = tube(path[:, None], thick[:, None] * style.width, 8)
    young = mix(torch.tensor(YOUNG), torch.tensor(colour), shape(ramp(height, 0.1, 0.8), 0))
    return Patch("stem", points, young, 0.6, wrap=True), path


def _place(points: Tensor, path: Tensor, share: Tensor) -> Tensor:
    """Move K blades (T, K, U, V, 3) to the shares (T, K) of a stem's points (T, N, 3)."""
    position = share.clamp(0, 1) * (path.shape[1] - 1)
    below = position.floor().long().clamp(max=path.shape[1] - 2)
    index = below[..., None].expand(-1, -1, 3)
    low, high = path.gather(1, index), path.gather(1, index + 1)
    root = low + (high - low) * (position - below)[..., None]
    return points + root[:, :, None, None]


def _leaves(
    style: ObjectStyle, path: Tensor, height: Tensor, level: Tensor, azimuth: Tensor, grown: Tensor, size: Tensor,
    outline: Tensor, colour: tuple[float, float, float], lean: float = 62.0, curl: float = 42.0, fold: float = 0.3, petiole: float = 0.0,
) -> Patch:  # fmt: skip
    """K leaves at heights `level` (K,) above the soil, grown (T, K) of their half width and length size (K, 2)."""
    s = unit(outline.shape[-1])
    grown = grown.clamp(min=TINY)
    lean = radians(18) + (radians(lean) - radians(18)) * smooth(grown, 0.05, 0.8)
    angle = lean[..., None] + radians(curl) * s * grown[..., None]
    length, width = size[:, 1] * grown * style.size, size[:, 0] * grown * style.width
    half = width[..., None] * outline
    points = blade(angle, length, half, torch.tensor(fold), azimuth + style.yaw, torch.tensor(petiole))
    points = _place(points, path, level / height[:, None].clamp(min=TINY))
    vein = ((unit(5) * 2 - 1).abs() < 0.3).float()[:, None] * 0.30
    tone = (1 + vein * (1 - 0.4 * s)) * (0.84 + 0.22 * s)
    tone = tone * (1 - 0.12 * (torch.arange(len(azimuth)) % 2))[:, None, None]
    fresh = mix(torch.tensor(YOUNG), torch.tensor(colour), shape(grown, 0, 1) ** 1.5)
    return Patch("leaf", points, (fresh * tone[..., None]).clamp(0, 1), 0.55, occlusion=shape(0.55 + 0.45 * s**0.7, 3))


def _seed_leaves(style: ObjectStyle, path: Tensor, height: Tensor, t: Tensor) -> Patch:
    """The first two round leaves."""
    size = torch.tensor((0.13, 0.27)).expand(2, 2)
    grown = (ramp(t, 0.02, 0.18) * (1 - 0.35 * ramp(t, 0.55, 0.9)))[:, None].expand(-1, 2)
    level = torch.minimum(height[:, None], torch.tensor(0.17)).expand(-1, 2)
    azimuth = torch.deg2rad(torch.tensor((75.0, 255.0)))
    return _leaves(style, path, height, level, azimuth, grown, size, petal_width(ROWS, 0.6, 0.3, 0.5), YOUNG, 60, 25)


def _basil(style: ObjectStyle, t: Tensor) -> list[Patch]:
    """Pairs of broad leaves, each pair across the one below."""
    height = (0.02 + 1.04 * ramp(t, 0.0, 1.0) ** 0.75) * style.height
    stem, path = _stalk(style, height, 0.036, 0.0)
    pair = torch.arange(5).repeat_interleave(2)
    level = (0.24 + 0.165 * pair) * style.height
    azimuth = torch.deg2rad(30 + 90.0 * (pair % 2) + 180 * (torch.arange(10) % 2)) + style.wobble(0, 10, radians(4))
    start = 0.12 + 0.15 * pair
    grown = ((t[:, None] - start) / 0.34).clamp(0, 1) ** 0.8
    size = torch.stack((0.215 - 0.022 * pair, 0.56 - 0.065 * pair), 1)
    leaves = _leaves(style, path, height, level, azimuth, grown, size, petal_width(ROWS, 0.5, 0.25, 0.65), (0.16, 0.52, 0.14), 58, 32)
    return [stem, _seed_leaves(style, path, height, t), leaves]


def _bean(style: ObjectStyle, t: Tensor) -> list[Patch]:
    """A twining stem on a stick, heart-shaped leaves on alternate sides, long pods at the end."""
    height = (0.02 + 1.14 * ramp(t, 0.0, 0.97) ** 0.75) * style.height
    stem, path = _stalk(style, height, 0.030, 0.0)
    twine = (ramp(path[..., 1] - SOIL, 0.1, 0.3) * 0.065)[..., None]
    phase = (path[..., 1] - SOIL) * 11
    path = path + twine * torch.stack((torch.sin(phase), torch.zeros_like(phase), torch.cos(phase)), -1)
    stem = Patch("stem", tube(path[:, None], 0.030 * (1.1 - 0.5 * unit(14))[None, None] * ramp(height, 0, 0.3)[:, None, None], 6), stem.albedo, 0.6, wrap=True)
    stick = torch.stack((torch.zeros(2), torch.tensor((SOIL - 0.02, 0.80)), torch.zeros(2)), -1)
    stake = Patch("stick", tube(stick[None, None], torch.full((1, 1, 2), 0.030), 6), torch.tensor((0.66, 0.48, 0.28)), 0.9, wrap=True)
    index = torch.arange(7)
    level = (0.24 + 0.135 * index) * style.height
    azimuth = torch.deg2rad(torch.tensor((80.0, 260, 20, 200, 110, 290, 60))) + style.wobble(0, 7, radians(4))
    grown = ((t[:, None] - 0.12 - 0.11 * index) / 0.26).clamp(0, 1)
    size = torch.stack((0.27 - 0.016 * index, 0.52 - 0.030 * index), 1)
    heart = petal_width(ROWS, 0.28, 0.55, 0.95)
    leaves = _leaves(style, path, height, level, azimuth, grown, size, heart, (0.24, 0.60, 0.18), 66, 44, 0.25, 0.05)
    return [stake, stem, _seed_leaves(style, path, height, t), leaves, _pods(style, t)]


def _pods(style: ObjectStyle, t: Tensor) -> Patch:
    s = unit(8)
    azimuth = torch.deg2rad(torch.tensor((40.0, 150.0, 235.0, 330.0))) + style.yaw
    top = torch.tensor((0.42, 0.16, 0.30, 0.04)) * style.height
    grown = ((t[:, None] - 0.62 - 0.05 * torch.arange(4)) / 0.3).clamp(TINY, 1)
    out = (0.16 + 0.16 * s * (1 - 0.5 * s)) * grown[..., None]
    down = top[:, None] - 0.36 * s * grown[..., None]
    path = torch.stack((out * torch.sin(azimuth)[:, None], down, out * torch.cos(azimuth)[:, None]), -1)
    radius = 0.048 * torch.sin((s * 0.94 + 0.03) * pi).sqrt() * (1 + 0.18 * torch.cos(s * 8 * pi)) * grown[..., None]
    return Patch("pod", tube(path, radius, 6, (1.0, 0.0, 0.3)), torch.tensor((0.52, 0.78, 0.22)), 0.5, wrap=True)


def _fern(style: ObjectStyle, t: Tensor) -> list[Patch]:
    """Fronds that unroll from fiddleheads, with toothed edges."""
    count, rows = 9, 25
    s = unit(rows)
    azimuth = torch.deg2rad(torch.tensor((62.0, 134.0, 206.0, 278.0, 350.0, 95.0, 215.0, 335.0, 20.0))) + style.yaw + style.wobble(0, count, radians(4))
    inner = torch.tensor((0, 0, 0, 0, 0, 1, 1, 1, 2))  # three rings of fronds come up one after the other
    grown = ((t[:, None] - 0.03 - 0.10 * inner) / (0.97 - 0.10 * inner)).clamp(TINY, 1) ** 0.65
    length = torch.tensor((0.97, 1.03, 1.04))[inner] * grown**0.85 * style.height
    lean = torch.deg2rad(torch.tensor((42.0, 24.0, 4.0)))[inner] * (0.4 + 0.6 * grown)
    roll = 4.0 * (1 - smooth(grown, 0.10, 0.60))  # the coil of a fiddlehead
    droop = torch.deg2rad(torch.tensor((88.0, 62.0, 40.0)))[inner] * grown
    angle = lean[..., None] + droop[..., None] * s**1.3 + roll[..., None] * (s - 0.35).clamp(min=0) ** 1.2
    teeth = torch.where(torch.arange(rows) % 2 == 0, 0.42, 1.0)
    outline = (0.10 + 0.90 * torch.sin((s * 0.86 + 0.06).clamp(0, 1) * pi) ** 0.8) * teeth * ramp(s, -0.02, 0.25) * (1 - 0.9 * s**6)
    half = 0.17 * style.width * smooth(grown, 0.1, 0.8)[..., None].clamp(min=0.30) * outline
    points = blade(angle, length, half, torch.tensor(-0.25), azimuth, torch.tensor(0.03), 5)
    points = points + torch.tensor((0.0, SOIL + 0.02, 0.0))
    vein = ((unit(5) * 2 - 1).abs() < 0.3).float()[:, None] * 0.45
    tone = (1 + vein) * (0.80 + 0.30 * s) * torch.where(torch.arange(rows) % 2 == 0, 0.8, 1.08)
    fresh = mix(torch.tensor(YOUNG), torch.tensor((0.20, 0.56, 0.16)), shape(grown, 0, 1))
    return [Patch("frond", points, (fresh * tone[..., None]).clamp(0, 1), 0.6, occlusion=shape(0.5 + 0.5 * s.sqrt(), 3))]


def _tomato(style: ObjectStyle, t: Tensor) -> list[Patch]:
    """Lobed leaves on alternate sides and fruit that turns from green to red."""
    height = (0.02 + 1.10 * ramp(t, 0.0, 0.97) ** 0.75) * style.height
    stem, path = _stalk(style, height, 0.040, 0.022)
    index = torch.arange(8)
    level = (0.24 + 0.115 * index) * style.height
    azimuth = torch.deg2rad(torch.tensor((95.0, 265, 10, 180, 60, 235, 310, 120))) + style.wobble(0, 8, radians(4))
    grown = ((t[:, None] - 0.12 - 0.09 * index) / 0.30).clamp(0, 1)
    size = torch.stack((0.24 - 0.014 * index, 0.62 - 0.045 * index), 1)
    lobes = torch.tensor((0.10, 0.16, 0.85, 0.35, 1.0, 0.42, 0.85, 0.40, 0.50, 0.0))
    leaves = _leaves(style, path, height, level, azimuth, grown, size, lobes, (0.22, 0.52, 0.18), 56, 44, 0.2)
    return [stem, _seed_leaves(style, path, height, t), leaves, *_fruit(style, t)]


def _fruit(style: ObjectStyle, t: Tensor) -> list[Patch]:
    azimuth = torch.deg2rad(torch.tensor((35.0, 330.0, 140.0, 225.0, 80.0))) + style.yaw
    level = torch.tensor((-0.02, 0.24, 0.10, 0.30, 0.42)) * style.height
    start = torch.tensor((0.50, 0.58, 0.55, 0.62, 0.66))
    grown = ((t[:, None] - start) / 0.26).clamp(TINY, 1)
    radius = 0.125 * grown * style.size
    out = 0.06 + 0.9 * radius
    centre = torch.stack((out * torch.sin(azimuth), (level - radius).expand_as(out), out * torch.cos(azimuth)), -1)
    points = ball(centre, torch.stack((radius, radius * 0.9, radius), -1), 12, 8)
    ripe = ((t[:, None] - start - 0.12) / 0.24).clamp(0, 1)
    colour = mix(torch.tensor((0.52, 0.74, 0.20)), torch.tensor((0.90, 0.12, 0.07)), shape(ripe, 0, 1))
    return [Patch("fruit", points, colour, 0.3, wrap=True)]


