"""Which way a density's surfaces face, sample by sample: what the orientation penalty looks at (Ref-NeRF; specification 0.6)."""

import torch
from torch import Tensor
from torch.nn import functional

from ..fields.field import Field

OFFSET = 0.01  # of finite differences, as threestudio's: shorter than a cell of the demo's grids, and a mean over the paper's finest
TETRAHEDRON = ((1.0, 1.0, 1.0), (1.0, -1.0, -1.0), (-1.0, 1.0, -1.0), (-1.0, -1.0, 1.0))
"""Directions whose outer products sum to a multiple of the identity: four evaluations give a gradient of second order."""


def density_normals(field: Field, positions: Tensor, times: Tensor) -> Tensor:
    """Unit normals (M, 3) of points (M, 3) at times (M,): minus the density's gradient by finite differences, 0 where it has none.

    Four evaluations of the density for each point; differentiable in the field's parameters.
    """
    corners = positions.new_tensor(TETRAHEDRON)  # (4, 3)
    around = (positions + OFFSET * corners[:, None]).reshape(-1, 3)
    density = field.density(around, times.repeat(4)).view(4, -1)  # (4, M)
    return -functional.normalize(density.t() @ corners, dim=-1)


def facing_away(normals: Tensor, directions: Tensor) -> Tensor:
    """max(0, n . d)^2 (M,) of normals (M, 3) seen along `directions` (M, 3), which lead away from the camera."""
    return torch.relu((normals * directions).sum(-1)).square()
