"""How far every visible point has moved from its place in the canonical scene: maps, a picture of them, and two numbers."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..geometry.cameras import Cameras
from .frames import RAYS_AT_ONCE


@torch.no_grad()
def render_displacement(field, renderer, cameras: Cameras, height: int, width: int, watch: Callable[[int], None] | None = None) -> tuple[Tensor, Tensor]:
    """Displacements (N, H, W, 3), premultiplied, and opacity (N, H, W) of every camera at its time, on the CPU.

    In units of the cube's side, as the field has them. ValueError for a field that displaces nothing.
    """
    if not callable(getattr(field, "displacement", None)):
        raise ValueError(f"A field of {field.kind} displaces nothing that could be drawn. Connect a Deformable Field.")
    state = renderer.new_state(field)
    device = next(field.parameters()).device
    seen = []
    for index in range(len(cameras)):
        camera = cameras.select(slice(index, index + 1)).to(device)
        views = renderer.render_views(field, state, camera, height, width, None, RAYS_AT_ONCE, displacement=True)
        seen.append((views.displacement.cpu(), views.opacity.cpu()))
        if watch is not None:
            watch(index + 1)
    return tuple(torch.cat(parts) for parts in zip(*seen))


def displacement_picture(moved: Tensor, opacity: Tensor) -> Tensor:
    """Pictures (N, H, W, 3) of premultiplied vectors: along x red, y green, z blue; grey rests, black is nothing. One scale for all."""
    return (0.5 * opacity[..., None] + 0.5 * moved / moved.abs().max().clamp_min(1e-6)).clamp(0.0, 1.0)


def mean_motion(moved: Tensor, opacity: Tensor) -> float:
    """Root mean square length of premultiplied vectors over all that is seen; 0 where nothing is."""
    solid = moved / opacity[..., None].clamp_min(1e-6)
    return float(((solid.square().sum(-1) * opacity).sum() / opacity.sum().clamp_min(1e-6)).sqrt())
