"""What a run remembers of its steps, for curves and reports."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

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
    learning_rates: dict[str, float]  # peak by role; the schedule is `rate_factor`'s
    skipped: list[int] = field(default_factory=list)  # steps whose gradients were not finite
    columns: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in COLUMNS})

    def add(self, **row: float) -> None:
        """Append a row; missing columns become NaN."""
        for name in COLUMNS:
            self.columns[name].append(float(row.get(name, math.nan)))

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
            "learning_rates": self.learning_rates,
        }

    @classmethod
    def restore(cls, description: dict, tensors: dict[str, Tensor]) -> "StageHistory":
        """The inverse of `describe` and `tensors`."""
        history = cls(
            description["name"], tuple(description["terms"]), int(description["steps"]), int(description["seed"]), dict(description["learning_rates"])
        )
        history.skipped = tensors["skipped"].tolist()
        history.columns = {name: tensors[name].tolist() for name in COLUMNS}
        return history

    def losses(self) -> list[float]:
        """Every row's finite loss, in order."""
        return [loss for loss in self.columns["loss"] if math.isfinite(loss)]
