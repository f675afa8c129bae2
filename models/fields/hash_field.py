"""4D-fy's scene: a static 3D and a dynamic 4D hash grid, added, decoded to density and colour."""

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
class HashFieldConfig:
    """Shape of the field; the defaults are 4D-fy's: two grids of one configuration, decoders 32-64-1 and 32-64-3."""

    static: HashGridConfig = field(default_factory=HashGridConfig)
    dynamic: HashGridConfig = field(default_factory=lambda: HashGridConfig(dimensions=4))
    hidden: int = 64
    layers: int = 1
    blob: DensityBlob = MAGIC3D_BLOB
    background: BackgroundConfig = field(default_factory=BackgroundConfig)

    def __post_init__(self):
        if self.static.dimensions != 3 or self.dynamic.dimensions != 4:
            raise ValueError("A hash field adds a static grid of 3 dimensions and a dynamic grid of 4. Set the grids' dimensions so.")
        check_decoder(self.hidden, self.layers)

    @classmethod
    def from_dict(cls, values: dict) -> "HashFieldConfig":
        """The inverse of `dataclasses.asdict`, for files; ValueError that names what is wrong."""
        return read_config(cls, values)


PAPER_FIELD = HashFieldConfig(background=BackgroundConfig(kind="network"))
DEMO_FIELD = HashFieldConfig(
    static=HashGridConfig(dimensions=3, levels=8, base_resolution=8, growth=12.0 ** (1 / 7), log2_table=15),  # 8 -> 96
    dynamic=HashGridConfig(dimensions=4, levels=6, base_resolution=8, growth=8.0 ** (1 / 5), log2_table=15, time_ratio=0.5, time_cap=8),  # 8 -> 64
    hidden=32,
    blob=DEMO_BLOB,
)


class HashField(DecodedField):
    """Density and colour at positions in [-1, 1]^3 and times in [0, 1] (4D-fy, section 3.1: features of both grids are added).

    The dynamic table starts at zero, so the field is exactly static until something trains it. Levels and the blob's radius
    can be scheduled; both travel with the state dict. Colours are sRGB in [0, 1]; densities are per unit length.
    """

    kind = "hash"

    def __init__(self, config: HashFieldConfig = DEMO_FIELD, generator: torch.Generator | None = None):
        super().__init__()
        generator = generator or torch.Generator().manual_seed(0)
        self.config = config
        self.static = HashGrid(config.static, generator)
        self.dynamic = HashGrid(config.dynamic, generator)
        with torch.no_grad():
            self.dynamic.table.zero_()
        self.width = FEATURES * max(config.static.levels, config.dynamic.levels)
        self.add_decoders(self.width, generator)
        self.static_active, self.dynamic_active = float(config.static.levels), float(config.dynamic.levels)

    def features(self, positions: Tensor, times: Tensor) -> Tensor:
        """Added features (M, width) of both grids; the shorter one is padded with zeros."""
        unit = (positions * 0.5 + 0.5).clamp(0.0, 1.0)
        features = self.static(unit, self.static_active, self.width)
        if self.is_static():
            return features
        instant = times.to(unit.dtype).clamp(0.0, 1.0)
        return features + self.dynamic(torch.cat([unit, instant[:, None]], dim=1), self.dynamic_active, self.width)

    def is_static(self) -> bool:
        """Whether time changes nothing now: the dynamic table is zero and no gradient is wanted for it. Then it is skipped."""
        table = self.dynamic.table
        if self.dynamic_active == 0:
            return True
        return not (table.requires_grad and torch.is_grad_enabled()) and not table.any()

    def roles(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by what they are for; stages train and freeze by these names."""
        return {**super().roles(), "static": [self.static.table], "dynamic": [self.dynamic.table]}

    def levels(self) -> tuple[int, int]:
        """Levels of the static grid, and of the dynamic one."""
        return self.config.static.levels, self.config.dynamic.levels

    def set_levels(self, static_active: float, dynamic_active: float) -> None:
        """Coarse to fine: how many levels of each grid take part; a fraction fades one in. More than there are means all."""
        self.static_active = max(0.0, min(float(static_active), self.config.static.levels))
        self.dynamic_active = max(0.0, min(float(dynamic_active), self.config.dynamic.levels))

    def get_extra_state(self) -> Tensor:
        """The scheduled values, so that a saved field renders as it did."""
        return torch.tensor([self.static_active, self.dynamic_active, self.blob_radius], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        static_active, dynamic_active, radius = checked_numbers(state, 3)
        self.set_levels(static_active, dynamic_active)
        self.set_blob(radius)
