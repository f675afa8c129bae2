"""A plain-torch triangle rasteriser: which face is seen at each pixel centre, and attributes interpolated there.

Every face is expanded into the pixels of its bounding box, edge functions keep those inside, and one packed
`scatter_reduce(amin)` on (depth bits << 32 | face) is the z-buffer. No loop over faces or pixels, any device.
The visibility is found without gradient; barycentric coordinates and attributes of what is seen are recomputed with it.
At silhouettes the gradient comes from `silhouettes.antialias`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from . import mesh_nvdiffrast
from .silhouettes import NEAR, Edges, antialias

EMPTY = torch.iinfo(torch.int64).max


@dataclass(frozen=True)
class Visible:
    """The covered pixels of a batch of pictures, as a flat list.

    pixel (P,) int64: image * H * W + row * W + column. image (P,), face (P,) int64.
    barycentric (P, 3): perspective-correct weights of the face's corners. depth (P,): distance along the camera's -Z.
    front (P,) bool: the face is seen counter-clockwise.
    """

    pixel: Tensor
    image: Tensor
    face: Tensor
    barycentric: Tensor
    depth: Tensor
    front: Tensor


@dataclass(frozen=True)
class MeshFragments:
    """What each pixel sees. face_id (B, H, W) int64, -1 where empty; barycentric (B, H, W, 3); depth (B, H, W) along -Z,
    0 where empty; attributes (B, H, W, C), 0 where empty; mask (B, H, W) bool. None where not asked: coverage (B, H, W), the
    antialiased mask; flow (B, H, W, 2), pixels (right, down) that the surface moves, 0 where empty."""

    face_id: Tensor
    barycentric: Tensor
    depth: Tensor
    attributes: Tensor
    mask: Tensor
    coverage: Tensor | None = None
    flow: Tensor | None = None


def to_screen(vertices: Tensor, camera_to_world: Tensor, fov_y: Tensor, height: int, width: int) -> Tensor:
    """Pixel x (right), y (down, row 0 at the top, centres at +0.5) and depth along -Z of world points: (B, N, 3)."""
    rotation, position = camera_to_world[:, :3, :3], camera_to_world[:, :3, 3]
    local = torch.baddbmm(-(position[:, None] @ rotation), vertices, rotation)  # (B, N, 3)
    depth = -local[..., 2]
    focal = 0.5 * height / torch.tan(0.5 * fov_y)  # (B,) pixels
    scale = focal[:, None] / torch.where(depth.abs() < 1e-6, torch.full_like(depth, 1e-6), depth)
    return torch.stack((0.5 * width + local[..., 0] * scale, 0.5 * height - local[..., 1] * scale, depth), -1)


def visible(
    screen: Tensor, faces: Tensor, height: int, width: int, near: float = NEAR, pair_budget: int = 1 << 17
) -> Visible:
    """The nearest face at every pixel centre.

    screen (B, Nv, 3) from `to_screen`; faces (Nf, 3) int64. Faces that reach closer than `near` are dropped whole.
    About `pair_budget` (face, pixel) pairs are held at once; the default keeps them in a core's cache.
    """
    count, face_count = screen.shape[0], faces.shape[0]
    with torch.no_grad():
        corners = screen.detach()[:, faces.reshape(-1)].view(count * face_count, 9)  # x y z of three corners
        keep, left, top, columns, rows = _boxes(corners, height, width, near)
        buffer = torch.full((count * height * width,), EMPTY, dtype=torch.int64, device=screen.device)
        for start, stop in _chunks(columns * rows, pair_budget):
            part = slice(start, stop)
            _draw(buffer, corners, keep[part], left[part], top[part], columns[part], rows[part], face_count, height, width)
        pixel = (buffer != EMPTY).nonzero().squeeze(1)
        face = buffer[pixel] & 0xFFFFFFFF
    return _seen(screen, faces, pixel, face, height, width)


def _boxes(corners: Tensor, height: int, width: int, near: float) -> tuple[Tensor, ...]:
    """The faces whose bounding box holds a pixel centre, with the box's first column, row and its size."""
    x, y, z = corners[:, 0::3], corners[:, 1::3], corners[:, 2::3]
    left = (x.amin(1) - 0.5).ceil().clamp(min=0)
    right = (x.amax(1) - 0.5).floor().clamp(max=width - 1)
    top = (y.amin(1) - 0.5).ceil().clamp(min=0)
    bottom = (y.amax(1) - 0.5).floor().clamp(max=height - 1)
    keep = ((right >= left) & (bottom >= top) & (z.amin(1) > near)).nonzero().squeeze(1)
    left, top = left[keep].long(), top[keep].long()
    return keep, left, top, right[keep].long() - left + 1, bottom[keep].long() - top + 1


def _chunks(pairs: Tensor, budget: int) -> list[tuple[int, int]]:
    """Ranges of faces whose pairs sum to about `budget`."""
    if pairs.numel() == 0:
        return []
    part = (pairs.cumsum(0) - 1) // budget
    ends = torch.nonzero(part[1:] != part[:-1]).squeeze(1) + 1
    edges = [0, *ends.tolist(), pairs.numel()]
    return list(zip(edges[:-1], edges[1:]))


def _planes(corners: Tensor) -> tuple[Tensor, Tensor]:
    """Screen-linear functions of a triangle, as (n, 3) coefficients of (x, y, 1): barycentrics b1, b2 and 1/depth."""
    x0, y0, z0, x1, y1, z1, x2, y2, z2 = corners.unbind(1)
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    inverse = torch.where(area.abs() < 1e-12, torch.zeros_like(area), 1 / area)  # a degenerate face covers nothing
    b1x, b1y = (y2 - y0) * inverse, (x0 - x2) * inverse
    b2x, b2y = (y0 - y1) * inverse, (x1 - x0) * inverse
    w0, w1, w2 = 1 / z0, 1 / z1, 1 / z2
    wx, wy = b1x * (w1 - w0) + b2x * (w2 - w0), b1y * (w1 - w0) + b2y * (w2 - w0)
    return torch.stack((x0, y0, b1x, b1y, b2x, b2y, w0, wx, wy), 1), area


def _draw(buffer, corners, keep, left, top, columns, rows, face_count, height, width) -> None:
    """Z-buffer one chunk of faces into `buffer`, in place. Gathers go by rows of a transposed table: twice as fast."""
    plane, area = _planes(corners[keep])
    x0, y0, b1x, b1y, b2x, b2y, w0, wx, wy = plane.unbind(1)
    pairs = (columns * rows).masked_fill(area == 0, 0)
    owner = torch.repeat_interleave(torch.arange(keep.numel(), device=keep.device), pairs)
    first = pairs.cumsum(0) - pairs
    whole = torch.stack((first, columns)).index_select(1, owner)
    local = torch.arange(owner.numel(), device=keep.device) - whole[0]
    row = local // whole[1]
    column = local - row * whole[1]
    table = torch.stack((left + 0.5 - x0, top + 0.5 - y0, b1x, b1y, b2x, b2y)).index_select(1, owner)
    dx, dy = table[0] + column, table[1] + row
    b1, b2 = table[2] * dx + table[3] * dy, table[4] * dx + table[5] * dy
    tolerance = -1e-5  # two faces that share an edge both claim it: no holes
    inside = (torch.minimum(torch.minimum(b1, b2), 1 - b1 - b2) >= tolerance).nonzero().squeeze(1)
    owner, dx, dy, row, column = (value.index_select(0, inside) for value in (owner, dx, dy, row, column))
    nearness = torch.stack((w0, wx, wy)).index_select(1, owner)
    depth = 1 / (nearness[0] + nearness[1] * dx + nearness[2] * dy).clamp(min=1e-9)
    image = keep // face_count
    origin = torch.stack((image * (height * width) + top * width + left, keep - image * face_count)).index_select(1, owner)
    key = (depth.float().view(torch.int32).long() << 32) | origin[1]
    buffer.scatter_reduce_(0, origin[0] + row * width + column, key, "amin")


def _seen(screen: Tensor, faces: Tensor, pixel: Tensor, face: Tensor, height: int, width: int) -> Visible:
    """Perspective-correct barycentrics at the pixels that were won; differentiable in `screen`."""
    area_of_image = height * width
    image = pixel // area_of_image
    inside = pixel - image * area_of_image
    y = inside // width
    x = inside - y * width
    corner = (faces[face] + (image * screen.shape[1])[:, None]).reshape(-1)
    corners = screen.reshape(-1, 3).index_select(0, corner).view(-1, 9)
    plane, area = _planes(corners)
    x0, y0, b1x, b1y, b2x, b2y, w0, wx, wy = plane.unbind(1)
    dx, dy = x + 0.5 - x0, y + 0.5 - y0
    b1, b2 = (b1x * dx + b1y * dy).clamp(0, 1), (b2x * dx + b2y * dy).clamp(0, 1)
    depth = 1 / (w0 + wx * dx + wy * dy)
    weight1, weight2 = b1 * depth / corners[:, 5], b2 * depth / corners[:, 8]
    barycentric = torch.stack((1 - weight1 - weight2, weight1, weight2), 1)
    return Visible(pixel, image, face, barycentric, depth, area < 0)  # y grows downwards: counter-clockwise is negative


def interpolate(seen: Visible, attributes: Tensor, faces: Tensor) -> Tensor:
    """Vertex attributes (B, Nv, C), or (Nv, C) shared by all pictures, at the visible points: (P, C)."""
    corner = faces[seen.face]
    if attributes.dim() == 3:
        corner = corner + (seen.image * attributes.shape[1])[:, None]
        attributes = attributes.flatten(0, 1)
    values = attributes.index_select(0, corner.reshape(-1)).view(-1, 3, attributes.shape[-1])
    return torch.bmm(seen.barycentric[:, None], values).squeeze(1)


def displacement(seen: Visible, screen: Tensor, target: Tensor, faces: Tensor) -> Tensor:
    """How far each visible point moves on the picture when the vertices go from `screen` to `target` (B, Nv, 3): (P, 2) pixels."""
    moved, now = interpolate(seen, _projective(target), faces), interpolate(seen, _projective(screen), faces)
    return moved[:, :2] / moved[:, 2:] - now[:, :2] / now[:, 2:]


def _projective(screen: Tensor) -> Tensor:
    """Places times depth, and depth: what is linear on a face, so that places inside it are exact after interpolation."""
    return torch.cat((screen[..., :2] * screen[..., 2:], screen[..., 2:]), -1)


def spread(values: Tensor, pixel: Tensor, shape: tuple[int, int, int], empty: float = 0) -> Tensor:
    """Put (P, C) values back on their pixels: (B, H, W, C)."""
    count, height, width = shape
    full = values.new_full((count * height * width, values.shape[-1]), empty)
    return full.index_put((pixel,), values).view(count, height, width, -1)


def rasterise(
    vertices: Tensor,
    faces: Tensor,
    attributes: Tensor,
    camera_to_world: Tensor,
    fov_y: Tensor,
    height: int,
    width: int,
    pair_budget: int = 1 << 17,
    edges: Edges | None = None,
    later: Tensor | None = None,
) -> MeshFragments:
    """Draw a batch of meshes of one topology, each from its own camera.

    vertices (B, Nv, 3) world; faces (Nf, 3); attributes (B, Nv, C) or (Nv, C); camera_to_world (B, 4, 4) OpenGL axes;
    fov_y (B,) radians. Row 0 is the top, pixel centres at +0.5. Differentiable in attributes and, inside the silhouette, in
    vertices. edges (`edges_of(faces)`): antialias attributes and coverage, which gives vertices their gradient at silhouettes.
    later (B, Nv, 3): world positions that the flow leads to, seen by the same camera.
    """
    screen = to_screen(vertices, camera_to_world, fov_y, height, width)
    target = None if later is None else to_screen(later, camera_to_world, fov_y, height, width)
    if mesh_nvdiffrast.wanted(vertices.device):
        return _by_nvdiffrast(screen, faces, attributes, height, width, edges is not None, target)
    seen = visible(screen, faces, height, width, pair_budget=pair_budget)
    shape = (vertices.shape[0], height, width)
    face_id = spread(seen.face[:, None], seen.pixel, shape, -1)[..., 0]
    depth = spread(seen.depth[:, None], seen.pixel, shape)[..., 0]
    values, coverage = spread(interpolate(seen, attributes, faces), seen.pixel, shape), None
    if edges is not None:
        smooth = torch.cat((values, (face_id >= 0)[..., None].to(values)), -1)
        smooth = antialias(smooth, face_id, depth, screen, edges)
        values, coverage = smooth[..., :-1], smooth[..., -1]
    flow = None if target is None else spread(displacement(seen, screen, target, faces), seen.pixel, shape)
    return MeshFragments(face_id, spread(seen.barycentric, seen.pixel, shape), depth, values, face_id >= 0, coverage, flow)


def _by_nvdiffrast(screen: Tensor, faces: Tensor, attributes: Tensor, height: int, width: int, smooth: bool, target: Tensor | None) -> MeshFragments:
    """The same from the other rasteriser; depth and flow are interpolated as vertex values."""
    columns = [attributes.expand(len(screen), -1, -1), screen[..., 2:]]
    if target is not None:
        columns += [_projective(target), _projective(screen)]
    face_id, barycentric, drawn, blended = mesh_nvdiffrast.draw(screen, faces, torch.cat(columns, -1), height, width, smooth)
    channels, mask = attributes.shape[-1], face_id >= 0
    flow = None
    if target is not None:
        moved, now = (torch.where(mask[..., None], part, 1) for part in drawn[..., channels + 1 :].split(3, -1))
        flow = moved[..., :2] / moved[..., 2:] - now[..., :2] / now[..., 2:]
    values, coverage = (drawn[..., :channels], None) if blended is None else (blended[..., :channels], blended[..., -1])
    return MeshFragments(face_id, barycentric, drawn[..., channels], values, mask, coverage, flow)
