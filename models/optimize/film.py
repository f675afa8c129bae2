"""Our own pictures of a scene from all sides over time, and a first cloud on its surface: what Gaussians are distilled from."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..fields.field import Field
from ..gaussians.activation import cloud
from ..geometry.cameras import RIG_DISTANCE, RIG_FOV_DEGREES, Cameras, orbit
from ..render.frames import render_frames
from .footage import Footage

GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
HELD_VIEWS = 3  # cameras of the check, at every time half-way between two of the film
SEED_CELLS = 48  # along each axis of the unit ball's box, where a field is probed for its surface
SEED_CHUNK = 1 << 17  # points
BURIED = 0.1  # weight of a cell whose neighbours are all filled, of the weight of one at the surface
FILLED = 0.05  # opacity of a cell's width from which a cell counts
OVERLAP = 0.6  # standard deviation of a first Gaussian, in sides of the cube that it has for itself
OPAQUE = 0.6


@dataclass(frozen=True)
class Filming:
    """`views` cameras at each of `times` even times, pictures of `size` pixels a side, on the usual rig's distance.

    Azimuths stand evenly and are turned by the golden ratio from time to time, elevations spread evenly over the sphere between
    `low` and `high` degrees: over all times the object is seen from views x times different sides.
    """

    views: int = 10
    times: int = 8
    size: int = 96
    low: float = -20.0
    high: float = 60.0

    def __post_init__(self):
        if self.low > self.high or not -90.0 <= self.low <= self.high <= 90.0:
            raise ValueError(f"The cameras' elevations go from {self.low:g} to {self.high:g} degrees. Give two numbers from -90 to 90, the lower one first.")

    def cameras(self) -> Cameras:
        """views x times cameras, time slowest."""
        instants = torch.arange(self.times, dtype=torch.float64)
        return self._around(self.views, instants, instants / max(self.times - 1, 1), 0.0)

    def held_out(self) -> Cameras:
        """Cameras that no picture of the film has, half-way between its times; at a single time from other sides."""
        instants = torch.arange(max(self.times - 1, 1), dtype=torch.float64)
        between = (instants + 0.5) / (self.times - 1) if self.times > 1 else torch.zeros(1, dtype=torch.float64)
        return self._around(HELD_VIEWS, instants, between, 0.37)

    def bytes(self) -> int:
        """Of the film, with depth and masks while it is made."""
        return self.views * self.times * self.size**2 * 8 * 4

    def _around(self, views: int, instants: Tensor, times: Tensor, shift: float) -> Cameras:
        view = torch.arange(views, dtype=torch.float64)
        azimuth = 2.0 * math.pi * (view / views + instants[:, None] * GOLDEN + shift)
        bottom, top = (math.sin(math.radians(angle)) for angle in (self.low, self.high))
        elevation = torch.asin(bottom + (top - bottom) * ((view * GOLDEN + instants[:, None] * GOLDEN**2 + shift) % 1.0))
        count = azimuth.numel()
        pose = orbit(azimuth.flatten().float(), elevation.flatten().float(), torch.full((count,), RIG_DISTANCE))
        return Cameras(pose, torch.full((count,), math.radians(RIG_FOV_DEGREES)), times.float().repeat_interleave(views))


def film_field(name: str, field: Field, renderer, cameras: Cameras, size: int, watch: Callable[[int], None] | None = None) -> Footage:
    """Footage of a field; ValueError when nothing is to be seen in any picture."""
    frames = render_frames(field, renderer, cameras, size, size, watch, normals=False)
    if not bool((frames.alpha > 0.5).any()):
        raise ValueError(
            f"The field is empty: in none of {len(cameras)} pictures anything is more than half opaque (at most {float(frames.alpha.max()):.2f}). "
            "Train it for longer, or connect another one."
        )
    return Footage(name, frames.rgb, frames.alpha, cameras)


@torch.no_grad()
def cloud_of_field(field: Field, instants: Tensor, count: int, degree: int, draws: torch.Generator) -> dict[str, Tensor]:
    """Raw parameters of `count` Gaussians where the field is, mostly on its surface, in its colours.

    Taken at that one of the `instants` (T,) at which it fills the most space: a deformation shrinks what is there more easily
    than it grows what is not. ValueError for an empty field.
    """
    points, cell = _cells(instants.device), 2.0 / SEED_CELLS
    filled = [_weights(field, points, instant, cell) for instant in instants]
    best = max(range(len(instants)), key=lambda index: float(filled[index].sum()))
    weights = filled[best]
    if not bool((weights > 0).any()):
        raise ValueError("The field is empty: its density is nearly zero everywhere at every time. Train it for longer, or connect another one.")
    chosen = torch.multinomial(weights.cpu(), count, replacement=True, generator=draws).to(points.device)
    jitter = torch.rand(count, 3, generator=draws).to(points) - 0.5
    positions = points[chosen] + jitter * cell
    colours = torch.cat([field(part, instants[best].expand(len(part)))[1] for part in positions.split(SEED_CHUNK)])
    spacing = OVERLAP * cell * (float((weights > 0).sum()) / count) ** (1.0 / 3.0)
    return cloud(positions, colours.clamp(0.0, 1.0), positions.new_full((count,), spacing), OPAQUE, degree)


def _cells(device) -> Tensor:
    line = (torch.arange(SEED_CELLS, device=device) + 0.5) * (2.0 / SEED_CELLS) - 1.0
    return torch.cartesian_prod(line, line, line)


def _weights(field: Field, points: Tensor, instant: Tensor, cell: float) -> Tensor:
    """How much of each cell (P,) is to be seen: its opacity, little where it is buried, 0 where it is empty."""
    density = torch.cat([field.density(part, instant.expand(len(part))) for part in points.split(SEED_CHUNK)])
    opacity = -torch.expm1(-density * cell)
    volume = torch.nn.functional.pad(opacity.view(1, 1, *[SEED_CELLS] * 3), [1] * 6)
    least = -torch.nn.functional.max_pool3d(-volume, 3, stride=1).flatten()  # of a cell and its neighbours
    return torch.where(opacity > FILLED, torch.where(least > 0.5, BURIED * opacity, opacity), 0.0)
