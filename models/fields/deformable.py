"""Dream-in-4D's scene: a frozen canonical radiance field of any kind, looked at through a displacement of space over time."""

import torch
from torch import Tensor, nn

from .deformed import DeformableConfig, Deformed


class DeformableField(Deformed):
    """Density and colour at positions in [-1, 1]^3 and times in [0, 1]: the canonical field's at the displaced position.

    With p = (x + 1) / 2 the canonical position is p + d(p, t), zoomed about the middle by 1 / scale and kept inside the cube
    (Dream-in-4D, section 3.2, and its code). The canonical field's ball of the start is read there too. A displacement of
    zero, as it starts, shows the canonical field to the bit.
    """

    kind, way = "deformable", -2.0  # a displacement leads back to the canonical scene

    def __init__(self, config: DeformableConfig, generator: torch.Generator, canonical: nn.Module):
        if not callable(getattr(canonical, "density", None)):
            raise ValueError(f"A Deformable Field of densities was given a canonical field of {canonical.kind}, which has none.")
        super().__init__(config, generator, canonical)

    def forward(self, positions: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """Density (M,) and colour (M, 3) at `positions` (M, 3) and `times` (M,)."""
        return self.displaced(positions, times)[:2]

    def displaced(self, positions: Tensor, times: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Density (M,), colour (M, 3) and displacement (M, 3): for pictures of the motion."""
        moved = torch.zeros_like(positions) if self.is_static() else self.displacement(positions, times)
        density, colour = self.canonical(self._canonical(positions, moved), self._instant(times))
        return density, colour, moved

    def density(self, positions: Tensor, times: Tensor) -> Tensor:
        """Density (M,) alone: for occupancy, normals and surfaces."""
        moved = torch.zeros_like(positions) if self.is_static() else self.displacement(positions, times)
        return self.canonical.density(self._canonical(positions, moved), self._instant(times))

    def _canonical(self, positions: Tensor, moved: Tensor) -> Tensor:
        """Where points were before they moved; in coordinates of [-1, 1], so that no bit changes where nothing moves."""
        return ((positions + 2.0 * moved) / self.config.scale).clamp(-1.0, 1.0)

    def _instant(self, times: Tensor) -> Tensor:
        return torch.full_like(times, self.config.time)
