"""Penalties on what a volume renders, each a mean that does not depend on the batch's size (specification 0.6)."""

from dataclasses import dataclass

from torch import Tensor

from ..fields.field import Field
from ..render.deferred import RenderedViews
from .schedules import Schedule, constant

VISIBLE = 0.5  # opacity from which a ray has a surface


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

    def check(self, field: Field) -> None:
        """ValueError for a penalty that this field can not have."""
        if (self.orientation.first or self.orientation.last) and not callable(getattr(field, "density", None)):
            raise ValueError(f'The penalty "orientation" looks at a density, and a field of {field.kind} has none. Set it to 0 in the stage.')

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
    hit = (opacity.detach() > VISIBLE).to(variance)
    return (variance * hit).sum() / hit.sum().clamp_min(1.0)


def orientation(facing_away: Tensor, opacity: Tensor) -> Tensor:
    """Mean over the rays that see anything (opacity > 0) of their samples' sum sg(w) max(0, n . d)^2, as it was rendered; 0 when
    none does. Both (N, H, W)."""
    return facing_away.sum() / (opacity.detach() > 0).sum().clamp_min(1)


def penalty(weights: dict[str, float], views: RenderedViews) -> Tensor:
    """The weighted sum of the regularisers named in `weights`; for "orientation" the views must have been rendered with
    `facing_away`."""
    total = views.opacity.new_zeros(())
    for name, weight in weights.items():
        total = total + weight * _one(name, views)
    return total


def _one(name: str, views: RenderedViews) -> Tensor:
    if name == "opaque":
        return opaque(views.opacity)
    if name == "sparsity":
        return sparsity(views.opacity)
    if name == "z_variance":
        return z_variance(views.z_variance, views.opacity)
    return orientation(views.facing_away, views.opacity)
