"""Activated 3D Gaussians over time: what is constructed, rendered, played and exported."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .harmonics import SH_DC

ATTRIBUTES = ("positions", "rotations", "scales", "opacities", "harmonics")
DIMENSIONS = {"positions": 3, "rotations": 3, "scales": 3, "opacities": 2, "harmonics": 4}


@dataclass(frozen=True)
class Gaussians4D:
    """N Gaussians at T times; each attribute has one entry per time, or a single one (leading axis 1) that serves them all.

    positions (T | 1, N, 3) world. rotations (T | 1, N, 4) unit quaternions w, x, y, z. scales (T | 1, N, 3) standard
    deviations, linear. opacities (T | 1, N) in [0, 1]. harmonics (T | 1, N, K, 3): coefficients of real spherical harmonics
    (3DGS order and signs) with K = (degree + 1)^2, the constant one first. times (T,) ascending in [0, 1]. A Gaussian keeps
    its index over time: motion is correspondence. Values are shared between prompts: never change one in place.
    """

    positions: Tensor
    rotations: Tensor
    scales: Tensor
    opacities: Tensor
    harmonics: Tensor
    times: Tensor

    def __post_init__(self):
        count = self.positions.shape[1]
        for name in ATTRIBUTES:
            shape = getattr(self, name).shape
            assert len(shape) == DIMENSIONS[name] and shape[0] in (1, len(self.times)) and shape[1] == count, f"{name} is {tuple(shape)}"

    @property
    def frames(self) -> int:
        """T."""
        return len(self.times)

    @property
    def count(self) -> int:
        """N."""
        return self.positions.shape[1]

    @property
    def degree(self) -> int:
        """Degree of the spherical harmonics, 0 to 3."""
        return round(self.harmonics.shape[2] ** 0.5) - 1

    def to(self, *args, **kwargs) -> "Gaussians4D":
        """Move or cast like `Tensor.to`."""
        return Gaussians4D(*(value.to(*args, **kwargs) for value in (*self.attributes().values(), self.times)))

    def attributes(self) -> dict[str, Tensor]:
        """The five attributes by name, as stored."""
        return {name: getattr(self, name) for name in ATTRIBUTES}

    def at_frames(self, index: Tensor | list[int]) -> "Gaussians4D":
        """The Gaussians at these frame numbers, in ascending order of their times."""
        index = torch.as_tensor(index, device=self.times.device)
        parts = {name: value if value.shape[0] == 1 else value[index] for name, value in self.attributes().items()}
        return Gaussians4D(**parts, times=self.times[index])

    def chosen(self, index: Tensor) -> "Gaussians4D":
        """The Gaussians that `index` (N,) bool or (M,) int64 selects, at all times."""
        return replace(self, **{name: value[:, index] for name, value in self.attributes().items()})

    def expanded(self) -> dict[str, Tensor]:
        """The five attributes with a leading axis of T each; nothing is copied."""
        return {name: value.expand(self.frames, *value.shape[1:]) for name, value in self.attributes().items()}


def sample_times(gaussians: Gaussians4D, times: Tensor) -> Gaussians4D:
    """The Gaussians at any `times` (M,) ascending, between their frames: positions, opacities and colours linear, scales
    linear in the logarithm, rotations by normalised interpolation along the shorter arc. Outside the range the nearest frame.
    """
    times = times.to(gaussians.times)
    right = torch.searchsorted(gaussians.times.contiguous(), times.contiguous()).clamp(1, max(gaussians.frames - 1, 1))
    left = right - 1
    right = right.clamp(max=gaussians.frames - 1)
    span = gaussians.times[right] - gaussians.times[left]
    share = torch.where(span > 0, (times - gaussians.times[left]) / span.clamp_min(1e-12), torch.zeros_like(span)).clamp(0, 1)
    mixed = {name: _mixed(name, value, left, right, share) for name, value in gaussians.attributes().items()}
    return Gaussians4D(**mixed, times=times)


def _mixed(name: str, value: Tensor, left: Tensor, right: Tensor, share: Tensor) -> Tensor:
    if value.shape[0] == 1:
        return value
    before, after = value[left], value[right]
    share = share.view(-1, *[1] * (value.dim() - 1))
    if name == "scales":
        return torch.exp(torch.lerp(before.log(), after.log(), share))
    if name != "rotations":
        return torch.lerp(before, after, share)
    after = torch.where((before * after).sum(-1, keepdim=True) < 0, -after, after)
    return torch.nn.functional.normalize(torch.lerp(before, after, share), dim=-1)


def srgb(gaussians: Gaussians4D) -> Tensor:
    """Colours (T | 1, N, 3) in [0, 1] without the dependence on the viewing direction."""
    return (SH_DC * gaussians.harmonics[..., 0, :] + 0.5).clamp(0.0, 1.0)


def harmonics_of(colours: Tensor) -> Tensor:
    """Constant harmonics (..., 1, 3) that show sRGB colours (..., 3)."""
    return ((colours - 0.5) / SH_DC)[..., None, :]
