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
