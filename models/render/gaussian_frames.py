"""Everything that can be seen of Gaussians over time from a sequence of cameras, picture by picture."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..gaussians.gaussians import Gaussians4D
from ..geometry.cameras import Cameras
from .frames import Frames
from .splats import SplatSettings, render_gaussians

VISIBLE = 1e-3  # opacity from which a depth means something


@dataclass(frozen=True)
class GaussianFrames(Frames):
    """N pictures on the CPU; depth is along the camera's -Z."""

    flow: Tensor | None  # (N, H, W, 2) pixels to the Gaussians' next frame, right and down, weighted by alpha


@torch.no_grad()
def render_clip(
    gaussians: Gaussians4D,
    cameras: Cameras,
    height: int,
    width: int,
    settings: SplatSettings | None = None,
    flow: bool = False,
    watch: Callable[[int], None] | None = None,
) -> GaussianFrames:
    """Render every camera at its time; `watch` is told the number of finished pictures after each."""
    parts = []
    for index in range(len(cameras)):
        seen = render_gaussians(gaussians, cameras.select(slice(index, index + 1)), height, width, settings, flow)
        depth = torch.where(seen.alpha > VISIBLE, seen.depth / seen.alpha.clamp_min(VISIBLE), 0.0)
        parts.append((seen.rgb.cpu(), seen.alpha.cpu(), depth.cpu(), None if seen.flow is None else seen.flow.cpu()))
        if watch is not None:
            watch(index + 1)
    rgb, alpha, depth = (torch.cat([part[place] for part in parts]) for place in range(3))
    return GaussianFrames(rgb, alpha, depth, None, None, torch.cat([part[3] for part in parts]) if flow else None)
