"""Variational score distillation: the pictures move from what phi, a model of themselves, expects to what the prior expects.

g = w (eps_prior - eps_phi) = w (a / b) (D_phi - D_prior) at one z, so SDS with phi's estimate in place of the picture; nothing
depends on how either model is parametrised. Phi learns the pictures while they change (ProlificDreamer, algorithm 1; 4D-fy,
section 3.2, with a single particle; specification 1.4).
"""

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from ..geometry.cameras import Cameras
from .distillation import Distillation, distill, draw_levels
from .noise import per_item
from .objective import Learner, Outcome, Pictures
from .prior import Prior
from .schedules import NoiseRange, constant
from .seeds import generator

EVERY_LEVEL = NoiseRange(constant(0.0), constant(1.0))


class Phi(Learner, Protocol):
    """A model of the pictures at hand, on the latents and noise process of the prior beside it."""

    def sigma_at(self, percent: Tensor) -> Tensor:
        """See `Prior`; of its own schedule."""

    def denoise(self, z: Tensor, sigma: Tensor, cameras: Cameras, scale: float) -> Tensor:
        """Its estimate with guidance `scale`, without a graph."""

    def error(self, x0: Tensor, noise: Tensor, sigma: Tensor, cameras: Cameras, hidden: Tensor) -> Tensor:
        """The mean squared error of its network's own target, with a graph to its parameters alone.

        `hidden` (B,) bool: pictures whose camera it does not hear of.
        """


class VariationalJudge(Prior, Protocol):
    """The prior that `Variational` asks, with its phi."""

    learner: Phi


@dataclass(frozen=True)
class Variational(Distillation):
    """VSD as 4D-fy uses it; how the frozen prior is asked and weighed is as in plain distillation.

    `phi_guidance` is phi's own guidance scale; in its unconditional half it hears of no camera. Phi learns in every step from
    `samples` noise levels of the whole schedule, and its camera is hidden with the probability `hidden`.
    """

    phi_guidance: float = 1.0
    samples: int = 1
    hidden: float = 0.1

    def evaluate(self, pictures: Pictures, judge: VariationalJudge, step: int, steps: int, keys: tuple) -> Outcome:
        """See `Objective`; random numbers of the purposes "noise" (as plain distillation draws them) and "phi"."""
        phi, cameras = judge.learner, pictures.cameras
        outcome = distill(
            *pictures.for_prior(judge), cameras, judge, self, step, steps, generator(*keys, "noise"), lambda z, sigma: phi.denoise(z, sigma, cameras, self.phi_guidance)
        )
        return replace(outcome, learning=self.learning(outcome.latents, cameras, phi, generator(*keys, "phi")) if phi.rate > 0.0 else None)

    def learning(self, x0: Tensor, cameras: Cameras, phi: Phi, draws: torch.Generator) -> Tensor:
        """Phi's loss on latents `x0`: levels over the whole schedule, fresh noise, some cameras hidden."""
        errors = []
        for _ in range(self.samples):
            levels = draw_levels(replace(self, levels=EVERY_LEVEL), cameras, x0.shape[0], 0, 1, draws)
            noise = torch.randn(x0.shape, generator=draws, dtype=torch.float32).to(x0)
            hidden = torch.rand(x0.shape[0], generator=draws) < self.hidden
            errors.append(phi.error(x0, noise, phi.sigma_at(1.0 - levels).to(x0.device), cameras, hidden))
        return torch.stack(errors).mean()


def target_error(x0: Tensor, denoised: Tensor, output_scale: Tensor) -> Tensor:
    """Mean squared error of a network's own output, which its estimate D is an affine function of with slope `output_scale` (B,).

    The network's target is the output whose estimate is x0, so the output's error is (D - x0) / slope: of eps for slope b / a,
    of v for b / sqrt(a^2 + b^2), of a flow for b.
    """
    return ((denoised - x0) / per_item(output_scale, x0)).square().mean()
