"""Packed volume rendering: only samples in occupied cells are evaluated and composited."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..fields.field import Field
from ..geometry.cameras import Cameras
from ..geometry.rays import ray_ball, ray_box
from . import facing
from .backend import equip
from .deferred import RenderedViews, render_in_parts, trained
from .occupancy import OccupancyConfig, OccupancyGrid, OccupancyState

RAYS_AT_ONCE = 1 << 15  # of normals
COARSE = 4  # samples skipped together where nothing is near


@dataclass(frozen=True)
class VolumeRendererConfig:
    """`samples` along the longest way through the bounds; every ray divides its own way into equal steps no longer than that.

    `bounds` "box": the cube [-radius, radius]^3 (4D-fy: 512 samples over its diagonal); "ball": the ball of that radius.
    """

    samples: int = 512
    bounds: str = "box"
    radius: float = 1.0
    occupancy: OccupancyConfig = field(default_factory=OccupancyConfig)

    def __post_init__(self):
        if self.bounds not in ("box", "ball"):
            raise ValueError(f'Renderer bounds "{self.bounds}" are unknown. Choose "box" or "ball".')
        if self.samples < 1 or self.radius <= 0:
            raise ValueError("A volume renderer needs at least one sample per ray and a radius above 0.")

    @property
    def step(self) -> float:
        """Largest distance between two samples."""
        diameter = 2.0 * self.radius * (math.sqrt(3.0) if self.bounds == "box" else 1.0)
        return diameter / self.samples


PAPER_RENDERER = VolumeRendererConfig()
DEMO_RENDERER = VolumeRendererConfig(
    samples=48, bounds="ball", occupancy=OccupancyConfig(times_per_slab=1, every=8, warmup=2, share=0.1, decay=0.7)
)


@dataclass
class Rendered:
    """What R rays see; colours are sRGB and premultiplied by opacity: composite with `rgb + (1 - opacity) * background`."""

    rgb: Tensor  # (R, 3)
    opacity: Tensor  # (R,)
    depth: Tensor  # (R,) sum of weight * distance along the ray
    z_variance: Tensor  # (R,) sum of weight * (distance - depth)^2
    samples: int  # evaluated
    displacement: Tensor | None = None  # (R, 3) sum of weight * displacement, where it was asked for
    facing_away: Tensor | None = None  # (R,) sum of sg(weight) * max(0, normal . direction)^2, where it was asked for


@dataclass
class Samples:
    """M points on R rays, sorted by ray and then by distance."""

    ray: Tensor  # (M,) int64
    distance: Tensor  # (M,)
    step: Tensor  # (M,) length that each stands for
    positions: Tensor  # (M, 3)
    times: Tensor  # (M,)


class VolumeRenderer:
    """Renders any field of density and colour. Holds only its configuration; what it learns about a scene is in the state."""

    kind = "volume"

    def __init__(self, config: VolumeRendererConfig = DEMO_RENDERER):
        self.config = config
        reach = 0.5 * COARSE * config.step
        self.occupancy = OccupancyGrid(config.occupancy, config.radius, config.step, reach, ball=config.bounds == "ball")

    @property
    def search_bytes(self) -> int:
        """Bytes per ray while occupied cells are looked for: places, times and cells of every group of samples."""
        return 48 * -(-self._most_steps() // COARSE)

    def check(self, field: Field) -> None:
        """ValueError for a field without a density along rays."""
        if not callable(getattr(field, "density", None)):
            raise ValueError(f"A volume renderer needs a density along rays, and a field of {field.kind} has none. Connect a Splat Renderer, or a Hash Field.")

    def new_state(self, field: Field, generator: torch.Generator | None = None) -> OccupancyState:
        """An occupancy grid that already knows where `field` is empty, so that the very first render is fast. From here on the
        field encodes by the backend of its device."""
        self.check(field)
        parameter = next(parameter for group in field.roles().values() for parameter in group)
        equip(field, parameter.device)
        state = self.occupancy.new_state(parameter)
        self.occupancy.update(field, state, generator or torch.Generator().manual_seed(0))
        return state

    def update(self, field: Field, state: OccupancyState, step: int, generator: torch.Generator, progress: float = 0.0) -> None:
        """Refresh `state` in place when `step` is due; `progress` in [0, 1] is the finished fraction of the current stage."""
        if step % self.config.occupancy.every == 0:
            self.occupancy.update(field, state, generator, progress)

    def render_views(
        self, field: Field, state: OccupancyState, cameras: Cameras, height: int, width: int, seed: int | None = None, chunk: int = 0,
        displacement: bool = False, facing_away: bool = False,
    ) -> RenderedViews:  # fmt: skip
        """Pictures of all `cameras`.

        `seed` places the samples at random within their steps (training); None puts them in the middle. `chunk` rays at a time; 0
        or at least all of them keeps the graph of a single render, otherwise see `render_in_parts`. With `displacement` also maps
        of the field's displacement, with the weights of the colours and nothing behind them; with `facing_away` maps of how far
        samples face away from the camera, for four more evaluations of the density each.
        """
        origins, directions, times = cameras.rays(height, width)
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        rays = (origins, directions, times, self.jitter(origins, generator))
        parts = -(-len(origins) // chunk) if 0 < chunk < len(origins) else 1

        def render(*part: Tensor) -> tuple[list[Tensor], int]:
            seen = self.render_jittered(field, state, *part, displacement, facing_away)
            return [getattr(seen, name) for name in names], seen.samples

        names = ("rgb", "opacity", "depth", "z_variance", *(("displacement",) if displacement else ()), *(("facing_away",) if facing_away else ()))
        maps, samples = render_in_parts(render, rays, parts, trained(field))
        shape = (len(cameras), height, width)
        whole = {name: values.reshape(*shape, *values.shape[1:]) for name, values in zip(names, maps)}
        return RenderedViews(**whole, directions=directions.view(*shape, 3), samples=samples)

    def render_pixels(
        self, field: Field, state: OccupancyState, cameras: Cameras, height: int, width: int, count: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`count` random pixels of the cameras' pictures: their flat numbers (R,), colour (R, 3) and opacity (R,)."""
        pixel = torch.randint(len(cameras) * height * width, (count,), generator=generator).to(cameras.times.device)
        origins, directions, times = (values[pixel] for values in cameras.rays(height, width))
        seen = self.render(field, state, origins, directions, times, generator)
        return pixel, seen.rgb, seen.opacity

    def normal_views(self, field: Field, state: OccupancyState, cameras: Cameras, height: int, width: int) -> Tensor:
        """`render_normals` of whole pictures: (N, H, W, 3)."""
        rays = [part.split(RAYS_AT_ONCE) for part in cameras.rays(height, width)]
        return torch.cat([self.render_normals(field, state, *part) for part in zip(*rays)]).view(len(cameras), height, width, 3)

    def render(
        self,
        field: Field,
        state: OccupancyState,
        origins: Tensor,
        directions: Tensor,
        times: Tensor,
        generator: torch.Generator | None = None,
    ) -> Rendered:
        """Render rays (R, 3) at `times` (R,). With a generator the samples of each ray are shifted together at random
        within their steps (stratified); without one they lie in the middle."""
        return self.render_jittered(field, state, origins, directions, times, self.jitter(origins, generator))

    def jitter(self, origins: Tensor, generator: torch.Generator | None) -> Tensor:
        """Where in its step each ray (R,) samples, in [0, 1)."""
        if generator is None:
            return origins.new_full(origins.shape[:1], 0.5)
        return torch.rand(origins.shape[0], generator=generator, device=generator.device).to(origins)

    def render_jittered(
        self, field: Field, state: OccupancyState, origins: Tensor, directions: Tensor, times: Tensor, jitter: Tensor, displacement: bool = False,
        facing_away: bool = False,
    ) -> Rendered:  # fmt: skip
        """`render` with the places of the samples given: what a second, identical render of the same rays needs."""
        samples = self.sample(state, origins, directions, times, jitter)
        values = (field.displaced if displacement else field)(samples.positions, samples.times)
        away = facing.facing_away(facing.density_normals(field, samples.positions, samples.times), directions[samples.ray]) if facing_away else None
        return composite(*values[:2], samples, origins.shape[0], values[2] if displacement else None, away)

    @torch.no_grad()
    def sample(self, state: OccupancyState, origins: Tensor, directions: Tensor, times: Tensor, jitter: Tensor) -> Samples:
        """The samples in occupied cells; one of zero length on the first ray when there is none at all."""
        near, far = (ray_box if self.config.bounds == "box" else ray_ball)(origins, directions, self.config.radius)
        steps = ((far - near) / self.config.step - 1e-4).ceil()  # (R,) per ray
        rays = _Rays(origins, directions, times, near, (far - near) / steps.clamp_min(1.0), steps, jitter)
        ray, segment = self._reached_segments(state, rays)
        ray = ray.repeat_interleave(COARSE)
        index = (segment[:, None] * COARSE + torch.arange(COARSE, device=segment.device)).flatten()
        distance = rays.near[ray] + (index + rays.jitter[ray]) * rays.step[ray]
        kept = self.occupancy.lookup(state.occupied, rays.positions(ray, distance), rays.times[ray]) & (index < rays.steps[ray])
        chosen = kept.nonzero()[:, 0]
        if chosen.numel() == 0:
            return _dummy(origins, directions, times)
        ray, distance = ray[chosen], distance[chosen]
        return Samples(ray, distance, rays.step[ray], rays.positions(ray, distance).t(), rays.times[ray])

    def _reached_segments(self, state: OccupancyState, rays: "_Rays") -> tuple[Tensor, Tensor]:
        """Rays and numbers of the groups of COARSE samples that come near something."""
        hit = (rays.steps > 0).nonzero()[:, 0]  # (H,)
        segments = torch.arange(-(-self._most_steps() // COARSE), device=hit.device)  # (K,)
        middle = rays.near[hit, None] + (segments * COARSE + 0.5 * COARSE) * rays.step[hit, None]  # (H, K)
        positions = rays.origins.t()[:, hit, None] + rays.directions.t()[:, hit, None] * middle
        near = self.occupancy.lookup(state.reachable, positions, rays.times[hit, None].expand_as(middle))
        row, segment = (near & (segments * COARSE < rays.steps[hit, None])).nonzero().unbind(dim=1)
        return hit[row], segment

    def _most_steps(self) -> int:
        return self.config.samples + 1  # rounding may add one

    @torch.no_grad()
    def render_normals(self, field: Field, state: OccupancyState, origins: Tensor, directions: Tensor, times: Tensor, offset: float = 0.01) -> Tensor:
        """Opacity-weighted unit normals (R, 3) in the world, zero where nothing is: minus the density's gradient by central
        differences over `offset`. For pictures; not differentiable."""
        samples = self.sample(state, origins, directions, times, self.jitter(origins, None))
        density = field.density(samples.positions, samples.times)
        weights = ray_weights(density * samples.step, samples.ray, origins.shape[0])
        slopes = []
        for axis in torch.eye(3).to(samples.positions) * offset:
            above, below = (field.density(samples.positions + shift, samples.times) for shift in (axis, -axis))
            slopes.append(below - above)
        normals = torch.nn.functional.normalize(torch.stack(slopes), dim=0)  # (3, M)
        summed = sum_per_ray(normals * weights, samples.ray, origins.shape[0]).t()
        return torch.nn.functional.normalize(summed, dim=-1)


@dataclass
class _Rays:
    origins: Tensor  # (R, 3)
    directions: Tensor
    times: Tensor  # (R,)
    near: Tensor
    step: Tensor
    steps: Tensor  # float count, 0 for a ray that misses
    jitter: Tensor

    def positions(self, ray: Tensor, distance: Tensor) -> Tensor:
        """Points (3, M), one row per axis: contiguous for everything that follows."""
        return self.origins.t()[:, ray] + self.directions.t()[:, ray] * distance


def composite(density: Tensor, rgb: Tensor, samples: Samples, rays: int, displacement: Tensor | None = None, away: Tensor | None = None) -> Rendered:
    """Composite densities (M,) and colours (M, 3) front to back (4D-fy eq. 1-2): exact, weights and the light left sum to 1.
    A `displacement` (M, 3) is summed by the same weights, and `away` (M,) by weights that learn nothing from it."""
    weights = ray_weights(density * samples.step, samples.ray, rays)
    distance = samples.distance.to(weights)
    sums = sum_per_ray(torch.cat([rgb.t() * weights, weights[None], (weights * distance)[None]]), samples.ray, rays)  # (5, R)
    opacity, depth = sums[3], sums[4]
    spread = (distance - depth[samples.ray]).square()
    z_variance = sum_per_ray((weights * spread)[None], samples.ray, rays)[0]
    moved = None if displacement is None else sum_per_ray(displacement.t() * weights, samples.ray, rays).t()
    turned = None if away is None else sum_per_ray((weights.detach() * away)[None], samples.ray, rays)[0]
    return Rendered(sums[:3].t(), opacity, depth, z_variance, samples.ray.numel(), moved, turned)


def ray_weights(optical_depth: Tensor, ray: Tensor, rays: int) -> Tensor:
    """Weights (M,) = alpha * product of (1 - alpha) before it, of samples with `optical_depth` (M,) sorted by `ray` (M,)."""
    return _RayWeights.apply(optical_depth, ray, rays)


class _RayWeights(torch.autograd.Function):
    """One cumulative sum over all samples, in double: a ray's own part is a difference, so the sums are exact to rounding."""

    @staticmethod
    def forward(ctx, optical_depth, ray, rays):
        ends = torch.bincount(ray, minlength=rays).cumsum(0)  # (R,) one past each ray's last sample
        through = torch.cat([optical_depth.new_zeros(1, dtype=torch.float64), optical_depth.double().cumsum(0)])  # (M + 1,)
        starts = torch.cat([ends.new_zeros(1), ends[:-1]])
        light = torch.exp(through[starts][ray] - through[:-1]).to(optical_depth.dtype)
        weights = light * -torch.expm1(-optical_depth)
        ctx.save_for_backward(optical_depth, light, weights, ray, ends)
        return weights

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        optical_depth, light, weights, ray, ends = ctx.saved_tensors
        shaded = (gradient * weights).double().cumsum(0)
        behind = (shaded[(ends - 1).clamp_min(0)][ray] - shaded).to(gradient.dtype)  # what lies further along the same ray
        return gradient * light * torch.exp(-optical_depth) - behind, None, None


def sum_per_ray(values: Tensor, ray: Tensor, rays: int) -> Tensor:
    """Sum `values` (C, M) over the samples of each ray: (C, R)."""
    return values.new_zeros(values.shape[0], rays).scatter_add(1, ray.expand_as(values), values)


def _dummy(origins: Tensor, directions: Tensor, times: Tensor) -> Samples:
    """One sample of length zero: a picture of nothing still has a gradient path, and it is zero."""
    first = torch.zeros(1, dtype=torch.int64, device=origins.device)
    return Samples(first, origins.new_zeros(1), origins.new_zeros(1), origins.new_zeros(1, 3), times[:1])
