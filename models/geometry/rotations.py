"""Rotation matrices and quaternions (x, y, z, w)."""

import torch
from torch import Tensor


def quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """Rotation matrices (N, 3, 3) of quaternions (N, 4) in x, y, z, w order; they need not be normalised, but not zero."""
    x, y, z, w = (quaternion / quaternion.norm(dim=-1, keepdim=True)).unbind(dim=-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Unit quaternions (N, 4), x, y, z, w with w >= 0, of rotation matrices (N, 3, 3).

    The quaternion is the eigenvector of Bar-Itzhack's symmetric 4 x 4 matrix: no branches and no division by a small number.
    """
    (xx, yx, zx), (xy, yy, zy), (xz, yz, zz) = matrix.permute(2, 1, 0)  # columns: xy is row x, column y
    rows = [
        [xx - yy - zz, yx + xy, zx + xz, zy - yz],
        [yx + xy, yy - xx - zz, zy + yz, xz - zx],
        [zx + xz, zy + yz, zz - xx - yy, yx - xy],
        [zy - yz, xz - zx, yx - xy, xx + yy + zz],
    ]
    symmetric = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)  # (N, 4, 4)
    quaternion = torch.linalg.eigh(symmetric.double()).eigenvectors[..., -1].to(matrix.dtype)
    return torch.where(quaternion[..., 3:] < 0, -quaternion, quaternion)


def quaternion_product(first: Tensor, second: Tensor) -> Tensor:
    """Hamilton product (..., 4) of quaternions in w, x, y, z order: the rotation `first` after the rotation `second`."""
    a, b, c, d = first.unbind(dim=-1)
    w, x, y, z = second.unbind(dim=-1)
    return torch.stack([a * w - b * x - c * y - d * z, a * x + b * w + c * z - d * y, a * y - b * z + c * w + d * x, a * z + b * y - c * x + d * w], dim=-1)
