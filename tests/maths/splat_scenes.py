"""Clouds of Gaussians for tests, and a splat rasteriser written a second time: every Gaussian on every pixel, in the plainest form."""

import math

import torch

FOV = math.radians(42.0)


def cloud(count, seed=0, batch=1, dtype=torch.float64, channels=3, spread=0.5, size=0.1):
    """Positions, rotations, scales, opacities and colours of random Gaussians (B, N, ...)."""
    draws = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(batch, count, *shape, generator=draws, dtype=torch.float64)

    scales = size * torch.exp(0.4 * normal(3))
    values = spread * normal(3), normal(4), scales, torch.sigmoid(0.5 + 1.5 * normal()), torch.sigmoid(normal(channels))
    return [value.to(dtype) for value in values]


def single(position=(0.0, 0.0, 0.0), scale=0.1, opacity=0.8, colour=(1.0, 0.5, 0.25), dtype=torch.float64):
    """One round Gaussian as a batch of one."""
    values = [position], [(1.0, 0.0, 0.0, 0.0)], [(scale,) * 3], [opacity], [colour]
    return [torch.tensor([value], dtype=dtype) for value in values]


def stacked(*clouds):
    """Several clouds of one batch as one."""
    return [torch.cat(parts, dim=1) for parts in zip(*clouds)]


def front(distance=2.9, dtype=torch.float64, batch=1):
    """Cameras on +Z looking at the origin, and their field of view."""
    pose = torch.eye(4, dtype=dtype)
    pose[2, 3] = distance
    return pose.expand(batch, 4, 4), torch.full((batch,), FOV, dtype=dtype)


def dense(positions, rotations, scales, opacities, colours, camera_to_world, fov_y, height, width, max_alpha=0.999, dilation=0.3, threshold=1 / 255, stop=1e-4, near=0.01, later=None):
    """Colour, alpha, depth and flow by a loop over the Gaussians of each picture in order of depth, in double."""
    found = [_picture(*(value[item].double() for value in (positions, rotations, scales, opacities, colours, camera_to_world)), float(fov_y[item]), height, width,
                      max_alpha, dilation, threshold, stop, near, None if later is None else later[item].double()) for item in range(len(positions))]
    return [torch.stack(parts) for parts in zip(*found)]


def _picture(positions, rotations, scales, opacities, colours, camera_to_world, fov_y, height, width, max_alpha, dilation, threshold, stop, near, later):
    flip = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))
    view = torch.linalg.inv(camera_to_world @ flip)  # world to OpenCV camera
    focal = 0.5 * height / math.tan(0.5 * fov_y)
    ys, xs = torch.meshgrid(torch.arange(height).double() + 0.5, torch.arange(width).double() + 0.5, indexing="ij")
    local = positions @ view[:3, :3].T + view[:3, 3]
    light, alive = torch.ones(height, width, dtype=torch.float64), torch.ones(height, width, dtype=torch.bool)
    rgb, alpha_sum, depth_sum, flow = torch.zeros(height, width, colours.shape[1], dtype=torch.float64), torch.zeros_like(light), torch.zeros_like(light), torch.zeros(height, width, 2, dtype=torch.float64)
    for number in torch.argsort(local[:, 2], stable=True).tolist():
        x, y, z = local[number]
        if not z > near:
            continue
        matrix = _matrix(rotations[number]) * scales[number]
        limits = 1.3 * math.tan(0.5 * fov_y) * width / height, 1.3 * math.tan(0.5 * fov_y)
        u, v = (x / z).clamp(-limits[0], limits[0]), (y / z).clamp(-limits[1], limits[1])
        zero = torch.zeros_like(z)
        jacobian = torch.stack([torch.stack([focal / z, zero, -focal * u / z]), torch.stack([zero, focal / z, -focal * v / z])])
        flat = jacobian @ view[:3, :3] @ matrix
        covariance = flat @ flat.T + dilation * torch.eye(2, dtype=torch.float64)
        conic = torch.linalg.inv(covariance)
        centre = torch.stack([0.5 * width + focal * x / z, 0.5 * height + focal * y / z])
        offset = torch.stack([xs - centre[0], ys - centre[1]], dim=-1)
        sigma = 0.5 * torch.einsum("hwi,ij,hwj->hw", offset, conic, offset)
        alpha = (opacities[number] * torch.exp(-sigma)).clamp(max=max_alpha)
        counts = alive & (alpha >= threshold)
        after = light * (1.0 - alpha)
        ends = counts & (after <= stop)
        alive, counts = alive & ~ends, counts & ~ends
        weight = torch.where(counts, light * alpha, 0.0)
        light = torch.where(counts, after, light)
        rgb, alpha_sum, depth_sum = rgb + weight[..., None] * colours[number], alpha_sum + weight, depth_sum + weight * z
        if later is not None:
            there = view[:3, :3] @ later[number] + view[:3, 3]
            moved = torch.stack([0.5 * width + focal * there[0] / there[2], 0.5 * height + focal * there[1] / there[2]]) - centre
            flow = flow + weight[..., None] * moved
    return rgb, alpha_sum, depth_sum, flow


def _matrix(quaternion):
    w, x, y, z = quaternion / quaternion.norm()
    rows = [[w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z]]
    return torch.stack([torch.stack(row) for row in rows])
