"""Scores of a saved field against real objects of the name in its prompt: those of `judge_field`, and the view from behind."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import judge_field
import judging
from torch import Tensor

from bloom4d.models.metrics.pictures import decibels, squared_error

SHOWN = 72  # pixels of a picture on the sheets
BACK = judge_field.VIEWS // 2


@dataclass(frozen=True)
class Judge:
    """What every field of a set is compared with."""

    prompt: str

    @cached_property
    def bank(self) -> Tensor:
        return judge_field.real_objects(self.prompt)  # (K, T, V, 4, H, W)

    @cached_property
    def recogniser(self):
        return judging.recogniser()

    def scores(self, path: Path) -> dict[str, float]:
        """Every score by name; "back PSNR" is against the instance that is nearest over all views."""
        seen = judge_field.render_field(path, judge_field.SIZE)
        judgement = judge_field.judge(seen, self.prompt, self.recogniser, self.bank)
        error = squared_error(seen[:, BACK], judgement.nearest[:, BACK]).mean()
        return {**judgement.scores, "back PSNR": float(decibels(error))}

    def real(self) -> Tensor:
        """One real object for the sheets, (T, V, 4, SIZE, SIZE)."""
        return self.bank[0]


def pictures(path: Path) -> Tensor:
    """A field for the sheets, (T, V, 4, SHOWN, SHOWN)."""
    return judge_field.render_field(path, SHOWN)
