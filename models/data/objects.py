"""Procedural 4D objects: from a style to a moving mesh, and to pictures of it with everything known about each pixel."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..geometry.cameras import Cameras
from ..geometry.meshes import TimedMesh, grid_faces, grid_normals
from ..render.mesh import Visible, displacement, interpolate, to_screen, visible
from .banana import build_banana
from .bread import build_bread
from .candle import build_candle
from .flowers import build_blooming, build_withering
from .ice_cream import build_ice_cream
from .patches import Patch
from .plants import build_plant
from .shading import shade
from .styles import ObjectStyle

BUILDERS: dict[str, Callable[[ObjectStyle, Tensor], list[Patch]]] = {
    "flower blooming": build_blooming,
    "flower withering": build_withering,
    "plant sprouting": build_plant,
    "candle burning": build_candle,
    "ice cream melting": build_ice_cream,
    "banana rotting": build_banana,
    "bread baking": build_bread,
}
SUPERSAMPLING = 2
SAMPLES_AT_ONCE = 1 << 23  # of all pictures that are drawn together; bounds the memory of large ones


def build_mesh(style: ObjectStyle, times: Tensor) -> TimedMesh:
    """The object at `times` (T,) in [0, 1]: one topology for all of them, albedo in sRGB."""
    pace = times.float().clamp(0, 1) ** style.pace
    return join(BUILDERS[style.phenomenon](style, pace), len(times))


def join(patches: list[Patch], count: int) -> TimedMesh:
    """Make one mesh of patches over `count` times."""
    columns = {name: [] for name in ("vertices", "normals", "albedo", "occlusion", "emission", "faces", "roughness", "metallic", "parts")}
    names = tuple(dict.fromkeys(patch.part for patch in patches))
    start = 0
    for patch in patches:
        grid = patch.points.shape[1:4]
        number = grid[0] * grid[1] * grid[2]
        points = patch.points.expand(count, *grid, 3)
        columns["vertices"].append(points.reshape(count, number, 3))
        columns["normals"].append(grid_normals(points, patch.wrap).reshape(count, number, 3))
        columns["albedo"].append(patch.albedo.expand(count, *grid, 3).reshape(count, number, 3))
        for name in ("occlusion", "emission"):
            columns[name].append(torch.as_tensor(getattr(patch, name)).float().expand(count, *grid).reshape(count, number))
        columns["faces"].append(grid_faces(*grid, patch.wrap) + start)
        for name, value in (("roughness", patch.roughness), ("metallic", patch.metallic)):
            columns[name].append(torch.full((number,), value))
        columns["parts"].append(torch.full((number,), names.index(patch.part)))
        start += number
    joined = {name: torch.cat(values, 1 if values[0].dim() > 1 and name != "faces" else 0) for name, values in columns.items()}
    return TimedMesh(**joined, part_names=names)


@dataclass(frozen=True)
class ObjectImages:
    """N pictures of H x W pixels and the truth behind them.

    rgba (N, H, W, 4): premultiplied sRGB and coverage, in [0, 1]. The rest is the mean over the covered samples of a pixel
    and 0 where there are none: depth (N, H, W), distance along the pixel's ray; normals (N, H, W, 3), world, unit, towards
    the camera; albedo (N, H, W, 3) sRGB; roughness, metallic (N, H, W); flow (N, H, W, 2), pixels (right, down) that the
    surface moves in the same camera to the asked time. None for what was not asked.
    """

    rgba: Tensor
    depth: Tensor | None = None
    normals: Tensor | None = None
    albedo: Tensor | None = None
    roughness: Tensor | None = None
    metallic: Tensor | None = None
    flow: Tensor | None = None


def render_object(
    style: ObjectStyle, cameras: Cameras, size: int, truth: bool = False, flow_times: Tensor | None = None
) -> ObjectImages:
    """Draw the object from N cameras at their times, size x size pixels.

    truth: also depth, normals, albedo, roughness and metallic. flow_times (N,): also the flow from each camera's time to
    this one. The mesh is built once per distinct time; pictures are drawn in one batch, or a few when they are large.
    """
    times, which = torch.unique(cameras.times.float(), return_inverse=True)
    mesh = build_mesh(style, times)
    later = None if flow_times is None else build_mesh(style, flow_times).vertices
    step = max(1, SAMPLES_AT_ONCE // (size * SUPERSAMPLING) ** 2)
    parts = [
        render_mesh(mesh, which[part], cameras.select(part), size, truth, None if later is None else later[part])
        for part in (slice(start, start + step) for start in range(0, len(which), step))
    ]
    return parts[0] if len(parts) == 1 else _together(parts)


def _together(parts: list[ObjectImages]) -> ObjectImages:
    names = [field.name for field in fields(ObjectImages) if getattr(parts[0], field.name) is not None]
    return ObjectImages(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def render_mesh(
    mesh: TimedMesh, which: Tensor, cameras: Cameras, size: int, truth: bool = False, later: Tensor | None = None
) -> ObjectImages:
    """Draw `mesh` at the time index which[n] from camera n; later (N, Nv, 3): positions that the flow leads to."""
    pixels, count = size * SUPERSAMPLING, len(which)
    camera_to_world, fov_y = cameras.camera_to_world.float(), cameras.fov_y.float()
    screen = to_screen(mesh.vertices[which], camera_to_world, fov_y, pixels, pixels)
    seen = visible(screen, mesh.faces, pixels, pixels)
    moving = torch.cat((mesh.normals, mesh.albedo, mesh.occlusion[..., None], mesh.emission[..., None]), -1)[which]
    surface = torch.stack((mesh.roughness, mesh.metallic), -1).expand(count, -1, -1)
    values = interpolate(seen, torch.cat((moving, surface), -1), mesh.faces)  # (P, 10)
    ray = _rays(seen, camera_to_world, fov_y, pixels)  # (P, 3), one unit along -Z
    stretch = ray.norm(dim=1, keepdim=True)
    normal = torch.nn.functional.normalize(values[:, :3], dim=1)
    normal = torch.where(seen.front[:, None], normal, -normal)
    colour = shade(values[:, 3:6], normal, -ray / stretch, values[:, 8], values[:, 9], values[:, 6], values[:, 7])
    columns = [colour, torch.ones_like(stretch)]
    if truth:
        columns += [seen.depth[:, None] * stretch, normal, values[:, 3:6], values[:, 8:10]]
    if later is not None:
        target = to_screen(later, camera_to_world, fov_y, pixels, pixels)
        columns.append(displacement(seen, screen, target, mesh.faces) / SUPERSAMPLING)  # in pixels of the output
    images = _average(torch.cat(columns, 1), seen.pixel, count, pixels)
    return _unpack(images, truth, later is not None)


def _rays(seen: Visible, camera_to_world: Tensor, fov_y: Tensor, pixels: int) -> Tensor:
    """World directions through the visible pixels, one unit long along the camera's -Z: (P, 3)."""
    inside = seen.pixel % (pixels * pixels)
    scale = (2 * torch.tan(0.5 * fov_y) / pixels)[seen.image]
    right = (inside % pixels + 0.5 - 0.5 * pixels) * scale
    up = (0.5 * pixels - 0.5 - inside // pixels) * scale
    local = torch.stack((right, up, -torch.ones_like(up)), 1)
    return (camera_to_world[:, :3, :3][seen.image] @ local[..., None])[..., 0]


def _average(values: Tensor, pixel: Tensor, count: int, pixels: int) -> Tensor:
    """Sum samples (P, C) into output pixels, divided by the samples of a pixel: (N, H, W, C)."""
    size = pixels // SUPERSAMPLING
    row, column = pixel // pixels, pixel % pixels  # rows run through all pictures: size * SUPERSAMPLING is even
    target = (row // SUPERSAMPLING) * size + column // SUPERSAMPLING
    total = values.new_zeros(count * size * size, values.shape[1]).index_add_(0, target, values)
    return (total / SUPERSAMPLING**2).view(count, size, size, -1)


def _unpack(images: Tensor, truth: bool, flow: bool) -> ObjectImages:
    rgba = images[..., :4]
    rest = images[..., 4:] / images[..., 3:4].clamp(min=1e-6)
    result = {"rgba": rgba}
    if truth:
        depth, normals, albedo, roughness, metallic = rest[..., :9].split((1, 3, 3, 1, 1), -1)
        result |= {"depth": depth[..., 0], "normals": torch.nn.functional.normalize(normals, dim=-1), "albedo": albedo}
        result |= {"roughness": roughness[..., 0], "metallic": metallic[..., 0]}
    if flow:
        result["flow"] = rest[..., -2:]
    return ObjectImages(**result)
