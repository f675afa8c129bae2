"""3D Gaussian splatting: differentiable pictures of Gaussians with opacity, depth and flow, in gsplat's exact semantics."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..gaussians.gaussians import Gaussians4D, sample_times
from ..gaussians.harmonics import basis
from ..geometry.cameras import Cameras
from .backend import implementation
from .splat_projection import SplatSettings, project


@dataclass
class SplatViews:
    """Pictures of B cameras and what densification asks of a render."""

    rgb: Tensor  # (B, H, W, C) premultiplied sRGB, or whatever the colours are
    alpha: Tensor  # (B, H, W)
    depth: Tensor  # (B, H, W) sum of weight * distance along the camera's -Z
    flow: Tensor | None  # (B, H, W, 2) sum of weight * displacement in pixels, x right and y down
    means2d: Tensor  # (B, N, 2) projected centres in pixels, 0 where not drawn; `retain_grad` gives their gradient
    radii: Tensor  # (B, N) 3.33 standard deviations in pixels along the longer axis, 0 where not drawn

    def over(self, background: Tensor) -> Tensor:
        """Composite over colours that broadcast to (B, H, W, C)."""
        return self.rgb + (1.0 - self.alpha[..., None]) * background


def rasterise(
    positions: Tensor,
    rotations: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colours: Tensor,
    camera_to_world: Tensor,
    fov_y: Tensor,
    height: int,
    width: int,
    settings: SplatSettings | None = None,
    later: Tensor | None = None,
    screen_gradients: Tensor | None = None,
    backend: str | None = None,
) -> SplatViews:
    """Render B pictures, each of its own N Gaussians from its own camera; share them by `expand`.

    positions (B, N, 3) world; rotations (B, N, 4) wxyz of any length (zero: unturned); scales (B, N, 3) standard deviations;
    opacities (B, N) in [0, 1]; colours (B, N, C); camera_to_world (B, 4, 4) OpenGL axes; fov_y (B,) radians, vertical.
    Differentiable in the first five. `later` (B, N, 3): positions that the flow leads to. `screen_gradients` (B, N, 2) is added
    to the projected centres: zeros that require a gradient receive theirs, whatever backend runs. Gaussians behind a camera, too
    faint, or with numbers that are not finite are not drawn and have zero gradients. `backend` names one; None chooses.
    """
    settings = settings or SplatSettings()
    composite = implementation("splats", positions.device, backend or "")
    views = positions.shape[0]
    seen = project(positions, rotations, scales, opacities, colours, camera_to_world, fov_y, height, width, settings, later, screen_gradients)
    sums, alpha = composite(seen.splats, views, height, width, settings)
    channels = colours.shape[-1]
    flow = sums[..., channels + 1 :] if later is not None else None
    return SplatViews(sums[..., :channels], alpha, sums[..., channels], flow, seen.centres, seen.radii)


def render_gaussians(
    gaussians: Gaussians4D, cameras: Cameras, height: int, width: int, settings: SplatSettings | None = None, flow: bool = False, backend: str | None = None
) -> SplatViews:
    """Pictures of Gaussians from each camera at its own time; differentiable in their attributes.

    The flow leads to the positions one step of the Gaussians' own frames, 1 / (T - 1), later; at the end of time it is 0.
    Cameras are taken in parts that fit into the settings' `bytes_at_once`; the pictures do not depend on it.
    """
    settings = settings or SplatSettings()
    cameras = cameras.to(gaussians.positions)
    each = 4 * gaussians.count * (40 + 3 * gaussians.harmonics.shape[2])  # bytes of one view's Gaussians, projected
    most = max(settings.bytes_at_once // max(each, 1), 1)
    starts = range(0, len(cameras), most)
    parts = [_drawn(gaussians, cameras.select(slice(start, start + most)), height, width, settings, flow, backend) for start in starts]
    return parts[0] if len(parts) == 1 else SplatViews(*(None if pieces[0] is None else torch.cat(pieces) for pieces in zip(*(vars(part).values() for part in parts))))


def _drawn(gaussians: Gaussians4D, cameras: Cameras, height: int, width: int, settings: SplatSettings, flow: bool, backend: str | None) -> SplatViews:
    now = sample_times(gaussians, cameras.times).expanded()
    directions = functional.normalize(now["positions"] - cameras.camera_to_world[:, None, :3, 3], dim=-1)
    colours = sh_colours(now.pop("harmonics"), directions)
    later = None
    if flow:
        step = 1.0 / max(gaussians.frames - 1, 1)
        later = sample_times(gaussians, cameras.times + step).expanded()["positions"]
    return rasterise(*now.values(), colours, cameras.camera_to_world, cameras.fov_y, height, width, settings, later, backend=backend)


def sh_colours(harmonics: Tensor, directions: Tensor, low: float | None = 0.0) -> Tensor:
    """Colours (B, N, 3) = 0.5 + sum of coefficient * real spherical harmonic (3DGS order and signs) towards unit `directions`
    (B, N, 3) from the camera to the Gaussian; harmonics (B, N, K, 3) with K = 1, 4, 9 or 16. Never below `low`."""
    values = basis(directions, round(harmonics.shape[2] ** 0.5) - 1)  # (B, N, K)
    colours = 0.5 + (values[..., None] * harmonics).sum(2)
    return colours if low is None else colours.clamp(min=low)
