"""The toy scene: three coloured spheres, one with a mark on its front, one that circles and grows; pictures by closed form.

Our frame (Y up, front +Z). A render is the nearest of the ray's intersections, with a fine pattern that tells sharp from soft.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from bloom4d.models.geometry.cameras import RIG_DISTANCE, RIG_ELEVATION_DEGREES, RIG_FOV_DEGREES, Cameras, orbit

BODY, SIDE, MOVING = 0, 1, 2
COLOURS = torch.tensor([[0.35, 0.45, 0.80], [0.20, 0.65, 0.25], [0.95, 0.75, 0.10]])
MARK = torch.tensor([0.85, 0.10, 0.15])
PATTERN = 0.35  # depth of the pattern on the body
OVERSAMPLING = 2


@dataclass(frozen=True)
class Spheres:
    """Which of the three are there; the whole scene has all."""

    parts: tuple[int, ...] = (BODY, SIDE, MOVING)

    def shapes(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """Centres (N, 3, 3) and radii (N, 3) at times (N,); the third circles by a quarter turn in front and grows by half."""
        angle = math.radians(-45.0) + math.radians(90.0) * times
        still = torch.zeros_like(times)
        body = torch.stack([still, still - 0.12, still], -1)
        side = torch.stack([still - 0.05, still + 0.62, still], -1)
        moving = torch.stack([0.74 * angle.sin(), still - 0.22, 0.74 * angle.cos()], -1)
        radii = torch.stack([still + 0.50, still + 0.28, 0.20 + 0.10 * times], -1)
        return torch.stack([body, side, moving], 1), radii

    def render(self, cameras: Cameras, size: int) -> Tensor:
        """Premultiplied RGBA (N, 4, size, size)."""
        fine = size * OVERSAMPLING
        origins, directions, times = cameras.rays(fine, fine)
        centres, radii = (value.repeat_interleave(fine * fine, 0) for value in self.shapes(cameras.times))
        depth, part = self._nearest(origins, directions, centres, radii)
        points = origins + directions * depth[:, None]
        hit = depth.isfinite()
        points = torch.where(hit[:, None], points, 0.0)
        normal = functional.normalize(points - centres[torch.arange(len(part)), part], dim=-1)
        colour = self._coloured(part, normal)
        rgba = torch.cat([colour, torch.ones_like(colour[:, :1])], 1) * hit[:, None]
        return functional.avg_pool2d(rgba.view(len(cameras), fine, fine, 4).movedim(-1, 1), OVERSAMPLING)

    def _nearest(self, origins, directions, centres, radii) -> tuple[Tensor, Tensor]:
        towards = centres - origins[:, None]  # (R, 3, 3)
        along = (towards * directions[:, None]).sum(-1)
        missing = towards.square().sum(-1) - along.square()
        inside = radii.square() - missing
        depth = torch.where(inside > 0, along - inside.clamp_min(0).sqrt(), torch.inf)
        absent = torch.tensor([part not in self.parts for part in range(3)])
        return depth.masked_fill(absent, torch.inf).min(1)

    def _coloured(self, part: Tensor, normal: Tensor) -> Tensor:
        colour = COLOURS[part]
        stripes = 1.0 - PATTERN * (0.5 + 0.5 * torch.sign(torch.sin(14.0 * normal[:, 1]) * torch.sin(7.0 * torch.atan2(normal[:, 0], normal[:, 2]))))
        colour = torch.where((part == BODY)[:, None], colour * stripes[:, None], colour)
        front = (part == BODY) & (normal[:, 2] > 0.80)
        return torch.where(front[:, None], MARK, colour)


def rig(azimuths: Tensor, times: Tensor, frames: int = 1) -> Cameras:
    """Cameras on the default rig at azimuths (N,) in radians and times (N,)."""
    ones = torch.ones_like(azimuths)
    pose = orbit(azimuths, ones * math.radians(RIG_ELEVATION_DEGREES), ones * RIG_DISTANCE)
    return Cameras(pose, ones * math.radians(RIG_FOV_DEGREES), times, frames)


def softened(pictures: Tensor, blur: float, fade: float) -> Tensor:
    """Premultiplied RGBA (..., 4, H, W) blurred by a Gaussian of `blur` pixels and with `fade` of its saturation taken away."""
    flat = pictures.flatten(0, -4)
    grey = flat[:, :3].mean(1, keepdim=True)
    flat = torch.cat([flat[:, :3] * (1 - fade) + grey * fade, flat[:, 3:]], 1)
    reach = max(math.ceil(2.5 * blur), 1)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / blur) ** 2)
    kernel = (kernel / kernel.sum()).to(flat)
    for shape in ((-1, 1), (1, -1)):
        weight = kernel.view(1, 1, *shape).expand(4, 1, *(kernel.numel() if side == -1 else 1 for side in shape))
        pad = (0, 0, reach, reach) if shape == (-1, 1) else (reach, reach, 0, 0)
        flat = functional.conv2d(functional.pad(flat, pad), weight, groups=4)
    return flat.view(pictures.shape)
