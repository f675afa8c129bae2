"""4D-fy's row "w/ single hash grid": one 4D hash grid holds shape and motion together."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..formats.configs import read_config
from .background import BackgroundConfig
from .decoded_field import DecodedField
from .density import DEMO_BLOB, MAGIC3D_BLOB, DensityBlob
from .field import checked_numbers
from .hash_grid import FEATURES, HashGrid, HashGridConfig
from .mlp import check_decoder


@dataclass(frozen=True)
class SingleGridConfig:
    """Shape of the field; the default table has 2^20 rows a level, about as many numbers as 4D-fy's two grids of 2^19 together."""

    grid: HashGridConfig = field(default_factory=lambda: HashGridConfig(dimensions=4, log2_table=20))
    hidden: int = 64
    layers: int = 1
    blob: DensityBlob = MAGIC3D_BLOB
    background: BackgroundConfig = field(default_factory=BackgroundConfig)

    def __post_init__(self):
        if self.grid.dimensions != 4:
            raise ValueError("A single grid field has one grid over space and time. Set the grid's dimensions to 4.")
        check_decoder(self.hidden, self.layers)

    @classmethod
    def from_dict(cls, values: dict) -> "SingleGridConfig":
        """The inverse of `dataclasses.asdict`, for files; ValueError that names what is wrong."""
        return read_config(cls, values)


PAPER_SINGLE_GRID = SingleGridConfig(background=BackgroundConfig(kind="network"))
DEMO_SINGLE_GRID = SingleGridConfig(  # 7 levels of 2^16 rows: a tenth more numbers than the hash field's demo size, so that none are missing
    grid=HashGridConfig(dimensions=4, levels=7, base_resolution=8, growth=12.0 ** (1 / 6), log2_table=16, time_ratio=0.5, time_cap=8),  # 8 -> 96
    hidden=32,
    blob=DEMO_BLOB,
)


class SingleGridField(DecodedField):
    """Density and colour at positions in [-1, 1]^3 and times in [0, 1], decoded from one 4D grid (4D-fy, supplement, table 3).

    The grid has the role "static": every term and stage trains it, the shape stages too, at the rate of the static grid. There is
    nothing that a stage could train or freeze apart, which is what the ablation takes away. Where a stage trains motion, give its
    `rate_static` the rate that a dynamic grid would get. Colours are sRGB in [0, 1]; densities are per unit length.
    """

    kind = "single grid"

    def __init__(self, config: SingleGridConfig = DEMO_SINGLE_GRID, generator: torch.Generator | None = None):
        super().__init__()
        generator = generator or torch.Generator().manual_seed(0)
        self.config = config
        self.grid = HashGrid(config.grid, generator)
        self.add_decoders(FEATURES * config.grid.levels, generator)
        self.active = float(config.grid.levels)

    def features(self, positions: Tensor, times: Tensor) -> Tensor:
        """Features (M, 2 x levels) of the grid."""
        unit = (positions * 0.5 + 0.5).clamp(0.0, 1.0)
        instant = times.to(unit.dtype).clamp(0.0, 1.0)
        return self.grid(torch.cat([unit, instant[:, None]], dim=1), self.active)

    def is_static(self) -> bool:
        """Whether time changes nothing now: only while no level takes part."""
        return self.active == 0

    def roles(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by what they are for; the one grid counts as static, and no parameter as dynamic."""
        return {**super().roles(), "static": [self.grid.table]}

    def levels(self) -> tuple[int, int]:
        """How many levels follow a stage's static schedule, and its dynamic one."""
        return self.config.grid.levels, 0

    def set_levels(self, static_active: float, dynamic_active: float) -> None:
        """Coarse to fine: how many levels of the grid take part; a fraction fades one in. The dynamic number has nothing to set."""
        self.active = max(0.0, min(float(static_active), self.config.grid.levels))

    def get_extra_state(self) -> Tensor:
        """The scheduled values, so that a saved field renders as it did."""
        return torch.tensor([self.active, self.blob_radius], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        active, radius = checked_numbers(state, 2)
        self.set_levels(active, 0.0)
        self.set_blob(radius)
