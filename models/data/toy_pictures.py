"""Pictures of toy objects with everything known about each pixel: colour, alpha, depth, flow and which part is seen."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..geometry.cameras import RIG_ELEVATION_DEGREES, Cameras, view_time_grid
from ..gaussians.gaussians import Gaussians4D, srgb
from ..render.splats import rasterise
from .toy_motion import Toy

PARTS_AT_ONCE = 64  # of the map of parts, which takes a colour channel for each
EMPTY = 0.05  # alpha below which a pixel shows nothing


@dataclass(frozen=True)
class ToyPictures:
    """M pictures and the truth behind them. rgb (M, H, W, 3) premultiplied sRGB; alpha (M, H, W); depth (M, H, W) along the
    camera's -Z and flow (M, H, W, 2), pixels (right, down) to the asked time in the same camera: means over what a pixel shows,
    0 where it shows nothing. parts (M, H, W) int64: the Gaussian with the largest share of the pixel, -1 where there is none."""

    rgb: Tensor
    alpha: Tensor
    depth: Tensor
    flow: Tensor
    parts: Tensor


def toy_cameras(views: int, frames: int, elevations_degrees: tuple[float, ...] = (RIG_ELEVATION_DEGREES,), held_out: bool = False) -> Cameras:
    """All frames x elevations x views cameras, time slowest, one joint scene.

    Azimuths stand evenly around the circle from the front on; held-out ones 45 degrees further, or halfway where the views are
    closer than that: 45 degrees are a view of their own up to four.
    """
    first = min(45.0, 180.0 / views) if held_out else 0.0
    rings = [view_time_grid(views, frames, first, elevation) for elevation in elevations_degrees]
    poses = torch.stack([ring.camera_to_world.view(frames, views, 4, 4) for ring in rings], 1).reshape(-1, 4, 4)
    count = len(rings) * views
    times = rings[0].times[::views].repeat_interleave(count)
    return Cameras(poses, rings[0].fov_y[:1].expand(len(times)), times, len(times))


def render_toy(toy: Toy, cameras: Cameras, size: int, flow_times: Tensor) -> ToyPictures:
    """Draw a toy from M cameras at their times, size x size pixels; flow_times (M,): the time that each picture's flow leads to."""
    now, later = _each(toy, cameras.times), _each(toy, flow_times)
    arguments = now["positions"], now["rotations"], now["scales"], now["opacities"]
    view = cameras.camera_to_world, cameras.fov_y, size, size
    drawn = rasterise(*arguments, now["colours"], *view, later=later["positions"])
    share = drawn.alpha.clamp_min(EMPTY)
    seen = drawn.alpha >= EMPTY
    depth, flow = drawn.depth / share * seen, drawn.flow / share[..., None] * seen[..., None]
    parts = torch.where(seen, _largest(arguments, view), -1)
    return ToyPictures(drawn.rgb, drawn.alpha, depth, flow, parts)


def _each(toy: Toy, times: Tensor) -> dict[str, Tensor]:
    """Attributes of the toy at every picture's time, (M, N, ...)."""
    gaussians: Gaussians4D = toy.gaussians(times)
    values = gaussians.expanded()
    return values | {"colours": srgb(gaussians).expand(len(times), -1, -1)}


def _largest(arguments: tuple[Tensor, ...], view: tuple) -> Tensor:
    """Index of the Gaussian with the largest weight at each pixel: (M, H, W)."""
    views, count = arguments[3].shape
    best = index = None
    for start in range(0, count, PARTS_AT_ONCE):
        part = torch.eye(count)[:, start : start + PARTS_AT_ONCE].expand(views, -1, -1)
        weight, place = rasterise(*arguments, part, *view).rgb.max(-1)
        better = torch.zeros_like(weight, dtype=torch.bool) if best is None else weight > best
        index = place if index is None else torch.where(better, place + start, index)
        best = weight if best is None else torch.maximum(best, weight)
    return index
