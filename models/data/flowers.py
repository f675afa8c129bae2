"""Flowers that open and flowers that wither: one anatomy, four species, two time laws."""

from dataclasses import dataclass, replace
from math import pi, radians

import torch
from torch import Tensor

from .patches import Patch, bend, blade, mix, petal_width, ramp, revolve, shape, smooth, tube, turn, unit
from .styles import ObjectStyle

GROUND = -0.84
STEM = (0.27, 0.50, 0.17)
LEAF = (0.20, 0.55, 0.16)
DEAD = (0.40, 0.26, 0.13)
STRAW = (0.55, 0.47, 0.22)
ROWS = 7


@dataclass(frozen=True)
class Whorl:
    """One ring of petals. Angles in degrees from the head's axis; times are shares of the opening."""

    count: int
    length: float
    width: float
    lean: float
    curl: float
    cup: float = 0.35
    base: float = 0.0
    offset: float = 0.0
    start: float = 0.0
    widest: float = 0.62
    point: float = 0.5


@dataclass(frozen=True)
class Flower:
    """A species: its rings of petals from outside to inside, its eye and its leaves."""

    whorls: tuple[Whorl, ...]
    eye_radius: float
    eye_colour: tuple[float, float, float]
    tilt: float
    leaf: str
    bloom_top: float
    vase_top: float
    stem_radius: float = 0.035


FLOWERS = {
    "rose": Flower(
        (
            Whorl(5, 0.50, 0.29, 76, 34, 0.30, 0.02),
            Whorl(5, 0.48, 0.27, 54, 26, 0.45, 0.02, 36, 0.10),
            Whorl(5, 0.43, 0.23, 34, 16, 0.55, 0.02, 12, 0.22),
            Whorl(4, 0.38, 0.18, 17, 4, 0.60, 0.01, 50, 0.34),
            Whorl(3, 0.34, 0.13, 4, -14, 0.60, 0.01, 20, 0.40),
        ),
        0.05, (0.85, 0.65, 0.20), 38, "stem", 0.22, 0.27,
    ),
    "daisy": Flower(
        (Whorl(13, 0.44, 0.088, 86, 8, 0.15, 0.13, 0, 0.0, 0.70, 0.45),), 0.19, (0.98, 0.72, 0.06), 52, "rosette", 0.24, 0.30, 0.038
    ),
    "tulip": Flower(
        (Whorl(3, 0.57, 0.28, 22, 28, 0.55, 0.06, 60), Whorl(3, 0.56, 0.26, 12, 20, 0.60, 0.03, 0, 0.05)),
        0.08, (0.95, 0.85, 0.25), 14, "sword", 0.10, 0.00, 0.042,
    ),
    "sunflower": Flower(
        (
            Whorl(14, 0.33, 0.082, 92, 12, 0.2, 0.25, 13, 0.0, 0.45, 0.9),
            Whorl(14, 0.30, 0.078, 74, 16, 0.2, 0.25, 0, 0.12, 0.45, 0.9),
        ),
        0.28, (0.25, 0.13, 0.06), 62, "broad", 0.26, 0.30, 0.050,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class State:
    """Where a flower stands at T times; every field (T,), in [0, 1] unless said. droop and tilt in radians."""

    open: Tensor
    grown: Tensor
    dead: Tensor
    droop: Tensor
    tilt: Tensor
    top: Tensor
    falling: Tensor


def build_blooming(style: ObjectStyle, t: Tensor) -> list[Patch]:
    """A bud on a growing stem opens; stands in a mound of soil."""
    flower = FLOWERS[style.species]
    state = State(
        open=ramp(t, 0.04, 1.0),
        grown=0.50 + 0.50 * ramp(t, 0.0, 1.0),
        dead=torch.zeros_like(t),
        droop=torch.zeros_like(t),
        tilt=radians(flower.tilt) * (0.15 + 0.85 * smooth(t, 0.1, 0.95)),
        top=GROUND + (flower.bloom_top - GROUND) * (0.55 + 0.45 * t) * style.height,
        falling=torch.zeros_like(t),
    )
    return [*_flower(style, flower, state), *_soil(style)]


def build_withering(style: ObjectStyle, t: Tensor) -> list[Patch]:
    """A cut flower in a vase hangs its head, browns and drops petals."""
    flower = FLOWERS[style.species]
    state = State(
        open=torch.ones_like(t),
        grown=1 - 0.28 * ramp(t, 0.05, 0.9),
        dead=ramp(t, 0.08, 0.95),
        droop=radians(100) * ramp(t, 0.0, 1.0) ** 1.2,
        tilt=torch.full_like(t, radians(flower.tilt * 0.8)),
        top=GROUND + (flower.vase_top - GROUND) * style.height - 0.06 * t,
        falling=t,
    )
    return [*_flower(style, flower, state), *_vase(style)]


def _flower(style: ObjectStyle, flower: Flower, state: State) -> list[Patch]:
    side = radians(48) + style.yaw  # where a drooping head leans to: front right
    stem, tip, lean = _stem(flower, state, side, style)
    patches = [stem, *_leaves(style, flower, state)]
    head = [*_petals(style, flower, state), _eye(style, flower, state), _sepals(style, flower, state)]
    for patch in head:
        points = bend(patch.points, shape(state.tilt, 0), style.yaw)
        points = bend(points, shape(lean, 0), side) + tip[:, None, None, None]
        patches.append(_fall(patch, points, state, style) if patch.part == "petal" else _moved(patch, points))
    return patches


def _moved(patch: Patch, points: Tensor) -> Patch:
    return replace(patch, points=points)


def _stem(flower: Flower, state: State, side: float, style: ObjectStyle) -> tuple[Patch, Tensor, Tensor]:
    """The stem, its tip (T, 3) and the lean of its last piece (T,)."""
    s = unit(16)
    angle = state.droop[:, None] * smooth(s, 0.56, 1.0)  # (T, V)
    length = state.top - GROUND
    step = torch.cat((torch.zeros(1), torch.full((15,), 1 / 15)))
    outward = (torch.sin(angle) * step).cumsum(-1) * length[:, None]
    upward = (torch.cos(angle) * step).cumsum(-1) * length[:, None] + GROUND
    path = torch.stack((outward * torch.sin(torch.tensor(side)), upward, outward * torch.cos(torch.tensor(side))), -1)
    radius = flower.stem_radius * style.width * (1.15 - 0.3 * s) * (1 - 0.35 * state.dead[:, None])
    colour = mix(torch.tensor(STEM), torch.tensor(STRAW), shape(state.dead, 0))
    points = tube(path[:, None], radius[:, None], 8)
    return Patch("stem", points, colour, 0.6, wrap=True), path[:, -1], angle[:, -1]


def _petals(style: ObjectStyle, flower: Flower, state: State) -> list[Patch]:
    return [_whorl(style, whorl, state, index) for index, whorl in enumerate(flower.whorls)]


def _whorl(style: ObjectStyle, whorl: Whorl, state: State, index: int) -> Patch:
    s = unit(ROWS)
    count = whorl.count
    open_now = ((state.open - whorl.start * 0.8) / (1 - whorl.start * 0.8)).clamp(0, 1)[:, None]  # (T, 1)
    uneven = style.wobble(5 * index, count, 1.0)  # (K,)
    lean = radians(5) + (radians(whorl.lean) * style.size - radians(5)) * open_now * (1 + 0.04 * uneven)
    curl = radians(-16) + (radians(whorl.curl) + radians(16)) * open_now  # (T, 1): closed tips lean inwards
    limp = state.dead[:, None] * (1 + 0.12 * uneven)  # (T, K)
    lean = lean * (1 - 0.62 * limp) + radians(8) * limp  # the head hangs upside down, so limp petals close
    angle = lean[..., None] + (curl * (1 - limp) + radians(18) * limp * uneven)[..., None] * s**1.5  # (T, K, V)
    length = 1.18 * whorl.length * style.size * state.grown[:, None] * (0.85 + 0.15 * open_now) * (1 + 0.03 * uneven)
    width = 1.18 * whorl.width * style.width * state.grown[:, None] * (0.72 + 0.28 * open_now) * (1 - 0.42 * limp)
    outline = petal_width(ROWS, whorl.widest, 0.35, whorl.point)
    cup = whorl.cup * (1.5 - 0.8 * open_now) + 1.2 * limp
    crumple = limp[..., None] * torch.sin(9 * s + 2.4 * torch.arange(count)[:, None])
    azimuth = turn(count) + radians(whorl.offset) + style.yaw + style.wobble(3 + index, count, radians(3))
    points = blade(angle, length, width[..., None] * outline, cup[..., None] + 0.7 * crumple, azimuth, whorl.base * style.size * state.grown[:, None] * (0.35 + 0.65 * state.open[:, None]))
    return Patch("petal", points, _petal_colour(style, state, count, index), 0.6, occlusion=_petal_shadow(style, open_now), emission=0.10)


def _petal_colour(style: ObjectStyle, state: State, count: int, index: int) -> Tensor:
    """(T, K, U, V, 3): paler rim, darker vein, every second petal a little darker, brown from the tip when it dies."""
    s, side = unit(ROWS), (unit(5) * 2 - 1).abs()
    colour = style.rgb()
    light = 1 - 0.13 * (torch.arange(count) % 2)[:, None, None] - 0.10 * (side < 0.3)[:, None] * (s < 0.8)
    light = light * (0.68 + 0.40 * s)  # (K, U, V)
    fresh = (colour * light[..., None]).clamp(0, 1)
    if style.species == "tulip":
        fresh = mix(fresh, torch.tensor((0.98, 0.88, 0.35)), (0.75 * (1 - s / 0.3)).clamp(0, 1))
    brown = (shape(state.dead, 0) * 1.5 - 0.5 * (1 - s) * (1 - 0.3 * side[:, None])).clamp(0, 0.9)
    return mix(fresh[None], torch.tensor(DEAD), brown)


def _petal_shadow(style: ObjectStyle, open_now: Tensor) -> Tensor:
    """Ambient occlusion (T, 1, 1, V): dark at the root, between the layers."""
    depth = 0.62 if style.species in ("rose", "tulip") else 0.40
    return (1 - depth * (1 - unit(ROWS)) ** 1.4 * (1.15 - 0.15 * shape(open_now[:, 0], 0)))


def _eye(style: ObjectStyle, flower: Flower, state: State) -> Patch:
    """The middle: a dome with a ring of darker seeds."""
    s = unit(7)
    size = 1.15 * flower.eye_radius * style.size * state.grown * (0.35 + 0.65 * state.open) * (1 - 0.25 * state.dead)  # (T,)
    radius = shape(torch.sin(s * pi / 2), 3) * shape(size, 0)
    height = shape(torch.cos(s * pi / 2) * 0.5, 3) * shape(size, 0) + 0.035
    points = revolve(radius, height, 16).flip(3)
    if style.colour == "yellow" and style.species == "daisy":
        eye = torch.tensor((0.80, 0.40, 0.05))
    else:
        eye = torch.tensor(flower.eye_colour)
    dots = ((torch.arange(16)[:, None] + torch.arange(7)) % 2).float() * 0.28
    albedo = (eye * (1.06 - dots - 0.25 * (unit(7) < 0.2))[..., None]).clamp(0, 1)
    albedo = mix(albedo[None, None], torch.tensor((0.22, 0.14, 0.08)), shape(state.dead * 0.8, 0))
    return Patch("eye", points, albedo, 0.9, wrap=True)


def _sepals(style: ObjectStyle, flower: Flower, state: State) -> Patch:
    """Five green blades that hold the bud and turn back when it opens."""
    s = unit(ROWS)
    size = {"sunflower": 0.33, "tulip": 0.20}.get(style.species, 0.30)
    outer = flower.whorls[0]
    lean = radians(16) + radians(outer.lean + 4) * state.open * (1 - 0.6 * state.dead)
    angle = lean[:, None, None] + (radians(-34) + radians(outer.curl + 40) * state.open[:, None, None]) * s
    length = (size * (0.75 + 0.25 * state.grown) * style.size)[:, None]
    width = (0.11 if style.species != "sunflower" else 0.17) * petal_width(ROWS, 0.4, 0.5, 0.9)
    points = blade(angle, length, width[None, None], torch.tensor(0.5), turn(5) + style.yaw + 0.3, (outer.base * (0.35 + 0.65 * state.open) + 0.01)[:, None] * state.grown[:, None])
    points = points - torch.tensor((0.0, 0.045, 0.0))
    colour = mix(torch.tensor(LEAF), torch.tensor((0.44, 0.36, 0.17)), shape(state.dead, 0))
    return Patch("sepal", points, colour, 0.7)


def _leaves(style: ObjectStyle, flower: Flower, state: State) -> list[Patch]:
    """The species' leaves at their canonical azimuths."""
    kinds = {  # azimuth (degrees), height above ground, length, half width, lean, curl (degrees)
        "stem": ((72, 0.42, 0.44, 0.135, 52, 40), (235, 0.28, 0.42, 0.130, 55, 40), (140, 0.60, 0.26, 0.085, 50, 40)),
        "rosette": tuple((a, 0.05, 0.36, 0.085, 55, 45) for a in (20, 95, 165, 240, 310)),
        "sword": ((60, 0.02, 0.80, 0.085, 14, 38), (200, 0.02, 0.74, 0.085, 18, 46), (300, 0.02, 0.60, 0.075, 24, 50)),
        "broad": ((80, 0.40, 0.44, 0.190, 60, 50), (250, 0.28, 0.44, 0.190, 60, 50), (340, 0.14, 0.36, 0.160, 66, 40)),
    }
    table = torch.tensor(kinds[flower.leaf])
    azimuth, level, length, width, lean, curl = table.unbind(1)
    s = unit(ROWS)
    limp = state.dead[:, None, None]
    angle = torch.deg2rad(lean)[:, None] + (torch.deg2rad(curl)[:, None]) * s + radians(55) * limp * s
    angle = angle.expand(state.dead.shape[0], -1, -1)
    grow = (0.6 + 0.4 * ((state.grown - 0.50) / 0.50).clamp(0, 1))[:, None] * style.width
    outline = petal_width(ROWS, 0.42, 0.25, 0.8)
    half = (width * (1 - 0.3 * state.dead[:, None]))[..., None] * outline
    points = blade(angle, length * grow, half, torch.tensor(0.35) + 0.8 * limp, torch.deg2rad(azimuth) + style.yaw)
    share = (state.top - GROUND)[:, None] / (1.06 * style.height)
    lift = GROUND + level * share
    points = points + torch.stack((torch.zeros_like(lift), lift, torch.zeros_like(lift)), -1)[:, :, None, None]
    vein = ((unit(5) * 2 - 1).abs() < 0.3).float()[:, None] * 0.22
    green = torch.tensor(LEAF) * (1 + vein * (1 - 0.5 * s))[..., None]
    colour = mix(green[None, None], torch.tensor(STRAW), shape(state.dead, 0) * 0.9)
    return [Patch("leaf", points, colour, 0.55)]


def _fall(patch: Patch, points: Tensor, state: State, style: ObjectStyle) -> Patch:
    """Let every third petal drop to the ground, one after the other."""
    count = points.shape[1]
    k = torch.arange(count)
    falls = k % 3 == 1
    start = 0.42 + 0.45 * ((k * 5) % 7) / 7
    gone = ((state.falling[:, None] - start) / 0.14).clamp(0, 1) * falls  # (T, K)
    azimuth = k * 2.4 + 0.5 + style.yaw
    away = 0.26 + 0.16 * ((k * 3) % 5) / 5
    target = torch.stack((away * torch.sin(azimuth), torch.full_like(away, GROUND + 0.02), away * torch.cos(azimuth)), -1)
    local = bend(patch.points, torch.tensor(radians(75)), azimuth[None, :, None, None])
    middle = local.mean((2, 3), keepdim=True)
    lying = (local - middle) * torch.tensor((0.7, 0.25, 0.7)) + target[:, None, None]
    weight = gone[..., None, None, None]
    return _moved(patch, points + (lying - points) * torch.cat((weight, weight**2, weight), -1))


def _soil(style: ObjectStyle) -> list[Patch]:
    """A low mound with blades of grass."""
    s = unit(6)
    radius, height = shape(torch.sin(s * pi / 2) * 0.27, 3), shape(torch.cos(s * pi / 2) * 0.09 + GROUND - 0.03, 3)
    mound = revolve(radius, height, 16).flip(3)
    grain = 1 + 0.22 * ((torch.arange(16)[:, None] * 3 + torch.arange(6) * 5) % 4 - 1.5) / 1.5
    soil = (torch.tensor((0.30, 0.20, 0.13)) * grain[..., None])[None, None]
    azimuth = torch.deg2rad(torch.tensor((15.0, 60.0, 110.0, 165.0, 215.0, 275.0, 330.0)))
    angle = radians(16) + radians(38) * unit(5).expand(1, 7, 5)
    length = (0.15 + 0.05 * ((torch.arange(7) * 3) % 4) / 3)[None] * style.height
    points = blade(angle, length, 0.022 * (1 - unit(5))[None, None], torch.tensor(0.0), azimuth + style.yaw, torch.tensor(0.17), 3)
    points = points + torch.tensor((0.0, GROUND, 0.0))
    return [Patch("soil", mound, soil, 1.0, wrap=True), Patch("grass", points, torch.tensor((0.38, 0.66, 0.20)), 0.7)]


def _vase(style: ObjectStyle) -> list[Patch]:
    """A glazed vase that is always the same pale blue grey."""
    height = torch.tensor((0.0, 0.0, 0.03, 0.10, 0.18, 0.27, 0.36, 0.43, 0.47, 0.50, 0.50, 0.44))
    radius = torch.tensor((0.0, 0.13, 0.155, 0.20, 0.225, 0.215, 0.165, 0.11, 0.10, 0.13, 0.11, 0.08))
    points = revolve(shape(radius, 3) * style.width, shape(height, 3) + GROUND - 0.02, 20)
    colour = torch.tensor((0.62, 0.71, 0.76)).expand(12, 3).clone()
    colour[4:6] = torch.tensor((0.30, 0.45, 0.58))
    colour[10:] = torch.tensor((0.20, 0.25, 0.28))
    return [Patch("vase", points, colour[None, None, None], 0.25, wrap=True)]

