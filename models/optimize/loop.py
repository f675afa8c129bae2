"""Hybrid score distillation of one stage into a field (4D-fy, section 3.3; specification 10.2)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..geometry.cameras import Cameras, view_time_grid
from ..guidance.distillation import Distilled, distill
from ..guidance.mixing import draw_term
from ..guidance.prior import Prior
from ..guidance.regularisers import penalty
from ..guidance.seeds import derive, generator
from ..render.deferred import RenderedViews, render_views
from ..render.occupancy import OccupancyState
from ..render.sheets import contact_sheet
from .checkpoint import Checkpoint
from .history import StageHistory
from .roles import RoleOptimiser
from .scene import Scene, check_field, describe_field
from .stages import Stage, Term

MOST_SKIPPED = 20  # steps in a row without a finite gradient
EMPTY_OPACITY, EMPTY_STEPS = 1e-3, 200
SMALLEST_CHUNK = 256  # rays


class Distiller:
    """The state of one stage: a copy of the field, its optimiser, occupancy and history. A `Job` for `runs.run`.

    `priors` stand beside `stage.terms`. Every random number is drawn from (seed, number of the stage, step, term, purpose),
    so a resumed or repeated step draws the same ones.
    """

    def __init__(self, scene: Scene, stage: Stage, priors: Sequence[Prior], renderer, steps: int, seed: int = 0, chunk: int = 0):
        assert len(priors) == len(stage.terms)
        self.stage, self.priors, self.renderer, self.steps, self.seed, self.chunk = stage, tuple(priors), renderer, steps, seed, chunk
        self.earlier, self.number = scene.history, len(scene.history)
        self.field = scene.field.clone()
        self.optimiser = RoleOptimiser(self.field, stage.rates, stage.weight_decay)
        self.occupancy = renderer.new_state(self.field)
        self.history = StageHistory(stage.name, tuple(term.name for term in stage.terms), steps, seed, stage.rates, tuple(self.optimiser.roles))
        self.step, self.in_a_row, self.empty, self.consistent = 0, 0, 0, True

    def advance(self) -> str:
        """One step; out of memory halves the chunk and repeats it with the same randomness."""
        while True:
            try:
                rows = self._gather()
                break
            except RuntimeError as error:
                self.optimiser.clear()
                if not out_of_memory(error) or 0 < self.chunk <= SMALLEST_CHUNK:
                    raise
                self.chunk = self._halved()
        self.consistent = False
        self._apply(rows)
        self.consistent = True
        self._check_health()
        return self._describe(rows)

    def scene(self) -> Scene:
        """The field as it is now, with its history; later steps do not change it."""
        field = self.field.clone()
        field.requires_grad_(False)
        return Scene(field, (*self.earlier, self.history))

    def _gather(self) -> list[dict]:
        self._configure()
        return [self._accumulate(index) for index in self._drawn()]

    def _configure(self) -> None:
        step, steps, stage = self.step, self.steps, self.stage
        config = self.field.config
        self.field.set_levels(
            stage.static_levels.at(step, steps) * config.static.levels, stage.dynamic_levels.at(step, steps) * config.dynamic.levels
        )
        if stage.blob is not None:
            self.field.set_blob(stage.blob.at(step, steps))

    def _drawn(self) -> Sequence[int]:
        if self.stage.probabilities is None:
            return range(len(self.stage.terms))
        return (draw_term(self.stage.probabilities, generator(self.seed, self.number, self.step, "type")),)

    def _accumulate(self, index: int) -> dict:
        """Render, score and back-propagate one term; returns its row of the history."""
        term, prior = self.stage.terms[index], self.priors[index]
        keys = (self.seed, self.number, self.step, term.name)
        cameras = term.cameras.sample(generator(*keys, "cameras"), term.scenes).to(self._device())
        self.optimiser.train_only(term.trains)
        height, width = term.resolution.at(self.step, self.steps)
        views = render_views(self.renderer, self.field, self.occupancy, cameras, height, width, derive(*keys, "jitter"), self._chunk(cameras, height, width))
        pictures, alpha = views.rgb, views.opacity
        if not prior.accepts_alpha:
            pictures, alpha = views.over(self._backdrop(views, generator(*keys, "backdrop"))), torch.ones_like(alpha)
        scored = distill(pictures, alpha, cameras, prior, term.distillation, self.step, self.steps, generator(*keys, "noise"))
        penalties = penalty(self.stage.regularisers.weights(self.step, self.steps), views, cameras, self.field)
        loss = term.weight.at(self.step, self.steps) * scored.loss + penalties
        if loss.requires_grad:
            loss.backward()
        return self._row(index, term, scored, views)

    def _chunk(self, cameras: Cameras, height: int, width: int) -> int:
        """Rays at a time; 0 keeps the graph of the whole batch, which is faster as long as it fits."""
        return 0 if self.chunk == 0 or len(cameras) * height * width <= self.chunk else self.chunk

    def _halved(self) -> int:
        """Half the chunk in use; a whole batch counts as the rays of the largest term."""
        rays = [term.cameras.views * term.cameras.frames * term.scenes * term.resolution.height * term.resolution.width for term in self.stage.terms]
        return max((self.chunk or max(rays)) // 2, SMALLEST_CHUNK)

    def _backdrop(self, views: RenderedViews, draws: torch.Generator) -> Tensor:
        """Colours behind the object: one random colour for the batch, the field's background, or the plain colour."""
        backdrop = self.stage.backdrop
        coin, colour = torch.rand((), generator=draws), torch.rand(3, generator=draws)
        if coin < backdrop.random_share:
            return colour.to(views.rgb)
        shown = self.field.background(views.directions.reshape(-1, 3))
        return views.rgb.new_tensor(backdrop.colour) if shown is None else shown.reshape(views.rgb.shape)

    def _row(self, index: int, term: Term, scored: Distilled, views: RenderedViews) -> dict:
        pictures = views.rgb.detach()
        return {
            "step": self.step,
            "term": index,
            "loss": float(scored.loss.detach()),
            "level": scored.level,
            "gradient_norm": scored.gradient_norm,
            "opacity": float(views.opacity.detach().mean()),
            "motion": motion(pictures, term.cameras.frames, term.cameras.views),
            "non_finite": scored.non_finite,
        }

    def _apply(self, rows: list[dict]) -> None:
        """Write a gathered step into the state: parameters, occupancy, history, counters."""
        if self.optimiser.update(self.step, self.steps):
            self.in_a_row = 0
        else:
            self.in_a_row += 1
            self.history.skipped.append(self.step)
        draws = generator(self.seed, self.number, self.step, "occupancy")
        self.renderer.update(self.field, self.occupancy, self.step, draws, self.step / self.steps)
        for row in rows:
            self.history.add(**row)
        self.empty = self.empty + 1 if max(row["opacity"] for row in rows) < EMPTY_OPACITY else 0
        self.step += 1

    def _check_health(self) -> None:
        if self.in_a_row >= MOST_SKIPPED:
            raise RuntimeError(
                f"{MOST_SKIPPED} steps in a row had gradients that are not finite (up to step {self.step}). Lower the learning rates or the "
                "guidance scale, or run the model in float32; the field before these steps is in the checkpoint."
            )
        if self.empty >= EMPTY_STEPS:
            raise RuntimeError(
                f"The scene has been empty for {EMPTY_STEPS} steps (opacity below {EMPTY_OPACITY:g}, at step {self.step}). Lower the sparsity "
                "weight and the learning rates, or begin with a denser initial blob, and start a new run."
            )

    def _describe(self, rows: list[dict]) -> str:
        parts = [f"{self.stage.terms[int(row['term'])].name} loss {row['loss']:.3g} at t {row['level']:.2f}" for row in rows]
        if self.in_a_row:
            parts.append(f"{self.in_a_row} steps skipped")
        return ", ".join(parts)

    def preview(self) -> Tensor:
        """A small sheet (1, H, W, 3): views in rows, times in columns."""
        return contact_sheet(self.field, self.renderer, self.occupancy, view_time_grid(3, 4).to(self._device()), 3)

    def snapshot(self) -> tuple[dict[str, Tensor], dict]:
        """Parameters, moments, occupancy and history; there is no generator state, because every step seeds its own."""
        tensors = {f"field.{name}": value for name, value in self.field.state_dict().items()}
        tensors |= {f"adam.{name}": value for name, value in self.optimiser.tensors().items()}
        tensors |= {f"occupancy.{name}": value for name, value in self.occupancy.tensors().items()}
        tensors |= {f"history.{name}": value for name, value in self.history.tensors().items()}
        values = {
            "field": describe_field(self.field),
            "history": self.history.describe(),
            "steps": self.steps,
            "in_a_row": self.in_a_row,
            "empty": self.empty,
        }
        return tensors, values

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a snapshot of the same field."""
        check_field(checkpoint, self.field)
        if checkpoint.step > self.steps:
            raise ValueError(f"The checkpoint is at step {checkpoint.step}, this stage ends at {self.steps}. Give it more steps, or start a new run.")
        parts = split_names(checkpoint.tensors)
        self.field.load_state_dict(parts["field"])
        self.optimiser.load(parts.get("adam", {}))
        self.occupancy = OccupancyState(**parts["occupancy"])
        self.history = self._same_terms(history_of(checkpoint), checkpoint)
        self.in_a_row, self.empty = int(checkpoint.values["in_a_row"]), int(checkpoint.values["empty"])
        self.step = checkpoint.step

    def _same_terms(self, history: StageHistory, checkpoint: Checkpoint) -> StageHistory:
        if history.terms != self.history.terms:
            raise ValueError(
                f'The checkpoint "{checkpoint.path.name}" belongs to a stage with the terms {", ".join(history.terms)}; this one has '
                f"{', '.join(self.history.terms)}. Connect the same guidance terms, or start a new run."
            )
        history.steps = self.steps
        return history

    def _device(self) -> torch.device:
        return next(self.field.parameters()).device


def motion(pictures: Tensor, frames: int, views: int) -> float:
    """Mean absolute change between neighbouring times of one camera; NaN with a single time. (S F V, H, W, 3)."""
    scenes = pictures.unflatten(0, (-1, frames, views))
    return float(scenes.diff(dim=1).abs().mean())


def out_of_memory(error: RuntimeError) -> bool:
    """Whether the accelerator or the machine ran out of memory."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def history_of(checkpoint: Checkpoint) -> StageHistory:
    """The history of the stage that wrote a checkpoint."""
    return StageHistory.restore(checkpoint.values["history"], split_names(checkpoint.tensors)["history"])


def split_names(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """{"a.b.c": x} as {"a": {"b.c": x}}."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        head, tail = name.split(".", 1)
        parts.setdefault(head, {})[tail] = value
    return parts
