"""Batches as the shipped networks are trained on them: joint scenes for the prior, labelled pictures for the recogniser."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class JointScenes:
    """S scenes of V pictures each; pictures of a scene are consecutive (time slowest, then view).

    The pictures themselves stay where they are stored, `where` numbers them.
    """

    where: Tensor  # (S*V,) int64
    azimuth: Tensor  # (S*V,) radians
    elevation: Tensor  # (S*V,) radians
    times: Tensor  # (S*V,) in [0, 1]
    prompts: tuple[str, ...]  # S
    frames: int  # V

    @property
    def scenes(self) -> int:
        return self.where.shape[0] // self.frames


@dataclass(frozen=True)
class LabelledPictures:
    """Pictures (B, 4, 64, 64), indices into the recogniser's names (B,) and times (B,)."""

    pictures: Tensor
    phenomenon: Tensor
    species: Tensor
    colour: Tensor
    times: Tensor


@dataclass(frozen=True)
class LabelledPrompts:
    """Sentences (S) and, by the label's name, what they say (S,)."""

    prompts: tuple[str, ...]
    labels: dict[str, Tensor]
