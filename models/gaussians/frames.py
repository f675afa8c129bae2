"""Between our frame (Y up, front +Z) and the one of 3DGS files and of the host's SPLAT (Y down, Z away)."""

from dataclasses import replace

import torch

from .gaussians import Gaussians4D

_HARMONIC_SIGNS = (1, -1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1)
"""What each real spherical harmonic of 3DGS is multiplied by when y and z change sign."""


def turned(gaussians: Gaussians4D) -> Gaussians4D:
    """The same Gaussians after half a turn about x, (x, y, z) -> (x, -y, -z): from our frame to 3DGS's, and back again."""
    flip = torch.tensor([1.0, -1.0, -1.0]).to(gaussians.positions)
    signs = torch.tensor(_HARMONIC_SIGNS[: gaussians.harmonics.shape[2]]).to(gaussians.harmonics)
    rotations = gaussians.rotations * torch.tensor([1.0, 1.0, -1.0, -1.0]).to(gaussians.rotations)
    return replace(gaussians, positions=gaussians.positions * flip, rotations=rotations, harmonics=gaussians.harmonics * signs[:, None])
