"""Real spherical harmonics with the order and signs of 3DGS, and how a turned object's coefficients follow from its own."""

import torch
from torch import Tensor

MOST_DEGREE = 3
SH_DC = 0.28209479177387814  # the constant one: sRGB = SH_DC * coefficient + 0.5
C1 = 0.4886025119029199
C2 = (1.0925484305920792, 0.31539156525252005, 0.5462742152960396)
C3 = (0.5900435899266435, 2.890611442640554, 0.4570457994644658, 0.3731763325901154, 1.445305721320277)
PROBES = 64  # directions at which a rotation is measured; 7 functions of degree 3 need 7


def basis(directions: Tensor, degree: int) -> Tensor:
    """Values (..., (degree + 1)^2) of the harmonics at unit `directions` (..., 3), the constant one first; degree 0 to 3."""
    x, y, z = directions.unbind(-1)
    values = [torch.full_like(x, SH_DC)]
    if degree > 0:
        values += [-C1 * y, C1 * z, -C1 * x]
    if degree > 1:
        a, b, c = C2
        values += [a * x * y, -a * y * z, b * (3 * z * z - 1), -a * x * z, c * (x * x - y * y)]
    if degree > 2:
        a, b, c, d, e = C3
        ring = 5 * z * z - 1
        values += [-a * y * (3 * x * x - y * y), b * x * y * z, -c * y * ring, d * z * (5 * z * z - 3), -c * x * ring, e * z * (x * x - y * y), -a * x * (x * x - 3 * y * y)]
    return torch.stack(values, -1)


def rotation_of_coefficients(rotation: Tensor, degree: int) -> Tensor:
    """Matrix (K, K), K = (degree + 1)^2, that turns coefficients as `rotation` (3, 3) turns the object.

    The colour seen from d after the turn is the one seen from R^T d before it. Rotations mix the functions of one degree only
    (Wigner's matrices); each block is solved from directions spread over the sphere, in double, exact to rounding.
    """
    probes = _spread_directions(PROBES).to(rotation.device)
    before, after = (basis(directions, degree) for directions in (probes, probes @ rotation.double()))
    blocks = []
    for order in range(degree + 1):
        part = slice(order**2, (order + 1) ** 2)
        blocks.append(torch.linalg.lstsq(before[:, part], after[:, part]).solution)
    return torch.block_diag(*blocks).to(rotation.dtype)


def _spread_directions(count: int) -> Tensor:
    """Unit vectors (count, 3), float64, evenly over the sphere (a Fibonacci spiral)."""
    place = torch.arange(count, dtype=torch.float64) + 0.5
    height = 1 - 2 * place / count
    angle = place * (torch.pi * (3 - 5**0.5))
    ring = (1 - height.square()).sqrt()
    return torch.stack([ring * angle.cos(), height, ring * angle.sin()], -1)
