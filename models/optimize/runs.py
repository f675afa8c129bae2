"""Driving a long job: progress, previews, checkpoints, resume, budgets."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ..render.backend import flushed_denormals
from .checkpoint import Checkpoint, CheckpointStore

Watch = Callable[[int, str, Callable[[], Tensor] | None], None]
"""Called after every step with the steps done, a line of text, and a function that draws a preview when one is due.

Whatever it raises ends the run; the work so far is checkpointed."""


class Job(Protocol):
    """Something that advances by steps and can be stopped and restored between any two of them."""

    step: int
    steps: int
    consistent: bool  # false only while a step's outcome is being written into the state
    stalled: bool  # true while steps are being skipped: the last checkpoint is worth more than the present state

    def advance(self) -> str:
        """Do one step and return a line of text about it."""

    def preview(self) -> Tensor:
        """A picture (1, H, W, 3) of the present state; must not change it."""

    def snapshot(self) -> tuple[dict[str, Tensor], dict]:
        """Everything that `restore` needs: tensors and plain values."""

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a snapshot; ValueError when it belongs to another job."""


@dataclass(frozen=True)
class Pace:
    """Seconds between previews and between checkpoints, and the budget of one queueing in seconds and in steps; 0 turns each off."""

    preview: float = 15.0
    checkpoint: float = 30.0
    budget: float = 0.0
    steps: int = 0
    clock: Callable[[], float] = time.monotonic


class Hopeless(RuntimeError):
    """A run that leads nowhere. It is not checkpointed: the last good checkpoint stays, and queueing again tries from there."""


def run(job: Job, store: CheckpointStore | None = None, watch: Watch | None = None, pace: Pace = Pace()) -> bool:
    """Advance `job` to its last step or to the end of a budget; True when it finished.

    A checkpoint is written at intervals, at the end, and when anything but hopelessness interrupts the run. Clocks decide when pictures and
    files are made, never what the job computes.
    """
    started, written = pace.clock(), job.step
    last = job.step + pace.steps if pace.steps else math.inf
    previews, saved_at = _Intervals(pace.preview, started), started
    try:
        while job.step < min(job.steps, last) and not _spent(pace, started):
            with flushed_denormals():
                text = job.advance()
            if store and pace.checkpoint and not job.stalled and pace.clock() - saved_at >= pace.checkpoint:
                store.write(job.step, *job.snapshot())
                written, saved_at = job.step, pace.clock()
            if watch:
                watch(job.step, text, job.preview if previews.due(pace.clock()) else None)
        if store and written != job.step:
            store.write(job.step, *job.snapshot())
    except BaseException as error:
        if store and job.consistent and written != job.step and not isinstance(error, (OSError, Hopeless)):
            _save_what_there_is(job, store)
        raise
    return job.step >= job.steps


def _save_what_there_is(job: Job, store: CheckpointStore) -> None:
    try:
        store.write(job.step, *job.snapshot())
    except OSError as error:  # the reason why the run ended must not be hidden by this one
        logging.warning("Bloom4D: %s", error)


def _spent(pace: Pace, started: float) -> bool:
    return bool(pace.budget) and pace.clock() - started >= pace.budget


class _Intervals:
    """Due at once, then after twice the time that has passed, and from then on at the wanted interval."""

    def __init__(self, interval: float, started: float):
        self.interval, self.started, self.next = interval, started, started

    def due(self, now: float) -> bool:
        if not self.interval or now < self.next:
            return False
        self.next = now + min(self.interval, max(now - self.started, 1.0))
        return True
