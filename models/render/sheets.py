"""Small pictures of a field for people who wait."""

import torch
from torch import Tensor
from torch.nn import functional

from ..fields.field import Field
from ..geometry.cameras import Cameras

TILE = 40  # pixels rendered per side; a preview must cost no more than a step


@torch.no_grad()
def contact_sheet(field: Field, renderer, state, cameras: Cameras, views: int, tile: int = TILE, enlarge: int = 3) -> Tensor:
    """A sheet (1, H, W, 3) over white: `views` rows, times in columns. Cameras run time slowest, as `view_time_grid` makes them."""
    pictures = renderer.render_views(field, state, cameras, tile, tile, None, 1 << 15)
    background = field.background(pictures.directions.reshape(-1, 3))
    behind = pictures.rgb.new_ones(3) if background is None else background.view(pictures.rgb.shape)
    shown = pictures.over(behind).clamp(0.0, 1.0).movedim(-1, 1)  # (T V, 3, H, W)
    if enlarge > 1:
        shown = functional.interpolate(shown, scale_factor=enlarge, mode="bilinear", align_corners=False)
    grid = shown.unflatten(0, (-1, views)).permute(1, 3, 0, 4, 2)  # (V, H, T, W, 3)
    return grid.reshape(1, grid.shape[0] * grid.shape[1], grid.shape[2] * grid.shape[3], 3).cpu()
