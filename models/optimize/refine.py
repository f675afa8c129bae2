"""Photometric refinement: the prior redraws many pictures of the scene together, and the field is fitted to them.

A polish after distillation. Several views and times are rendered, noised half-way, denoised jointly in a few steps, and kept
in a pool; random rays of the pool pull the field (specification "hybrid distillation", section 5; the dataset update of
Instruct-NeRF2NeRF with a joint prior).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..formats.configs import read_value
from ..formats.tensors import mismatch
from ..geometry.cameras import Cameras, CameraSampler
from ..guidance.denoising import redraw
from ..guidance.directions import ViewDirections
from ..guidance.prior import DecodingPrior
from ..guidance.schedules import Schedule
from ..guidance.seeds import derive, generator
from .checkpoint import Checkpoint
from .memory import smaller_chunk
from .scene import Scene
from .stages import LearningRates
from .workpiece import Workpiece, damaged, split_names

TERM = "refinement"


@dataclass(frozen=True)
class Refinement:
    """How to refine. Defaults: 16 pictures a round, the last 96 kept, 24 steps of 2048 rays between rounds.

    `level` is the noise level that each round starts from, falling over the run; lower changes less.
    """

    cameras: CameraSampler
    level: Schedule = Schedule(0.5, 0.25)
    denoising_steps: int = 8
    guidance: float = -1.0
    pool: int = 96
    steps_per_round: int = 24
    rays: int = 2048
    rates: LearningRates = LearningRates(static=1e-2, dynamic=1e-2, decoder=2e-3, background=0.0, material=0.0)
    directions: ViewDirections = ViewDirections()


@dataclass
class Pool:
    """The pictures that the field is fitted to, oldest first."""

    pictures: Tensor  # (N, H, W, 4) premultiplied RGBA
    camera_to_world: Tensor  # (N, 4, 4)
    fov_y: Tensor  # (N,)
    times: Tensor  # (N,)

    def add(self, pictures: Tensor, cameras: Cameras, most: int) -> "Pool":
        """A pool with new pictures behind the old ones, the oldest beyond `most` dropped."""
        new = Pool(pictures, cameras.camera_to_world, cameras.fov_y, cameras.times)
        return Pool(*(torch.cat([old, fresh])[-most:] for old, fresh in zip(vars(self).values(), vars(new).values())))

    @property
    def cameras(self) -> Cameras:
        """Those of the pictures."""
        return Cameras(self.camera_to_world, self.fov_y, self.times)


class Refiner:
    """A refinement at work. A `Job` for `runs.run`; a step fits one batch of rays, and every round's first step redraws."""

    def __init__(self, scene: Scene, prior: DecodingPrior, renderer, config: Refinement, steps: int, seed: int = 0, chunk: int = 0):
        self.prior, self.config, self.steps, self.chunk = prior, config, steps, chunk
        self.work = Workpiece(scene, renderer, config.rates, 0.0, steps, seed, TERM, (TERM,))
        empty = torch.zeros(0, *prior.native_size, 4, device=self.work.device)
        numbers = empty.new_zeros(0)
        self.pool = Pool(empty, empty.new_zeros(0, 4, 4), numbers, numbers)
        self.spoiled = False  # the last redrawing was not finite: the next step tries again

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
        """Redraw when a round begins, then fit one batch of rays.

        Pictures that are not finite never enter the pool: the step is skipped. Out of memory halves the chunk of rays of the
        redrawing and repeats the step with the same randomness.
        """
        while True:
            try:
                row, pool = self._attempt()
                break
            except RuntimeError as error:
                self.work.clear()
                self.chunk = smaller_chunk(error, self.chunk, self._rays_of_a_round())
        self.spoiled = pool is None
        self.pool = pool or self.pool
        self.work.apply([row])
        return self.work.told(f"refinement loss {row['loss']:.3g} on {len(self.pool.times)} pictures")

    def _attempt(self) -> tuple[dict, Pool | None]:
        """The row of the step and the pool that it was fitted to; None when the prior drew something that is not finite."""
        level = self.config.level.at(self.step, self.steps)
        row = {"term": 0, "level": level}
        if self.step % self.config.steps_per_round and not self.spoiled:
            return row | self._fit(self.pool), self.pool
        pool = self._redrawn(level)
        bad = pool.pictures.numel() - int(torch.isfinite(pool.pictures).sum())
        return (row | {"loss": math.nan, "opacity": math.nan, "non_finite": bad}, None) if bad else (row | self._fit(pool), pool)

    def _rays_of_a_round(self) -> int:
        cameras, (height, width) = self.config.cameras, self.prior.native_size
        return cameras.views * cameras.frames * height * width

    def _redrawn(self, level: float) -> Pool:
        work, config = self.work, self.config
        cameras = config.cameras.sample(generator(*work.keys(TERM, "cameras"))).to(work.device)
        with torch.no_grad():
            views = work.renderer.render_views(work.field, work.state, cameras, *self.prior.native_size, derive(*work.keys(TERM, "jitter")), self.chunk)
            seen = self.prior.accepts_alpha
            latents = self.prior.encode(views.rgb if seen else views.over(views.rgb.new_ones(3)), views.opacity if seen else torch.ones_like(views.opacity))
            draws = generator(*work.keys(TERM, "noise"))
            drawn = redraw(latents, cameras, self.prior, level, config.denoising_steps, config.guidance, draws, config.directions)
            rgb, alpha = self.prior.decode(drawn)
        return self.pool.add(torch.cat([rgb, alpha[..., None]], dim=-1).to(work.device), cameras, config.pool)

    def _fit(self, pool: Pool) -> dict:
        """Squared error of random rays, as a gradient in the parameters."""
        work = self.work
        draws = generator(*work.keys(TERM, "rays"))
        work.optimiser.train_only(tuple(work.optimiser.roles))
        pixel, rgb, opacity = work.renderer.render_pixels(work.field, work.state, pool.cameras, *pool.pictures.shape[1:3], self.config.rays, draws)
        target = pool.pictures.reshape(-1, 4)[pixel]
        if self.prior.accepts_alpha:
            difference = torch.cat([rgb, opacity[:, None]], dim=1) - target
        else:
            difference = rgb + (1.0 - opacity[:, None]) - target[:, :3]  # drawn over white, judged over white
        loss = difference.square().mean()
        loss.backward()
        value = float(loss.detach())
        return {"loss": value, "gradient_norm": float(difference.detach().norm()), "opacity": float(opacity.detach().mean()), "non_finite": 0}

    def scene(self) -> Scene:
        """The field as it is now, with its history."""
        return self.work.scene()

    def preview(self) -> Tensor:
        """See `Workpiece.preview`."""
        return self.work.preview()

    def snapshot(self) -> tuple[dict[str, Tensor], dict]:
        """The workpiece, the pool and the chunk, which rounds."""
        tensors, values = self.work.snapshot()
        return tensors | {f"pool.{name}": value for name, value in vars(self.pool).items()}, values | {"spoiled": self.spoiled, "chunk": self.chunk}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a snapshot of the same field."""
        self.work.restore(checkpoint)
        parts = split_names(checkpoint.tensors).get("pool", {})
        count = len(parts["times"]) if "times" in parts and parts["times"].ndim else 0
        if problem := mismatch(parts, {name: value.new_empty(count, *value.shape[1:]) for name, value in vars(self.pool).items()}):
            raise damaged(checkpoint, ValueError(f"pool: {problem}"))
        self.pool = Pool(**{name: value.to(self.work.device, torch.float32) for name, value in parts.items()})
        self.spoiled = bool(checkpoint.values.get("spoiled", False))
        try:
            self.chunk = max(read_value(int, checkpoint.values.get("chunk"), "chunk"), 0)
        except ValueError as error:
            raise damaged(checkpoint, error) from None
