"""The peer of the splat rasteriser: every Gaussian on every pixel, as one writes it first in torch, pixels in chunks that are recomputed."""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

PAIRS_AT_ONCE = 1 << 21


def all_pairs(
    positions: Tensor, rotations: Tensor, scales: Tensor, opacities: Tensor, colours: Tensor, camera_to_world: Tensor, fov_y: Tensor, height: int, width: int, settings
) -> tuple[Tensor, Tensor]:
    """Colour, alpha and depth (H W, C + 2) of one picture of N Gaussians, and which pixels have a pair within a relative 1e-5
    of a limit, where another rounding decides otherwise. Exact semantics of 3DGS as `settings` say."""
    projected = _project(positions, rotations, scales, opacities, colours, camera_to_world, fov_y, height, width, settings)
    rows = torch.arange(height * width, device=positions.device).split(max(PAIRS_AT_ONCE // len(positions), 1))
    parts = [checkpoint(_composite, pixels, width, settings, *projected, use_reentrant=False) for pixels in rows]
    return torch.cat([maps for maps, _ in parts]), torch.cat([close for _, close in parts])


def one_chunk(pixels: int, *scene) -> Tensor:
    """The same on the first `pixels` alone, with everything kept for the backward pass: how much that is for a pixel."""
    *_, height, width, settings = scene
    return _composite(torch.arange(pixels), width, settings, *_project(*scene))[0]


def _project(positions, rotations, scales, opacities, colours, camera_to_world, fov_y, height, width, settings):
    world = torch.linalg.inv(camera_to_world @ torch.diag(positions.new_tensor([1.0, -1.0, -1.0, 1.0])))
    local = positions @ world[:3, :3].T + world[:3, 3]
    order = torch.argsort(local[:, 2].detach(), stable=True)
    order = order[local[order, 2] > settings.near]
    x, y, z = local[order].unbind(1)
    half = torch.tan(0.5 * fov_y)
    focal = 0.5 * height / half
    u, v = (value.clamp(-1.3 * limit, 1.3 * limit) for value, limit in ((x / z, half * width / height), (y / z, half)))
    zero = torch.zeros_like(z)
    jacobian = torch.stack([torch.stack([focal / z, zero, -focal * u / z], 1), torch.stack([zero, focal / z, -focal * v / z], 1)], 1)
    flat = jacobian @ world[:3, :3] @ (_matrix(rotations[order]) * scales[order][:, None])
    covariance = flat @ flat.transpose(1, 2) + settings.dilation * torch.eye(2, dtype=flat.dtype)
    centre = torch.stack([0.5 * width + focal * x / z, 0.5 * height + focal * y / z], 1)
    features = torch.cat([colours[order], torch.ones_like(z)[:, None], z[:, None]], 1)
    return centre, torch.linalg.inv(covariance), opacities[order], features


def _matrix(quaternion: Tensor) -> Tensor:
    w, x, y, z = (quaternion / quaternion.norm(dim=1, keepdim=True)).unbind(1)
    rows = [[1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]]  # fmt: skip
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def _composite(pixels, width, settings, centre, conic, opacity, features):
    place = torch.stack([pixels % width, pixels // width], 1) + 0.5
    offset = place[:, None] - centre  # (P, N, 2)
    sigma = 0.5 * (conic[:, 0, 0] * offset[..., 0] ** 2 + conic[:, 1, 1] * offset[..., 1] ** 2) + conic[:, 0, 1] * offset[..., 0] * offset[..., 1]
    raw = opacity * torch.exp(-sigma)
    alpha = torch.where(raw >= settings.alpha_threshold, raw.clamp(max=settings.max_alpha), 0.0)
    after = torch.cumprod(1.0 - alpha, 1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], 1)
    weight = torch.where(after > settings.transmittance_stop, before * alpha, 0.0)
    limits = ((raw, settings.alpha_threshold), (raw, settings.max_alpha), (after, settings.transmittance_stop))
    close = torch.stack([((value - limit).abs() < 1e-5 * limit).any(1) for value, limit in limits]).any(0)
    return weight @ features, close.detach()
