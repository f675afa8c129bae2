"""Gaussians seen by cameras: their footprints on the screen, in the order in which they are composited.

The projection is gsplat's (its "classic" mode): the covariance goes through the linearised camera, J W Sigma W^T J^T, and is
dilated by `dilation` pixels^2 on its diagonal. J is taken at the centre, moved back to 1.3 times the half field of view where
it lies further outside: the linearisation is useless there, and would blow the footprint up. The centre itself stays.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from .gsplat_package import installed_max_alpha

FIELD_MARGIN = 1.3  # times the half field of view: where J stops following a centre outwards
REACH = 3.33  # standard deviations; outside an opaque Gaussian's alpha is below 1/255, so nothing is cut off


@dataclass(frozen=True)
class SplatSettings:
    """How Gaussians are composited; the defaults are those of 3DGS and gsplat.

    A Gaussian's alpha at a pixel is min(`max_alpha`, opacity * exp(-sigma)) and counts from `alpha_threshold`; compositing stops
    before the transmittance falls to `transmittance_stop`. `max_alpha` is 0.999 as in gsplat 1.5 unless a gsplat with another
    one is installed (1.6: 0.99), so that all backends agree. `dilation` is in pixels^2. Centres nearer than `near` are left out.
    About `bytes_at_once` are used to composite; the picture does not depend on it.
    """

    max_alpha: float = field(default_factory=installed_max_alpha)
    dilation: float = 0.3
    alpha_threshold: float = 1.0 / 255.0
    transmittance_stop: float = 1e-4
    near: float = 0.01
    bytes_at_once: int = 256 << 20

    def __post_init__(self):
        if not 0 < self.alpha_threshold <= self.max_alpha < 1 or not 0 <= self.transmittance_stop < 1:
            raise ValueError("A splat renderer's alpha threshold lies above 0 and below its maximum alpha, and that below 1; its transmittance stop in [0, 1).")
        if not self.dilation >= 0 or not self.near > 0 or self.bytes_at_once < 1:
            raise ValueError("A splat renderer needs a near plane and a memory budget above 0, and a dilation of at least 0.")


@dataclass(frozen=True)
class Splats:
    """The M Gaussians of a batch that touch its pictures: sorted by picture, then by depth (equal depths by their number).

    index (M,) int64: place in the flattened (B, N). view (M,) int64. centre (M, 2) pixels. conic (M, 3): the inverse
    covariance's xx, xy, yy. opacity (M,). features (M, F): what is composited. reach (M,): half the squared Mahalanobis distance
    at which alpha has fallen to the threshold. box (4, M) int64: first and last column, first and last row of the pixels that it
    may reach, inside the picture.
    """

    index: Tensor
    view: Tensor
    centre: Tensor
    conic: Tensor
    opacity: Tensor
    features: Tensor
    reach: Tensor
    box: Tensor


@dataclass(frozen=True)
class Footprints:
    """Projected Gaussians, a row per quantity: centre (2, M) pixels, depth (M,) along the camera's -Z, covariance (3, M) xx, xy,
    yy in pixels^2."""

    centre: Tensor
    depth: Tensor
    covariance: Tensor

    def determinant(self) -> Tensor:
        """Of the covariance, (M,)."""
        xx, xy, yy = self.covariance
        return xx * yy - xy * xy


@dataclass(frozen=True)
class _Views:
    """A camera for each of M Gaussians: axes (3 coordinates, 3 axes, M) OpenGL, position (3, M), half (M,) the tangent of half the
    vertical field of view; the picture's size."""

    axes: Tensor
    position: Tensor
    half: Tensor
    height: int
    width: int

    @classmethod
    def of(cls, camera_to_world: Tensor, fov_y: Tensor, view: Tensor, height: int, width: int) -> "_Views":
        numbers = camera_to_world[:, :3].flatten(1).index_select(0, view).t().contiguous().view(3, 4, -1)
        return cls(numbers[:, :3], numbers[:, 3], torch.tan(0.5 * fov_y).index_select(0, view), height, width)

    def pixels(self, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels (2, M), depths (M,) and the slopes (2, M) x / z and y / z of points (3, M), in OpenCV's axes: y down."""
        x, y, z = (self.axes * (positions - self.position)[:, None]).sum(0)  # OpenGL's
        depth = -z
        slopes = torch.stack([x, -y]) / depth
        middle = positions.new_tensor([[0.5 * self.width], [0.5 * self.height]])
        return middle + 0.5 * self.height / self.half * slopes, depth, slopes


def footprints(positions: Tensor, rotations: Tensor, scales: Tensor, views: _Views, dilation: float) -> Footprints:
    """Project Gaussians, each with a camera of its own: positions (M, 3), rotations (M, 4) wxyz of any length (zero: unturned),
    scales (M, 3). Meaningless for a Gaussian behind its camera."""
    centre, depth, slopes = views.pixels(positions.t().contiguous())
    limit = FIELD_MARGIN * views.half
    limits = torch.stack([limit * (views.width / views.height), limit])
    u, v = torch.minimum(torch.maximum(slopes, -limits), limits)
    right, up, back = views.axes.unbind(1)  # OpenCV's axes are right, -up and -back
    scale = 0.5 * views.height / views.half / depth
    rows = torch.stack([scale * (right + u * back), scale * (v * back - up)])  # (2, 3, M): J W
    quaternion = functional.normalize(rotations.t(), dim=0).contiguous()  # of zero: zero, which turns nothing and has no gradient
    across, down = _turned_back(quaternion, rows) * scales.t()
    covariance = torch.stack([across.square().sum(0) + dilation, (across * down).sum(0), down.square().sum(0) + dilation])
    return Footprints(centre, depth, covariance)


def _turned_back(quaternion: Tensor, vectors: Tensor) -> Tensor:
    """The inverse of unit quaternions' (4, M) rotation of vectors (K, 3, M)."""
    twice = 2.0 * _cross(vectors, quaternion[1:])
    return vectors + quaternion[0] * twice + _cross(twice, quaternion[1:])


def _cross(vectors: Tensor, axis: Tensor) -> Tensor:
    """(K, 3, M) x (3, M); written out, since torch's own is slow along any but the last axis."""
    (x, y, z), (a, b, c) = vectors.unbind(1), axis
    return torch.stack([y * c - z * b, z * a - x * c, x * b - y * a], dim=1)


@dataclass(frozen=True)
class Projection:
    """A batch on the screen: `splats` that touch a picture, and for every Gaussian its `centres` (B, N, 2) in pixels and its
    `radii` (B, N) in pixels (3.33 standard deviations along the longer axis); both 0 where it touches none."""

    splats: Splats
    centres: Tensor
    radii: Tensor


def project(
    positions: Tensor,
    rotations: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colours: Tensor,
    camera_to_world: Tensor,
    fov_y: Tensor,
    height: int,
    width: int,
    settings: SplatSettings,
    later: Tensor | None = None,
    screen_gradients: Tensor | None = None,
) -> Projection:
    """The Gaussians of `splats.rasterise` on its pictures; differentiable. Features: colours, depth, and the flow if `later` is given.

    What is seen is decided without gradient; only that is projected with one, so whatever lies behind a camera, is not finite or
    too faint has a gradient of exactly zero.
    """
    batch, count = positions.shape[:2]
    shape = [value.reshape(-1, value.shape[-1]) for value in (positions, rotations, scales)]
    with torch.no_grad():
        owner = torch.arange(batch, device=positions.device).repeat_interleave(count)
        everything = footprints(*shape, _Views.of(camera_to_world, fov_y, owner, height, width), settings.dilation)
        index, box, reach, radii = _seen(everything, opacities.reshape(-1), colours.reshape(-1, colours.shape[-1]), owner, height, width, settings)
    view = owner.index_select(0, index)
    views = _Views.of(camera_to_world, fov_y, view, height, width)
    seen = footprints(*(value.index_select(0, index) for value in shape), views, settings.dilation)
    found = seen.centre.t()
    centres = found.new_zeros(batch * count, 2).index_copy(0, index, found).view(batch, count, 2)
    if screen_gradients is not None:
        centres = centres + screen_gradients
    centre = centres.view(-1, 2).index_select(0, index)
    features = [colours.reshape(-1, colours.shape[-1]).index_select(0, index), seen.depth[:, None]]
    if later is not None:
        features.append(_displacement(later.reshape(-1, 3).index_select(0, index), found, views, settings.near))
    xx, xy, yy = seen.covariance
    conic = (torch.stack([yy, -xy, xx]) / seen.determinant()).t().contiguous()
    opacity = opacities.reshape(-1).index_select(0, index)
    splats = Splats(index, view, centre, conic, opacity, torch.cat(features, dim=1), reach, box)
    return Projection(splats, centres, radii.view(batch, count))


def _seen(prints: Footprints, opacity: Tensor, colours: Tensor, owner: Tensor, height: int, width: int, settings: SplatSettings) -> tuple[Tensor, ...]:
    """Numbers of the Gaussians that may touch a picture, in compositing order; their boxes (4, M) and reach (M,); all radii (B N,)."""
    xx, xy, yy = prints.covariance
    reach = torch.log(opacity.clamp(max=1.0) / settings.alpha_threshold).clamp(max=0.5 * REACH**2)  # NaN stays NaN
    box = _boxes(prints, reach, height, width)
    determinant = prints.determinant()
    drawn = (prints.depth > settings.near) & (reach >= 0) & (determinant > 0) & torch.isfinite(xx + yy + determinant + prints.depth)
    drawn &= torch.isfinite(colours).all(1) & (box[1] >= box[0]) & (box[3] >= box[2])
    larger = 0.5 * (xx + yy) + (0.25 * (xx - yy).square() + xy.square()).sqrt()
    radii = torch.where(drawn, REACH * larger.sqrt(), torch.zeros_like(larger))
    index = drawn.nonzero()[:, 0]
    index = index[torch.argsort(prints.depth[index], stable=True)]
    index = index[torch.argsort(owner[index], stable=True)]
    return index, box[:, index].long(), reach[index], radii


def _boxes(prints: Footprints, reach: Tensor, height: int, width: int) -> Tensor:
    """First and last column and row (4, M) whose pixel centres an ellipse may hold, inside the picture; float, maybe NaN."""
    half = (2.0 * reach * prints.covariance[::2]).sqrt() * 1.001 + 1e-3  # a pixel at the very edge is not lost to rounding
    first = (prints.centre - half - 0.5).ceil().clamp(min=0.0)
    last = (prints.centre + half - 0.5).floor()
    last = torch.minimum(last, last.new_tensor([[width - 1.0], [height - 1.0]]))
    return torch.stack([first[0], last[0], first[1], last[1]])


def _displacement(later: Tensor, centre: Tensor, views: _Views, near: float) -> Tensor:
    """Pixels (M, 2) that centres (M, 2) move when their Gaussians go to `later` (M, 3); 0 where that is not in front of the camera."""
    with torch.no_grad():
        _, depth, _ = views.pixels(later.t())
        ahead = (depth > near) & torch.isfinite(later).all(1)
    rows = ahead.nonzero()[:, 0]
    chosen = _Views(views.axes[..., rows], views.position[:, rows], views.half[rows], views.height, views.width)
    there, _, _ = chosen.pixels(later.index_select(0, rows).t())
    return torch.zeros_like(centre).index_copy(0, rows, there.t() - centre.index_select(0, rows))
