"""Surfaces of a field: one mesh per time, where the density crosses a threshold (marching cubes of scikit-image)."""

from dataclasses import dataclass

import torch
from torch import Tensor

NERF_THRESHOLD = 25.0  # per unit length; usual for densities of radiance fields (threestudio)
CHUNK = 2**18  # points evaluated together


@dataclass(frozen=True)
class SurfaceBatch:
    """T meshes padded with zeros to a common size; `vertex_counts` and `face_counts` (T,) say how much is real."""

    vertices: Tensor  # (T, N, 3)
    faces: Tensor  # (T, M, 3) int64, counter-clockwise from outside
    colours: Tensor  # (T, N, 3) sRGB
    vertex_counts: Tensor
    face_counts: Tensor


@torch.no_grad()
def isosurface(field, times: Tensor, resolution: int = 96, threshold: float = NERF_THRESHOLD, radius: float = 1.0) -> SurfaceBatch:
    """Extract the surface of `field` (a `fields.field.Field`) in [-radius, radius]^3 at each of `times` (T,).

    `resolution` cells per axis; the surface is closed where it meets the border. Raises ValueError when a time has no surface
    at `threshold`, with the highest density there is, and for a field without a density.
    """
    if not callable(getattr(field, "density", None)):
        raise ValueError(f"A surface is where a density crosses a threshold, and a field of {field.kind} has none. Connect a Hash Field, or turn the Gaussians into a mesh with Splat to Mesh.")
    surfaces = [_at(field, time, resolution, threshold, radius) for time in times]
    vertex_counts, face_counts = (torch.tensor([len(surface[part]) for surface in surfaces]) for part in (0, 1))
    vertices, faces, colours = (torch.nn.utils.rnn.pad_sequence(parts, batch_first=True) for parts in zip(*surfaces))
    return SurfaceBatch(vertices, faces, colours, vertex_counts, face_counts)


def _at(field, time: Tensor, resolution: int, threshold: float, radius: float) -> tuple[Tensor, Tensor, Tensor]:
    from skimage.measure import marching_cubes

    nodes = torch.linspace(-radius, radius, resolution + 1, dtype=time.dtype, device=time.device)
    grid = torch.stack(torch.meshgrid(nodes, nodes, nodes, indexing="ij"), dim=-1).view(-1, 3)
    densities = torch.cat([field.density(part, time.expand(len(part))) for part in grid.split(CHUNK)])
    if not densities.max() > threshold:
        raise ValueError(
            f"The field has no surface at density {threshold:g} at time {float(time):.3g}: it reaches {float(densities.max()):.3g} there. "
            "Lower the threshold, or train the field for longer."
        )
    volume = torch.nn.functional.pad(densities.view(resolution + 1, resolution + 1, resolution + 1), (1,) * 6)  # closes the border
    corners, faces, _, _ = marching_cubes(volume.cpu().double().numpy(), threshold, gradient_direction="ascent", allow_degenerate=False)  # faces outwards
    vertices = (torch.from_numpy(corners.copy()).to(grid) - 1.0) * (2.0 * radius / resolution) - radius
    vertices = vertices.clamp(-radius, radius)
    faces = torch.from_numpy(faces.astype("int64")).to(grid.device)
    colours = torch.cat([field(part, time.expand(len(part)))[1] for part in vertices.split(CHUNK)])
    return vertices, faces, colours
