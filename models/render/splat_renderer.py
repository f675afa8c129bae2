"""Renders a field of Gaussians by splatting, for everything that optimises or shows a field."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..fields.deformable_gaussians import DeformableGaussians
from ..gaussians.dynamic import DynamicGaussians
from ..geometry.cameras import Cameras
from ..geometry.rays import rays
from .deferred import RenderedViews, render_in_parts, trained
from .splat_projection import SplatSettings
from .splats import rasterise, sh_colours

SURFACE = 0.5  # opacity from which a pixel shows a surface
Cloud = DynamicGaussians | DeformableGaussians


def is_cloud(field) -> bool:
    """Whether a field is made of Gaussians, moved by one way or the other."""
    return isinstance(field, Cloud)


@dataclass(frozen=True)
class SplatState:
    """What a splat renderer learns about a scene: nothing."""

    def tensors(self) -> dict[str, Tensor]:
        """The state for a checkpoint; `SplatState(**tensors)` restores it."""
        return {}


class SplatRenderer:
    """Renders Gaussians; holds only its settings. Whole pictures are its unit: memory is saved view by view, and inside a view by
    the settings' `bytes_at_once`. Nothing is drawn at random."""

    kind = "splats"
    search_bytes = 0

    def __init__(self, config: SplatSettings | None = None):
        self.config = config or SplatSettings()

    def check(self, field: Cloud) -> None:
        """ValueError for anything but Gaussians."""
        if not is_cloud(field):
            raise ValueError(f"A splat renderer draws Gaussians, and a {field.kind} field has none. Connect a Volume Renderer, or a Gaussian Field.")

    def new_state(self, field: Cloud, generator: torch.Generator | None = None) -> SplatState:
        """Nothing to prepare."""
        self.check(field)
        return SplatState()

    def update(self, field: Cloud, state: SplatState, step: int, generator: torch.Generator, progress: float = 0.0) -> None:
        """Nothing to refresh."""

    def render_views(
        self, field: Cloud, state: SplatState, cameras: Cameras, height: int, width: int, seed: int | None = None, chunk: int = 0,
        displacement: bool = False,
    ) -> RenderedViews:  # fmt: skip
        """Pictures of all `cameras`; about `chunk` pixels at a time, but at least one picture, 0 for all: see `render_in_parts`.

        Depth is along the rays, as a volume renderer's; `samples` counts the Gaussians that were drawn. `seed` changes nothing.
        """
        shape, most = (len(cameras), height, width), max(chunk // (height * width), 1)
        parts = -(-len(cameras) // most) if chunk > 0 else 1
        items = cameras.camera_to_world, cameras.fov_y, cameras.times

        def render(*part: Tensor) -> tuple[list[Tensor], int]:
            return self._maps(field, Cameras(*part), height, width, displacement)

        (colours, opacity, depth), drawn = render_in_parts(render, items, parts, trained(field))
        _, directions = rays(cameras.camera_to_world, cameras.fov_y, height, width)
        ahead = -(directions * cameras.camera_to_world[:, None, None, :3, 2]).sum(-1)  # cosine to the camera's axis
        depth, squared = depth / ahead, colours[..., 3] / ahead.square()
        z_variance = (squared - depth.square() * (2.0 - opacity)).clamp(min=0.0)  # sum of weight * (distance - depth)^2
        return RenderedViews(colours[..., :3], opacity.view(shape), depth, z_variance, directions, drawn, colours[..., 4:] if displacement else None)

    def _maps(self, field: Cloud, cameras: Cameras, height: int, width: int, displacement: bool) -> tuple[list[Tensor], int]:
        """Colour with the sum of weight * depth^2, and perhaps of weight * displacement, behind it (N, H, W, 4 or 7), opacity and
        depth along the axis (N, H, W)."""
        instants, place = torch.unique(cameras.times, return_inverse=True)  # views of one instant share its deformation
        now = field.at(instants).at_frames(place).expanded()
        towards = now["positions"] - cameras.camera_to_world[:, None, :3, 3]
        colours = sh_colours(now.pop("harmonics"), functional.normalize(towards, dim=-1))
        depth = -(towards * cameras.camera_to_world[:, None, :3, 2]).sum(-1, keepdim=True)
        colours = torch.cat([colours, depth.square(), *([field.displacements(instants)[place]] if displacement else [])], dim=-1)
        seen = rasterise(*now.values(), colours, cameras.camera_to_world, cameras.fov_y, height, width, self.config)
        return [seen.rgb, seen.alpha, seen.depth], int((seen.radii > 0).sum())

    def render_pixels(
        self, field: Cloud, state: SplatState, cameras: Cameras, height: int, width: int, count: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """All pixels of so many random pictures that they are at least `count`: their flat numbers (R,), colour (R, 3), opacity (R,)."""
        pictures = min(-(-count // (height * width)), len(cameras))
        chosen = torch.randperm(len(cameras), generator=generator)[:pictures].to(cameras.times.device)
        seen = self.render_views(field, state, cameras.select(chosen), height, width)
        pixel = chosen[:, None] * (height * width) + torch.arange(height * width, device=chosen.device)
        return pixel.flatten(), seen.rgb.reshape(-1, 3), seen.opacity.flatten()

    def normal_views(self, field: Cloud, state: SplatState, cameras: Cameras, height: int, width: int) -> Tensor:
        """Unit normals (N, H, W, 3) in the world, zero where nothing is: those of the surface at the mean depth. Gaussians have
        no surface of their own, and a round one not even a shortest axis. For pictures; not differentiable."""
        seen = self.render_views(field, state, cameras, height, width)
        origins = cameras.camera_to_world[:, None, None, :3, 3]
        points = origins + seen.directions * (seen.depth / seen.opacity.clamp_min(1e-6))[..., None]
        covered = seen.opacity > SURFACE
        across, down = (_slope(points, covered, axis) for axis in (2, 1))
        normals = functional.normalize(torch.linalg.cross(down, across), dim=-1)  # towards the camera: rows go down
        return normals * covered[..., None]


def _slope(points: Tensor, covered: Tensor, axis: int) -> Tensor:
    """Change of surface points (N, H, W, 3) along an axis of the picture: of the two neighbours the one whose step is shorter, so
    that nothing is bridged from a near surface to a far one; 0 where neither neighbour is covered."""
    step = points.diff(dim=axis)
    both = covered.narrow(axis, 0, covered.shape[axis] - 1) & covered.narrow(axis, 1, covered.shape[axis] - 1)
    length = torch.where(both, step.norm(dim=-1), torch.inf)
    none = torch.full_like(length.narrow(axis, 0, 1), torch.inf)
    nothing = torch.zeros_like(step.narrow(axis, 0, 1))
    before, after = torch.cat([none, length], dim=axis), torch.cat([length, none], dim=axis)
    chosen = torch.where((before < after)[..., None], torch.cat([nothing, step], dim=axis), torch.cat([step, nothing], dim=axis))
    return torch.where(torch.isfinite(torch.minimum(before, after))[..., None], chosen, 0.0)
