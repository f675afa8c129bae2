"""What a run's looks say about it, as advice: nothing here ever stops a run."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from .history import StageHistory

EMPTY, FOG = 0.005, 0.9  # mean opacity of the unit ball's rays
NO_COLOUR, BURNT = 0.02, 0.5  # standard deviation of the visible colours; share of the visible pixels
STILL = 0.002  # mean change between two of four times, half a level of 255
ONE_FACE = 0.95  # correlation of opposite views
STANDSTILL, CALM = 1.5, 5  # drift against the change of one look: 5 for steady progress, about 1 around a resting point
SETTLED = 1e-4  # mean change of a picture that is none


@dataclass(frozen=True)
class Advice:
    """A finding: what the progress line calls it, and what it means and what to do."""

    name: str
    text: str


def advise(history: StageHistory) -> tuple[Advice, ...]:
    """What the newest looks at the stage's field suggest, the most urgent first; nothing before the first look."""
    if not history.watched["step"]:
        return ()
    return tuple(Advice(name, text) for name, found, text in FINDINGS if found(history))


def _last(history: StageHistory, name: str) -> float:
    return history.watched[name][-1]


def _progress(history: StageHistory) -> float:
    return _last(history, "step") / max(history.steps, 1)


def _above(name: str, limit: float) -> Callable[[StageHistory], bool]:
    return lambda history: _last(history, name) > limit


def _below(name: str, limit: float) -> Callable[[StageHistory], bool]:
    return lambda history: _last(history, name) < limit


def _motionless(history: StageHistory) -> bool:
    """A stage that trains motion and shows none in its second half."""
    return "dynamic" in history.roles and _progress(history) >= 0.5 and _last(history, "motion") < STILL


def _plateau(history: StageHistory) -> bool:
    """At the last two looks the pictures had gone no further in five looks than they go in one."""
    changes, drifts = history.watched["change"], history.watched["drift"]
    return len(changes) > 2 * CALM and all(_at_rest(changes[: len(changes) - back], drifts[len(drifts) - 1 - back]) for back in (0, 1))


def _at_rest(changes: list[float], drift: float) -> bool:
    steps = [change for change in changes[-CALM:] if math.isfinite(change)]
    return bool(steps) and math.isfinite(drift) and drift < max(STANDSTILL * sum(steps) / len(steps), SETTLED)


FINDINGS = (
    ("nearly empty", _below("filled", EMPTY), "Almost nothing is left of the object. Lower the sparsity weight and the learning rates, or begin with a denser initial blob."),
    ("fog", _above("filled", FOG), "Fog fills the whole unit ball. Raise sparsity, opaque or z_variance, lower the initial density, or widen the camera distances."),
    ("one colour", _below("spread", NO_COLOUR), "The object has one flat colour. Raise the guidance scale, look whether the prompt reaches the model, or lower the decoder's learning rate."),
    ("burnt colours", _above("burnt", BURNT), "Most colours are saturated. Lower the guidance scale or raise rescale, and let the noise levels fall over the stage."),
    ("many faces", _above("faces", ONE_FACE), "Opposite views look alike, as of an object with a face on each side. Give the multi-view term a larger share, use prompts for each side, or ignore this for a symmetric object."),
    ("no motion", _motionless, "The stage trains motion and nothing moves yet. Raise the video term's weight or share, the dynamic learning rate, or motion_amplification."),
    ("plateau", _plateau, "The pictures have stopped changing: more steps will hardly help. End the stage here, lower the noise levels, or go on to the next one."),
)  # fmt: skip
"""Name, whether it is found, and the advice."""


def in_words(history: StageHistory) -> list[str]:
    """The newest look in numbers, and the names of what is advised, for a progress line."""
    if not history.watched["step"]:
        return []
    numbers = [("filled", "filled {:.0%}"), ("motion", "motion {:.3f}"), ("flicker", "flicker {:.3f}"), ("faces", "faces {:.2f}")]
    told = [form.format(_last(history, name)) for name, form in numbers if math.isfinite(_last(history, name))]
    names = ", ".join(advice.name for advice in advise(history))
    return [*told, f"advice: {names}"] if names else told
