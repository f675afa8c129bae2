"""HexPlane as a field: what it computes, that it starts without time, that it travels and trains as any field does."""

import dataclasses

import pytest
import torch
from toy_scenes import TINY_FIELD, ball_pictures, ball_prior, term, tiny_renderer

from bloom4d.models.fields.background import BackgroundConfig
from bloom4d.models.fields.hash_field import DEMO_FIELD, PAPER_FIELD, HashField
from bloom4d.models.fields.hexplane_field import DEMO_HEXPLANE, PAPER_HEXPLANE, HexPlaneField, HexPlaneFieldConfig
from bloom4d.models.geometry.cameras import view_time_grid
from bloom4d.models.optimize.loop import Distiller
from bloom4d.models.optimize.scene import Scene
from bloom4d.models.optimize.scene_files import load_scene, save_scene
from bloom4d.models.optimize.stages import LearningRates, Stage

TINY = HexPlaneFieldConfig(channels=4, resolution=5, times=3, hidden=8, blob=TINY_FIELD.blob)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def points(count=64):
    return torch.rand(count, 3, generator=seeded(1), dtype=torch.float64) * 2 - 1


def moments(count=64):
    return torch.rand(count, generator=seeded(2), dtype=torch.float64)


def awake(**changes) -> HexPlaneField:
    """A field in doubles whose planes have been trained, as far as anybody can tell."""
    field = HexPlaneField(dataclasses.replace(TINY, **changes), seeded()).double()
    with torch.no_grad():
        field.spatial.normal_(generator=seeded(3))
        field.temporal.normal_(generator=seeded(4))
    return field


def bilinear(plane, u, v) -> torch.Tensor:
    """Value (C,) of a plane (C, H, W) at column u and row v in [-1, 1], nodes on the border, by hand."""
    height, width = plane.shape[1:]
    x, y = (float(u) * 0.5 + 0.5) * (width - 1), (float(v) * 0.5 + 0.5) * (height - 1)
    left, low = min(int(x), width - 2), min(int(y), height - 2)
    fx, fy = x - left, y - low
    rows = [plane[:, low + row, left] * (1 - fx) + plane[:, low + row, left + 1] * fx for row in (0, 1)]
    return rows[0] * (1 - fy) + rows[1] * fy


@pytest.mark.parametrize("fusion", ["concatenated", "added"])
def test_features_are_products_of_a_plane_and_the_one_over_the_other_axis_and_time(fusion):
    field, where, times = awake(fusion=fusion), points(5), moments(5)
    for place, moment, features in zip(where, times, field.features(where, times)):
        x, y, z = place
        still = [bilinear(plane, *axes) for plane, axes in zip(field.spatial, ((x, y), (x, z), (y, z)))]
        moving = [bilinear(1 + plane, axis, 2 * moment - 1) for plane, axis in zip(field.temporal, (z, y, x))]
        products = [one * other for one, other in zip(still, moving)]
        assert torch.allclose(features, torch.cat(products) if fusion == "concatenated" else sum(products))


def test_density_and_colour_are_decoded_and_the_blob_is_added():
    field, where, times = awake(), points(), moments()
    features = field.features(where, times)
    hidden = [torch.relu(features @ decoder.weights[0].t()) @ decoder.weights[1].t() for decoder in (field.density_decoder, field.colour_decoder)]
    ball = 5.0 * (1 - where.norm(dim=1) / 0.55) - 1.0
    density, colour = field(where, times)
    assert torch.allclose(density, 8.0 * torch.nn.functional.softplus(4.0 * hidden[0][:, 0] + ball)) and torch.equal(density, field.density(where, times))
    assert torch.allclose(colour, torch.sigmoid(hidden[1]))


def test_gradients_in_the_planes_and_the_positions_equal_finite_differences():
    field, where, times = awake(), points(4).requires_grad_(), moments(4)

    def density(spatial, temporal, positions):
        return torch.func.functional_call(field, {"spatial": spatial, "temporal": temporal}, (positions, times))[0]

    inputs = field.spatial.detach().clone().requires_grad_(), field.temporal.detach().clone().requires_grad_(), where
    assert torch.autograd.gradcheck(density, inputs, atol=1e-5)


def test_a_new_field_does_not_depend_on_time_by_one_bit_and_may_skip_it():
    field = HexPlaneField(TINY, seeded())
    one, other = (field.density(points().float(), torch.full((64,), time)) for time in (0.0, 0.37))
    assert torch.equal(one, other) and not field.is_static()  # a gradient is wanted: it was computed
    with torch.no_grad():
        assert field.is_static() and torch.equal(field.density(points().float(), torch.zeros(64)), one)
        field.temporal[0, 0, 1, 2] = 0.5
        assert not field.is_static() and not torch.equal(field.density(points().float(), torch.full((64,), 0.5)), one)


def test_positions_and_times_outside_read_the_border():
    field = awake()
    inside = field.features(torch.tensor([[1.0, -1.0, 0.2]]).double(), torch.ones(1).double())
    assert torch.allclose(field.features(torch.tensor([[1.7, -3.0, 0.2]]).double(), torch.full((1,), 1.5).double()), inside)


def test_every_parameter_has_one_role():
    field = HexPlaneField(dataclasses.replace(TINY, background=BackgroundConfig("network")), seeded())
    roles = field.roles()
    listed = [id(parameter) for group in roles.values() for parameter in group]
    assert sorted(listed) == sorted(id(parameter) for parameter in field.parameters())
    assert roles["static"] == [field.spatial] and roles["dynamic"] == [field.temporal] and field.levels() == (0, 0)


def train(field, steps, motion=True, **rates) -> HexPlaneField:
    stage = Stage((term("4D", 4, 2, motion=motion),), rates=LearningRates(**{"static": 3e-2, "dynamic": 3e-2, "decoder": 7e-3, **rates}))
    job = Distiller(Scene(field), stage, [ball_prior()], tiny_renderer(), steps, 1)
    for _ in range(steps):
        job.advance()
    return job.work.field


def test_a_term_that_must_not_touch_motion_leaves_the_time_planes_alone():
    field = train(HexPlaneField(TINY, seeded()), 3, motion=False)
    assert not field.temporal.any() and not torch.equal(field.spatial, HexPlaneField(TINY, seeded()).spatial)
    assert train(HexPlaneField(TINY, seeded()), 3).temporal.any()


def test_it_learns_a_ball_that_grows():
    cameras = view_time_grid(3, 3)
    truth = ball_pictures(cameras, 16).movedim(1, -1)

    def error(field) -> float:
        with torch.no_grad():
            views = tiny_renderer().render_views(field, tiny_renderer().new_state(field), cameras, 16, 16)
        return float((torch.cat([views.rgb, views.opacity[..., None]], dim=-1) - truth).square().mean())

    shape = HexPlaneFieldConfig(8, 16, 4, hidden=16, blob=TINY_FIELD.blob)
    moving, still = (error(train(HexPlaneField(shape, seeded()), 60, dynamic=rate)) for rate in (3e-2, 0.0))
    assert moving < 0.01 and moving < 0.5 * still


def test_it_survives_a_file_and_a_clone_is_independent(tmp_path):
    field = awake().float()
    field.set_blob(0.8)
    save_scene(Scene(field), tmp_path / "field.safetensors")
    other, copy = load_scene(tmp_path / "field.safetensors").field, field.clone()
    for some in (other, copy):
        assert some.config == TINY and all(torch.equal(one, two) for one, two in zip(field(points().float(), moments().float()), some(points().float(), moments().float())))
    with torch.no_grad():
        copy.spatial.zero_()
    assert field.spatial.any()


def test_it_has_as_many_numbers_as_the_hash_field():
    count = lambda field: sum(grid.entries * 2 for grid in (field.static, field.dynamic))  # noqa: E731
    for planes, grids in ((DEMO_HEXPLANE, DEMO_FIELD), (PAPER_HEXPLANE, PAPER_FIELD)):
        assert planes.numbers / count(grids) == pytest.approx(1.0, abs=0.02)
    field = HexPlaneField(DEMO_HEXPLANE, seeded())
    assert field.spatial.numel() + field.temporal.numel() == DEMO_HEXPLANE.numbers
    assert sum(parameter.numel() for parameter in field.parameters()) / sum(parameter.numel() for parameter in HashField(DEMO_FIELD).parameters()) < 1.05


def test_bad_shapes_are_refused():
    with pytest.raises(ValueError, match='Choose "concatenated" or "added"'):
        HexPlaneFieldConfig(fusion="multiplied")
    for wrong in ({"channels": 0}, {"times": 1}, {"resolution": 8192, "channels": 256}):
        with pytest.raises(ValueError, match="out of range. Give"):
            HexPlaneFieldConfig(**wrong)
