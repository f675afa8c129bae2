"""What a field looks like so far, as Gaussians: coarse enough to be made in the middle of an optimisation."""

import torch
from torch import Tensor

from ..fields.field import Field
from ..gaussians.gaussians import Gaussians4D, harmonics_of
from ..render.splat_renderer import Cloud, is_cloud

RESOLUTION, TIMES = 20, 6
FAINTEST = 0.05  # opacity of a cell below which it is left out
COVER = 0.6  # standard deviations of a Gaussian per cell: neighbours melt into one another


@torch.no_grad()
def coarse_cloud(field: Field | Cloud, resolution: int = RESOLUTION, times: int = TIMES) -> Gaussians4D:
    """One still Gaussian in each cell that is ever filled, with the cell's opacity and colour at each time, on the CPU.

    A field of Gaussians is taken as it is. A field that is empty so far gives no Gaussian at all.
    """
    if is_cloud(field):
        return field.bake(times)
    parameter = next(field.parameters())
    cell, moments = 2.0 / resolution, torch.linspace(0, 1, times)
    axis = (torch.arange(resolution) + 0.5) * cell - 1.0
    centres = torch.cartesian_prod(axis, axis, axis)  # (R^3, 3)
    seen = [_filled(field, centres.to(parameter), moment) for moment in moments.to(parameter)]
    opacity, colours = (torch.stack(parts).float().cpu() for parts in zip(*seen))
    opacity = 1.0 - torch.exp(-cell * opacity)
    kept = opacity.amax(0) > FAINTEST
    count = int(kept.sum())
    turns, scales = torch.tensor([1.0, 0, 0, 0]).expand(1, count, 4), torch.full((1, count, 3), COVER * cell)
    return Gaussians4D(centres[kept][None], turns, scales, opacity[:, kept], harmonics_of(colours[:, kept]), moments)


def _filled(field: Field, centres: Tensor, moment: Tensor) -> tuple[Tensor, Tensor]:
    """Density (M,) and colour (M, 3) at one time."""
    return field(centres, moment.expand(len(centres)))
