"""A look at the field from all sides every so many steps: what the curves, the progress text and the advice of a long run rest on.

The looks come at fixed steps and draw nothing at random, so a resumed run has the same rows; they change nothing that is optimised.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from ..fields.field import Field
from ..geometry.cameras import view_time_grid
from ..geometry.rays import ray_ball
from ..metrics.motion import motion, second_difference
from ..metrics.views import multi_face
from .memory import out_of_memory

VIEWS, TIMES, TILE = 4, 4, 24
POOLED = 12  # pixels a side of the pictures that are kept to compare with
KEPT = 6  # looks: the newest is compared with the one before and with the one five before
LOOKS, RAREST = 25, 100  # a stage's share per look, and the most steps between two

WATCHED = ("step", "filled", "motion", "flicker", "faces", "spread", "burnt", "change", "drift")
"""One row per look: step; mean opacity of the rays that meet the unit ball; mean change between neighbouring times; mean second
difference in time; correlation of opposite views (4 views x 4 times, over white); standard deviation of the visible colours; share
of the visible pixels with a channel at 0 and one at 1; mean change of the pictures since the last look, and since five looks before."""


def interval(steps: int) -> int:
    """Steps between two looks: a twenty-fifth of the stage, at least 10 and at most 100."""
    return min(max(steps // LOOKS, 10), RAREST)


def due(step: int, steps: int) -> bool:
    """Whether the field is looked at after this many steps: at intervals, and at the end."""
    return step % interval(steps) == 0 or step == steps


@torch.no_grad()
def look(field: Field, renderer, state, recent: Tensor) -> tuple[dict[str, float], Tensor]:
    """The row of one look but its step, and the small pictures of the newest looks, oldest first (K, T, V, 4, h, w).

    Where memory does not reach for it the row is NaN: a look never ends a run.
    """
    cameras = view_time_grid(VIEWS, TIMES).to(next(field.parameters()).device)
    try:
        views = renderer.render_views(field, state, cameras, TILE, TILE, None, 1 << 13)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        return {}, recent
    pictures = torch.cat([views.rgb, views.opacity[..., None]], dim=-1).movedim(-1, 1).float().cpu()
    sequence = pictures.unflatten(0, (TIMES, VIEWS))  # (T, V, 4, H, W)
    small = functional.adaptive_avg_pool2d(pictures, POOLED).unflatten(0, (TIMES, VIEWS))[None]
    row = {"filled": filled(sequence), **in_time(sequence), "faces": multi_face(sequence), **colours(sequence)}
    row |= {"change": _distance(recent[-1:], small), "drift": _distance(recent[-(KEPT - 1) :][:1] if len(recent) >= KEPT - 1 else recent[:0], small)}
    return row, torch.cat([recent, small])[-KEPT:]


def nothing_yet() -> Tensor:
    """The small pictures before the first look."""
    return torch.zeros(0, TIMES, VIEWS, 4, POOLED, POOLED)


def filled(sequence: Tensor) -> float:
    """Mean opacity over the pixels whose rays meet the unit ball: 1 for a fog that fills it."""
    origins, directions, _ = view_time_grid(VIEWS, 1).rays(*sequence.shape[-2:])
    near, far = ray_ball(origins, directions, 1.0)
    inside = (far > near).view(VIEWS, *sequence.shape[-2:])
    return float(sequence[:, :, 3][:, inside].mean())


def in_time(sequence: Tensor) -> dict[str, float]:
    """Motion and flicker over white."""
    return {"motion": float(motion(sequence)), "flicker": float(second_difference(sequence).mean())}


def colours(sequence: Tensor) -> dict[str, float]:
    """How far the visible colours are apart, and how many are burnt out; NaN where nothing is visible."""
    alpha = sequence[:, :, 3]
    seen = alpha > 0.5
    if not bool(seen.any()):
        return {"spread": math.nan, "burnt": math.nan}
    rgb = (sequence[:, :, :3] / alpha[:, :, None].clamp_min(1e-6)).movedim(2, -1)[seen]  # (P, 3)
    burnt = (rgb.amin(1) < 0.02) & (rgb.amax(1) > 0.98)
    return {"spread": float(rgb.std(0, correction=0).mean()), "burnt": float(burnt.float().mean())}


def _distance(earlier: Tensor, now: Tensor) -> float:
    return float((earlier - now).abs().mean()) if len(earlier) else math.nan
