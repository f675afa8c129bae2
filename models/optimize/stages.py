"""What one stage of an optimisation does: its terms, how they share the steps, and how fast each role may change."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..geometry.cameras import CameraSampler
from ..guidance.objective import Objective
from ..guidance.regularisers import Regularisers
from ..guidance.schedules import Schedule, constant

ROLES = ("static", "dynamic", "decoder", "material", "background")
"""The parameter groups that every field maps its parameters to. A role that a field leaves empty is ignored."""

STILL_ROLES = ("static", "decoder", "material", "background")
"""What a term trains that must not touch motion: 4D-fy's dynamic grid learns on video steps only."""


@dataclass(frozen=True)
class Resolution:
    """Size of a term's renders: `first` for the first `switch` of the stage, `second` up to its switch, then `height` x `width`."""

    height: int = 64
    width: int = 64
    first: float = 1.0  # factor on both sides before the switch
    switch: float = 0.0  # fraction of the stage
    second: float = 1.0  # factor between the two switches
    second_switch: float = 0.0

    def phase(self, step: int, steps: int) -> int:
        """0 before the first switch, 1 before the second, 2 from then on."""
        return 0 if step < self.switch * steps else 1 if step < self.second_switch * steps else 2

    def at(self, step: int, steps: int) -> tuple[int, int]:
        """(height, width) at a step."""
        factor = (self.first, self.second, 1.0)[self.phase(step, steps)]
        return max(round(self.height * factor), 1), max(round(self.width * factor), 1)


@dataclass(frozen=True)
class Term:
    """One loss: cameras that look, a resolution, and how a judge's opinion becomes a gradient. The judge itself (a prior, or a
    reference) is passed beside it. Anything with `views`, `frames` and `sample` like a `CameraSampler`'s may be the cameras.
    """

    name: str
    cameras: CameraSampler
    objective: Objective
    scenes: int = 1  # joint scenes per step
    resolution: Resolution = Resolution()
    first_scenes: int = 0  # before the resolution's first switch; 0: as many as `scenes`
    second_scenes: int = 0  # between its switches
    weight: Schedule = constant(1.0)
    trains: tuple[str, ...] = STILL_ROLES
    every: int = 1  # takes part in every n-th step ...
    begin: float = 0.0  # ... from this fraction of the stage on
    displacement_tv: Schedule = constant(0.0)  # weight of a displacement's total variation
    displacement_tv_normalised: bool = True  # by pixels and frames, so that the weight means the same at every size

    def due(self, step: int, steps: int) -> bool:
        """Whether it takes part in a step."""
        since = step - round(self.begin * steps)
        return since >= 0 and since % self.every == 0

    def scenes_at(self, step: int, steps: int) -> int:
        """Joint scenes of a step: smaller renders may come in larger batches (Dream-in-4D: 8 of 64 x 64, then 4 of 256 x 256)."""
        return (self.first_scenes, self.second_scenes, self.scenes)[self.resolution.phase(step, steps)] or self.scenes

    @property
    def guides(self) -> bool:
        """Whether it looks from where nobody knows the answer; only such pictures pay penalties. A reference view has its target."""
        return not getattr(self.objective, "known_view", False)

    @property
    def wants_displacement(self) -> bool:
        """Whether its pictures need a rendered displacement."""
        return bool(self.displacement_tv.first or self.displacement_tv.last)


@dataclass(frozen=True)
class LearningRates:
    """Peak learning rates by role (0 freezes it) and their shape: linear warm-up, then linear decay to a share of the peak, and
    perhaps halvings on the way.

    The defaults are 4D-fy's first stage: grids 1e-2, decoders 1e-3, no motion, constant.
    """

    static: float = 1e-2
    dynamic: float = 0.0
    decoder: float = 1e-3
    material: float = 1e-3
    background: float = 1e-3
    warm_up: int = 0  # steps
    final: float = 1.0  # share of the peak at the stage's end
    halved_at: tuple[float, ...] = ()  # fractions of the stage (Dream-in-4D's code: .8 and .9)

    def __post_init__(self):
        if not all(0.0 < share < 1.0 for share in self.halved_at):
            raise ValueError(f"Learning rates are halved inside a stage, not at {', '.join(f'{share:g}' for share in self.halved_at)}. Give fractions between 0 and 1.")
        if not all(map(math.isfinite, (*self.peaks().values(), self.final))):
            raise ValueError(f"A learning rate is not finite ({', '.join(f'{role} {peak:g}' for role, peak in self.peaks().items())}, final {self.final:g}). Give ordinary numbers.")

    def factor(self, step: int, steps: int) -> float:
        """What multiplies every peak at a step."""
        warm = min((step + 1) / (self.warm_up + 1), 1.0)
        halvings = sum(step >= share * steps for share in self.halved_at)
        return warm * (1.0 + (self.final - 1.0) * step / max(steps, 1)) * 0.5**halvings

    def peaks(self) -> dict[str, float]:
        """The peak of every role."""
        return {role: getattr(self, role) for role in ROLES}


@dataclass(frozen=True)
class Backdrop:
    """What pictures are composited over for a prior that does not see alpha.

    With `random_share` probability one uniformly random colour for the whole batch (4D-fy: 0.5), else the field's own
    background, and where it has none, `colour`.
    """

    random_share: float = 0.5
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Stage:
    """A stage of hybrid score distillation (4D-fy, section 3.3).

    `probabilities` draws one of the terms that are due per step, or per `block` of steps: the same mix is expected, and models
    that do not fit in memory together are exchanged less often. None adds up all of them, and renders once for those that look
    alike. Level schedules give the share of a
    field's grid levels that takes part (coarse to fine), `blob` the radius of the density's initial ball, None leaves the
    field's own. With `levels_every` a whole level joins after every so many steps instead, from the schedules' first shares up to
    their last (Dream-in-4D: 4 of 12 levels, one more every 500 steps).
    """

    terms: tuple[Term, ...]
    probabilities: tuple[float, ...] | None = None
    name: str = "stage"
    rates: LearningRates = LearningRates()
    static_levels: Schedule = constant(1.0)
    dynamic_levels: Schedule = constant(1.0)
    blob: Schedule | None = None
    regularisers: Regularisers = field(default_factory=Regularisers)
    backdrop: Backdrop = Backdrop()
    weight_decay: float = 0.0
    levels_every: int = 0
    block: int = 1

    def __post_init__(self):
        if self.block < 1:
            raise ValueError(f"Terms are drawn in blocks of {self.block} steps. Give at least 1, which draws in every step.")
        if not self.terms:
            raise ValueError("The stage has no guidance term. Connect at least one guidance node to its terms.")
        if self.probabilities is not None and len(self.probabilities) != len(self.terms):
            raise ValueError(f"The stage has {len(self.terms)} terms and {len(self.probabilities)} probabilities. Give one per term.")
        names = [term.name for term in self.terms]
        if len(set(names)) != len(names):
            raise ValueError(f"Two terms of the stage share a name ({', '.join(names)}). Names label the curves: make them differ.")

    def together(self, drawn: Sequence[int]) -> list[list[int]]:
        """The drawn terms in groups that see the same pictures: equal cameras, scenes, resolution and trained roles.

        Dream-in-4D's static stage gives each image to both of its priors.
        """
        groups: dict[tuple, list[int]] = {}
        for index in drawn:
            term = self.terms[index]
            groups.setdefault((term.cameras, term.scenes, term.first_scenes, term.second_scenes, term.resolution, term.trains), []).append(index)
        return list(groups.values())

    def charges(self, groups: Sequence[Sequence[int]]) -> list[float]:
        """Which share of the step's penalties each of these groups of `together` pays: guidance views alike and all of it together,
        however many there are; reference views nothing, unless the stage has no other term (specification 2.4)."""
        alone = not any(term.guides for term in self.terms)
        pays = [alone or any(self.terms[index].guides for index in group) for group in groups]
        return [paying / max(sum(pays), 1) for paying in pays]

    def active_levels(self, step: int, steps: int, levels: tuple[int, int]) -> tuple[float, float]:
        """How many of a field's static and dynamic `levels` take part at a step; a fraction fades one in."""
        return tuple(self._active(schedule, count, step, steps) for schedule, count in zip((self.static_levels, self.dynamic_levels), levels))

    def _active(self, schedule: Schedule, count: int, step: int, steps: int) -> float:
        if not self.levels_every:
            return schedule.at(step, steps) * count
        return float(min(round(schedule.first * count) + step // self.levels_every, round(schedule.last * count)))
