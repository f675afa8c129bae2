"""Between Gaussians over time and batches of splats with B = time, as the host's SPLAT holds them (3DGS frame)."""

import math

import torch
from torch import Tensor

from .frames import turned
from .gaussians import Gaussians4D
from .harmonics import MOST_DEGREE
from .tools import compact, even_times

SMALLEST = 1e-8  # of a standard deviation: logarithms of it are finite
WIDTHS = {"positions": 3, "scales": 3, "rotations": 4, "opacities": 1}


def to_batch(gaussians: Gaussians4D) -> dict[str, Tensor]:
    """positions, scales (B, N, 3), rotations (B, N, 4), opacities (B, N, 1), sh (B, N, K, 3); what never changes is a view, not copied."""
    parts = turned(gaussians).expanded()
    return {
        "positions": parts["positions"],
        "scales": parts["scales"],
        "rotations": parts["rotations"],
        "opacities": parts["opacities"][..., None],
        "sh": parts["harmonics"],
    }


def from_batch(batch: dict[str, Tensor], counts: Tensor | None = None) -> Gaussians4D:
    """The Gaussians of a batch of splats, one time per item, the n-th of each item being the same Gaussian.

    `counts` (B,): how many of each item are real. A Gaussian that an item lacks has opacity 0 there and otherwise what it has at
    the nearest time that knows it, so that it fades where it stands. Attributes equal at all times are kept once. Harmonics
    above degree 3 are dropped. ValueError for what no splat can be: shapes that disagree, nothing at all, numbers that are not
    finite, logarithms in place of scales, logits in place of opacities.
    """
    frames, most = _checked_shapes(batch)
    present = _present(frames, most, counts)
    most = int(present.any(0).sum())
    if most == 0:
        raise ValueError(f"The splat is empty: 0 Gaussians in {frames} item{'s' * (frames != 1)}. Connect a node that makes some.")
    present = present[:, :most]
    parts = {name: value[:, :most].float().cpu() for name, value in batch.items()}
    _check_numbers(parts, present)
    if not bool(present.all()):
        nearest = _nearest_present(present)
        parts = {name: _gathered(value, nearest) for name, value in parts.items()}
    opacities = torch.where(present, parts["opacities"][..., 0], 0.0)
    coefficients = min(parts["sh"].shape[2], (MOST_DEGREE + 1) ** 2)
    values = {
        "positions": parts["positions"],
        "rotations": _unit(parts["rotations"]),
        "scales": parts["scales"].clamp_min(SMALLEST),
        "opacities": opacities.clamp(0.0, 1.0),
        "harmonics": parts["sh"][:, :, :coefficients],
    }
    return turned(compact(Gaussians4D(**values, times=even_times(frames))))


def _checked_shapes(batch: dict[str, Tensor]) -> tuple[int, int]:
    shape = tuple(batch["positions"].shape[:2])
    for name, width in WIDTHS.items():
        if tuple(batch[name].shape) != (*shape, width):
            raise ValueError(f"The splat's {name} have the shape {tuple(batch[name].shape)}, {(*shape, width)} is needed. Repair the node that made it.")
    sh = tuple(batch["sh"].shape)
    if len(sh) != 4 or sh[:2] != shape or sh[3] != 3 or sh[2] < 1 or math.isqrt(sh[2]) ** 2 != sh[2]:
        raise ValueError(f"The splat's colours have the shape {sh}, {shape} x 1, 4, 9 or 16 harmonics x 3 are needed. Repair the node that made it.")
    return shape


def _present(frames: int, most: int, counts: Tensor | None) -> Tensor:
    """(B, N) bool: which Gaussians each item really has."""
    if counts is None:
        return torch.ones(frames, most, dtype=torch.bool)
    if tuple(counts.shape) != (frames,) or bool((counts < 0).any()) or bool((counts > most).any()):
        raise ValueError(f"The splat says it has {counts.tolist()} Gaussians in {frames} items of room for {most}. Repair the node that made it.")
    return torch.arange(most) < counts.cpu()[:, None]


def _check_numbers(parts: dict[str, Tensor], present: Tensor) -> None:
    for name, value in parts.items():
        bad = ~torch.isfinite(value).reshape(*present.shape, -1).all(-1) & present
        if bool(bad.any()):
            item, index = (int(number) for number in bad.nonzero()[0])
            raise ValueError(f"The splat's {name} are not finite for {int(bad.sum())} of {int(present.sum())} Gaussians, first for number {index} of item {item}. Load an intact file, or make it again.")
    scales, opacities = parts["scales"][present], parts["opacities"][..., 0][present]
    if bool((scales < 0).any()):
        raise ValueError(f"The splat's scales go down to {float(scales.min()):.3g}, and lengths are not negative. These may be logarithms: the node that made it must apply exp.")
    if bool((opacities < -1e-3).any()) or bool((opacities > 1 + 1e-3).any()):
        raise ValueError(f"The splat's opacities go from {float(opacities.min()):.3g} to {float(opacities.max()):.3g}, beyond [0, 1]. These may be logits: the node that made it must apply a sigmoid.")


def _nearest_present(present: Tensor) -> Tensor:
    """(B, N) int64: the item nearest in time that has each Gaussian, the earlier one of two."""
    frames = present.shape[0]
    place = torch.arange(frames)[:, None].expand_as(present)
    far = 2 * frames
    before = torch.where(present, place, -far).cummax(0).values
    after = torch.where(present, place, far).flip(0).cummin(0).values.flip(0)
    return torch.where(place - before <= after - place, before, after).clamp(0, frames - 1)


def _gathered(value: Tensor, item: Tensor) -> Tensor:
    return value[item, torch.arange(item.shape[1])]


def _unit(rotations: Tensor) -> Tensor:
    """Unit quaternions; the unturned one in place of zero."""
    length = rotations.norm(dim=-1, keepdim=True)
    unturned = rotations.new_tensor([1.0, 0.0, 0.0, 0.0])
    return torch.where(length > 1e-12, rotations / length.clamp_min(1e-12), unturned)

