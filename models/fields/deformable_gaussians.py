"""Dream-in-4D's motion for a canonical scene of Gaussians: the same displacement, applied forwards to their means."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from .deformed import DeformableConfig, Deformed


class DeformableGaussians(Deformed):
    """Gaussians whose means move by d(mean, t); turns, sizes, opacities and colours stay those of the canonical cloud.

    A splat needs no way back to the canonical scene, so the displacement is a function of where a Gaussian starts, not of
    where it is seen. `scale` enlarges the cloud about the middle first. A displacement of zero shows the canonical cloud to
    the bit. Like every scene of Gaussians it has no density: only splats draw it.
    """

    kind, way = "deformable gaussians", 2.0

    def __init__(self, config: DeformableConfig, generator: torch.Generator, canonical: nn.Module):
        if not callable(getattr(canonical, "at", None)):
            raise ValueError(f"A Deformable Field of Gaussians was given a canonical {canonical.kind} field, which has none.")
        super().__init__(config, generator, canonical)

    @property
    def count(self) -> int:
        """N."""
        return self.canonical.count

    def at(self, times: Tensor):
        """The Gaussians (`gaussians.gaussians.Gaussians4D`) at `times` (M,) in [0, 1], in any order."""
        cloud = self._start(times)
        if self.is_static():
            return replace(cloud, times=times)
        return replace(cloud, positions=cloud.positions + 2.0 * self._displacements(cloud.positions[0], times), times=times)

    def displacements(self, times: Tensor) -> Tensor:
        """Displacements (M, N, 3) of the Gaussians at `times` (M,), in units of the cube's side (2)."""
        start = self._start(times).positions[0]
        return start.new_zeros(len(times), *start.shape) if self.is_static() else self._displacements(start, times)

    @torch.no_grad()
    def bake(self, frames: int):
        """The Gaussians at `frames` times i / (T - 1), as values on the CPU that nothing else holds."""
        parameter = next(self.parameters())
        cloud = self.at(torch.arange(frames, device=parameter.device) / max(frames - 1, 1))
        return type(cloud)(*(value.detach().cpu().clone() for value in vars(cloud).values()))

    def _start(self, times: Tensor):
        """The canonical cloud at its instant, enlarged; one entry that serves all times."""
        cloud = self.canonical.at(times.new_full((1,), self.config.time))
        return cloud if self.config.scale == 1.0 else replace(cloud, positions=cloud.positions * self.config.scale, scales=cloud.scales * self.config.scale)

    def _displacements(self, start: Tensor, times: Tensor) -> Tensor:
        frames, count = len(times), len(start)
        return self.displacement(start.repeat(frames, 1), times.repeat_interleave(count)).view(frames, count, 3)
