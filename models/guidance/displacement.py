"""Total variation of a rendered displacement: against motion that jitters in space or time (Dream-in-4D, section 3.2)."""

import torch
from torch import Tensor

from ..fields.field import Field

PUBLISHED_WEIGHT = 1000.0
PUBLISHED_SIZE = 80 * 144 * 24  # height, width, frames that the weight was chosen for


def displacement_tv(displacement: Tensor) -> Tensor:
    """Sum of squared distances between neighbours along x, y and time (Dream-in-4D's L_TV), a raw sum as published.

    `displacement` (..., F, H, W, 3); the mean over the videos in front of F.
    """
    videos = displacement.reshape(-1, *displacement.shape[-4:])  # (B, F, H, W, 3)
    return sum(videos.diff(dim=axis).square().sum() for axis in (1, 2, 3)) / len(videos)


def in_order(videos: Tensor, times: Tensor) -> Tensor:
    """Frames (S, V, F, ...) sorted by their `times` (S, F): a scene may begin with a given picture of a later time."""
    order = times.argsort(dim=1, stable=True)
    return torch.stack([video[:, places] for video, places in zip(videos, order)])


def normalisation(frames: int, height: int, width: int) -> float:
    """What turns the weight for a video of the published size into one for another size: the sum grows with its terms."""
    return PUBLISHED_SIZE / (frames * height * width)


def check_displacement(names: list[str], field: Field) -> None:
    """ValueError when terms of these `names` penalise a displacement that the field does not have."""
    if names and not callable(getattr(field, "displacement", None)):
        raise ValueError(
            f'The term "{names[0]}" has a Displacement TV, and a field of {field.kind} displaces nothing. Bypass Displacement TV, or put a '
            "Deformable Field in front of the optimiser."
        )
