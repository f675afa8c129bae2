"""Camera rays and where they cross the scene's bounds."""

import torch
from torch import Tensor

NO_HIT = 1e-9  # a ray that misses gets an empty interval [0, 0]


def rays(camera_to_world: Tensor, fov_y: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Cast one ray through every pixel centre.

    `camera_to_world` (N, 4, 4) OpenGL, `fov_y` (N,) radians. Returns origins and unit directions, each (N, H, W, 3): depth
    along such a ray is the Euclidean distance from the camera, not z. Row 0 is the top of the picture; the principal point is
    the centre and pixels are square, so the width only widens the view.
    """
    like = dict(dtype=camera_to_world.dtype, device=camera_to_world.device)
    focal = 0.5 * height / torch.tan(0.5 * fov_y)  # (N,) pixels
    x = (torch.arange(width, **like) + 0.5 - 0.5 * width)[None, :] / focal[:, None]  # (N, W)
    y = (torch.arange(height, **like) + 0.5 - 0.5 * height)[None, :] / focal[:, None]  # (N, H)
    count = camera_to_world.shape[0]
    x = x[:, None, :].expand(count, height, width)
    y = y[:, :, None].expand(count, height, width)
    local = torch.stack([x, -y, -torch.ones_like(x)], dim=-1)  # (N, H, W, 3)
    directions = torch.einsum("nij,nhwj->nhwi", camera_to_world[:, :3, :3], local)
    directions = directions / directions.norm(dim=-1, keepdim=True)
    origins = camera_to_world[:, None, None, :3, 3].expand_as(directions)
    return origins, directions


def ray_box(origins: Tensor, directions: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Intersect rays (R, 3) with the cube [-radius, radius]^3: distances (near, far), each (R,), both 0 where a ray misses.

    `near` is never behind the camera. A direction parallel to a face divides by zero on purpose: the slab test is right with
    infinities, and a component of exactly 0 is nudged so that 0 * inf never appears.
    """
    safe = torch.where(directions.abs() < NO_HIT, torch.full_like(directions, NO_HIT), directions)
    first, second = (-radius - origins) / safe, (radius - origins) / safe  # (R, 3)
    near = torch.minimum(first, second).amax(dim=-1)
    far = torch.maximum(first, second).amin(dim=-1)
    return _visible_interval(near, far)


def ray_ball(origins: Tensor, directions: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Intersect unit-direction rays (R, 3) with the ball of `radius` at the origin: (near, far), each (R,), 0 where missed."""
    middle = -(origins * directions).sum(dim=-1)
    closest = (origins + middle[:, None] * directions).square().sum(dim=-1)
    half = (radius * radius - closest).clamp_min(0.0).sqrt()
    return _visible_interval(middle - half, middle + half)


def _visible_interval(near: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
    near = near.clamp_min(0.0)
    hit = far - near > NO_HIT
    return torch.where(hit, near, 0.0), torch.where(hit, far, 0.0)
