"""What a run remembers of its steps, for curves and reports."""

import math
from dataclasses import asdict, dataclass, field

import numpy
import torch
from torch import Tensor

from .stages import LearningRates

COLUMNS = ("step", "term", "loss", "level", "gradient_norm", "opacity", "motion", "non_finite")
"""One row per term and step: index of the term, its loss, mean noise level, norm of its latent gradient, mean opacity of its
pictures, mean change between neighbouring times of one camera (NaN where no two are), entries that were not finite."""


@dataclass
class StageHistory:
    """The rows of one stage and what is needed to read them. Values are single precision, as they are stored."""

    name: str
    terms: tuple[str, ...]
    steps: int
    seed: int
    rates: LearningRates
    roles: tuple[str, ...]  # those that were trained
    skipped: list[int] = field(default_factory=list)  # steps whose gradients were not finite
    columns: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in COLUMNS})

    def add(self, **row: float) -> None:
        """Append a row; missing columns become NaN."""
        for name in COLUMNS:
            self.columns[name].append(float(numpy.float32(row.get(name, math.nan))))  # what a resumed run would read back

    def __len__(self) -> int:
        return len(self.columns["step"])

    def tensors(self) -> dict[str, Tensor]:
        """Every column as a float32 tensor, and the skipped steps."""
        values = {name: torch.tensor(column, dtype=torch.float32) for name, column in self.columns.items()}
        return {**values, "skipped": torch.tensor(self.skipped, dtype=torch.int64)}

    def describe(self) -> dict:
        """What `tensors` leaves out, as plain JSON values."""
        return {
            "name": self.name,
            "terms": list(self.terms),
            "steps": self.steps,
            "seed": self.seed,
            "rates": asdict(self.rates),
            "roles": list(self.roles),
        }

    @classmethod
    def restore(cls, description: dict, tensors: dict[str, Tensor]) -> "StageHistory":
        """The inverse of `describe` and `tensors`."""
        name, terms, roles = description["name"], tuple(description["terms"]), tuple(description["roles"])
        history = cls(name, terms, int(description["steps"]), int(description["seed"]), LearningRates(**description["rates"]), roles)
        history.skipped = tensors["skipped"].tolist()
        history.columns = {name: tensors[name].tolist() for name in COLUMNS}
        return history

    def learning_rates(self, step: int) -> dict[str, float]:
        """Every trained role's rate at a step."""
        return {role: peak * self.rates.factor(step, self.steps) for role, peak in self.rates.peaks().items() if role in self.roles}

    def losses(self) -> list[float]:
        """Every row's finite loss, in order."""
        return [loss for loss in self.columns["loss"] if math.isfinite(loss)]
