"""4D-fy's and Dream-in-4D's ablation "HexPlane": six feature planes over pairs of axes hold shape and motion (Cao & Johnson, CVPR 2023)."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..formats.configs import read_config
from .background import BackgroundConfig
from .decoded_field import DecodedField
from .density import DEMO_BLOB, MAGIC3D_BLOB, DensityBlob
from .field import checked_numbers
from .mlp import check_decoder

PAIRS = (((0, 1), 2), ((0, 2), 1), ((1, 2), 0))  # (xy, zt), (xz, yt), (yz, xt)
FUSIONS = ("concatenated", "added")
MOST_NUMBERS = 1 << 28
START = 0.1  # the spatial planes' largest value at the start


@dataclass(frozen=True)
class HexPlaneFieldConfig:
    """Shape of the field. The default has as many numbers as 4D-fy's two hash grids together, 28 million, which is how 4D-fy
    compares the two.

    `channels` of every plane, `resolution` nodes along each axis of space, `times` along time. The three products of planes are
    "concatenated" (the paper's best) or "added".
    """

    channels: int = 32
    resolution: int = 524
    times: int = 32
    fusion: str = "concatenated"
    hidden: int = 64
    layers: int = 1
    blob: DensityBlob = MAGIC3D_BLOB
    background: BackgroundConfig = field(default_factory=BackgroundConfig)

    def __post_init__(self):
        if self.fusion not in FUSIONS:
            raise ValueError(f'The products of planes can not be "{self.fusion}". Choose "concatenated" or "added".')
        if not (1 <= self.channels <= 256 and 2 <= self.resolution <= 8192 and 2 <= self.times <= 4096 and self.numbers <= MOST_NUMBERS):
            raise ValueError(
                f"Planes of {self.channels} channels, {self.resolution} nodes and {self.times} times are out of range. Give 1 to 256 channels, 2 to 8192 "
                f"nodes, 2 to 4096 times, and at most {MOST_NUMBERS} numbers in all."
            )
        check_decoder(self.hidden, self.layers)

    @property
    def numbers(self) -> int:
        """How many numbers the six planes hold."""
        return 3 * self.channels * self.resolution * (self.resolution + self.times)

    @classmethod
    def from_dict(cls, values: dict) -> "HexPlaneFieldConfig":
        """The inverse of `dataclasses.asdict`, for files; ValueError that names what is wrong."""
        return read_config(cls, values)


PAPER_HEXPLANE = HexPlaneFieldConfig(background=BackgroundConfig(kind="network"))
DEMO_HEXPLANE = HexPlaneFieldConfig(channels=20, resolution=96, times=8, hidden=32, blob=DEMO_BLOB)


class HexPlaneField(DecodedField):
    """Density and colour at positions in [-1, 1]^3 and times in [0, 1]: products of a plane over space and the plane over the
    remaining axis and time, bilinear, nodes on the cube's faces and on the first and last instant.

    The planes over time hold their difference from 1 and start at zero, so the field is exactly static until something trains
    it, as a hash field is. Spatial planes have the role static, those over time dynamic. Colours are sRGB in [0, 1]; densities
    are per unit length.
    """

    kind = "hexplane"

    def __init__(self, config: HexPlaneFieldConfig = DEMO_HEXPLANE, generator: torch.Generator | None = None):
        super().__init__()
        generator = generator or torch.Generator().manual_seed(0)
        self.config = config
        shape = 3, config.channels, config.resolution, config.resolution
        self.spatial = nn.Parameter((torch.rand(shape, generator=generator) * 2.0 - 1.0) * START)  # (3, C, second axis, first axis)
        self.temporal = nn.Parameter(torch.zeros(3, config.channels, config.times, config.resolution))  # (3, C, time, axis)
        self.add_decoders(config.channels * (3 if config.fusion == "concatenated" else 1), generator)

    def features(self, positions: Tensor, times: Tensor) -> Tensor:
        """Features (M, width) at `positions` (M, 3) and `times` (M,)."""
        values = _read(self.spatial, torch.stack([positions[:, pair] for pair, _ in PAIRS]))  # (3, C, M)
        if not self.is_static():
            moment = 2.0 * times.to(positions.dtype) - 1.0
            values = values * (1.0 + _read(self.temporal, torch.stack([torch.stack([positions[:, axis], moment], dim=-1) for _, axis in PAIRS])))
        return (values.flatten(0, 1) if self.config.fusion == "concatenated" else values.sum(0)).t()

    def is_static(self) -> bool:
        """Whether time changes nothing now: the planes over time are zero and no gradient is wanted for them. Then they are skipped."""
        return not (self.temporal.requires_grad and torch.is_grad_enabled()) and not self.temporal.any()

    def roles(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by what they are for; stages train and freeze by these names."""
        return {**super().roles(), "static": [self.spatial], "dynamic": [self.temporal]}

    def levels(self) -> tuple[int, int]:
        """There are no levels that a stage could switch on one by one."""
        return 0, 0

    def set_levels(self, static_active: float, dynamic_active: float) -> None:
        """Nothing to set."""

    def get_extra_state(self) -> Tensor:
        """The scheduled value, so that a saved field renders as it did."""
        return torch.tensor([self.blob_radius], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        self.set_blob(*checked_numbers(state, 1))


def _read(planes: Tensor, places: Tensor) -> Tensor:
    """Values (3, C, M) of planes (3, C, H, W) at places (3, M, 2) in [-1, 1], along W first; the border counts beyond it."""
    return functional.grid_sample(planes, places[:, :, None], mode="bilinear", padding_mode="border", align_corners=True)[..., 0]
