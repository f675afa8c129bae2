"""One look of a construction at its pictures: draw them, compare, and leave gradients in the parameters."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..gaussians.dynamic import DynamicGaussians
from ..geometry.cameras import Cameras
from .construct_losses import LossWeights, Perceptual, absolute_error, depth_smoothness, hex_loss, regularisation
from .construct_views import Batch, draw

TERMS = ("L1", "perceptual", "depth", "hex", "regularisers")


@dataclass
class Seen:
    """What a step found: weighted losses by term, squared errors over white, opacity, and pulls at the Gaussians."""

    losses: dict[str, float] = field(default_factory=dict)
    squared: float = 0.0  # sum over the footage's pictures
    opacity: float = 0.0
    pulls: list[tuple[Tensor, Tensor, int, int]] = field(default_factory=list)  # gradient (B, N, 2), radii (B, N), height, width

    def add(self, term: str, loss: Tensor) -> None:
        self.losses[term] = self.losses.get(term, 0.0) + float(loss.detach())

    def psnr(self, pictures: int) -> float:
        """Of the footage's pictures over white, in decibels; NaN without any."""
        return -10.0 * math.log10(max(self.squared / pictures, 1e-10)) if pictures and math.isfinite(self.squared) else math.nan


@dataclass(frozen=True)
class Look:
    """What all parts of a step share: `pictures` of the footage and `driven` frames are in it altogether."""

    weights: LossWeights
    perceptual: Perceptual
    pictures: int
    driven: int

    def at(self, gaussians: DynamicGaussians, batch: Batch, seen: Seen) -> None:
        """Draw a batch in one call and back-propagate its share of the step's loss."""
        height, width = batch.alpha.shape[1:]
        screen = gaussians.positions.new_zeros(len(batch), gaussians.count, 2, requires_grad=True)
        views = draw(gaussians.at(batch.cameras.times), batch.cameras, height, width, screen)
        shown = views.over(views.rgb.new_ones(3))
        losses = {"L1": 0.0, "perceptual": 0.0, "hex": 0.0}
        of_footage, of_driving = ~batch.driving, batch.driving
        if bool(of_footage.any()):
            errors = absolute_error(views.rgb, views.alpha, batch.rgb, batch.alpha, batch.known)[of_footage]
            losses["L1"] = self.weights.l1 * errors.sum() / self.pictures
            truth = batch.over_white[of_footage]
            seen.squared += float((shown.detach()[of_footage] - truth).square().mean(dim=(1, 2, 3)).sum())
            if self.weights.perceptual:
                distance = self.perceptual(shown[of_footage].movedim(-1, 1), truth.movedim(-1, 1))
                losses["perceptual"] = self.weights.perceptual * distance * (len(truth) / self.pictures)
        if bool(of_driving.any()):
            losses["hex"] = self.weights.hex * hex_loss(shown[of_driving], batch.over_white[of_driving]).sum() / self.driven
        self._finish(losses, seen)
        seen.opacity += float(views.alpha.detach().mean(dim=(1, 2)).sum()) / (self.pictures + self.driven)
        if screen.grad is not None:
            seen.pulls.append((screen.grad[of_footage], views.radii.detach()[of_footage], height, width))

    def smooth(self, gaussians: DynamicGaussians, cameras: Cameras, side: int, seen: Seen) -> None:
        """Depth smoothness of patches, and the planes' regularisers."""
        losses = {"regularisers": regularisation(gaussians, self.weights)}
        if self.weights.depth and len(cameras):
            patches = draw(gaussians.at(cameras.times), cameras, side, side)
            losses["depth"] = self.weights.depth * depth_smoothness(patches.depth, patches.alpha)
        self._finish(losses, seen)

    def _finish(self, losses: dict[str, Tensor | float], seen: Seen) -> None:
        found = {term: loss for term, loss in losses.items() if isinstance(loss, Tensor)}
        for term, loss in found.items():
            seen.add(term, loss)
        total = sum(found.values())
        if isinstance(total, Tensor) and total.requires_grad:
            total.backward()
