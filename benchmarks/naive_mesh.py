"""The peers of the mesh rasteriser, as one writes them first: a loop over faces, and every face against every pixel."""

import torch
from torch import Tensor


def loop(screen: Tensor, faces: Tensor, attributes: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Face numbers (H, W) and attributes (H, W, C) of one picture; faces one after the other into a z-buffer."""
    with torch.no_grad():
        nearest, winner = torch.full((height, width), torch.inf), torch.full((height, width), -1)
        points = screen.detach()[faces]
        low = (points[..., :2].amin(1) - 0.5).ceil().clamp(min=0).int().tolist()
        high = (points[..., :2].amax(1) - 0.5).floor().int().tolist()
        for face, corner in enumerate(points):
            (left, top), (right, bottom) = low[face], (min(high[face][0], width - 1), min(high[face][1], height - 1))
            if right < left or bottom < top:
                continue
            y, x = torch.meshgrid(torch.arange(top, bottom + 1) + 0.5, torch.arange(left, right + 1) + 0.5, indexing="ij")
            weights = _weights(corner[None], x[..., None], y[..., None])[..., 0, :]
            depth = 1 / (weights / corner[:, 2]).sum(-1)
            box = (slice(top, bottom + 1), slice(left, right + 1))
            better = (weights >= -1e-5).all(-1) & (depth < nearest[box])
            nearest[box] = torch.where(better, depth, nearest[box])
            winner[box] = torch.where(better, face, winner[box])
    return winner, _values(screen, faces, attributes, winner)


def dense(screen: Tensor, faces: Tensor, attributes: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The same by (pixel, face) matrices, with autograd through them."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    corners = screen[faces]
    weights = _weights(corners, x[..., None], y[..., None])  # (H, W, F, 3)
    depth = 1 / (weights / corners[:, :, 2]).sum(-1)
    nearest, winner = torch.where((weights >= -1e-5).all(-1), depth, torch.inf).min(-1)
    seen = nearest < torch.inf
    own = torch.gather(weights, 2, winner[..., None, None].expand(-1, -1, 1, 3))[:, :, 0]
    correct = own / corners[winner][..., 2]
    correct = correct / correct.sum(-1, keepdim=True)
    values = (correct[..., None] * attributes[faces[winner]]).sum(-2) * seen[..., None]
    return torch.where(seen, winner, -1), values


def _values(screen: Tensor, faces: Tensor, attributes: Tensor, winner: Tensor) -> Tensor:
    height, width = winner.shape
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    corner = screen[faces[winner.clamp(min=0)]]  # (H, W, 3, 3)
    weights = _weights(corner, x, y) / corner[..., 2]
    weights = weights / weights.sum(-1, keepdim=True)
    return (weights[..., None] * attributes[faces[winner.clamp(min=0)]]).sum(-2) * (winner >= 0)[..., None]


def _weights(corner: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Barycentrics on the screen (..., 3) of pixels in triangles (..., 3, 3)."""
    (x0, y0), (x1, y1), (x2, y2) = (corner[..., index, :2].unbind(-1) for index in range(3))
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    area = torch.where(area.abs() < 1e-12, torch.inf, area)
    first = ((x - x0) * (y2 - y0) - (x2 - x0) * (y - y0)) / area
    second = ((x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)) / area
    return torch.stack((1 - first - second, first, second), -1)
