"""Penalties on what a volume renders, each a mean that does not depend on the batch's size."""

from dataclasses import dataclass

from torch import Tensor

from .schedules import Schedule, constant


@dataclass(frozen=True)
class Regularisers:
    """Weights, each a schedule inside the stage; all off by default.

    `opaque` is the binary entropy of opacity (crisp edges; much of it eats thin uncertain parts), `sparsity` the pull to
    empty space, `z_variance` against fog along a ray, `orientation` against surfaces that face away (Ref-NeRF).
    """

    opaque: Schedule = constant(0.0)
    sparsity: Schedule = constant(0.0)
    z_variance: Schedule = constant(0.0)
    orientation: Schedule = constant(0.0)

    def weights(self, step: int, steps: int) -> dict[str, float]:
        """The weights that are not 0 at this step."""
        weights = {name: getattr(self, name).at(step, steps) for name in ("opaque", "sparsity", "z_variance", "orientation")}
        return {name: weight for name, weight in weights.items() if weight}


def opaque(opacity: Tensor) -> Tensor:
    """Mean binary entropy of opacity in nats: 0 where a ray is clear or blocked, log 2 at a half."""
    p = opacity.clamp(1e-3, 1.0 - 1e-3)
    return -(p * p.log() + (1.0 - p) * (1.0 - p).log()).mean()


def sparsity(opacity: Tensor) -> Tensor:
    """Mean of sqrt(opacity^2 + 0.01) (threestudio)."""
    return (opacity.square() + 0.01).sqrt().mean()


def z_variance(variance: Tensor, opacity: Tensor) -> Tensor:
    """Mean variance of depth along the rays that hit something (opacity > 0.5); 0 when none does."""
    hit = (opacity.detach() > 0.5).to(variance)
    return (variance * hit).sum() / hit.sum().clamp_min(1.0)


def orientation(normals: Tensor, directions: Tensor, weights: Tensor) -> Tensor:
    """sum sg(w) max(0, n . d)^2 / #(w > 0): visible normals must face the camera. (M, 3), (M, 3), (M,)."""
    weights = weights.detach()
    facing_away = (normals * directions).sum(-1).clamp_min(0.0)
    return (weights * facing_away.square()).sum() / (weights > 0).sum().clamp_min(1)
