"""Cameras: poses, random camera samplers for training and regular paths for rendering.

World: right-handed, Y up, the object's front faces +Z, inside the unit ball. Azimuth 0 is the front camera on +Z and grows
towards +X (counter-clockwise seen from above). Poses are camera-to-world, OpenGL axes: x right, y up, looking along -Z.
Configurations are in degrees (their names say so), everything else in radians.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .rays import rays

RIG_DISTANCE = 2.9  # with this field of view the unit ball just fits
RIG_FOV_DEGREES = 42.0
RIG_ELEVATION_DEGREES = 15.0


@dataclass(frozen=True)
class Cameras:
    """N cameras with times; each `frames` consecutive ones form one joint scene (time slowest, then view)."""

    camera_to_world: Tensor  # (N, 4, 4) OpenGL
    fov_y: Tensor  # (N,) radians, vertical
    times: Tensor  # (N,) in [0, 1]
    frames: int = 1

    def __post_init__(self):
        count = self.camera_to_world.shape[0]
        assert self.camera_to_world.shape == (count, 4, 4) and self.fov_y.shape == self.times.shape == (count,)
        if self.frames < 1 or count % self.frames:
            raise ValueError(f"{count} cameras do not divide into joint scenes of {self.frames}. Give a multiple of {self.frames} cameras.")

    def __len__(self) -> int:
        return self.camera_to_world.shape[0]

    def to(self, *args, **kwargs) -> "Cameras":
        """Move or cast like `Tensor.to`."""
        moved = (value.to(*args, **kwargs) for value in (self.camera_to_world, self.fov_y, self.times))
        return Cameras(*moved, self.frames)

    def select(self, index, frames: int = 1) -> "Cameras":
        """The cameras at `index` (anything that indexes a tensor's first axis), regrouped into scenes of `frames`."""
        return Cameras(self.camera_to_world[index], self.fov_y[index], self.times[index], frames)

    def rays(self, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
        """Origins, unit directions (N H W, 3 each) and times (N H W,) of every pixel, flattened in camera, row, column order."""
        origins, directions = rays(self.camera_to_world, self.fov_y, height, width)
        return origins.reshape(-1, 3), directions.reshape(-1, 3), self.times.repeat_interleave(height * width)


def orbit(azimuth: Tensor, elevation: Tensor, distance: Tensor) -> Tensor:
    """Poses (N, 4, 4) on a sphere around the origin, looking at it; angles (N,) in radians, `distance` (N,).

    Built from the angles, not from a look-at, so it is continuous over both poles.
    """
    azimuth, elevation, distance = torch.broadcast_tensors(azimuth, elevation, distance)
    sin_a, cos_a, sin_e, cos_e = azimuth.sin(), azimuth.cos(), elevation.sin(), elevation.cos()
    zero = torch.zeros_like(azimuth)
    right = torch.stack([cos_a, zero, -sin_a], dim=-1)
    back = torch.stack([cos_e * sin_a, sin_e, cos_e * cos_a], dim=-1)  # from the target to the camera
    up = torch.cross(back, right, dim=-1)
    return _pose(right, up, back, distance[:, None] * back)


def look_at(position: Tensor, target: Tensor) -> Tensor:
    """Poses (N, 4, 4) at `position` (N, 3) looking at `target` (3,) or (N, 3), world up +Y.

    Straight up or down the picture's up direction is +Z, the object's front. Position and target must differ.
    """
    back = position - target
    back = back / back.norm(dim=-1, keepdim=True)
    world_up = torch.zeros_like(back)
    world_up[:, 1] = 1.0
    front = torch.zeros_like(back)
    front[:, 2] = 1.0
    vertical = torch.cross(world_up, back, dim=-1).norm(dim=-1, keepdim=True) < 1e-6
    right = torch.cross(torch.where(vertical, front, world_up), back, dim=-1)
    right = right / right.norm(dim=-1, keepdim=True)
    return _pose(right, torch.cross(back, right, dim=-1), back, position)


def _pose(right: Tensor, up: Tensor, back: Tensor, position: Tensor) -> Tensor:
    upper = torch.stack([right, up, back, position], dim=-1)  # (N, 3, 4)
    lower = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=upper.dtype, device=upper.device).expand(upper.shape[0], 1, 4)
    return torch.cat([upper, lower], dim=1)


def spherical(camera_to_world: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Azimuth in (-pi, pi], elevation in [-pi/2, pi/2] and distance, each (N,), of cameras (N, 4, 4) around the origin."""
    x, y, z = camera_to_world[:, :3, 3].unbind(dim=-1)
    return torch.atan2(x, z), torch.atan2(y, torch.hypot(x, z)), camera_to_world[:, :3, 3].norm(dim=-1)


def project(points: Tensor, camera_to_world: Tensor, fov_y: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Project `points` (N, ..., 3) of the world into cameras (N, 4, 4): pixel (x, y) (N, ..., 2) and depth along -z (N, ...).

    Pixel centres lie at +0.5 and y grows downwards, as in `rays`. Points behind a camera have a depth <= 0 and no meaningful
    pixel.
    """
    shape = points.shape
    relative = points.reshape(shape[0], -1, 3) - camera_to_world[:, None, :3, 3]
    local = torch.einsum("nji,npj->npi", camera_to_world[:, :3, :3], relative)  # world to camera: the transposed rotation
    depth = -local[..., 2]
    focal = (0.5 * height / torch.tan(0.5 * fov_y))[:, None]
    x = 0.5 * width + focal * local[..., 0] / depth
    y = 0.5 * height - focal * local[..., 1] / depth
    return torch.stack([x, y], dim=-1).reshape(*shape[:-1], 2), depth.reshape(shape[:-1])


@dataclass(frozen=True)
class Viewpoint:
    """One camera on the rig and its time, as plain numbers: where a reference picture was taken."""

    azimuth_degrees: float = 0.0
    elevation_degrees: float = RIG_ELEVATION_DEGREES
    distance: float = RIG_DISTANCE
    fov_degrees: float = RIG_FOV_DEGREES
    time: float = 0.0

    @classmethod
    def of(cls, cameras: Cameras) -> "Viewpoint":
        """The first of `cameras`, which stands around the origin and looks at it."""
        azimuth, elevation, distance = (float(value[0]) for value in spherical(cameras.camera_to_world[:1]))
        return cls(math.degrees(azimuth), math.degrees(elevation), distance, math.degrees(float(cameras.fov_y[0])), float(cameras.times[0]))

    def cameras(self) -> Cameras:
        """The same as one camera."""
        return _on_rig(torch.tensor([math.radians(self.azimuth_degrees)]), torch.tensor([self.time]), self.elevation_degrees, self.distance, self.fov_degrees)


@dataclass(frozen=True)
class FixedCameras:
    """One known camera in the place of a sampler: every scene is its picture."""

    viewpoint: Viewpoint = Viewpoint()
    views: ClassVar[int] = 1
    frames: ClassVar[int] = 1

    def sample(self, generator: torch.Generator, count: int = 1) -> Cameras:
        """`count` times the camera, on the generator's device; nothing is drawn."""
        return self.viewpoint.cameras().select([0] * count).to(generator.device)


@dataclass(frozen=True)
class CameraSampler:
    """Random cameras around the object, for training.

    `spacing` "ring": the `views` cameras of a scene share elevation, field of view and distance and stand evenly around the
    circle, a0 + {0, 90, 180, 270} degrees for four (MVDream). "independent": every camera is drawn for itself. Azimuths are
    stratified over the scenes of a batch either way. With `relative_distance` the distance is divided by tan(fov / 2), which
    keeps the object's size in the picture (MVDream, Dream-in-4D). `frames` times of a scene are t0 + i / F over the window,
    t0 ~ U(0, 1 / F) (4D-fy); one frame is one random time. `window` < 1 samples a shorter piece at a random place of
    `time_range`; with `window_min` above 0 its length is drawn from U(window_min, window). `even`: the times are spaced evenly
    from the window's start to its end, without t0 (Dream-in-4D: 24 times over U(0.8, 1)). An empty range fixes the time.
    `first`: the first view of every scene stands there at all of its times, and its time is put in front of the others, of which
    one less is drawn; so a model that is given that picture as it is meets it at its place. Defaults: 4D-fy.
    """

    azimuth_degrees: tuple[float, float] = (-180.0, 180.0)
    elevation_degrees: tuple[float, float] = (0.0, 30.0)
    distance: tuple[float, float] = (2.5, 3.0)
    fov_degrees: tuple[float, float] = (15.0, 60.0)
    relative_distance: bool = False
    views: int = 4
    spacing: str = "ring"
    frames: int = 1
    time_range: tuple[float, float] = (0.0, 1.0)
    window: float = 1.0
    window_min: float = 0.0  # 0: every window is `window` long
    even: bool = False
    first: Viewpoint | None = None

    def __post_init__(self):
        for name in ("azimuth_degrees", "elevation_degrees", "distance", "fov_degrees", "time_range"):
            low, high = getattr(self, name)
            if not math.isfinite(low + high):
                raise ValueError(f"The camera sampler's {name} goes from {low:g} to {high:g}, which is not finite. Give ordinary numbers.")
            if low > high:
                raise ValueError(f"The camera sampler's {name} starts at {low:g} and ends at {high:g}. Swap them: the lower bound comes first.")
        if self.distance[0] <= 0 or self.fov_degrees[0] <= 0 or self.fov_degrees[1] >= 180:
            raise ValueError("Camera distances must be above 0 and fields of view between 0 and 180 degrees. Correct the camera sampler's ranges.")
        if self.views < 1 or self.frames < 1 or not 0 < self.window <= 1:
            raise ValueError("A camera sampler needs at least one view and one frame, and a time window above 0 and at most 1.")
        if not 0 <= self.window_min <= self.window:
            raise ValueError(f"The camera sampler's shortest time window is {self.window_min:g} and its longest {self.window:g}. Give a shortest from 0 to the longest.")
        if self.spacing not in ("ring", "independent"):
            raise ValueError(f'Camera spacing "{self.spacing}" is unknown. Choose "ring" or "independent".')

    def sample(self, generator: torch.Generator, count: int = 1) -> Cameras:
        """Draw `count` joint scenes of frames x views cameras on the generator's device, float32."""
        shared = self.spacing == "ring"
        draws = (count, 1) if shared else (count, self.views)
        azimuth = self._azimuths(generator, count)  # (count, V)
        elevation = self._elevations(generator, draws)
        fov = _uniform(generator, draws, *map(math.radians, self.fov_degrees))
        distance = _uniform(generator, draws, *self.distance)
        if self.relative_distance:
            distance = distance / torch.tan(0.5 * fov)
        times = self.sample_times(generator, count)  # (count, F)
        layout = (count, self.frames, self.views)
        azimuth, elevation, distance, fov = (value[:, None, :].expand(layout).reshape(-1) for value in (azimuth, elevation, distance, fov))
        drawn = Cameras(orbit(azimuth, elevation, distance), fov, times[:, :, None].expand(layout).reshape(-1), self.frames * self.views)
        return drawn if self.first is None else self._with_first(drawn, self.first.cameras())

    def _with_first(self, drawn: Cameras, first: Cameras) -> Cameras:
        """The same with view 0 of every time at the first of `first`."""
        poses, fov = drawn.camera_to_world.clone(), drawn.fov_y.clone()
        poses[:: self.views], fov[:: self.views] = first.camera_to_world[0].to(poses), first.fov_y[0].to(fov)
        return Cameras(poses, fov, drawn.times, drawn.frames)

    def sample_times(self, generator: torch.Generator, count: int = 1) -> Tensor:
        """Draw the times (count, F) of `count` scenes, ascending within each behind the time of `first`."""
        if self.first is None:
            return self._spread(generator, count, self.frames)
        given = torch.full((count, 1), self.first.time, device=generator.device)
        return torch.cat([given, self._spread(generator, count, self.frames - 1)], dim=1)

    def _spread(self, generator: torch.Generator, count: int, frames: int) -> Tensor:
        """Times (count, frames) over the window."""
        low, high = self.time_range
        place = torch.rand(count, 1, generator=generator, device=generator.device)
        offset = torch.rand(count, 1, generator=generator, device=generator.device)  # t0 in units of 1 / F
        length = _uniform(generator, (count, 1), self.window_min, self.window) if self.window_min else self.window
        steps = torch.arange(frames, device=generator.device)[None, :]
        inside = steps / (frames - 1) if self.even and frames > 1 else (offset + steps) / max(frames, 1)
        return low + (high - low) * (place * (1.0 - length) + length * inside)

    def _azimuths(self, generator: torch.Generator, count: int) -> Tensor:
        low, high = map(math.radians, self.azimuth_degrees)
        views = torch.arange(self.views, device=generator.device)[None, :]
        scenes = torch.arange(count, device=generator.device)[:, None]
        if self.spacing == "ring":
            first = (torch.rand(count, 1, generator=generator, device=generator.device) + scenes) / count
            return low + (high - low) * (views + first) / self.views
        strata = scenes * self.views + views
        jitter = torch.rand(count, self.views, generator=generator, device=generator.device)
        return low + (high - low) * (strata + jitter) / (count * self.views)

    def _elevations(self, generator: torch.Generator, shape: tuple[int, int]) -> Tensor:
        """Half of the draws uniform in the angle, half uniform over the sphere's area: sin e ~ U(sin low, sin high)."""
        low, high = map(math.radians, self.elevation_degrees)
        by_angle = _uniform(generator, shape, low, high)
        by_area = torch.asin(_uniform(generator, shape, math.sin(low), math.sin(high)))
        coin = torch.rand(shape, generator=generator, device=generator.device) < 0.5
        return torch.where(coin, by_angle, by_area).clamp(low, high)


def _uniform(generator: torch.Generator, shape: tuple[int, int], low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)


@dataclass(frozen=True)
class CameraPath:
    """Regular cameras for renders: an orbit, a sweep through time, or both together.

    Frame i of T has azimuth + 360 turns i / T degrees (a whole turn closes without a doubled frame) and a time that runs
    linearly from the first to the last of `times`, i / (T - 1). No turns: a fixed camera; equal times: a frozen instant.
    """

    frames: int = 16
    azimuth_degrees: float = 0.0
    turns: float = 1.0
    elevation_degrees: float = RIG_ELEVATION_DEGREES
    distance: float = RIG_DISTANCE
    fov_degrees: float = RIG_FOV_DEGREES
    times: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self):
        numbers = (self.azimuth_degrees, self.turns, self.elevation_degrees, self.distance, self.fov_degrees, *self.times)
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"The camera path has a number that is not finite ({', '.join(f'{number:g}' for number in numbers)}). Give ordinary numbers.")

    def cameras(self) -> Cameras:
        """The path's cameras, on the CPU, float32, one scene each."""
        steps = torch.arange(self.frames)
        azimuth = math.radians(self.azimuth_degrees) + 2.0 * math.pi * self.turns * steps / self.frames
        first, last = self.times
        times = first + (last - first) * steps / max(self.frames - 1, 1)
        return _on_rig(azimuth, times, self.elevation_degrees, self.distance, self.fov_degrees)


def view_time_grid(
    views: int,
    frames: int,
    azimuth_degrees: float = 0.0,
    elevation_degrees: float = RIG_ELEVATION_DEGREES,
    distance: float = RIG_DISTANCE,
    fov_degrees: float = RIG_FOV_DEGREES,
) -> Cameras:
    """All pairs of `frames` times i / (T - 1) and `views` azimuths evenly around the circle: (T V) cameras, time slowest, one joint scene."""
    azimuth = math.radians(azimuth_degrees) + 2.0 * math.pi * torch.arange(views) / views
    times = torch.arange(frames) / max(frames - 1, 1)
    grid = _on_rig(azimuth.repeat(frames), times.repeat_interleave(views), elevation_degrees, distance, fov_degrees)
    return grid.select(slice(None), frames=views * frames)


def _on_rig(azimuth: Tensor, times: Tensor, elevation_degrees: float, distance: float, fov_degrees: float) -> Cameras:
    ones = torch.ones_like(azimuth)
    pose = orbit(azimuth, ones * math.radians(elevation_degrees), ones * distance)
    return Cameras(pose, ones * math.radians(fov_degrees), times)
