"""The static + dynamic hash field: sums, time, roles, schedules and files (A7's role part, A8's sum)."""

import dataclasses
import json
import math

import pytest
import torch
from bloom4d.models.fields.background import BackgroundConfig, spherical_harmonics
from bloom4d.models.fields.density import DEMO_BLOB, DREAMFUSION_BLOB, MAGIC3D_BLOB, DensityBlob
from bloom4d.models.fields.hash_field import DEMO_FIELD, PAPER_FIELD, HashField, HashFieldConfig
from bloom4d.models.fields.hash_grid import HashGridConfig

TINY = HashFieldConfig(
    static=HashGridConfig(dimensions=3, levels=3, base_resolution=4, log2_table=8),
    dynamic=HashGridConfig(dimensions=4, levels=2, base_resolution=4, log2_table=8),
    hidden=8,
    background=BackgroundConfig(kind="network"),
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def points(count=64, seed=1):
    return torch.rand(count, 3, generator=seeded(seed)) * 2 - 1


def awake(config=TINY):
    """A field whose dynamic table has been trained a little."""
    field = HashField(config, seeded())
    with torch.no_grad():
        field.static.table.normal_(generator=seeded(2))
        field.dynamic.table.normal_(generator=seeded(3))
    return field


@pytest.mark.parametrize("skipped", [True, False])
def test_a_new_field_does_not_depend_on_time_by_one_bit(skipped):
    field = HashField(TINY, seeded())
    field.dynamic.requires_grad_(not skipped)
    assert field.is_static() == skipped
    moments = [field(points(), torch.full((64,), time)) for time in (0.0, 0.37, 1.0)]
    for density, colour in moments[1:]:
        assert torch.equal(density, moments[0][0]) and torch.equal(colour, moments[0][1])
    field = awake()
    first, second = (field.density(points(), torch.full((64,), time)) for time in (0.0, 0.37))
    assert not torch.equal(first, second) and not field.is_static()


def test_skipping_the_dynamic_grid_changes_no_bit():
    field = HashField(TINY, seeded())
    evaluated = field(points(), torch.rand(64))
    with torch.no_grad():
        assert field.is_static()
        skipped = field(points(), torch.rand(64))
    assert all(torch.equal(one, other) for one, other in zip(evaluated, skipped))


def test_features_of_both_grids_are_added_and_the_shorter_padded():
    field, where, times = awake(), points(), torch.rand(64)
    unit = where * 0.5 + 0.5
    expected = field.static(unit).clone()
    expected[:, :4] += field.dynamic(torch.cat([unit, times[:, None]], dim=1))
    assert torch.allclose(field.features(where, times), expected)


def test_positions_outside_the_cube_read_its_border():
    field, outside = awake(), torch.tensor([[1.5, -3.0, 0.2]])
    assert torch.equal(field.features(outside, torch.zeros(1)), field.features(outside.clamp(-1, 1), torch.zeros(1)))


def test_every_parameter_has_one_role():
    field = HashField(TINY, seeded())
    listed = [id(parameter) for group in field.roles().values() for parameter in group]
    assert sorted(listed) == sorted(id(parameter) for parameter in field.parameters())
    assert set(field.roles()) == {"static", "dynamic", "decoder", "material", "background"}


def test_a_frozen_role_gets_no_gradient_and_keeps_its_bytes():
    field = awake()
    for parameter in field.roles()["dynamic"]:
        parameter.requires_grad_(False)
    before = field.dynamic.table.detach().clone()
    optimiser = torch.optim.Adam([p for p in field.parameters() if p.requires_grad], lr=0.1)
    density, colour = field(points(), torch.rand(64))
    (density.sum() + colour.sum() + field.background(torch.nn.functional.normalize(points(), dim=1)).sum()).backward()
    optimiser.step()
    assert field.dynamic.table.grad is None and torch.equal(field.dynamic.table, before)
    assert field.static.table.grad is not None and all(p.grad is not None for p in field.roles()["decoder"] + field.roles()["background"])


def test_levels_fade_in():
    field = awake()
    field.set_levels(1, 0)
    assert field.is_static() and not field.features(points(), torch.rand(64))[:, 2:].any()
    field.set_levels(99, 99)
    assert field.static_active == 3 and field.dynamic_active == 2


@pytest.mark.parametrize("blob, at_centre", [(MAGIC3D_BLOB, 10.0), (DREAMFUSION_BLOB, 10.0), (DEMO_BLOB, 4.0)])
def test_blobs_start_a_ball(blob, at_centre):
    where = torch.tensor([[0.0, 0, 0], [0.5, 0, 0], [1.0, 0, 0]], dtype=torch.float64)
    density = blob.density(torch.zeros(3, dtype=torch.float64), where, blob.radius)
    assert density[0].item() == pytest.approx(blob.scale * math.log1p(math.exp(at_centre)), rel=1e-5)
    assert density[0] > density[1] > density[2]
    if blob is MAGIC3D_BLOB:
        assert density[1].item() == pytest.approx(math.log(2))
    if blob is DREAMFUSION_BLOB:
        assert density[1].item() == pytest.approx(math.log1p(math.exp(10 * math.exp(-0.5))))


def test_the_blobs_slope_is_finite_in_the_centre():
    where = torch.zeros(1, 3, requires_grad=True)
    MAGIC3D_BLOB.density(torch.zeros(1), where, 0.5).sum().backward()
    assert torch.isfinite(where.grad).all()


def test_a_larger_blob_flattens_the_centre():
    field = HashField(TINY, seeded())
    far = torch.tensor([[0.9, 0.0, 0.0]])
    before = field.density(far, torch.zeros(1)).item()
    field.set_blob(5.0)
    assert field.density(far, torch.zeros(1)).item() > 5 > before
    with pytest.raises(ValueError, match="above 0"):
        field.set_blob(0)


def test_harmonics_are_orthonormal():
    heights = (torch.arange(800, dtype=torch.float64) + 0.5) / 400 - 1
    height, azimuth = torch.meshgrid(heights, torch.arange(64, dtype=torch.float64) * (math.pi / 32), indexing="ij")
    ring = (1 - height**2).sqrt()
    directions = torch.stack([ring * azimuth.cos(), ring * azimuth.sin(), height], dim=-1).reshape(-1, 3)
    basis = spherical_harmonics(directions)
    assert torch.allclose(4 * math.pi * basis.T @ basis / len(basis), torch.eye(9, dtype=torch.float64), atol=1e-4)


def test_backgrounds():
    directions = torch.nn.functional.normalize(points(), dim=1)
    none, solid = (HashField(dataclasses.replace(TINY, background=BackgroundConfig(kind=kind, colour=(0.1, 0.2, 0.3)))) for kind in ("none", "solid"))
    assert none.background(directions) is None and not none.roles()["background"]
    assert torch.equal(solid.background(directions), torch.tensor([0.1, 0.2, 0.3]).expand(64, 3))
    seen = HashField(TINY).background(directions)
    assert seen.shape == (64, 3) and (0 < seen).all() and (seen < 1).all() and seen.std(dim=0).min() > 0


def test_a_clone_is_equal_and_independent():
    field = awake()
    field.set_levels(2, 1)
    other = field.clone()
    where, times = points(), torch.rand(64)
    assert torch.equal(field.density(where, times), other.density(where, times))
    with torch.no_grad():
        other.static.table.zero_()
    assert not torch.equal(field.density(where, times), other.density(where, times))


def test_state_and_configuration_survive_a_file(tmp_path):
    from safetensors.torch import load_file, save_file

    field = awake()
    field.set_levels(2.5, 1)
    field.set_blob(0.8)
    save_file(field.state_dict(), tmp_path / "field.safetensors")
    config = HashFieldConfig.from_dict(json.loads(json.dumps(dataclasses.asdict(field.config))))
    assert config == field.config
    other = HashField(config)
    other.load_state_dict(load_file(tmp_path / "field.safetensors"))
    where, times = points(), torch.rand(64)
    for one, two in zip(field(where, times), other(where, times)):
        assert torch.equal(one, two)


def test_presets():
    assert PAPER_FIELD.static.entries * 2 == pytest.approx(12.6e6, rel=0.01)  # as counted for the published configuration
    assert [level.nodes[0] for level in DEMO_FIELD.static.layout][::7] == [8, 96]
    assert [level.nodes[3] for level in DEMO_FIELD.dynamic.layout] == [4, 7, 8, 8, 8, 8]
    assert sum(parameter.numel() for parameter in HashField().parameters()) < 700_000
    with pytest.raises(ValueError, match="dimensions"):
        HashFieldConfig(static=HashGridConfig(dimensions=4))
    with pytest.raises(ValueError, match='Choose "cone"'):
        DensityBlob(shape="box")
