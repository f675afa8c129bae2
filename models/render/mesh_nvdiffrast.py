"""Meshes drawn by nvdiffrast, behind the signature of `mesh.rasterise`: for CUDA, by the user's own choice.

nvdiffrast is not on PyPI and its licence allows non-commercial use only, so it runs only where somebody has installed it and
set BLOOM4D_NVDIFFRAST=1, and the log says so once. Unverified: this file follows the package's documentation (rows from the
bottom, barycentrics of corners 0 and 1, face numbers from 1) and was tested against a stand-in written from it, never on the
package itself. It clips faces at the near plane, where the torch twin drops them whole.
"""

import functools
import importlib.util
import logging
import os

import torch
from torch import Tensor

OPT_IN = "BLOOM4D_NVDIFFRAST"
NEAR, FAR = 1e-2, 100.0


def state() -> tuple[bool, str]:
    """Whether it would draw, and why not or on what terms, for the table of backends."""
    if importlib.util.find_spec("nvdiffrast") is None:
        return False, "not installed"
    if os.environ.get(OPT_IN, "").strip() != "1":
        return False, f"installed, licence non-commercial: set {OPT_IN}=1 to use it"
    if not torch.cuda.is_available():
        return False, "needs CUDA"
    return True, "unverified; licence non-commercial"


def wanted(device: torch.device) -> bool:
    """Whether `device`'s meshes are drawn here; never where BLOOM4D_BACKEND asks for torch. ValueError when the user asked for it and it is not installed."""
    asked = os.environ.get(OPT_IN, "").strip() == "1" and os.environ.get("BLOOM4D_BACKEND", "").strip().lower() != "torch"
    if device.type != "cuda" or not asked:
        return False
    if importlib.util.find_spec("nvdiffrast") is None:
        raise ValueError(f"{OPT_IN}=1 asks for nvdiffrast, which is not installed. Install it from its repository, or unset the variable.")
    return True


@functools.cache
def _context(device: torch.device):
    """One rasteriser per device; the licence is said when it is made."""
    import nvdiffrast.torch as nvdiffrast

    logging.info("Bloom4D: meshes are drawn by nvdiffrast, whose licence allows non-commercial use only")
    return nvdiffrast.RasterizeCudaContext(device=device)


def to_clip(screen: Tensor, height: int, width: int) -> Tensor:
    """Homogeneous clip coordinates (B, Nv, 4) of pixels and depth (B, Nv, 3) from `mesh.to_screen`, with y downwards.

    nvdiffrast's first row is the lowest y, so with y downwards its pictures have ours on top, as everywhere here.
    """
    x, y, depth = screen.unbind(-1)
    across, down = 2 * x / width - 1, 2 * y / height - 1
    near_far = (FAR + NEAR) / (FAR - NEAR) * depth - 2 * FAR * NEAR / (FAR - NEAR)
    return torch.stack((across * depth, down * depth, near_far, depth), -1)


def draw(screen: Tensor, faces: Tensor, values: Tensor, height: int, width: int, smooth: bool) -> tuple[Tensor, ...]:
    """Face numbers (B, H, W), -1 where empty; barycentrics (B, H, W, 3); vertex values (B, Nv, C) interpolated (B, H, W, C), and
    the same after antialiasing (B, H, W, C), a last channel being the coverage, or None."""
    import nvdiffrast.torch as nvdiffrast

    place, triangles = to_clip(screen.float(), height, width).contiguous(), faces.int().contiguous()
    found, _ = nvdiffrast.rasterize(_context(screen.device), place, triangles, resolution=[height, width])
    number = found[..., 3]
    seen = number > 0
    drawn, _ = nvdiffrast.interpolate(values.float().contiguous(), found, triangles)
    drawn = drawn * seen[..., None]
    first, second = found[..., 0], found[..., 1]
    barycentric = torch.stack((first, second, 1 - first - second), -1) * seen[..., None]
    blended = None
    if smooth:
        covered = torch.cat((drawn, seen[..., None].to(drawn)), -1).contiguous()
        blended = nvdiffrast.antialias(covered, found, place, triangles)
    return number.long() - 1, barycentric, drawn, blended
