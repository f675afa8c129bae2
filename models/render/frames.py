"""Everything that can be seen of a field from a sequence of cameras."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..fields.field import Field
from ..geometry.cameras import Cameras

RAYS_AT_ONCE = 1 << 15


@dataclass(frozen=True)
class Frames:
    """N pictures on the CPU; rgb is sRGB and premultiplied by alpha."""

    rgb: Tensor  # (N, H, W, 3)
    alpha: Tensor  # (N, H, W)
    depth: Tensor  # (N, H, W) distance to the surface along the ray, 0 where nothing is
    normals: Tensor | None  # (N, H, W, 3) unit, world, 0 where nothing is
    background: Tensor | None  # (N, H, W, 3) the field's own


@torch.no_grad()
def render_frames(
    field: Field, renderer, cameras: Cameras, height: int, width: int, watch: Callable[[int], None] | None = None, normals: bool = True
) -> Frames:
    """Render every camera at its time; `watch` is told the number of finished pictures after each.

    Normals cost as much as several pictures more: leave them out where nobody looks at them.
    """
    state = renderer.new_state(field)
    device = next(field.parameters()).device
    frames = []
    for index in range(len(cameras)):
        frames.append(_one(field, renderer, state, cameras.select(slice(index, index + 1)).to(device), height, width, normals))
        if watch is not None:
            watch(index + 1)
    parts = [torch.cat(pictures).cpu() if pictures[0] is not None else None for pictures in zip(*frames)]
    return Frames(*parts)


def _one(field: Field, renderer, state, camera: Cameras, height: int, width: int, with_normals: bool) -> tuple[Tensor | None, ...]:
    views = renderer.render_views(field, state, camera, height, width, None, RAYS_AT_ONCE)
    normals = renderer.normal_views(field, state, camera, height, width) if with_normals else None
    background = field.background(views.directions.reshape(-1, 3))
    depth = torch.where(views.opacity > 1e-3, views.depth / views.opacity.clamp_min(1e-3), 0.0)
    return views.rgb, views.opacity, depth, normals, None if background is None else background.view(1, height, width, 3)


def over(frames: Frames, colour: tuple[float, float, float] | None) -> Tensor:
    """Pictures (N, H, W, 3) in [0, 1] over a colour, or over the field's own background (white where it has none)."""
    behind = frames.background if colour is None and frames.background is not None else frames.rgb.new_tensor(colour or (1.0, 1.0, 1.0))
    return (frames.rgb + (1.0 - frames.alpha[..., None]) * behind).clamp(0.0, 1.0)


def depth_picture(frames: Frames) -> Tensor:
    """Grey pictures (N, H, W, 3): the nearest surface of all frames white, the farthest dark, nothing black."""
    seen = frames.alpha > 0.5
    if not bool(seen.any()):
        return torch.zeros_like(frames.rgb)
    near, far = frames.depth[seen].min(), frames.depth[seen].max()
    grey = 1.0 - 0.85 * (frames.depth - near) / (far - near).clamp_min(1e-6)
    return (grey.clamp(0.15, 1.0) * frames.alpha)[..., None].expand(-1, -1, -1, 3).clone()


def normal_picture(frames: Frames, cameras: Cameras) -> Tensor:
    """Colour-coded normals (N, H, W, 3) in camera axes: x right as red, y up as green, towards the camera as blue, nothing black."""
    local = torch.einsum("nji,nhwj->nhwi", cameras.camera_to_world[:, :3, :3].to(frames.normals), frames.normals)
    return ((0.5 * local + 0.5) * frames.alpha[..., None]).clamp(0.0, 1.0)
