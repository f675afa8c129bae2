"""Soft, simple light for the procedural objects: a key light fixed to the world, a sky and a little rim."""

import torch
from torch import Tensor

KEY = (0.52, 0.62, 0.59)  # unit direction to the light: upper right, in front
KEY_STRENGTH = 0.70
SKY = (0.56, 0.58, 0.61)  # linear RGB from above
GROUND = (0.34, 0.31, 0.28)  # linear RGB from below
WRAP = 0.30  # how far the key reaches behind the terminator
RIM = 0.10


def srgb_to_linear(colour: Tensor) -> Tensor:
    """The sRGB curve undone, values in [0, 1]."""
    return torch.where(colour <= 0.04045, colour / 12.92, ((colour.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(colour: Tensor) -> Tensor:
    """The sRGB curve, values in [0, 1]."""
    return torch.where(colour <= 0.0031308, colour * 12.92, 1.055 * colour.clamp(min=0.0031308) ** (1 / 2.4) - 0.055)


def shade(
    albedo: Tensor, normal: Tensor, to_camera: Tensor, roughness: Tensor, metallic: Tensor, occlusion: Tensor, emission: Tensor
) -> Tensor:
    """Shaded sRGB colour in [0, 1] of (P, 3) points: albedo sRGB, unit normal towards the viewer, unit to_camera;
    roughness, metallic, occlusion, emission (P,)."""
    base = srgb_to_linear(albedo)
    key = torch.tensor(KEY, dtype=albedo.dtype, device=albedo.device)
    sky, ground = (torch.tensor(c, dtype=albedo.dtype, device=albedo.device) for c in (SKY, GROUND))
    diffuse = ((normal @ key + WRAP) / (1 + WRAP)).clamp(min=0) ** 1.3 * KEY_STRENGTH * (0.4 + 0.6 * occlusion)
    up = (0.5 + 0.5 * normal[:, 1:2])
    ambient = (ground + (sky - ground) * up) * occlusion[:, None]
    half = key + to_camera
    half = half / half.norm(dim=1, keepdim=True).clamp(min=1e-6)
    gloss = (1 - roughness) ** 2
    highlight = (normal * half).sum(1).clamp(min=0) ** (4 + 60 * gloss) * gloss * 0.5
    facing = (normal * to_camera).sum(1).clamp(0, 1)
    rim = RIM * (1 - facing) ** 3 * up[:, 0] * occlusion
    tint = 1 + (base - 1) * metallic[:, None]
    light = base * (ambient + diffuse[:, None] + emission[:, None]) + tint * (highlight + rim)[:, None]
    return linear_to_srgb(light.clamp(0, 1))
