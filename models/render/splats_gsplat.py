"""Splat compositing by gsplat's CUDA kernels, where a compiled gsplat is there. Unverified: no machine with one has run it yet.

Written against gsplat 1.5.3, in its packed form: our own projection finds what is seen, and gsplat sorts it into tiles, composites
and differentiates. Importing gsplat may compile for minutes, so it is imported only when its compiled module exists, and found in
a way that can not start a build.
"""

import torch
from torch import Tensor

from . import gsplat_package, splats_torch
from .splat_projection import Splats, SplatSettings

TILE = 16  # pixels along an edge


def composite(splats: Splats, views: int, height: int, width: int, settings: SplatSettings) -> tuple[Tensor, Tensor]:
    """`splats_torch.composite` in single precision on CUDA; what gsplat was not compiled for goes to the reference itself."""
    if splats.features.device.type != "cuda":
        raise RuntimeError("gsplat runs on CUDA devices only")
    gsplat = gsplat_package.load()
    if not splats.index.numel() or splats.features.dtype != torch.float32 or not compiled_for(settings):
        return splats_torch.composite(splats, views, height, width, settings)
    across, down = -(-width // TILE), -(-height // TILE)
    with torch.no_grad():
        rank = torch.arange(len(splats.view), dtype=torch.float32, device=splats.view.device)  # they are sorted already, ties too
        centre, view = splats.centre.detach(), splats.view
        _, keys, members = gsplat.isect_tiles(centre, radii(splats), rank, TILE, across, down, packed=True, n_images=views, image_ids=view, gaussian_ids=splats.index)
        offsets = gsplat.isect_offset_encode(keys, views, across, down)
    sums, weights = gsplat.rasterize_to_pixels(
        splats.centre, splats.conic, splats.features, splats.opacity, width, height, TILE, offsets, members, packed=True
    )
    return sums, weights[..., 0]


def compiled_for(settings: SplatSettings) -> bool:
    """Whether gsplat's kernels, whose limits are compiled in, composite like this."""
    fixed = SplatSettings(max_alpha=gsplat_package.installed_max_alpha())
    return (settings.max_alpha, settings.alpha_threshold, settings.transmittance_stop) == (fixed.max_alpha, fixed.alpha_threshold, fixed.transmittance_stop)


def radii(splats: Splats) -> Tensor:
    """Half the extents (M, 2) int32 in pixels of the ellipses in which alpha reaches the threshold."""
    xx, xy, yy = splats.conic.detach().unbind(1)
    variances = torch.stack([yy, xx], dim=1) / (xx * yy - xy * xy)[:, None]
    return ((2.0 * splats.reach[:, None] * variances).sqrt() * 1.001 + 1e-3).ceil().to(torch.int32)
