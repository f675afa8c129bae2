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
    """Projected Gaussians: centre (M, 2) pixels, depth (M,) along the camera's -Z, covariance (M, 3) xx, xy, yy in pixels^2."""

    centre: Tensor
    depth: Tensor
    covariance: Tensor

    def determinant(self) -> Tensor:
        """Of the covariance, (M,)."""
        xx, xy, yy = self.covariance.unbind(1)
        return xx * yy - xy * xy


def footprints(positions: Tensor, rotations: Tensor, scales: Tensor, camera_to_world: Tensor, fov_y: Tensor, height: int, width: int, dilation: float) -> Footprints:
    """Project Gaussians, each with a camera of its own: positions (M, 3), rotations (M, 4) wxyz of any length (zero: unturned),
    scales (M, 3), camera_to_world (M, 4, 4) OpenGL, fov_y (M,). Meaningless for a Gaussian behind its camera."""
    centre, depth, local = to_pixels(positions, camera_to_world, fov_y, height, width)
    half = torch.tan(0.5 * fov_y)
    focal = 0.5 * height / half
    limit_y = FIELD_MARGIN * half
    limit_x = limit_y * (width / height)
    slope_x = torch.minimum(torch.maximum(local[:, 0] / depth, -limit_x), limit_x)
    slope_y = torch.minimum(torch.maximum(local[:, 1] / depth, -limit_y), limit_y)
    right, up, back = camera_to_world[:, :3, :3].unbind(2)  # OpenCV's axes are right, -up and -back
    scale = (focal / depth)[:, None]
    across = scale * (right + slope_x[:, None] * back)  # rows of J W
    down = scale * (slope_y[:, None] * back - up)
    quaternion = functional.normalize(rotations, dim=1)  # of zero: zero, which turns nothing and has no gradient
    across, down = (_turned_back(quaternion, row) * scales for row in (across, down))
    covariance = torch.stack([across.square().sum(1) + dilation, (across * down).sum(1), down.square().sum(1) + dilation], dim=1)
    return Footprints(centre, depth, covariance)


def to_pixels(positions: Tensor, camera_to_world: Tensor, fov_y: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels (M, 2), depths (M,) and places in OpenCV's camera axes (M, 3) of points (M, 3), each with its own camera."""
    relative = positions - camera_to_world[:, :3, 3]
    local = (camera_to_world[:, :3, :3] * relative[:, :, None]).sum(1) * relative.new_tensor([1.0, -1.0, -1.0])
    depth = local[:, 2]
    scale = 0.5 * height / torch.tan(0.5 * fov_y) / depth
    return torch.stack([0.5 * width + local[:, 0] * scale, 0.5 * height + local[:, 1] * scale], dim=1), depth, local


def _turned_back(quaternion: Tensor, vector: Tensor) -> Tensor:
    """The inverse of unit quaternions' (M, 4) rotation of vectors (M, 3)."""
    twice = 2.0 * torch.linalg.cross(vector, quaternion[:, 1:])
    return vector + quaternion[:, :1] * twice + torch.linalg.cross(twice, quaternion[:, 1:])


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
    shape = positions, rotations, scales
    with torch.no_grad():
        everything = footprints(*(value.reshape(-1, value.shape[-1]) for value in shape), *_own(camera_to_world, fov_y, count), height, width, settings.dilation)
        index, box, reach, radii = _seen(everything, opacities.reshape(-1), colours.reshape(-1, colours.shape[-1]), count, height, width, settings)
    view = index // max(count, 1)
    chosen = [value.reshape(-1, value.shape[-1]).index_select(0, index) for value in shape]
    cameras = camera_to_world.index_select(0, view), fov_y.index_select(0, view)
    seen = footprints(*chosen, *cameras, height, width, settings.dilation)
    centres = seen.centre.new_zeros(batch * count, 2).index_copy(0, index, seen.centre)
    centres = centres.view(batch, count, 2)
    if screen_gradients is not None:
        centres = centres + screen_gradients
    centre = centres.view(-1, 2).index_select(0, index)
    features = [colours.reshape(-1, colours.shape[-1]).index_select(0, index), seen.depth[:, None]]
    if later is not None:
        features.append(_displacement(later.reshape(-1, 3).index_select(0, index), seen.centre, *cameras, height, width, settings.near))
    xx, xy, yy = seen.covariance.unbind(1)
    conic = torch.stack([yy, -xy, xx], dim=1) / seen.determinant()[:, None]
    opacity = opacities.reshape(-1).index_select(0, index)
    splats = Splats(index, view, centre, conic, opacity, torch.cat(features, dim=1), reach, box)
    return Projection(splats, centres, radii.view(batch, count))


def _own(camera_to_world: Tensor, fov_y: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """A camera for each of the flattened Gaussians."""
    return camera_to_world[:, None].expand(-1, count, 4, 4).reshape(-1, 4, 4), fov_y[:, None].expand(-1, count).reshape(-1)


def _seen(prints: Footprints, opacity: Tensor, colours: Tensor, count: int, height: int, width: int, settings: SplatSettings) -> tuple[Tensor, ...]:
    """Numbers of the Gaussians that may touch a picture, in compositing order; their boxes (4, M) and reach (M,); all radii (B N,)."""
    xx, xy, yy = prints.covariance.unbind(1)
    reach = torch.log(opacity.clamp(max=1.0) / settings.alpha_threshold).clamp(max=0.5 * REACH**2)  # NaN stays NaN
    box = _boxes(prints, reach, height, width)
    determinant = prints.determinant()
    drawn = (prints.depth > settings.near) & (reach >= 0) & (determinant > 0) & torch.isfinite(xx + yy + determinant + prints.depth)
    drawn &= torch.isfinite(colours).all(1) & (box[1] >= box[0]) & (box[3] >= box[2])
    larger = 0.5 * (xx + yy) + (0.25 * (xx - yy).square() + xy.square()).sqrt()
    radii = torch.where(drawn, REACH * larger.sqrt(), torch.zeros_like(larger))
    index = drawn.nonzero()[:, 0]
    index = index[torch.argsort(prints.depth[index], stable=True)]
    index = index[torch.argsort(index // max(count, 1), stable=True)]
    return index, box[:, index].long(), reach[index], radii


def _boxes(prints: Footprints, reach: Tensor, height: int, width: int) -> Tensor:
    """First and last column and row (4, M) whose pixel centres an ellipse may hold, inside the picture; float, maybe NaN."""
    half = (2.0 * reach[:, None] * prints.covariance[:, ::2]).sqrt() * 1.001 + 1e-3  # a pixel at the very edge is not lost to rounding
    first = (prints.centre - half - 0.5).ceil().clamp(min=0.0)
    last = (prints.centre + half - 0.5).floor()
    last = torch.minimum(last, last.new_tensor([width - 1.0, height - 1.0]))
    return torch.stack([first[:, 0], last[:, 0], first[:, 1], last[:, 1]])


def _displacement(later: Tensor, centre: Tensor, camera_to_world: Tensor, fov_y: Tensor, height: int, width: int, near: float) -> Tensor:
    """Pixels (M, 2) that centres move when their Gaussians go to `later` (M, 3); 0 where that is not in front of the camera."""
    relative = later.detach() - camera_to_world[:, :3, 3]
    ahead = (-(relative * camera_to_world[:, :3, 2]).sum(1) > near) & torch.isfinite(later).all(1)
    moved = later.new_zeros(later.shape[0], 2)
    rows = ahead.nonzero()[:, 0]
    there, _, _ = to_pixels(later[rows], camera_to_world[rows], fov_y[rows], height, width)
    return moved.index_copy(0, rows, there - centre[rows])
