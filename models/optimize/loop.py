"""Hybrid score distillation of one stage into a field (4D-fy, section 3.3; specification 10.2)."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ..geometry.cameras import Cameras
from ..guidance.displacement import check_displacement, displacement_tv, in_order, normalisation
from ..guidance.mixing import draw_term
from ..guidance.objective import Outcome, Pictures, shared
from ..guidance.regularisers import penalty
from ..guidance.seeds import derive, generator
from ..render.deferred import RenderedViews
from ..render.graph_memory import bytes_per_ray
from .checkpoint import Checkpoint
from .learners import learners
from .memory import Attempt, MemoryPlan, Room
from .scene import Scene
from .stages import Stage, Term
from .workpiece import Workpiece, damaged


class Distiller:
    """One stage at work. A `Job` for `runs.run`.

    `judges` stand beside `stage.terms`: what each objective asks, such as a `Prior`. Every random number is drawn from (seed, number of the stage, step, term, purpose),
    so a resumed or repeated step draws the same ones. `chunk` rays are rendered at a time; 0 keeps the graph of any batch. With
    a `room` they become fewer where less memory is free.
    """

    def __init__(self, scene: Scene, stage: Stage, judges: Sequence, renderer, steps: int, seed: int = 0, chunk: int = 0, room: Room | None = None):
        assert len(judges) == len(stage.terms)
        check_displacement([term.name for term in stage.terms if term.wants_displacement], scene.field)
        self.stage, self.judges, self.steps = stage, tuple(judges), steps
        self.memory = MemoryPlan(chunk, room=room)
        self.attempt: Attempt | None = None  # what of the present step is being computed
        names = tuple(term.name for term in stage.terms)
        self.work = Workpiece(scene, renderer, stage.rates, stage.weight_decay, steps, seed, stage.name, names, learners(names, self.judges))

    @property
    def step(self) -> int:
        return self.work.step

    @property
    def consistent(self) -> bool:
        return self.work.consistent

    @property
    def stalled(self) -> bool:
        return self.work.stalled

    def advance(self) -> str:
        """One step; out of memory makes the render that failed smaller (see `MemoryPlan.shrink`), and repeats it with the same randomness."""
        while (rows := self._tried()) is None:
            self.memory.make_room(self.attempt)  # only here: the graph went with the exception
        self.work.apply(rows)
        return self._describe(rows)

    def scene(self) -> Scene:
        """The field as it is now, with its history."""
        return self.work.scene()

    def preview(self) -> Tensor:
        """See `Workpiece.preview`."""
        return self.work.preview()

    def snapshot(self) -> tuple[dict[str, Tensor], dict]:
        """The workpiece, and how much is computed at once."""
        tensors, values = self.work.snapshot()
        return tensors, values | {"memory": self.memory.describe()}

    def restore(self, checkpoint: Checkpoint) -> None:
        """See `Workpiece.restore`; the rest of the run rounds as the checkpoint's did."""
        self.work.restore(checkpoint)
        try:
            self.memory.restore(checkpoint.values.get("memory"))
        except ValueError as error:
            raise damaged(checkpoint, error) from None

    def _tried(self) -> list[dict] | None:
        """The rows of a step; None when memory ran out, after less is planned for what failed."""
        try:
            return self._gather()
        except RuntimeError as error:
            self.work.clear()
            self.memory.shrink(error, self.attempt)
            return None

    def _gather(self) -> list[dict]:
        """Gradients of the step's terms, added up in the parameters; returns the rows of the history."""
        self.attempt = None
        step, steps, field = self.step, self.steps, self.work.field
        field.set_levels(*self.stage.active_levels(step, steps, field.levels()))
        if self.stage.blob is not None:
            field.set_blob(self.stage.blob.at(step, steps))
        groups = self.stage.together(self._drawn())
        return [row for terms, share in zip(groups, self.stage.charges(groups)) for row in self._accumulate(terms, share)]

    def _drawn(self) -> Sequence[int]:
        """Which of the terms that are due take part in the step."""
        due = [index for index, term in enumerate(self.stage.terms) if term.due(self.step, self.steps)]
        if self.stage.probabilities is None:
            return due
        shares = tuple(share if index in due else 0.0 for index, share in enumerate(self.stage.probabilities))
        beginning = self.step - self.step % self.stage.block
        return (draw_term(shares, generator(*self.work.keys_of(beginning, "type"))),) if any(shares) else ()

    def _accumulate(self, terms: Sequence[int], share: float) -> list[dict]:
        """Render, score and back-propagate terms that see the same pictures, whose random numbers are the first one's; these
        pictures pay `share` of the step's penalties."""
        work, first = self.work, self.stage.terms[terms[0]]
        keys = work.keys(first.name)
        cameras = first.cameras.sample(generator(*keys, "cameras"), first.scenes_at(self.step, self.steps)).to(work.device)
        height, width = first.resolution.at(self.step, self.steps)
        work.optimiser.train_only(first.trains)
        charged = {name: share * weight for name, weight in self.stage.regularisers.weights(self.step, self.steps).items() if share}
        render = partial(work.renderer.render_views, **self._wanted(terms, charged))
        chunk = self._prepare(terms, render, cameras, height, width)
        views = render(work.field, work.state, cameras, height, width, derive(*keys, "jitter"), chunk)
        self.attempt = replace(self.attempt, seen=True)
        pictures = Pictures(views, cameras, self._behind(views, generator(*keys, "backdrop")))
        with shared(pictures, len(terms)) as seen:
            penalties = penalty(charged, seen.views)
            return [self._judged(index, seen, penalties if index == terms[0] else 0.0) for index in terms]

    def _wanted(self, terms: Sequence[int], charged: dict[str, float]) -> dict[str, bool]:
        """What a render must show beside colours, by names of `render_views`: none of it is free."""
        moved = any(self.stage.terms[index].wants_displacement for index in terms)
        return {name: True for name, wanted in (("displacement", moved), ("facing_away", "orientation" in charged)) if wanted}

    def _judged(self, index: int, pictures: Pictures, penalties: Tensor | float) -> dict:
        """Score and back-propagate one term, with what its pictures are charged."""
        term, judge = self.stage.terms[index], self.judges[index]
        scored = term.objective.evaluate(pictures, judge, self.step, self.steps, self.work.keys(term.name))
        loss = term.weight.at(self.step, self.steps) * scored.loss + penalties + self._jitter(term, pictures)
        if loss.requires_grad:
            loss.backward()
        if scored.learning is not None:
            scored.learning.backward()
        return _row(index, term, scored, pictures)

    def _jitter(self, term: Term, pictures: Pictures) -> Tensor | float:
        """The weighted total variation of the displacement that a term's cameras see, of each camera's own video."""
        if not term.wants_displacement:
            return 0.0
        layout = (-1, term.cameras.frames, term.cameras.views)
        videos = in_order(pictures.views.displacement.unflatten(0, layout).movedim(2, 1), pictures.cameras.times.view(layout)[..., 0])  # (S, V, F, H, W, 3)
        factor = normalisation(*videos.shape[2:5]) if term.displacement_tv_normalised else 1.0
        return term.displacement_tv.at(self.step, self.steps) * factor * displacement_tv(videos)

    def _prepare(self, terms: Sequence[int], render: partial, cameras: Cameras, height: int, width: int) -> int:
        """Rays with one graph for this render (0: all); judges that encode are told how."""
        rays, normals = len(cameras) * height * width, " with normals" if "facing_away" in render.keywords else ""
        work, first = self.work, self.stage.terms[terms[0]]
        batch = f", {len(cameras)} pictures" if first.first_scenes or first.second_scenes else ""
        key = f"{first.name} {height} x {width}{batch}{normals}"
        self.attempt = Attempt(key, rays)
        encoders = [judge for judge in map(self.judges.__getitem__, terms) if hasattr(judge, "heavy")]

        def ray_bytes() -> float:
            return bytes_per_ray(work.field, render, work.state, cameras, height, width) + work.renderer.search_bytes

        chunk = self.memory.prepare(key, rays, ray_bytes, lambda: any(judge.heavy(len(cameras), self.memory.room) for judge in encoders))
        for judge in encoders:
            judge.singly = self.memory.singly(key)
        return chunk

    def _behind(self, views: RenderedViews, draws: torch.Generator) -> Tensor:
        """Colours behind the object: one random colour for the batch, the field's background, or the plain colour."""
        backdrop = self.stage.backdrop
        coin, colour = torch.rand((), generator=draws), torch.rand(3, generator=draws)
        if coin < backdrop.random_share:
            return colour.to(views.rgb)
        shown = self.work.field.background(views.directions.reshape(-1, 3))
        return views.rgb.new_tensor(backdrop.colour) if shown is None else shown.reshape(views.rgb.shape)

    def _describe(self, rows: list[dict]) -> str:
        if not rows:
            return self.work.told("no term is due")
        scores = (f"{self.stage.terms[row['term']].name} loss {row['loss']:.3g}{_level(row['level'])}" for row in rows)
        return self.work.told(*scores, *self.memory.in_words())


def _level(level: float) -> str:
    """A noise level in words; a term that has none says nothing."""
    return "" if math.isnan(level) else f" at t {level:.2f}"


def _row(index: int, term: Term, scored: Outcome, pictures: Pictures) -> dict:
    views, layout = pictures.views, (-1, term.cameras.frames, term.cameras.views)
    videos = in_order(views.rgb.detach().unflatten(0, layout).movedim(2, 1), pictures.cameras.times.view(layout)[..., 0])
    return {
        "term": index,
        "loss": float(scored.loss.detach()),
        "level": scored.level,
        "gradient_norm": scored.gradient_norm,
        "opacity": float(views.opacity.detach().mean()),
        "motion": motion(videos),
        "non_finite": scored.non_finite,
    }


def motion(videos: Tensor) -> float:
    """Mean absolute change between neighbouring times of one camera; NaN with a single time. (S, V, F, H, W, 3)."""
    return float(videos.diff(dim=2).abs().mean())
