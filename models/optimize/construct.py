"""Gaussians from pictures in two phases: a cloud that grows, then its motion (Orster, section 4; specification B6 and H10)."""

import copy
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..formats.configs import read_value
from ..formats.tensors import mismatch, promised
from ..gaussians.density import DensityConfig, PullMeter, densify, prune, reset_opacities
from ..gaussians.dynamic import DynamicGaussians
from ..guidance.seeds import generator
from .checkpoint import Checkpoint
from .cloud_optimiser import CloudOptimiser, CloudRates
from .construct_losses import LossWeights, Perceptual, sobel_pyramid
from .construct_report import sheet
from .construct_step import TERMS, Look, Seen
from .construct_views import Pool, patch_cameras
from .footage import Footage
from .history import StageHistory
from .memory import out_of_memory
from .runs import Hopeless
from .scene import Scene, check_field, describe_field
from .stages import LearningRates
from .workpiece import MOST_SKIPPED, damaged, history_of, split_names

NAME = "construction"
PROGRESS = 0.02  # decibels that count as progress for an early stop
SMOOTHING = 0.98  # of the running PSNR
COUNTERS = {"in_a_row": int, "since": int, "psnr": float, "best": float}


@dataclass(frozen=True)
class ConstructConfig:
    """How to construct. Defaults are B6's: 6,000 coarse and 3,000 fine steps, still and moving pictures 1 : 1 in the coarse ones.

    `pictures` and `driving`: frames per step. `still_fine`: share of still pictures in the fine phase (0: moving ones only).
    The deformation takes part from the first step on: still pictures are pictures of time 0, and a cloud that is fitted to
    all times at once without it smears (tried: 6 dB behind until it moves). Densification begins at step `densify_from`, comes
    every `densify_every` steps and ends in the middle of the fine phase. `reset_at`: share of the coarse phase at which
    opacities are reset, 0 never. `patience`: steps of the fine phase without progress after which it ends, 0 never. Depth is
    smoothed on `patches` of `patch` pixels a side.
    """

    coarse: int = 6000
    fine: int = 3000
    pictures: int = 4
    driving: int = 1
    still_fine: float = 0.0
    densify_from: int = 500
    densify_every: int = 100
    reset_at: float = 0.5
    patience: int = 0
    patches: int = 2
    patch: int = 8
    weights: LossWeights = field(default_factory=LossWeights)
    rates: CloudRates = field(default_factory=CloudRates)
    density: DensityConfig = field(default_factory=DensityConfig)

    def __post_init__(self):
        if self.coarse < 0 or self.fine < 0 or self.coarse + self.fine < 1:
            raise ValueError(f"A construction of {self.coarse} coarse and {self.fine} fine steps does nothing. Give at least one step.")


class Construction:
    """Dynamic Gaussians at work on footage. A `Job` for `runs.run`.

    Every random number is drawn from (seed, step, purpose), so a resumed or repeated step draws the same ones. `driving`:
    frames of one fixed reference camera, for the hex loss. `perceptual`: LPIPS; None takes the Sobel pyramid.
    """

    def __init__(
        self, gaussians: DynamicGaussians, footages: list[Footage], config: ConstructConfig, seed: int = 0,
        driving: Footage | None = None, perceptual: Perceptual | None = None,
    ):  # fmt: skip
        self.config, self.seed = config, seed
        self.perceptual = perceptual or sobel_pyramid
        self.gaussians = gaussians.clone()
        self.device = self.gaussians.positions.device
        self.pool = Pool([item.to(self.device) for item in footages], None if driving is None else driving.to(self.device))
        self.middle, self.extent = ball(self.gaussians.positions.detach())
        self.optimiser = CloudOptimiser(self.gaussians, config.rates, self.extent)
        self.pull = PullMeter(self.gaussians.count, self.device)
        self.steps = config.coarse + config.fine
        self.history = StageHistory(NAME, TERMS, self.steps, seed, LearningRates(), ())
        self.at_once = 0  # pictures per call; 0 is all
        self.step, self.in_a_row, self.consistent = 0, 0, True
        self.psnr, self.best, self.since = -1.0, -1.0, 0  # running, best and steps since then; -1 is none yet

    @property
    def stalled(self) -> bool:
        """Whether the last step was skipped."""
        return self.in_a_row > 0

    @property
    def coarse(self) -> bool:
        """Whether the present step belongs to the coarse phase."""
        return self.step < self.config.coarse

    def advance(self) -> str:
        """One step; out of memory halves the pictures per call and repeats it with the same randomness."""
        while True:
            try:
                seen, pictures = self._gather()
                break
            except RuntimeError as error:
                self.optimiser.clear()
                self._halve(error)
        self._apply(seen, pictures)
        return self._told(seen)

    def scene(self) -> Scene:
        """The Gaussians as they are now, with their history; later steps do not change them."""
        return Scene(self.gaussians.clone().requires_grad_(False), (copy.deepcopy(self.history),))

    def preview(self) -> Tensor:
        """See `construct_report.sheet`."""
        return sheet(self.gaussians, self.pool.footages)

    def snapshot(self) -> tuple[dict[str, Tensor], dict]:
        """Parameters, moments, pulls and history; every step seeds its own random numbers."""
        parts = {"field": self.gaussians.state_dict(), "adam": self.optimiser.tensors(), "history": self.history.tensors(), "pull": vars(self.pull)}
        tensors = {f"{head}.{name}": value for head, part in parts.items() for name, value in part.items()}
        counters = {name: getattr(self, name) for name in COUNTERS}
        return tensors, {"field": describe_field(self.gaussians), "history": self.history.describe(), "steps": self.steps, **counters}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a snapshot; ValueError when it is of other Gaussians or ahead of this construction."""
        check_field(checkpoint, self.gaussians)
        if checkpoint.step > self.steps:
            raise ValueError(f'The checkpoint "{checkpoint.path.name}" is at step {checkpoint.step}, this construction ends at {self.steps}. Give it more steps, or start a new run.')
        history = history_of(checkpoint)
        try:
            self._restore(split_names(checkpoint.tensors), checkpoint.values)
        except ValueError as error:
            raise damaged(checkpoint, error) from None
        self.history, self.step = history, checkpoint.step
        self._stop_early()

    def _restore(self, parts: dict[str, dict[str, Tensor]], values: dict) -> None:
        state = parts.get("field", {})
        sizes = DynamicGaussians.sizes_of(state)
        if problem := mismatch(state, promised(lambda: DynamicGaussians(self.gaussians.config, torch.Generator().manual_seed(0), **sizes))):
            raise ValueError(f"field: {problem}")
        pull = PullMeter(sizes["count"], self.device)
        if problem := mismatch(parts.get("pull", {}), vars(pull)):
            raise ValueError(f"pull: {problem}")
        counters = {name: read_value(kind, values.get(name), name) for name, kind in COUNTERS.items()}
        self.gaussians.load_state_dict(state)
        self.optimiser.load(parts.get("adam", {}))
        self.pull = pull
        vars(pull).update({name: value.to(self.device) for name, value in parts["pull"].items()})
        vars(self).update(counters)

    def _gather(self) -> tuple[Seen, int]:
        """Gradients of the step's losses, added up in the parameters; what was seen, and how many pictures of the footage."""
        config, step = self.config, self.step
        share = 0.5 if self.coarse else config.still_fine
        batches = self.pool.pick(self.seed, step, config.pictures, share, config.driving)
        driven = sum(int(batch.driving.sum()) for batch in batches)
        look = Look(config.weights, self.perceptual, sum(map(len, batches)) - driven, driven)
        seen = Seen()
        for batch in batches:
            for part in batch.parts(self.at_once):
                look.at(self.gaussians, part, seen)
        draws = generator(self.seed, step, "patches")
        first = batches[0]
        look.smooth(self.gaussians, patch_cameras(self.gaussians, first.cameras, first.alpha.shape[1], config.patches, config.patch, draws), config.patch, seen)
        return seen, look.pictures

    def _halve(self, error: RuntimeError) -> None:
        most = self.at_once or self.config.pictures + self.config.driving
        if not out_of_memory(error) or most == 1:
            raise error
        self.at_once = most // 2

    def _apply(self, seen: Seen, pictures: int) -> None:
        """Write a finished step into the state: parameters, history, the cloud's size, counters; then stop a hopeless run."""
        self.consistent = False
        judged = all(map(math.isfinite, seen.losses.values()))
        if judged and self.optimiser.update(self.step / self.steps):
            self.in_a_row = 0
            for gradient, radii, height, width in seen.pulls:
                self.pull.observe(gradient, radii, height, width, pictures)
        else:
            self.optimiser.clear()
            self.in_a_row += 1
            self.history.skipped.append(self.step)
        for term, loss in seen.losses.items():
            self.history.add(step=self.step, term=TERMS.index(term), loss=loss, opacity=seen.opacity)
        self._follow(seen.psnr(pictures))
        self.step += 1
        self._resize()
        self._stop_early()
        self.consistent = True
        self._check_health()

    def _resize(self) -> None:
        """Let the cloud grow and shrink when its time has come."""
        config, done = self.config, self.step
        if config.reset_at and done == int(config.reset_at * config.coarse):
            self.optimiser.replace(reset_opacities(self._raw(), config.density), forget=("logits",))
        until = config.coarse + config.fine // 2
        if not config.densify_from <= done <= until or done % config.densify_every:
            return
        self.optimiser.replace(densify(self._raw(), self.pull.mean(), config.density, self.extent, generator(self.seed, done, "split")))
        left = prune(self._raw(), config.density, self.extent, self.middle)
        if not len(left.source):
            raise Hopeless(
                f"At step {done} no Gaussian is left: all of them became transparent or flew apart. Check that masks and cameras belong to the pictures, "
                "and lower the learning rates."
            )
        self.optimiser.replace(left)
        self.pull = PullMeter(self.gaussians.count, self.device)

    def _raw(self) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in self.gaussians.raw().items()}

    def _follow(self, psnr: float) -> None:
        """Keep the running PSNR and how long it has not risen, in the fine phase."""
        if not math.isfinite(psnr):
            return
        psnr = max(psnr, 0.0)
        self.psnr = psnr if self.psnr < 0 else SMOOTHING * self.psnr + (1.0 - SMOOTHING) * psnr
        risen = self.coarse or self.psnr > self.best + PROGRESS
        self.best, self.since = (self.psnr, 0) if risen else (self.best, self.since + 1)

    def _stop_early(self) -> None:
        if self.config.patience and self.since >= self.config.patience:
            self.steps = self.step

    def _check_health(self) -> None:
        if self.in_a_row >= MOST_SKIPPED:
            raise Hopeless(
                f"{MOST_SKIPPED} steps in a row had gradients that are not finite (up to step {self.step}). Lower the learning rates. None of these "
                "steps was checkpointed: queueing the same graph tries them again."
            )

    def _told(self, seen: Seen) -> str:
        phase = "coarse" if self.step <= self.config.coarse else "fine"
        skipped = len(self.history.skipped)
        parts = [f"{phase}: {self.gaussians.count} Gaussians", f"L1 {seen.losses.get('L1', math.nan):.3g}", f"{self.psnr:.1f} dB"]
        return ", ".join([*parts, f"{skipped} steps skipped"] if skipped else parts)


def ball(positions: Tensor) -> tuple[Tensor, float]:
    """Middle (3,) and radius of a cloud (N, 3): what its lengths are measured in."""
    middle = 0.5 * (positions.amin(dim=0) + positions.amax(dim=0))
    return middle, max(float((positions - middle).norm(dim=-1).max()), 1e-3)
