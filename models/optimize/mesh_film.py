"""A batch of meshes over time as footage, and a first cloud of Gaussians on its surface."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from ..gaussians.riding import Tracks, discs, tracks_of
from ..geometry.cameras import Cameras
from ..render.mesh import rasterise
from .footage import Footage

FINER = 2  # samples along each side of a pixel
KEY = (0.52, 0.62, 0.59)  # unit direction to the light: upper right, in front
AMBIENT = 0.35
GREY = 0.7  # sRGB of a mesh without colours
OPAQUE = 0.9
COVER = 0.4  # standard deviation of a first disc, in sides of the square that it has for itself


@dataclass(frozen=True)
class Surface:
    """The mesh at one time: vertices (Nv, 3), faces (Nf, 3), normals (Nv, 3) unit; sRGB colours (Nv, 3), or uvs (Nv, 2) into a
    `texture` (H, W, 3) in sRGB."""

    vertices: Tensor
    faces: Tensor
    normals: Tensor
    colours: Tensor | None
    uvs: Tensor | None
    texture: Tensor | None

    def colour(self, values: Tensor) -> Tensor:
        """sRGB (P, 3) of interpolated attributes (P, 3 or 2): colours themselves, or places in the texture (origin upper left)."""
        if self.texture is None:
            return values
        grid = (values % 1.0)[None, None] * 2.0 - 1.0
        found = functional.grid_sample(self.texture.movedim(-1, 0)[None], grid, mode="bilinear", padding_mode="border", align_corners=False)
        return found[0, :, 0].t()

    @property
    def attributes(self) -> Tensor:
        """What is interpolated over faces: places in the texture or colours."""
        return self.uvs if self.texture is not None else self.colours


def surfaces(mesh: dict[str, Tensor]) -> list[Surface]:
    """The meshes of a batch by name (`formats/mesh_batch.py`), one per time; vertex colours become sRGB. ValueError where a
    time has nothing to see or numbers that are not finite."""
    found = []
    for index in range(len(mesh["vertices"])):
        vertices, colours, uvs = (_cut(mesh, name, index, "vertex_counts") for name in ("vertices", "vertex_colors", "uvs"))
        faces = _cut(mesh, "faces", index, "face_counts")
        if not len(vertices) or not len(faces):
            raise ValueError(f"The mesh is empty at time {index} of {len(mesh['vertices'])}. Give every time a surface, or cut those times off.")
        if not bool(torch.isfinite(vertices).all()):
            raise ValueError(f"The mesh has vertices that are not finite at time {index}. Make it again.")
        texture = mesh["texture"][min(index, len(mesh["texture"]) - 1)].float() if "texture" in mesh and uvs is not None else None
        sRGB = _srgb(colours[:, :3].float()) if colours is not None else torch.full_like(vertices, GREY)
        found.append(Surface(vertices, faces, _normals(vertices, faces), sRGB, uvs, texture))
    return found


def _cut(mesh: dict[str, Tensor], name: str, index: int, counts: str) -> Tensor | None:
    if name not in mesh:
        return None
    value = mesh[name][index, : int(mesh[counts][index])] if counts in mesh else mesh[name][index]
    return value.long() if name == "faces" else value.float()


def _srgb(linear: Tensor) -> Tensor:
    linear = linear.clamp(0.0, 1.0)
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp_min(0.0031308) ** (1 / 2.4) - 0.055)


def _normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Area-weighted vertex normals (Nv, 3)."""
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    normal = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(vertices).index_add_(0, faces.t().reshape(-1), normal.repeat(3, 1))
    return functional.normalize(total, dim=-1)


def fixed_topology(parts: list[Surface]) -> bool:
    """Whether all times share their faces, so that a point on a face is the same point at every time."""
    return all(part.faces.shape == parts[0].faces.shape and len(part.vertices) == len(parts[0].vertices) and torch.equal(part.faces, parts[0].faces) for part in parts)


def in_unit_ball(parts: list[Surface]) -> tuple[list[Surface], Tensor, float]:
    """The surfaces moved and scaled into the unit ball over all times where they reach beyond it; the point that became the
    centre (3,), and what lengths were divided by (1 where nothing was done)."""
    reach = max(float(part.vertices.norm(dim=-1).max()) for part in parts)
    if reach <= 1.0 + 1e-4:
        return parts, torch.zeros(3), 1.0
    low = torch.stack([part.vertices.amin(0) for part in parts]).amin(0)
    high = torch.stack([part.vertices.amax(0) for part in parts]).amax(0)
    centre = 0.5 * (low + high)
    radius = max(max(float((part.vertices - centre).norm(dim=-1).max()) for part in parts), 1e-12)
    return [replace(part, vertices=(part.vertices - centre) / radius) for part in parts], centre, radius


def at_times_of(parts: list[Surface], cameras: Cameras) -> Cameras:
    """The cameras, each at the time of the surface nearest to its own: there is none between."""
    last = max(len(parts) - 1, 1)
    return Cameras(cameras.camera_to_world, cameras.fov_y, (cameras.times * last).round() / last)


def lit(colours: Tensor, normals: Tensor, light: float) -> Tensor:
    """Colours (P, 3) under a soft light fixed to the world, above and in front; `light` 0 leaves them as they are."""
    facing = (normals @ normals.new_tensor(KEY) * 0.5 + 0.5).square()[:, None]
    return colours * (1.0 - light + light * (AMBIENT + (1.0 - AMBIENT) * facing).clamp(max=1.0))


@torch.no_grad()
def film_meshes(name: str, parts: list[Surface], cameras: Cameras, size: int, light: float, watch: Callable[[int], None] | None = None) -> Footage:
    """Footage of surfaces, the one of i / (T - 1) nearest to each camera's time; antialiased."""
    pictures = []
    for index in range(len(cameras)):
        part = parts[int((cameras.times[index] * (len(parts) - 1)).round())]
        pictures.append(_picture(part, cameras.select(slice(index, index + 1)), size, light))
        if watch is not None:
            watch(index + 1)
    whole = torch.stack(pictures)
    return Footage(name, whole[..., :3], whole[..., 3], cameras)


def _picture(part: Surface, camera: Cameras, size: int, light: float) -> Tensor:
    """Premultiplied RGBA (size, size, 4)."""
    side = size * FINER
    values = torch.cat([part.attributes, part.normals], -1)
    seen = rasterise(part.vertices[None], part.faces, values, camera.camera_to_world.to(values), camera.fov_y.to(values), side, side)
    inside = seen.mask[0]
    picture = values.new_zeros(side, side, 4)
    found = seen.attributes[0][inside]
    colours = lit(part.colour(found[:, :-3]), functional.normalize(found[:, -3:], dim=-1), light)
    picture[inside] = torch.cat([colours, torch.ones_like(colours[:, :1])], -1)
    return functional.avg_pool2d(picture.movedim(-1, 0)[None], FINER)[0].movedim(0, -1)


def points_on(parts: list[Surface], count: int, draws: torch.Generator) -> tuple[int, Tensor, Tensor]:
    """The time with the largest surface, and `count` points spread over it by area: faces (N,) and barycentric places (N, 3).

    Of meshes of fixed topology a face counts with its largest area of all times, so that what is folded away there is covered.
    """
    areas = [_areas(part) for part in parts]
    best = max(range(len(parts)), key=lambda index: float(areas[index].sum()))
    weights = torch.stack(areas).amax(0) if fixed_topology(parts) else areas[best]
    if not bool((weights > 0).any()):
        raise ValueError("The mesh has no area at any time. Give it faces that are triangles.")
    face = torch.multinomial(weights.cpu().double(), count, replacement=True, generator=draws).to(weights.device)
    first, second = (torch.rand(count, generator=draws).to(weights) for _ in range(2))
    root = first.sqrt()
    return best, face, torch.stack([1.0 - root, root * (1.0 - second), root * second], -1)


def _areas(part: Surface) -> Tensor:
    a, b, c = (part.vertices[part.faces[:, corner]] for corner in range(3))
    return 0.5 * torch.linalg.cross(b - a, c - a).norm(dim=-1)


def cloud_of_meshes(parts: list[Surface], count: int, light: float, degree: int, draws: torch.Generator) -> tuple[dict[str, Tensor], Tracks]:
    """Raw parameters of `count` flat Gaussians on the surface, and their tracks: over all times where the topology is fixed,
    else of the one time with the largest surface."""
    best, face, barycentric = points_on(parts, count, draws)
    fixed = fixed_topology(parts)
    chosen = parts if fixed else [parts[best]]
    times = torch.arange(len(chosen)).to(barycentric) / max(len(chosen) - 1, 1)
    at_points = [_at(part, face, barycentric) for part in chosen]
    colours = torch.stack([lit(part.colour(values), normals, light) for part, (values, normals) in zip(chosen, at_points)])
    tracks = tracks_of(torch.stack([part.vertices for part in chosen]), chosen[0].faces, colours, face, barycentric, times)
    normals = torch.stack([normals for _, normals in at_points])[tracks.rest, torch.arange(count, device=face.device)]
    area = float(torch.stack([_areas(part) for part in chosen]).amax(0).sum())
    raw = discs(tracks, functional.normalize(normals, dim=-1), COVER * math.sqrt(area / count), OPAQUE, degree)
    return raw, tracks


def _at(part: Surface, face: Tensor, barycentric: Tensor) -> tuple[Tensor, Tensor]:
    """Attributes (N, 3 or 2) and unit normals (N, 3) at points of faces."""
    corners = part.faces[face]
    mixed = [(values[corners] * barycentric[..., None]).sum(1) for values in (part.attributes, part.normals)]
    return mixed[0], functional.normalize(mixed[1], dim=-1)
