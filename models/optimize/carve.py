"""Space carving: the points that lie inside the object's silhouettes, as a cloud to begin with. Nothing in it is random."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..gaussians.activation import cloud
from ..gaussians.dynamic import random_cloud
from ..geometry.cameras import Cameras, project
from .footage import Footage

BOX = 1.0  # the object lies in the unit ball
PICTURES_AT_ONCE = 8


@dataclass(frozen=True)
class Carving:
    """`resolution` cells along each axis of the unit ball's box; a point counts when at least `agree` of the pictures that it
    falls into show the object there."""

    resolution: int = 64
    agree: float = 0.97
    alpha: float = 0.5


@torch.no_grad()
def carve(pictures: Footage, config: Carving, most: int, degree: int) -> dict[str, Tensor]:
    """Raw parameters of at most `most` round Gaussians on the surface of the visual hull, coloured by the pictures that see them.

    ValueError when the silhouettes have nothing in common.
    """
    points = _cells(config.resolution).to(pictures.rgb)
    inside = _share_inside(points, pictures, config.alpha) >= config.agree
    if not bool(inside.any()):
        raise ValueError(
            f"The silhouettes of the {pictures.name} have no volume in common inside the unit ball. Check that cameras and pictures are in the same order, that "
            "the masks are 1 on the object, and that the object lies around the origin."
        )
    shell = points[_on_surface(inside, config.resolution)]
    shell = shell[_evenly(len(shell), most, shell.device)]
    spacing = 2.0 * BOX / config.resolution
    colours = _colours(shell, pictures, spacing)
    return cloud(shell, colours, shell.new_full((len(shell),), 0.5 * spacing * max(1.0, (int(inside.sum()) / most) ** (1 / 3))), 0.5, degree)


def _cells(resolution: int) -> Tensor:
    line = (torch.arange(resolution) + 0.5) / resolution * 2.0 * BOX - BOX
    return torch.cartesian_prod(line, line, line)


def _evenly(count: int, most: int, device) -> Tensor:
    """At most `most` of `count` indices, evenly spread."""
    return torch.arange(count, device=device) if count <= most else torch.arange(most, device=device) * count // most


def _views(points: Tensor, pictures: Footage):
    """(pixel (B, P, 2), depth (B, P), pictures) of the points, a few pictures at a time."""
    height, width = pictures.size
    for start in range(0, len(pictures), PICTURES_AT_ONCE):
        part = slice(start, start + PICTURES_AT_ONCE)
        cameras: Cameras = pictures.cameras.select(part)
        pixel, depth = project(points.expand(len(cameras), -1, -1), cameras.camera_to_world, cameras.fov_y, height, width)
        yield pixel, depth, part


def _sample(maps: Tensor, pixel: Tensor) -> Tensor:
    """Bilinear values (B, P, C) of `maps` (B, H, W, C) at pixels (B, P, 2); 0 outside."""
    height, width = maps.shape[1:3]
    grid = pixel / pixel.new_tensor([width / 2.0, height / 2.0]) - 1.0
    found = functional.grid_sample(maps.movedim(-1, 1), grid[:, :, None], mode="bilinear", padding_mode="zeros", align_corners=False)
    return found[..., 0].transpose(1, 2)


def _share_inside(points: Tensor, pictures: Footage, threshold: float) -> Tensor:
    """Of the pictures whose frame holds a point, the share that shows the object there: (P,); 0 for points that no picture holds."""
    height, width = pictures.size
    silhouettes = pictures.silhouettes()
    inside, framed = points.new_zeros(len(points)), points.new_zeros(len(points))
    for pixel, depth, part in _views(points, pictures):
        within = (depth > 0) & (pixel > 0).all(dim=-1) & (pixel[..., 0] < width) & (pixel[..., 1] < height)
        shown = _sample(silhouettes[part][..., None], pixel)[..., 0] > threshold
        inside += (within & shown).sum(dim=0)
        framed += within.sum(dim=0)
    return torch.where(framed > 0, inside / framed.clamp_min(1.0), 0.0)


def _on_surface(inside: Tensor, resolution: int) -> Tensor:
    """Inside cells of which one of the six neighbours is outside: (P,) bool."""
    volume = functional.pad(inside.view(1, 1, *[resolution] * 3).float(), [1] * 6)
    buried = -functional.max_pool3d(-volume, 3, stride=1)
    return inside & ~(buried.flatten() > 0.5)


def _colours(points: Tensor, pictures: Footage, spacing: float) -> Tensor:
    """Mean colour (P, 3) over the pictures in which a point is the nearest one at its pixel; grey where there is none."""
    height, width = pictures.size
    silhouettes = pictures.silhouettes()
    coloured = pictures.rgb if pictures.alpha is not None else pictures.rgb * silhouettes[..., None]
    total, weight = points.new_zeros(len(points), 3), points.new_zeros(len(points), 1)
    for pixel, depth, part in _views(points, pictures):
        place = (pixel[..., 1].long().clamp(0, height - 1) // 2 * width + pixel[..., 0].long().clamp(0, width - 1) // 2).clamp(0, height * width - 1)
        nearest = depth.new_full((len(depth), height * width), torch.inf).scatter_reduce(1, place, depth, "amin")
        seen = (depth <= nearest.gather(1, place) + 2.0 * spacing)[..., None].float()
        sampled = _sample(torch.cat([coloured[part], silhouettes[part][..., None]], dim=-1), pixel) * seen
        total += sampled[..., :3].sum(dim=0)
        weight += sampled[..., 3:].sum(dim=0)
    return torch.where(weight > 0.1, total / weight.clamp_min(0.1), 0.5).clamp(0.0, 1.0)


def start(footages: list[Footage], count: int, degree: int, carved: bool, draws: torch.Generator) -> tuple[dict[str, Tensor], str]:
    """Raw parameters of at most `count` Gaussians to begin with, and how they were placed, in words.

    Carved out of still pictures where there are some (see `carve`). Of an object that moves no point need lie in all
    silhouettes: half of them are enough then, and where not even that holds anywhere the cloud begins at random, as it does
    without `carved`: in a ball of half the scene's radius.
    """
    still = next((item for item in footages if item.static), None)
    if carved and still is not None:
        raw = carve(still, Carving(), count, degree)
        return raw, f"Began with {len(raw['positions']):,} points carved out of the {still.name}."
    if carved:
        try:
            raw = carve(footages[0], Carving(agree=0.5), count, degree)
            return raw, f"Began with {len(raw['positions']):,} points that half of the {footages[0].name}'s silhouettes share."
        except ValueError:
            pass
    return random_cloud(count, 0.5, degree, draws), f"Began with {count:,} random points in a ball of radius 0.5."
