"""Dynamic Gaussians: one canonical cloud and a deformation that moves it through time."""

import copy
import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..formats.configs import read_config
from ..geometry.rotations import quaternion_product
from .activation import RAW, activated, cloud
from .deformation import Deformation, DeformationConfig
from .gaussians import Gaussians4D
from .hexplane import HexPlaneConfig

MOST_GAUSSIANS = 1 << 24


@dataclass(frozen=True)
class DynamicGaussiansConfig:
    """`degree` of the spherical harmonics, 0 to 3; the deformation, None for a cloud that never moves.

    The number of Gaussians is no part of it: densification changes it, and a state dict brings its own.
    """

    degree: int = 0
    deformation: DeformationConfig | None = field(default_factory=DeformationConfig)

    def __post_init__(self):
        if not 0 <= self.degree <= 3:
            raise ValueError(f"Gaussians have spherical harmonics of degree 0 to 3, not {self.degree}.")

    @classmethod
    def from_dict(cls, values: dict) -> "DynamicGaussiansConfig":
        """The inverse of `dataclasses.asdict`, for files; ValueError that names what is wrong."""
        return read_config(cls, values)


PAPER_GAUSSIANS = DynamicGaussiansConfig(degree=3)
DEMO_GAUSSIANS = DynamicGaussiansConfig(deformation=DeformationConfig(HexPlaneConfig(channels=16, resolution=16, levels=(1, 2), times=8), hidden=64))


class DynamicGaussians(nn.Module):
    """N Gaussians with raw parameters (`activation.RAW`), and what a deformation makes of them at any time.

    `at` is differentiable; with the deformation's heads at zero, as they start, every time shows the canonical cloud, to the
    bit. Like a radiance field it has a kind, a configuration and parameter roles, but no density: only splats draw it.
    """

    kind = "dynamic gaussians"

    def __init__(self, config: DynamicGaussiansConfig = DEMO_GAUSSIANS, generator: torch.Generator | None = None, count: int = 5000, radius: float = 0.5):
        super().__init__()
        generator = generator or torch.Generator().manual_seed(0)
        self.config = config
        self.set_raw(random_cloud(count, radius, config.degree, generator))
        self.deformation = None if config.deformation is None else Deformation(config.deformation, generator)
        if self.deformation is not None:
            self.deformation.set_bounds(self.positions)

    @staticmethod
    def sizes_of(state: dict[str, Tensor]) -> dict[str, int]:
        """What `__init__` needs beside the configuration to fit `state`; ValueError when it holds no cloud."""
        positions = state.get("positions")
        if positions is None or positions.ndim != 2 or not 1 <= len(positions) <= MOST_GAUSSIANS:
            raise ValueError("it holds no positions of Gaussians")
        return {"count": len(positions)}

    @property
    def count(self) -> int:
        """N."""
        return self.positions.shape[0]

    def raw(self) -> dict[str, nn.Parameter]:
        """The canonical parameters by name."""
        return {name: getattr(self, name) for name in RAW}

    def set_raw(self, values: dict[str, Tensor]) -> None:
        """Replace the canonical parameters, as many Gaussians as there are in `values`; optimisers must be told."""
        for name in RAW:
            setattr(self, name, nn.Parameter(values[name].detach().clone().contiguous()))

    def restart(self, values: dict[str, Tensor]) -> None:
        """`set_raw`, and the deformation's box around the new cloud."""
        self.set_raw(values)
        if self.deformation is not None:
            self.deformation.set_bounds(self.positions)

    def at(self, times: Tensor, moving: bool = True) -> Gaussians4D:
        """The Gaussians at `times` (M,) in [0, 1], in any order; without `moving` the canonical cloud for all of them.

        ST-HexPlane's update (eq. 10): p + dp, exp(log s + ds), and the turn after the canonical rotation, q x normalise(1 + dR).
        """
        raw = self.raw()
        still = Gaussians4D(**{name: value[None] for name, value in activated(raw).items()}, times=times)
        if self.deformation is None or not moving:
            return still
        step, turn, stretch = self.deformation(self.positions, times)
        turn = functional.normalize(turn + turn.new_tensor([1.0, 0.0, 0.0, 0.0]), dim=-1)
        return replace(
            still,
            positions=self.positions + step,
            rotations=functional.normalize(quaternion_product(self.quaternions.expand_as(turn), turn), dim=-1),
            scales=(self.log_scales + stretch).exp(),
        )

    @torch.no_grad()
    def bake(self, frames: int) -> Gaussians4D:
        """The Gaussians at `frames` times i / (T - 1), as values on the CPU that nothing else holds."""
        times = torch.arange(frames, device=self.positions.device) / max(frames - 1, 1)
        return Gaussians4D(*(value.detach().cpu().clone() for value in vars(self.at(times)).values()))

    def is_static(self) -> bool:
        """Whether time changes nothing: there is no deformation."""
        return self.deformation is None

    def background(self, directions: Tensor) -> None:
        """There is none: what no Gaussian covers is transparent."""

    def roles(self) -> dict[str, list[nn.Parameter]]:
        """The cloud is static, the planes are dynamic, the deformation's networks and tokens are decoders."""
        moving = self.deformation
        return {
            "static": list(self.raw().values()),
            "dynamic": [] if moving is None else list(moving.planes.parameters()),
            "decoder": [] if moving is None else moving.decoders(),
            "material": [],
            "background": [],
        }

    def levels(self) -> tuple[int, int]:
        """There are no levels that a stage could switch on one by one."""
        return 0, 0

    def set_levels(self, static_active: float, dynamic_active: float) -> None:
        """Nothing to set."""

    def set_blob(self, radius: float) -> None:
        """Nothing to set: the cloud of the start is given once."""

    def clone(self) -> "DynamicGaussians":
        """An independent copy with the same values; parameters are trainable, whatever the original's are."""
        return copy.deepcopy(self).requires_grad_(True)

    def load_state_dict(self, state: dict[str, Tensor], strict: bool = True, assign: bool = False):
        """As of every module, with as many Gaussians as the state has."""
        if self.sizes_of(state)["count"] != self.count:
            self.set_raw({name: state[name].to(value) for name, value in self.raw().items()})
        return super().load_state_dict(state, strict, assign)


def random_cloud(count: int, radius: float, degree: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Raw parameters of `count` points evenly in a ball (DreamGaussian4D's start: 5,000 in a radius of 0.5), grey, thin."""
    if not 1 <= count <= MOST_GAUSSIANS or not radius > 0:
        raise ValueError(f"A cloud begins with 1 to {MOST_GAUSSIANS} Gaussians in a ball of a radius above 0, not {count} in {radius:g}.")
    directions = functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    positions = directions * radius * torch.rand(count, 1, generator=generator) ** (1.0 / 3.0)
    colours = 0.5 + 0.1 * (torch.rand(count, 3, generator=generator) - 0.5)
    spacing = radius * (4.0 * math.pi / 3.0 / count) ** (1.0 / 3.0)  # the side of the cube that a point has for itself
    return cloud(positions, colours, positions.new_full((count,), 0.5 * spacing), 0.1, degree)
