"""Gaussians over time as the sequence that the browser plays: without what it cannot draw, and small enough for it."""

import torch
from torch import Tensor

from ..formats.viewer_file import ViewerSequence, viewer_bytes
from .gaussians import Gaussians4D, srgb

OUTSIDE = 20.0  # times the distance that 95 % of the Gaussians keep from the middle; the file's 16 bits would be spent on the void
SAMPLED = 1 << 18  # positions that the middle is taken of


def viewer_sequence(gaussians: Gaussians4D, fps: float = 8.0, metadata: dict[str, str] | None = None) -> ViewerSequence:
    """The sequence of a viewer file, played at `fps` times a second; colours lose their dependence on the viewing direction."""
    return ViewerSequence(gaussians.positions, gaussians.rotations, gaussians.scales, gaussians.opacities, srgb(gaussians), gaussians.times, fps, metadata or {})


def finite(gaussians: Gaussians4D) -> Tensor:
    """Which Gaussians (N,) hold no NaN and no infinity at any time."""
    kept = torch.ones(gaussians.count, dtype=torch.bool, device=gaussians.positions.device)
    for value in gaussians.attributes().values():
        kept &= torch.isfinite(value).all(0).flatten(1).all(1) if value.dim() > 2 else torch.isfinite(value).all(0)
    return kept


def near(gaussians: Gaussians4D) -> Tensor:
    """Which Gaussians (N,) stay with the others at all times: a few that fly off would leave the rest a dot in a huge box."""
    points = gaussians.positions
    some = points.reshape(-1, 3)[:: max(points[..., 0].numel() // SAMPLED, 1)]
    middle = some.median(0).values
    radius = (some - middle).norm(dim=-1).quantile(0.95)
    farthest = torch.stack([(frame - middle).norm(dim=-1) for frame in points]).amax(0)
    return farthest <= OUTSIDE * radius.clamp_min(1e-6)


def most_visible(gaussians: Gaussians4D, most: int) -> Tensor:
    """Numbers (M,) ascending, M <= `most`, of the Gaussians with the largest opacity times area at any time."""
    larger = gaussians.scales.sort(dim=-1).values[..., 1:].prod(-1).amax(0)
    weight = gaussians.opacities.amax(0) * larger
    return weight.topk(min(most, gaussians.count)).indices.sort().values


def drawable(gaussians: Gaussians4D, most_bytes: int) -> tuple[Gaussians4D, list[str]]:
    """What a browser is to draw, in a file of at most `most_bytes`, and in words what was left out.

    ValueError when there is nothing to draw, or when the times alone are too many.
    """
    notes, count = [], gaussians.count
    for choose, what in ((finite, "hold numbers that are not finite (an optimisation that diverged)"), (near, "have flown far away")):
        kept = choose(gaussians) if gaussians.count else torch.ones(0, dtype=torch.bool)
        if not kept.any():
            raise ValueError("There is nothing to show: the object has no Gaussians." if not count else f"There is nothing to show: all {gaussians.count:,} Gaussians {what}. Lower the learning rates, or take an earlier result.")
        if not kept.all():
            notes.append(f"{int((~kept).sum()):,} of {count:,} Gaussians {what} and are left out.")
            gaussians = gaussians.chosen(kept)
    return _within(gaussians, most_bytes, notes)


def _within(gaussians: Gaussians4D, most_bytes: int, notes: list[str]) -> tuple[Gaussians4D, list[str]]:
    moving = max(len(value) for value in (gaussians.scales, gaussians.opacities, gaussians.harmonics)) > 1
    whole = viewer_bytes(gaussians.frames, gaussians.count, moving)
    most = most_bytes // viewer_bytes(gaussians.frames, 1, moving)
    if most < 1:
        raise ValueError(f"{gaussians.frames:,} times do not fit into {most_bytes / 1e6:g} MB. Retime the object to fewer times, or allow more megabytes.")
    if whole > most_bytes:
        notes = [*notes, f"The {most:,} most visible of {gaussians.count:,} Gaussians are shown: all at {gaussians.frames} times are {whole / 1e6:,.0f} MB, and {most_bytes / 1e6:,g} MB are allowed."]
        gaussians = gaussians.chosen(most_visible(gaussians, most))
    return gaussians, notes
