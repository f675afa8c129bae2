"""Parametric surface patches: the building blocks of the procedural objects.

A patch is K grids of U x V points at T times, so a mesh made of patches has the same faces at every time. A part that has
not appeared yet is a patch shrunk to a tiny point. All functions are closed forms of their inputs: no state, no randomness.
"""

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

TINY = 1e-3


@dataclass(frozen=True)
class Patch:
    """One surface and its material.

    points (T, K, U, V, 3). albedo broadcasts to points, sRGB in [0, 1]. roughness, metallic in [0, 1].
    occlusion broadcasts to (T, K, U, V): ambient light that reaches the point. emission, same shape: light given off, in
    units of the albedo. wrap: the U axis closes on itself. part: what it is ("petal", "stem").
    """

    part: str
    points: Tensor
    albedo: Tensor
    roughness: float = 0.7
    metallic: float = 0.0
    occlusion: Tensor | float = 1.0
    emission: Tensor | float = 0.0
    wrap: bool = False


def unit(count: int) -> Tensor:
    """`count` numbers from 0 to 1."""
    return torch.linspace(0, 1, count)


def turn(count: int) -> Tensor:
    """`count` angles of a full turn, the last one short of it."""
    return torch.arange(count) * (2 * pi / count)


def ramp(t: Tensor, start: float, stop: float) -> Tensor:
    """0 before start, 1 after stop, straight between."""
    return ((t - start) / (stop - start)).clamp(0, 1)


def smooth(t: Tensor, start: float, stop: float) -> Tensor:
    """0 before start, 1 after stop, with flat ends."""
    x = ramp(t, start, stop)
    return x * x * (3 - 2 * x)


def mix(a: Tensor, b: Tensor, weight: Tensor | float) -> Tensor:
    """a where weight is 0, b where it is 1; weight has one axis less than the colours."""
    weight = torch.as_tensor(weight)[..., None]
    return a + (b - a) * weight


def shape(values: Tensor, *axes: int) -> Tensor:
    """View a tensor so that its axes lie on the given axes of (T, K, U, V) and the others are 1."""
    full = [1, 1, 1, 1]
    for size, axis in zip(values.shape, axes):
        full[axis] = size
    return values.reshape(full)


def xyz(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Points from their coordinates, broadcast against each other."""
    return torch.stack(torch.broadcast_tensors(x, y, z), -1)


def yaw(points: Tensor, angle: Tensor) -> Tensor:
    """Turn about +Y: azimuth grows from +Z towards +X."""
    cosine, sine = torch.cos(angle), torch.sin(angle)
    x, y, z = points.unbind(-1)
    return xyz(x * cosine + z * sine, y, z * cosine - x * sine)


def pitch(points: Tensor, angle: Tensor) -> Tensor:
    """Turn about +X: up leans towards +Z."""
    cosine, sine = torch.cos(angle), torch.sin(angle)
    x, y, z = points.unbind(-1)
    return xyz(x, y * cosine - z * sine, z * cosine + y * sine)


def revolve(radius: Tensor, height: Tensor, segments: int) -> Tensor:
    """Turn a profile about the Y axis. radius, height broadcast to (T, K, U or 1, V); the result has U = segments."""
    angle = shape(turn(segments), 2)
    return xyz(radius * torch.sin(angle), height, radius * torch.cos(angle))


def ball(centre: Tensor, radii: Tensor, segments: int = 16, rings: int = 9) -> Tensor:
    """Ellipsoids. centre and radii (T, K, 3)."""
    polar = shape(unit(rings), 3) * pi
    points = revolve(torch.sin(polar), -torch.cos(polar), segments)
    return points * radii[:, :, None, None] + centre[:, :, None, None]


def tube(path: Tensor, radius: Tensor, segments: int, reference=(0.0, 0.0, 1.0)) -> Tensor:
    """Round tubes along paths (T, K, V, 3) with radius (T, K, V); `reference` is never along a path."""
    tangent = torch.gradient(path, dim=2)[0] if path.shape[2] > 2 else path.diff(dim=2).expand_as(path)
    tangent = tangent / tangent.norm(dim=-1, keepdim=True).clamp(min=1e-9)
    reference = torch.tensor(reference)
    side = torch.linalg.cross(tangent, reference.expand_as(tangent))
    side = side / side.norm(dim=-1, keepdim=True).clamp(min=1e-9)
    other = torch.linalg.cross(side, tangent)
    angle = shape(turn(segments), 2)[..., None]
    ring = side[:, :, None] * torch.cos(angle) + other[:, :, None] * torch.sin(angle)
    return path[:, :, None] + ring * radius[:, :, None, :, None]


def arc(angle: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """Integrate a curve in a plane from its angle to the vertical.

    angle (..., V) radians at each of V points, length broadcasts to (...). Returns outward and upward coordinates (..., V).
    """
    middle = 0.5 * (angle[..., 1:] + angle[..., :-1])
    step = length[..., None] / middle.shape[-1]
    zero = torch.zeros_like(angle[..., :1])
    outward = torch.cat((zero, (torch.sin(middle) * step).cumsum(-1)), -1)
    upward = torch.cat((zero, (torch.cos(middle) * step).cumsum(-1)), -1)
    return outward, upward


def blade(
    angle: Tensor, length: Tensor, width: Tensor, cup: Tensor, azimuth: Tensor, base: Tensor | float = 0.0, across: int = 5
) -> Tensor:
    """Bent petals or leaves that start at the Y axis and lean outwards.

    angle (T, K, V): lean from the vertical along the blade, radians; length (T, K); width (T, K, V): half width;
    cup: rise of the edges against the middle line over the half width, broadcasts to (T, K, V) (positive: edges towards
    the axis for an upright blade); azimuth (K,); base: distance of the root from the axis, broadcasts to (T, K).
    Returns (T, K, U = across, V, 3).
    """
    outward, upward = arc(angle, length)  # (T, K, V)
    side = (unit(across) * 2 - 1)[:, None]  # (U, 1)
    lift = (cup * width)[:, :, None] * side**2
    radial = outward[:, :, None] - lift * torch.cos(angle)[:, :, None] + torch.as_tensor(base)[..., None, None]
    height = upward[:, :, None] + lift * torch.sin(angle)[:, :, None]
    return yaw(xyz(width[:, :, None] * side, height, radial), shape(azimuth, 1))


def bend(points: Tensor, angle: Tensor, azimuth: Tensor | float) -> Tensor:
    """Lean points about the origin by `angle` from the vertical towards `azimuth`; both broadcast to points[..., 0]."""
    azimuth = torch.as_tensor(azimuth)
    return yaw(pitch(yaw(points, -azimuth), angle), azimuth)


def petal_width(rows: int, widest: float = 0.6, root: float = 0.2, point: float = 0.5) -> Tensor:
    """Half width along a petal of `rows` points, 1 at its widest place, 0 at the tip. point: 0.5 round, 1 pointed."""
    s = unit(rows)
    rise = root + (1 - root) * torch.sin((s / widest).clamp(max=1) * pi / 2)
    fall = (1 - ((s - widest) / (1 - widest)).clamp(0, 1) ** 2).clamp(min=0) ** point
    return torch.where(s < widest, rise, fall)

