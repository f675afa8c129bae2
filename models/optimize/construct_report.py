"""How well constructed Gaussians match their footage, as numbers, words and a sheet of pictures."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..gaussians.dynamic import DynamicGaussians
from ..geometry.cameras import Cameras
from .construct_views import draw
from .footage import Footage

COLUMNS, TILE = 8, 96
AT_ONCE = 8  # pictures


@torch.no_grad()
def shown(gaussians: DynamicGaussians, cameras: Cameras, times: Tensor, height: int, width: int) -> Tensor:
    """Pictures (M, H, W, 3) over white, of Gaussians from `cameras` at `times` (M,)."""
    parts = []
    for start in range(0, len(cameras), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        views = draw(gaussians.at(times[part]), cameras.select(part), height, width)
        parts.append(views.over(views.rgb.new_ones(3)).clamp(0.0, 1.0))
    return torch.cat(parts)


def psnr(pictures: Tensor, truth: Tensor) -> Tensor:
    """Decibels (M,) of each picture (M, H, W, 3), both in [0, 1]."""
    return -10.0 * (pictures - truth).square().mean(dim=(1, 2, 3)).clamp_min(1e-10).log10()


@dataclass(frozen=True)
class Match:
    """Decibels of every picture of one footage, over white."""

    name: str
    decibels: Tensor  # (M,)
    times: Tensor  # (M,)
    cameras: Tensor  # (M, 4, 4)

    def words(self) -> str:
        """Mean, worst, and every frame; by view too, where several times share a camera."""
        mean, worst = float(self.decibels.mean()), int(self.decibels.argmin())
        lines = [f"{self.name}: {mean:.2f} dB, worst {float(self.decibels[worst]):.2f} dB at picture {worst}"]
        lines.append("  by frame: " + " ".join(f"{value:.1f}" for value in self.decibels.tolist()))
        _, view = torch.unique(self.cameras.flatten(1), dim=0, return_inverse=True)
        if 1 < int(view.max()) + 1 < len(view):
            order = list(dict.fromkeys(view.tolist()))
            lines.append("  by view: " + " ".join(f"{float(self.decibels[view == number].mean()):.1f}" for number in order))
            instants = torch.unique(self.times)
            lines.append("  by time: " + " ".join(f"{float(self.decibels[self.times == instant].mean()):.1f}" for instant in instants))
        return "\n".join(lines)


def match(gaussians: DynamicGaussians, footage: Footage) -> Match:
    """How well the Gaussians match footage on their device."""
    pictures = shown(gaussians, footage.cameras, footage.times, *footage.size)
    return Match(footage.name, psnr(pictures, footage.over_white().clamp(0.0, 1.0)).cpu(), footage.times.cpu(), footage.cameras.camera_to_world.cpu())


@torch.no_grad()
def sheet(gaussians: DynamicGaussians, footages: list[Footage], columns: int = COLUMNS, tile: int = TILE) -> Tensor:
    """A sheet (1, H, W, 3): the first footage, the Gaussians beneath it, and beneath those the side that it did not see.

    The first moving footage is taken where there is one; columns run through its pictures.
    """
    first = next((item for item in footages if not item.static), footages[0])
    index = torch.arange(min(columns, len(first)), device=first.rgb.device) * len(first) // min(columns, len(first))
    cameras, times = first.cameras.select(index), first.times[index]
    truth = first.over_white()[index].clamp(0.0, 1.0)
    opposite = Cameras(_turned(cameras.camera_to_world), cameras.fov_y, cameras.times)
    rows = [truth, *(shown(gaussians, which, times, *first.size) for which in (cameras, opposite))]
    tiles = [functional.interpolate(row.movedim(-1, 1), size=(tile, max(round(tile * first.size[1] / first.size[0]), 1)), mode="bilinear", antialias=True) for row in rows]
    return torch.cat([torch.cat(list(row), dim=-1) for row in tiles], dim=1).movedim(0, -1)[None].cpu()


def _turned(poses: Tensor) -> Tensor:
    """Poses (M, 4, 4) half a turn further around the world's vertical axis."""
    turn = torch.diag(poses.new_tensor([math.cos(math.pi), 1.0, math.cos(math.pi), 1.0]))
    return turn @ poses


def losses_in_words(weights, perceptual: str, driving: Footage | None, footages: list[Footage]) -> list[str]:
    """What every loss was measured with, and which ones were inactive and why."""
    lines = [f"Perceptual loss: {perceptual}." if weights.perceptual else "Perceptual loss: off."]
    if driving is None:
        lines.append("Hex loss: inactive, there is no driving video of a fixed reference camera.")
    elif not weights.hex:
        lines.append("Hex loss: off.")
    else:
        lines.append(f"Hex loss: {len(driving)} frames at the reference camera.")
    known = [item for item in [*footages, *([driving] if driving is not None else [])] if item.alpha is None]
    if known:
        names = " and the ".join(item.name for item in known)
        lines.append(f"No mask for the {names}: a white background is assumed, and what is white of the object cannot be told from it. Connect a mask.")
    return lines
