"""Penalties on what a volume renders, each a mean that does not depend on the batch's size."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from ..fields.field import Field
from ..geometry.cameras import Cameras
from ..render.deferred import RenderedViews
from .schedules import Schedule, constant

VISIBLE = 0.5  # opacity from which a ray has a surface
OFFSET = 0.01  # of finite differences: shorter than any cell of the finest grids in use
TETRAHEDRON = ((1.0, 1.0, 1.0), (1.0, -1.0, -1.0), (-1.0, 1.0, -1.0), (-1.0, -1.0, 1.0))


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


def orientation(normals: Tensor, directions: Tensor, weights: Tensor) -> Tensor:
    """sum sg(w) max(0, n . d)^2 / #(w > 0): visible normals must face the camera. (M, 3), (M, 3), (M,)."""
    weights = weights.detach()
    facing_away = (normals * directions).sum(-1).clamp_min(0.0)
    return (weights * facing_away.square()).sum() / (weights > 0).sum().clamp_min(1)


def penalty(weights: dict[str, float], views: RenderedViews, cameras: Cameras, field: Field) -> Tensor:
    """The weighted sum of the regularisers named in `weights`."""
    total = views.opacity.new_zeros(())
    for name, weight in weights.items():
        total = total + weight * _one(name, views, cameras, field)
    return total


def _one(name: str, views: RenderedViews, cameras: Cameras, field: Field) -> Tensor:
    if name == "opaque":
        return opaque(views.opacity)
    if name == "sparsity":
        return sparsity(views.opacity)
    if name == "z_variance":
        return z_variance(views.z_variance, views.opacity)
    return _surface_orientation(views, cameras, field)


def _surface_orientation(views: RenderedViews, cameras: Cameras, field: Field) -> Tensor:
    """`orientation` with each visible ray's samples gathered at its mean depth, where nearly all of its weight lies."""
    height, width = views.opacity.shape[1:]
    origins, directions, times = cameras.rays(height, width)
    opacity, depth = views.opacity.detach().flatten(), views.depth.detach().flatten()
    seen = (opacity > VISIBLE).nonzero()[:, 0]
    points = origins[seen] + directions[seen] * (depth[seen] / opacity[seen])[:, None]
    return orientation(density_normals(field, points, times[seen]), directions[seen], opacity[seen])


def density_normals(field: Field, positions: Tensor, times: Tensor) -> Tensor:
    """Unit normals (M, 3), minus the density's gradient by finite differences; differentiable in the field's parameters."""
    corners = positions.new_tensor(TETRAHEDRON)  # (4, 3)
    around = (positions + OFFSET * corners[:, None]).reshape(-1, 3)
    density = field.density(around, times.repeat(4)).view(4, -1)  # (4, M)
    return -functional.normalize(density.t() @ corners, dim=-1)
