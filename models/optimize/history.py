"""What a run remembers of its steps, for curves and reports."""

import math
from dataclasses import asdict, dataclass, field

import numpy
import torch
from torch import Tensor

from ..formats.configs import read_config, shown
from .stages import ROLES, LearningRates
from .watch import WATCHED

COLUMNS = ("step", "term", "loss", "level", "gradient_norm", "opacity", "motion", "non_finite")
"""One row per term and step: index of the term, its loss, mean noise level, norm of its latent gradient, mean opacity of its
pictures, mean change between neighbouring times of one camera (NaN where no two are), entries that were not finite."""


@dataclass(frozen=True)
class Description:
    """What `StageHistory.describe` writes."""

    name: str
    terms: tuple[str, ...]
    steps: int
    seed: int
    rates: LearningRates
    roles: tuple[str, ...]

    def __post_init__(self):
        if not set(self.roles) <= set(ROLES):
            raise ValueError(f"the history names the roles {', '.join(map(shown, self.roles[:8]))}; there are {', '.join(ROLES)}")


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
    watched: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in WATCHED})

    def add(self, **row: float) -> None:
        """Append a row; missing columns become NaN."""
        _append(self.columns, row)

    def see(self, **row: float) -> None:
        """Append a row of what was seen from all sides; missing columns become NaN."""
        _append(self.watched, row)

    def __len__(self) -> int:
        return len(self.columns["step"])

    def tensors(self) -> dict[str, Tensor]:
        """Every column as a float32 tensor, and the skipped steps."""
        columns = self.columns | {f"watched.{name}": column for name, column in self.watched.items()}
        values = {name: torch.tensor(column, dtype=torch.float32) for name, column in columns.items()}
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
        """The inverse of `describe` and `tensors`; ValueError that names what is wrong with either."""
        told = read_config(Description, description, "the history")
        watched = [f"watched.{name}" for name in WATCHED]
        whole = _of_one_length(tensors, COLUMNS) and ("watched.step" not in tensors or _of_one_length(tensors, watched))  # unwatched: older files
        if not whole or "skipped" not in tensors or tensors["skipped"].ndim != 1:
            raise ValueError(f"the history of its stage {shown(told.name)} has columns that are missing or not of one length")
        history = cls(told.name, told.terms, told.steps, told.seed, told.rates, told.roles)
        history.skipped = [int(step) for step in tensors["skipped"].tolist()]
        history.columns = {name: [float(value) for value in tensors[name].tolist()] for name in COLUMNS}
        if "watched.step" in tensors:
            history.watched = {name: [float(value) for value in tensors[f"watched.{name}"].tolist()] for name in WATCHED}
        if not all(map(math.isfinite, history.watched["step"])):
            raise ValueError(f"the history of its stage {shown(told.name)} has looks at steps that do not exist")
        if not all(term in range(len(told.terms)) for term in history.columns["term"]) or not all(map(math.isfinite, history.columns["step"])):
            raise ValueError(f"the history of its stage {shown(told.name)} has rows of steps or terms that do not exist")
        return history

    def learning_rates(self, step: int) -> dict[str, float]:
        """Every trained role's rate at a step."""
        return {role: peak * self.rates.factor(step, self.steps) for role, peak in self.rates.peaks().items() if role in self.roles}

    def losses(self) -> list[float]:
        """Every row's finite loss, in order."""
        return [loss for loss in self.columns["loss"] if math.isfinite(loss)]


def _append(columns: dict[str, list[float]], row: dict[str, float]) -> None:
    for name, column in columns.items():
        column.append(float(numpy.float32(row.get(name, math.nan))))  # what a resumed run would read back


def _of_one_length(tensors: dict[str, Tensor], names) -> bool:
    found = [tensors[name] for name in names if name in tensors and tensors[name].ndim == 1]
    return len(found) == len(names) and len({len(column) for column in found}) <= 1
