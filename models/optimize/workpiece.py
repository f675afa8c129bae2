"""A field under work: its copy, optimiser, renderer state and history, and how all of it is stored and restored."""

import copy
import math

import torch
from torch import Tensor

from ..formats.configs import read_value
from ..formats.tensors import mismatch
from ..geometry.cameras import view_time_grid
from ..guidance.seeds import generator
from ..render.sheets import contact_sheet
from .advice import in_words
from .checkpoint import Checkpoint
from .history import StageHistory
from .learners import Learners
from .roles import RoleOptimiser
from .runs import Hopeless
from .scene import Scene, check_field, describe_field
from .stages import LearningRates
from .watch import due, look, nothing_yet

MOST_SKIPPED = 20  # steps in a row without a finite gradient
EMPTY_OPACITY, EMPTY_STEPS = 1e-3, 200


class Workpiece:
    """What every loop over a field shares. `number` counts the stages before this one and separates their random numbers."""

    def __init__(
        self, scene: Scene, renderer, rates: LearningRates, weight_decay: float, steps: int, seed: int, name: str, terms: tuple[str, ...],
        learners: Learners | None = None,
    ):  # fmt: skip
        self.earlier, self.number, self.learned = scene.history, len(scene.history), dict(scene.learned)
        self.renderer, self.steps, self.seed = renderer, steps, seed
        self.field = scene.field.clone()
        self.optimiser = RoleOptimiser(self.field, rates, weight_decay)
        self.state = renderer.new_state(self.field)
        self.learners = learners or Learners({})
        self.learners.begin(self.learned)
        self.history = StageHistory(name, terms, steps, seed, rates, tuple(self.optimiser.roles))
        self.recent = nothing_yet()
        self.step, self.in_a_row, self.empty, self.consistent = 0, 0, 0, True

    @property
    def device(self) -> torch.device:
        """Where the field lies."""
        return next(self.field.parameters()).device

    def keys(self, *more: str) -> tuple:
        """What the random numbers of the present step depend on."""
        return self.keys_of(self.step, *more)

    def keys_of(self, step: int, *more: str) -> tuple:
        """The same for any step."""
        return (self.seed, self.number, step, *more)

    @property
    def stalled(self) -> bool:
        """Whether the last step was skipped."""
        return self.in_a_row > 0

    def clear(self) -> None:
        """Forget the gradients of a step that is not taken, or is repeated."""
        self.optimiser.clear()
        self.learners.clear()

    def told(self, *parts: str) -> str:
        """A step's line of text: `parts`, how many steps were skipped so far, and what the newest look saw and advises."""
        skipped = [f"{len(self.history.skipped)} steps skipped"] if self.history.skipped else []
        return ", ".join([*parts, *skipped, *in_words(self.history)])

    def apply(self, rows: list[dict]) -> None:
        """Write a finished step into the state: parameters, renderer state, history, counters; then stop a hopeless run.

        A step whose gradients are not finite, or one of whose rows has NaN for its loss, changes no parameter.
        """
        self.consistent = False
        judged = not any(math.isnan(row["loss"]) for row in rows)
        if judged and self.optimiser.update(self.step, self.steps):
            self.learners.update()
            self.in_a_row = 0
        else:
            self.clear()
            self.in_a_row += 1
            self.history.skipped.append(self.step)
        self.renderer.update(self.field, self.state, self.step, generator(*self.keys("occupancy")), self.step / self.steps)
        for row in rows:
            self.history.add(step=self.step, **row)
        self.empty = self.empty + 1 if max((row["opacity"] for row in rows), default=1.0) < EMPTY_OPACITY else 0
        self.step += 1
        self._look()
        self.consistent = True
        self._check_health()

    def _look(self) -> None:
        """Look at the field from all sides where a look is due."""
        if due(self.step, self.steps):
            row, self.recent = look(self.field, self.renderer, self.state, self.recent)
            self.history.see(step=self.step, **row)

    def _check_health(self) -> None:
        if self.in_a_row >= MOST_SKIPPED:
            raise Hopeless(
                f"{MOST_SKIPPED} steps in a row had gradients that are not finite (up to step {self.step}). Lower the learning rates or the "
                "guidance scale, or run the model in float32. None of these steps was checkpointed: queueing the same graph tries them again."
            )
        if self.empty >= EMPTY_STEPS:
            raise Hopeless(
                f"The scene has been empty for {EMPTY_STEPS} steps (opacity below {EMPTY_OPACITY:g}, at step {self.step}). Lower the sparsity "
                "weight and the learning rates, or begin with a denser initial blob, and start a new run."
            )

    def scene(self) -> Scene:
        """The field as it is now, with its history; later steps do not change it."""
        learned = self.learned | self.learners.learned()
        return Scene(self.field.clone().requires_grad_(False), (*self.earlier, copy.deepcopy(self.history)), learned)

    def preview(self) -> Tensor:
        """A small sheet (1, H, W, 3): views in rows, times in columns."""
        return contact_sheet(self.field, self.renderer, self.state, view_time_grid(3, 4).to(self.device), 3)

    def snapshot(self) -> tuple[dict[str, Tensor], dict]:
        """Parameters, moments, renderer state and history; there is no generator state, because every step seeds its own."""
        parts = {
            "field": self.field.state_dict(),
            "adam": self.optimiser.tensors(),
            "occupancy": self.state.tensors(),
            "history": self.history.tensors(),
            "learners": self.learners.tensors(),
            "looks": {"recent": self.recent},
        }
        tensors = {f"{head}.{name}": value for head, part in parts.items() for name, value in part.items()}
        values = {
            "field": describe_field(self.field),
            "history": self.history.describe(),
            "steps": self.steps,
            "in_a_row": self.in_a_row,
            "empty": self.empty,
        }
        return tensors, values

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a snapshot; ValueError when it is of another field, of other terms, or ahead of this stage."""
        check_field(checkpoint, self.field)
        if checkpoint.step > self.steps:
            raise ValueError(f'The checkpoint "{checkpoint.path.name}" is at step {checkpoint.step}, this stage ends at {self.steps}. Give it more steps, or start a new run.')
        self.history = self._same_terms(history_of(checkpoint), checkpoint)
        parts = split_names(checkpoint.tensors)
        try:
            self._restore(parts, checkpoint.values)
        except ValueError as error:
            raise damaged(checkpoint, error) from None
        self.step = checkpoint.step

    def _restore(self, parts: dict[str, dict[str, Tensor]], values: dict) -> None:
        """The parameters, moments, renderer state and counters; ValueError in a clause when one of them does not fit."""
        for name, wanted in (("field", self.field.state_dict()), ("occupancy", self.state.tensors())):
            if problem := mismatch(parts.get(name, {}), wanted):
                raise ValueError(f"{name}: {problem}")
        looks = parts.get("looks", {})
        count = len(looks["recent"]) if "recent" in looks and looks["recent"].ndim else 0
        if problem := mismatch(looks, {"recent": self.recent.new_empty(count, *self.recent.shape[1:])}):
            raise ValueError(f"looks: {problem}")
        self.recent = looks["recent"].to("cpu", torch.float32)
        self.in_a_row, self.empty = (read_value(int, values.get(name), name) for name in ("in_a_row", "empty"))
        self.optimiser.load(parts.get("adam", {}))
        self.learners.load(parts.get("learners", {}))
        self.field.load_state_dict(parts["field"])
        now = self.state.tensors()
        self.state = type(self.state)(**{name: parts["occupancy"][name].to(self.device, value.dtype) for name, value in now.items()})

    def _same_terms(self, history: StageHistory, checkpoint: Checkpoint) -> StageHistory:
        if history.terms != self.history.terms:
            raise ValueError(
                f'The checkpoint "{checkpoint.path.name}" belongs to a stage with the terms {", ".join(history.terms)}; this one has '
                f"{', '.join(self.history.terms)}. Connect the same guidance terms, or start a new run."
            )
        history.steps = self.steps
        return history


def history_of(checkpoint: Checkpoint) -> StageHistory:
    """The history of the stage that wrote a checkpoint; ValueError when it holds none."""
    try:
        return StageHistory.restore(checkpoint.values.get("history"), split_names(checkpoint.tensors).get("history", {}))
    except ValueError as error:
        raise damaged(checkpoint, error) from None


def damaged(checkpoint: Checkpoint, problem: ValueError) -> ValueError:
    """What to raise for a checkpoint whose content is none of ours, though its hash is right."""
    return ValueError(f'The checkpoint "{checkpoint.path.name}" is damaged: {problem}. Use an older one of its folder, or start a new run.')


def split_names(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """{"a.b.c": x} as {"a": {"b.c": x}}."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        head, _, tail = name.partition(".")
        parts.setdefault(head, {})[tail] = value
    return parts
