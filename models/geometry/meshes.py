"""Triangle meshes that move: one topology, vertices and materials over time."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


@dataclass(frozen=True)
class TimedMesh:
    """A mesh at T times with fixed faces.

    vertices, normals (T, Nv, 3) in the world frame, normals unit and outwards where the surface is closed; faces (Nf, 3)
    int64. albedo (T, Nv, 3) in sRGB; roughness, metallic (Nv,); occlusion (T, Nv): share of the ambient light;
    emission (T, Nv): light given off, in units of the albedo. parts (Nv,) int64 index into part_names.
    """

    vertices: Tensor
    faces: Tensor
    normals: Tensor
    albedo: Tensor
    roughness: Tensor
    metallic: Tensor
    occlusion: Tensor
    emission: Tensor
    parts: Tensor
    part_names: tuple[str, ...]


@lru_cache(maxsize=256)
def grid_faces(count: int, columns: int, rows: int, wrap: bool) -> Tensor:
    """Two triangles per cell of `count` grids of columns x rows points; `wrap` closes the columns. (F, 3) int64.

    Counter-clockwise seen from the side that (d/dcolumn x d/drow) points to.
    """
    with torch.inference_mode(False):  # kept between calls, so it must also serve a later backward pass
        index = torch.arange(count * columns * rows).view(count, columns, rows)
        right = index.roll(-1, 1)
        if not wrap:
            index, right = index[:, :-1], right[:, :-1]
        a, b, c, d = index[..., :-1], right[..., :-1], right[..., 1:], index[..., 1:]
        return torch.stack((a, b, c, a, c, d), -1).reshape(-1, 3)


def grid_normals(points: Tensor, wrap: bool) -> Tensor:
    """Smooth vertex normals of grids (..., U, V, 3): area-weighted mean over the cells around each point.

    Where a whole end row is one point (a pole) its normals are averaged. Points without area get +Y.
    """
    ring = torch.cat((points, points[..., :1, :, :]), -3) if wrap else points
    first = ring[..., 1:, 1:, :] - ring[..., :-1, :-1, :]
    second = ring[..., :-1, 1:, :] - ring[..., 1:, :-1, :]
    cell = torch.linalg.cross(first, second)  # (..., U or U - 1, V - 1, 3), twice the cell's area
    zero = torch.zeros_like(cell[..., :1, :])
    total = torch.cat((cell, zero), -2) + torch.cat((zero, cell), -2)
    if wrap:
        total = total + total.roll(1, -3)
    else:
        edge = torch.zeros_like(total[..., :1, :, :])
        total = torch.cat((total, edge), -3) + torch.cat((edge, total), -3)
    for end in (0, -1):
        row = total[..., end, :]
        pole = (points[..., end, :] - points[..., :1, end, :]).abs().amax((-1, -2), keepdim=True) < 1e-9
        total[..., end, :] = torch.where(pole, row.sum(-2, keepdim=True).expand_as(row), row)
    length = total.norm(dim=-1, keepdim=True)
    up = torch.tensor([0.0, 1.0, 0.0], dtype=points.dtype, device=points.device)
    return torch.where(length > 1e-20, total / length.clamp(min=1e-20), up)


def face_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals of the triangles of (..., Nv, 3): (..., Nf, 3); zero where a face has no area."""
    a, b, c = (vertices[..., faces[:, i], :] for i in range(3))
    normal = torch.linalg.cross(b - a, c - a)
    return normal / normal.norm(dim=-1, keepdim=True).clamp(min=1e-20)
