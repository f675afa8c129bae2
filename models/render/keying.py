"""Masks of objects in front of one flat colour: the background's colour off the picture's border, and how much of a pixel it is."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

BORDER = 0.03  # width of the frame that the background's colour is read from, as a share of the shorter side
FLAT_SHARE = 0.6  # of that frame must show one colour: an object may touch the border, it may not surround the picture
BETWEEN_CHECKS = 16  # steps of the flood between two looks at whether it has stopped


@dataclass(frozen=True)
class Keying:
    """tolerance: colour distance (largest channel, 0 to 1) up to which a pixel is background; softness: further distance over
    which opacity rises to 1. edge: pixels beside the background that may be mixtures. holes: clear enclosed areas too."""

    tolerance: float = 0.03
    softness: float = 0.1
    edge: int = 2
    holes: bool = True


@dataclass(frozen=True)
class Keyed:
    """What was found in B pictures: the object's colours without the background's share, its opacity, the background."""

    colours: Tensor  # (B, H, W, 3) straight, where opacity is above 0; elsewhere the picture as it is
    opacity: Tensor  # (B, H, W)
    background: Tensor  # (B, 3)


def key_flat(pictures: Tensor, config: Keying = Keying()) -> Keyed:
    """Take pictures (B, H, W, 3) in [0, 1] apart into an object and the flat colour behind it.

    Opacity rises with a pixel's distance from the background. Near the background a pixel that lies on the line between it and
    the object's colour beside it is a mixture of both, c = a f + (1 - a) b, and is solved for a; f takes its place.
    ValueError where the border shows no single colour.
    """
    background = torch.stack([border_colour(picture, config) for picture in pictures])
    behind = background[:, None, None]
    distance = (pictures - behind).abs().amax(-1)  # (B, H, W)
    opacity = ((distance - config.tolerance) / max(config.softness, 1e-6)).clamp(0, 1)
    colours = pictures
    if config.edge:
        mixed, share, solid = _mixtures(pictures - behind, distance, opacity, config)
        opacity = torch.where(mixed, share, opacity)
        colours = torch.where(mixed[..., None], behind + solid, pictures)
    if not config.holes:
        opacity = torch.where(outside(opacity == 0), opacity, torch.where(opacity > 0, opacity, 1.0))
    return Keyed(colours, opacity, background)


def border_colour(picture: Tensor, config: Keying) -> Tensor:
    """The median colour (3,) of the frame around one picture (H, W, 3); ValueError unless most of the frame has it."""
    height, width = picture.shape[:2]
    rim = max(1, round(BORDER * min(height, width)))
    frame = torch.ones(height, width, dtype=torch.bool, device=picture.device)
    frame[rim : height - rim, rim : width - rim] = False
    colours = picture[frame]
    median = colours.median(0).values
    flat = float(((colours - median).abs().amax(-1) <= config.tolerance).float().mean())
    if flat < FLAT_SHARE:
        raise ValueError(
            f"The picture's border shows no flat background: {flat:.0%} of it is within {config.tolerance:g} of its middle colour, {FLAT_SHARE:.0%} is needed. "
            "Raise the tolerance for an uneven backdrop, or mask the object with the host's Remove Background (and Load Background Removal Model)."
        )
    return median


def outside(clear: Tensor) -> Tensor:
    """The part of clear pixels (B, H, W) bool that is connected with the border."""
    reached = torch.zeros_like(clear)
    reached[:, 0], reached[:, -1], reached[:, :, 0], reached[:, :, -1] = clear[:, 0], clear[:, -1], clear[:, :, 0], clear[:, :, -1]
    while True:
        before = int(reached.sum())
        for _ in range(BETWEEN_CHECKS):
            reached = (_largest(reached.float(), 1)[0] > 0) & clear
        if int(reached.sum()) == before:
            return reached


def _mixtures(offset: Tensor, distance: Tensor, opacity: Tensor, config: Keying) -> tuple[Tensor, Tensor, Tensor]:
    """Which pixels `offset` (B, H, W, 3) from the background are mixtures, of how much of which colour (as an offset, too).

    The colour is the strongest nearby: dividing by a small share would blow up noise instead.
    """
    near = _largest((opacity == 0).float(), config.edge)[0] > 0
    _, where = _largest(distance, config.edge)
    solid = offset.flatten(1, 2).gather(1, where.flatten(1)[..., None].expand(-1, -1, 3)).view_as(offset)
    share = ((offset * solid).sum(-1) / solid.square().sum(-1).clamp_min(1e-12)).clamp(0, 1)
    left = (offset - share[..., None] * solid).abs().amax(-1)
    return near & (opacity > 0) & (left <= config.tolerance), share, solid


def _largest(values: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """Largest of (B, H, W) within `reach` pixels, and where in the flattened picture it is."""
    found, where = F.max_pool2d(values[:, None], 2 * reach + 1, 1, reach, return_indices=True)
    return found[:, 0], where[:, 0]
