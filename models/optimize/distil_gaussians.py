"""Gaussians distilled from pictures that we made ourselves: a start that is nearly right, settings for few steps, a report."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..gaussians.deformation import DeformationConfig
from ..gaussians.dynamic import DynamicGaussians, DynamicGaussiansConfig
from ..gaussians.hexplane import HexPlaneConfig
from ..gaussians.riding import RidingGaussians
from .cloud_optimiser import CloudRates
from .construct import ConstructConfig, Construction
from .construct_losses import LossWeights
from .construct_report import Match, match
from .film import Filming
from .footage import Footage

PICTURES = 4  # per step
BYTES_PER_DRAWN = 3000  # per Gaussian and picture of a step: planes' samples, network, footprint and their gradients, measured
BYTES_AT_LEAST = 200 << 20  # compositing, whatever the number
BYTES_PER_GAUSSIAN = 14 * 4 * 4  # parameter, gradient, two moments

RATES = CloudRates(positions=1e-3, colours=1e-2, details=5e-4, opacities=0.05, scales=1e-2, rotations=5e-3, planes=2e-2, networks=4e-3)
"""Some six times B6's: a few hundred steps have to do, and the start is on the surface already."""


def schedule(steps: int) -> ConstructConfig:
    """Steps with the deformation in all of them; the cloud keeps its number, since it begins where the object is. Depth is not
    smoothed: every time is seen from many sides."""
    weights = LossWeights(depth=0.0)
    return ConstructConfig(coarse=0, fine=steps, pictures=PICTURES, driving=0, densify_from=steps + 1, reset_at=0.0, patches=0, weights=weights, rates=RATES)


def moving_cloud(raw: dict[str, Tensor], degree: int, times: int, draws: torch.Generator) -> DynamicGaussians:
    """Dynamic Gaussians that start as `raw`, with a node of their time planes at each of `times` times."""
    planes = HexPlaneConfig(channels=16, resolution=24, levels=(1, 2), times=max(times, 2))
    config = DynamicGaussiansConfig(degree, DeformationConfig(planes, hidden=64) if times > 1 else None)
    gaussians = DynamicGaussians(config, draws, len(raw["positions"]))
    gaussians.restart(raw)
    return gaussians


def construction(gaussians: DynamicGaussians | RidingGaussians, film: Footage, steps: int, seed: int) -> Construction:
    """The job that fits them to a film."""
    return Construction(gaussians, [film], schedule(steps), seed)


def bytes_needed(count: int, film: Filming, frames: int, coefficients: int) -> int:
    """About how much memory a distillation takes at its peak: film, optimiser, one step's pictures, and the result."""
    fit = count * (BYTES_PER_GAUSSIAN + 16 * 3 * (coefficients - 1) + PICTURES * BYTES_PER_DRAWN)
    return BYTES_AT_LEAST + 2 * film.bytes() + fit + 4 * count * (frames * 10 + 4 + 3 * coefficients)


@dataclass(frozen=True)
class Result:
    """What a distillation reached: matches with the film and with pictures that it never saw."""

    gaussians: DynamicGaussians | RidingGaussians
    film: Footage
    held: Footage
    seen: Match
    held_out: Match
    steps: int

    def report(self, frames: int) -> str:
        """In words and numbers, the most important line first."""
        height, width = self.film.size
        lines = [
            f"PSNR {float(self.held_out.decibels.mean()):.2f} dB over white, on {len(self.held_out.decibels)} pictures that were never looked at",
            f"{self.gaussians.count:,} Gaussians at {frames} times, {self.steps} steps on {len(self.film)} pictures of {width} x {height}",
        ]
        return "\n".join([*lines, self.held_out.words(), f"{self.seen.name}: {float(self.seen.decibels.mean()):.2f} dB"])


def result(job: Construction, film: Footage, held_out: Footage) -> Result:
    """Measure a finished job."""
    device = job.gaussians.positions.device
    return Result(job.gaussians, film, held_out, match(job.gaussians, film.to(device)), match(job.gaussians, held_out.to(device)), job.step)
