"""Gaussians at one instant as the splat formats share them, and what makes a cloud useless whatever its format."""

import math
from dataclasses import dataclass

import numpy as np

SH_DC = 0.28209479177387814  # the constant spherical harmonic: sRGB = SH_DC * coefficient + 0.5
COEFFICIENTS = (1, 4, 9, 16)  # harmonics of degree 0 to 3
FARTHEST = 1e6  # units; objects are made in the unit ball, and single precision has no detail left out there


@dataclass(frozen=True)
class SplatCloud:
    """N activated Gaussians, float32 arrays.

    positions (N, 3). rotations (N, 4) unit quaternions w, x, y, z. scales (N, 3) standard deviations, linear. opacities (N,)
    in [0, 1]. harmonics (N, K, 3) in 3DGS order and signs, K = 1, 4, 9 or 16. In which frame, the format says.
    """

    positions: np.ndarray
    rotations: np.ndarray
    scales: np.ndarray
    opacities: np.ndarray
    harmonics: np.ndarray

    @property
    def count(self) -> int:
        """N."""
        return len(self.positions)

    @property
    def degree(self) -> int:
        """Degree of the harmonics."""
        return math.isqrt(self.harmonics.shape[1]) - 1


def problem_of(splats: SplatCloud) -> str:
    """Why a cloud can't be used, as a clause: it is empty, not finite or exploded; empty text when nothing is wrong."""
    if splats.count == 0:
        return "no Gaussian is in it"
    parts = (splats.positions, splats.rotations, splats.scales, splats.opacities, splats.harmonics)
    finite = np.ones(splats.count, bool)
    for part in parts:
        finite &= np.isfinite(part).reshape(splats.count, -1).all(1)
    if not finite.all():
        return f"{splats.count - int(finite.sum())} of its {splats.count} Gaussians hold numbers that are not finite"
    reach = max(float(np.abs(splats.positions).max()), float(splats.scales.max()))
    return f"its Gaussians reach {reach:.0e} units, it has exploded (at most {FARTHEST:.0e} are of use)" if reach > FARTHEST else ""


def unit_rotations(rotations: np.ndarray) -> np.ndarray:
    """Quaternions (N, 4) at unit length; those without one stand for no rotation. What is not finite stays so."""
    rotations = rotations.astype(np.float64)  # whose squares fit
    length = np.linalg.norm(rotations, axis=1, keepdims=True)
    identity = np.array([1.0, 0.0, 0.0, 0.0])
    with np.errstate(invalid="ignore"):  # infinite ones become NaN, and are refused with them
        return np.where(length == 0, identity, rotations / np.where(length == 0, 1.0, length)).astype(np.float32)


def harmonics_of(colours: np.ndarray) -> np.ndarray:
    """Constant harmonics (N, 1, 3) that show sRGB colours (N, 3)."""
    return ((colours.astype(np.float32) - 0.5) / np.float32(SH_DC))[:, None, :]


def sigmoid(values: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x) without overflow, in single precision."""
    return (0.5 * (1.0 + np.tanh(0.5 * values.astype(np.float64)))).astype(np.float32)
