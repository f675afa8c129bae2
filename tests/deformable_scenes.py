"""Small deformable fields over canonical fields of every kind, and what their tests ask of them."""

import hashlib

import torch
from toy_scenes import TINY_FIELD

from bloom4d.models.fields.deformable import DeformableField
from bloom4d.models.fields.deformable_gaussians import DeformableGaussians
from bloom4d.models.fields.deformed import DeformableConfig
from bloom4d.models.fields.displacement import DisplacementConfig
from bloom4d.models.fields.hash_field import HashField
from bloom4d.models.fields.hash_grid import HashGridConfig
from bloom4d.models.fields.hexplane_field import HexPlaneField, HexPlaneFieldConfig
from bloom4d.models.fields.single_grid import SingleGridConfig, SingleGridField
from bloom4d.models.gaussians.deformation import DeformationConfig
from bloom4d.models.gaussians.dynamic import DynamicGaussians, DynamicGaussiansConfig
from bloom4d.models.gaussians.hexplane import HexPlaneConfig

TINY_GRID = HashGridConfig(dimensions=4, levels=3, base_resolution=4, growth=2.0, log2_table=10, time_cap=4)
TINY_DISPLACEMENT = DisplacementConfig(grid=TINY_GRID, hidden=16, layers=1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def hash_canonical() -> HashField:
    """A static field whose static grid has been trained a little."""
    field = HashField(TINY_FIELD, seeded())
    with torch.no_grad():
        field.static.table.normal_(std=0.3, generator=seeded(3))
    return field


def moving_hash_canonical() -> HashField:
    """One whose dynamic grid has been trained too."""
    field = hash_canonical()
    with torch.no_grad():
        field.dynamic.table.normal_(std=0.3, generator=seeded(4))
    return field


def single_grid_canonical() -> SingleGridField:
    field = SingleGridField(SingleGridConfig(grid=TINY_GRID, hidden=16, blob=TINY_FIELD.blob), seeded())
    with torch.no_grad():
        field.grid.table.normal_(std=0.3, generator=seeded(3))
    return field


def hexplane_canonical() -> HexPlaneField:
    """Its planes over time are still at rest."""
    return HexPlaneField(HexPlaneFieldConfig(channels=4, resolution=6, times=3, hidden=8, blob=TINY_FIELD.blob), seeded())


def gaussian_canonical(moving: bool = False) -> DynamicGaussians:
    planes = HexPlaneConfig(channels=4, resolution=4, levels=(1,), times=3)
    field = DynamicGaussians(DynamicGaussiansConfig(deformation=DeformationConfig(planes, hidden=8) if moving else None), seeded(), 60)
    if moving:
        with torch.no_grad():
            for parameter in field.deformation.heads.parameters():
                parameter.normal_(std=0.1, generator=seeded(5))
    return field


def deformable(canonical=None, shape: DisplacementConfig = TINY_DISPLACEMENT, seed: int = 1, **changes) -> DeformableField:
    """A deformable field at rest; its background is the canonical one's unless `changes` say otherwise."""
    return DeformableField(DeformableConfig(shape, **{"background": None, **changes}), seeded(seed), canonical or hash_canonical())


def deformable_gaussians(canonical=None, shape: DisplacementConfig = TINY_DISPLACEMENT, seed: int = 1, **changes) -> DeformableGaussians:
    return DeformableGaussians(DeformableConfig(shape, **{"background": None, **changes}), seeded(seed), canonical or gaussian_canonical())


def awake(field, size: float = 1.0):
    """The field with a displacement that has been trained, as far as anybody can tell."""
    with torch.no_grad():
        for parameter in field.moving.parameters():
            parameter.normal_(std=size, generator=seeded(7))
    return field


def sums(field) -> dict[str, str]:
    """SHA-256 of every tensor of the canonical field by name, by a way of the tests' own."""
    return {
        name: hashlib.sha256(value.detach().contiguous().numpy().tobytes()).hexdigest()
        for name, value in field.state_dict().items()
        if name.startswith("canonical.")
    }


def points(count: int = 64) -> torch.Tensor:
    return torch.rand(count, 3, generator=seeded(1)) * 2 - 1


def moments(count: int = 64) -> torch.Tensor:
    return torch.rand(count, generator=seeded(2))
