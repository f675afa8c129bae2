"""Gradients at silhouettes: a picture of a mesh, antialiased where one surface ends in front of another (or of nothing).

What a pixel centre sees jumps when an edge passes over it, so a rasteriser's picture has no derivative there. Following the
idea of Laine et al. 2020 ("Modular primitives for high-performance differentiable rendering", analytic antialiasing), a pixel
beside the edge is blended with its neighbour by how far the edge lies from the border between the two; that share is linear in
the edge's place and carries the gradient to its vertices.

Ours goes from the edges to the pixels: every silhouette edge is followed over the lines of pixel centres that it crosses, rows
for a steep edge and columns for a flat one. So each edge counts on one axis, the sum of the shares is the midpoint rule for
the covered area, and edges of faces that are smaller than a pixel are found too. Of several edges that cross between the same
two pixels the nearest counts. Where two surfaces cut through each other there is no edge, and no gradient.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

NEAR = 1e-2
TIE = 0.01  # pixels; a centre this close to an edge may have been given to either side


@dataclass(frozen=True)
class Edges:
    """The edges of a mesh, each once. vertices (E, 2) int64; opposite (E, 2) int64: the third corner of the two faces that
    meet there, -1 where a second face is missing. Of more than two faces at an edge the first two count."""

    vertices: Tensor
    opposite: Tensor


def edges_of(faces: Tensor) -> Edges:
    """The edges of faces (Nf, 3); do it once per topology. Edges without length (a face with one corner twice) are left out."""
    corners = torch.stack((faces, faces.roll(-1, 1)), -1).reshape(-1, 2)  # three half edges per face
    opposite = faces.roll(1, 1).reshape(-1)
    low, high = corners.amin(1), corners.amax(1)
    key, order = torch.sort(low * (high.max() + 1 if len(high) else 1) + high, stable=True)
    order = order[low[order] != high[order]]
    low, high, opposite = low[order], high[order], opposite[order]
    new = torch.ones_like(low, dtype=torch.bool)
    new[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    first = new.nonzero().squeeze(1)
    paired = torch.cat((~new[1:], new.new_zeros(1)))[first]  # the next half edge is the same edge
    second = torch.where(paired, opposite[(first + 1).clamp(max=max(len(order) - 1, 0))], -1)
    return Edges(torch.stack((low[first], high[first]), 1), torch.stack((opposite[first], second), 1))


def antialias(values: Tensor, face_id: Tensor, depth: Tensor, screen: Tensor, edges: Edges) -> Tensor:
    """Blend `values` (B, H, W, C) across the silhouettes of what `rasterise` drew; differentiable in values and in screen.

    face_id, depth (B, H, W) of the same picture; screen (B, Nv, 3) from `to_screen`. Values may be anything that was made per
    pixel: attributes, coverage, a shaded picture over its background.
    """
    _, height, width, channels = values.shape
    with torch.no_grad():
        ends, sides = _silhouettes(screen.detach(), edges)
        parts = [_crossings(screen.detach(), ends, sides, axis, (height, width)) for axis in (0, 1)]
        found = tuple(torch.cat(pair) for pair in zip(*parts))
        flat_depth = torch.where(face_id < 0, torch.inf, depth.detach()).flatten()
        ends, line, axis, solid, other = _visible(found, face_id.flatten(), flat_depth)
    share = _share(screen, ends, line, axis, solid, other, (height, width))  # of the way from the solid pixel's centre to the other's
    flat = values.reshape(-1, channels)
    change = (share - 0.5)[:, None].to(flat) * (flat[solid] - flat[other])
    return flat.index_add(0, torch.where(share > 0.5, other, solid), change).view_as(values)


def _silhouettes(screen: Tensor, edges: Edges) -> tuple[Tensor, Tensor]:
    """Edges whose faces lie on one side of them on the picture: ends (M, 2), rows of the flat vertices, and that side (M,)."""
    count, vertices = screen.shape[:2]
    corner = torch.cat((edges.vertices, edges.opposite.clamp(min=0)), 1).T  # (4, E)
    x, y, z = screen.movedim(-1, 0)[:, :, corner.reshape(-1)].view(3, count, 4, -1)
    along = (x[:, 1] - x[:, 0])[:, None], (y[:, 1] - y[:, 0])[:, None]
    side = along[0] * (y[:, 2:] - y[:, :1]) - along[1] * (x[:, 2:] - x[:, :1])  # (B, 2, E)
    drawn = (z > NEAR) & torch.cat((torch.ones_like(edges.vertices.T), edges.opposite.T >= 0)).bool()  # as `visible` drops faces
    first, second = drawn[:, 2], drawn[:, 3]
    alone = first ^ second
    outline = alone | (first & second & (side[:, 0] * side[:, 1] > 0))
    image, edge = (outline & drawn[:, 0] & drawn[:, 1]).nonzero(as_tuple=True)
    solid = torch.where(first, side[:, 0], side[:, 1])[image, edge]
    return edges.vertices[edge] + (image * vertices)[:, None], solid


def _crossings(screen: Tensor, ends: Tensor, sides: Tensor, axis: int, size: tuple[int, int]) -> tuple[Tensor, ...]:
    """Where steep edges cross rows of pixel centres (axis 0), or flat ones columns (axis 1), between two neighbouring pixels.

    Per crossing: ends (M, 2); line (M,), the coordinate of the row or column; axis (M,); the solid and the other pixel (M,);
    depth (M,) of the edge there.
    """
    height, width = size
    points = screen.reshape(-1, 3)[ends]  # (M, 2, 3)
    along, across, depth = points[..., axis], points[..., 1 - axis], points[..., 2]  # `along` the pair of pixels
    owner, line, part = _followed(along, across, axis, size[axis])
    place = torch.lerp(along[owner, 0], along[owner, 1], part) - 0.5
    which, low = _left_of(place, size[1 - axis])
    owner, line, part = owner[which], line[which], part[which]
    row, column = (line.long(), low) if axis == 0 else (low, line.long())
    pixel = (ends[owner, 0] // screen.shape[1] * height + row) * width + column
    beside = pixel + (1 if axis == 0 else width)
    rising = across[owner, 1] > across[owner, 0]
    solid_low = ((sides[owner] > 0) == rising) if axis == 0 else ((sides[owner] < 0) == rising)
    pixels = torch.where(solid_low, pixel, beside), torch.where(solid_low, beside, pixel)
    nearness = torch.lerp(1 / depth[owner, 0], 1 / depth[owner, 1], part)
    return ends[owner], line, torch.full_like(pixel, axis), *pixels, 1 / nearness


def _followed(along: Tensor, across: Tensor, axis: int, lines: int) -> tuple[Tensor, Tensor, Tensor]:
    """The edges of this axis, once for each line that they cross: edge (K,), the line's coordinate (K,), the share of the way."""
    run, rise = along[:, 1] - along[:, 0], across[:, 1] - across[:, 0]
    mine = (rise.abs() >= run.abs()) if axis == 0 else (rise.abs() > run.abs())
    begin = (across.amin(1) - 0.5).ceil().clamp(0, lines)
    end = (across.amax(1) - 0.5).ceil().clamp(0, lines)  # half open: a shared end belongs to one of two edges
    number = torch.where(mine, end - begin, 0).long()
    owner = torch.repeat_interleave(torch.arange(len(along), device=along.device), number)
    line = begin[owner] + (torch.arange(len(owner), device=along.device) - (number.cumsum(0) - number)[owner]) + 0.5
    return owner, line, (line - across[owner, 0]) / rise[owner]


def _left_of(place: Tensor, places: int) -> tuple[Tensor, Tensor]:
    """The pixels (K,) that begin the pairs around each place, and whose places these are; close to a centre both of its pairs."""
    low = torch.stack((place, place - TIE, place + TIE)).floor()
    fresh = (low >= 0) & (low < places - 1)
    fresh[1:] &= low[1:] != low[0]
    shift, which = fresh.nonzero(as_tuple=True)
    return which, low[shift, which].long()


def _visible(found: tuple[Tensor, ...], face_id: Tensor, depth: Tensor) -> tuple[Tensor, ...]:
    """The crossings where the nearer of two different faces lies on the edge's solid side, the nearest one of each pair."""
    ends, line, axis, solid, other, edge_depth = found
    seen = (face_id[solid] != face_id[other]) & (depth[solid] < depth[other]) & (edge_depth < depth[other])
    keep = seen.nonzero().squeeze(1)
    pair = (axis * len(depth) + torch.minimum(solid, other))[keep]
    key = (edge_depth[keep].float().view(torch.int32).long() << 32) | torch.arange(len(keep), device=keep.device)
    nearest = torch.full((2 * len(depth),), torch.iinfo(torch.int64).max, device=keep.device)
    nearest.scatter_reduce_(0, pair, key, "amin")
    keep = keep[nearest[pair] == key]
    return ends[keep], line[keep], axis[keep], solid[keep], other[keep]


def _share(screen: Tensor, ends: Tensor, line: Tensor, axis: Tensor, solid: Tensor, other: Tensor, size: tuple[int, int]) -> Tensor:
    """How far the edge lies from the solid pixel's centre, in [0, 1] up to TIE; differentiable in screen: (M,)."""
    points = screen.reshape(-1, 3).index_select(0, ends.reshape(-1)).view(-1, 2, 3)
    across = torch.where((axis == 0)[:, None], points[..., 1], points[..., 0])
    along = torch.where((axis == 0)[:, None], points[..., 0], points[..., 1])
    part = (line - across[:, 0]) / (across[:, 1] - across[:, 0])
    place = along[:, 0] + part * (along[:, 1] - along[:, 0])
    centre = torch.where(axis == 0, solid % size[1], solid // size[1] % size[0]) + 0.5
    return torch.where(solid < other, place - centre, centre - place)
