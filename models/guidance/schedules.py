"""Schedules inside a stage, and the noise levels drawn from them."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Schedule:
    """Piecewise linear: `first` up to step `start`, `last` from step `end` on, linear between (threestudio's four numbers).

    Steps count from 0 inside the current stage. With `of_stage` start and end are fractions of the stage's steps, so that a
    shortened stage keeps its shape. Equal values make a constant.
    """

    first: float
    last: float
    start: float = 0.0
    end: float = 1.0
    of_stage: bool = True

    def __post_init__(self):
        if not all(map(math.isfinite, (self.first, self.last, self.start, self.end))):
            raise ValueError(f"A schedule from {self.first:g} to {self.last:g} over {self.start:g} to {self.end:g} is not finite. Give ordinary numbers to its node.")

    def at(self, step: int, steps: int) -> float:
        """The value at `step` of a stage of `steps`."""
        start, end = (self.start * steps, self.end * steps) if self.of_stage else (self.start, self.end)
        if end <= start:
            return self.last if step >= end else self.first
        return self.first + (self.last - self.first) * min(max((step - start) / (end - start), 0.0), 1.0)


def constant(value: float) -> Schedule:
    """A schedule that never changes."""
    return Schedule(value, value)


def penalty_schedule(text: str, weight: float, until: float) -> Schedule:
    """How a penalty comes to its weight: `text` is "start, from, until", the value before fraction `from` of the stage, which
    moves to the weight up to fraction `until`. Equal fractions make a step ("0, 0.1, 0.1"; 4D-fy's opacity), zeros a constant
    ("0, 0, 0"). Empty: from 0 at the stage's start up to `until`. ValueError for any other text.
    """
    if not text.strip():
        return Schedule(0.0, weight, 0.0, until)
    try:
        first, start, end = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f'"{text[:60]}" is no schedule of a penalty. Write three numbers: start, from, until, such as 0, 0.1, 0.1, or leave it empty.') from None
    if not (0.0 <= start <= end <= 1.0 and 0.0 <= first < math.inf):
        raise ValueError(f'The schedule "{text[:60]}" of a penalty does not fit in its stage. Write start, from, until: a weight of at least 0 and two fractions from 0 to 1, in order.')
    return Schedule(first, weight, start, end)


@dataclass(frozen=True)
class NoiseRange:
    """The interval that noise levels t are drawn from; t is the fraction of the noise schedule, 0 clean and 1 pure noise."""

    low: Schedule = constant(0.02)
    high: Schedule = constant(0.98)

    def at(self, step: int, steps: int) -> tuple[float, float]:
        """(lowest, highest) level at `step`; an inverted pair collapses onto the higher bound's value."""
        high = self.high.at(step, steps)
        return min(self.low.at(step, steps), high), high

    def draw(self, step: int, steps: int, count: int, generator: torch.Generator) -> Tensor:
        """`count` levels, uniform over the interval, float64 on the CPU."""
        low, high = self.at(step, steps)
        return low + (high - low) * torch.rand(count, generator=generator, dtype=torch.float64)
