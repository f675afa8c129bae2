"""What scores travel as: values by name with a label and notes, and what is known about each name."""

from __future__ import annotations

import math
from dataclasses import dataclass

HIGH, LOW, ONE = "high", "low", "one"


@dataclass(frozen=True)
class Scores:
    """The scores of one result.

    values: name -> number; NaN says that a score does not apply to this result, a name that is not there was not measured.
    notes: how it was measured (files with their hashes, protocol) and why scores are absent, one sentence each.
    """

    label: str
    values: dict[str, float]
    notes: tuple[str, ...] = ()

    def finite(self) -> dict[str, float]:
        """The values that are numbers, for JSON that browsers read."""
        return {name: float(value) for name, value in self.values.items() if math.isfinite(value)}

    def report(self) -> dict:
        """Everything, for JSON; a score that does not apply is null."""
        finite = self.finite()
        return {"label": self.label, "values": {name: finite.get(name) for name in self.values}, "notes": list(self.notes)}


@dataclass(frozen=True)
class Meaning:
    """best: which value is the better one, HIGH, LOW or ONE (nearest to 1), or None where more is neither better nor worse."""

    best: str | None
    text: str


MEANINGS = {
    "CLIP": Meaning(HIGH, "cosine of picture and prompt x 100, mean over the frames"),
    "phenomenon": Meaning(HIGH, "share of the pictures that the recogniser calls by the right phenomenon"),
    "species": Meaning(HIGH, "1 when the object as a whole is called by the right species"),
    "colour": Meaning(HIGH, "1 when the object as a whole is called by the right colour"),
    "time correlation": Meaning(HIGH, "of the recogniser's time with the true time"),
    "PSNR": Meaning(HIGH, "dB to the reference, mean over the frames; rewards blur"),
    "SSIM": Meaning(HIGH, "structural similarity to the reference, mean over the frames"),
    "LPIPS": Meaning(LOW, "perceptual distance to the reference, mean over the frames"),
    "background error": Meaning(LOW, "mean opacity where the reference never is"),
    "sharpness": Meaning(ONE, "mean |Laplacian| relative to the reference"),
    "inner sharpness": Meaning(ONE, "the same inside the object"),
    "motion": Meaning(ONE, "mean |frame difference| relative to the reference"),
    "flicker": Meaning(LOW, "mean |second difference in time| where the reference stands still"),
    "opposite views": Meaning(ONE, "their difference, relative to the reference's"),
    "extra faces": Meaning(LOW, "correlation of opposite views, not mirrored, minus the reference's"),
    "hull": Meaning(HIGH, "share of the silhouettes that one solid explains"),
    "multi-face": Meaning(LOW, "correlation of opposite views, not mirrored"),
    "haze": Meaning(LOW, "share of faintly covered pixels"),
    "absolute sharpness": Meaning(HIGH, "mean |Laplacian| over white"),
    "absolute motion": Meaning(None, "mean |frame difference| over white"),
    "absolute flicker": Meaning(LOW, "mean |second difference in time| over white"),
}
"""Every score that 4D Metrics knows, in the order of tables. Names are those of `field_scores`; the relative ones need a reference."""


def ordered(names) -> list[str]:
    """Names, each once: the known ones in the order of `MEANINGS`, then the others as they come."""
    given = list(dict.fromkeys(names))
    return [name for name in MEANINGS if name in given] + [name for name in given if name not in MEANINGS]


def best_of(name: str, values: list[float | None]) -> set[int]:
    """The places of the best of several results' values of one score.

    None and NaN never win. Nothing is best where the direction is unknown, where fewer than two results have a number, or
    where all of them are equal.
    """
    meaning = MEANINGS.get(name)
    numbers = {place: value for place, value in enumerate(values) if value is not None and math.isfinite(value)}
    if meaning is None or meaning.best is None or len(numbers) < 2 or len(set(numbers.values())) == 1:
        return set()
    cost = {HIGH: lambda value: -value, LOW: lambda value: value, ONE: lambda value: abs(value - 1)}[meaning.best]
    least = min(cost(value) for value in numbers.values())
    return {place for place, value in numbers.items() if cost(value) == least}
