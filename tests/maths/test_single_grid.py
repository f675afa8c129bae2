"""One 4D grid for shape and motion: what it computes, that every term trains it, that it travels as any field does."""

import dataclasses

import pytest
import torch
from toy_scenes import TINY_FIELD, ball_prior, term, tiny_renderer, tiny_scene

from bloom4d.models.fields.background import BackgroundConfig
from bloom4d.models.fields.hash_field import DEMO_FIELD, PAPER_FIELD, HashField
from bloom4d.models.fields.hash_grid import HashGridConfig
from bloom4d.models.fields.single_grid import DEMO_SINGLE_GRID, PAPER_SINGLE_GRID, SingleGridConfig, SingleGridField
from bloom4d.models.geometry.cameras import CameraSampler
from bloom4d.models.guidance.schedules import Schedule
from bloom4d.models.optimize.checkpoint import CheckpointStore
from bloom4d.models.optimize.loop import Distiller
from bloom4d.models.optimize.scene import Scene
from bloom4d.models.optimize.scene_files import FIELDS, load_scene, save_scene
from bloom4d.models.optimize.stages import LearningRates, Stage

TINY = SingleGridConfig(
    grid=HashGridConfig(dimensions=4, levels=3, base_resolution=4, growth=2.0, log2_table=10, time_ratio=0.5, time_cap=4),
    hidden=16,
    blob=TINY_FIELD.blob,
    background=BackgroundConfig(kind="network"),
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def points(count=64):
    return torch.rand(count, 3, generator=seeded(1)) * 2 - 1


def moments(count=64):
    return torch.rand(count, generator=seeded(2))


def awake() -> SingleGridField:
    """A field whose table has been trained a little."""
    field = SingleGridField(TINY, seeded())
    with torch.no_grad():
        field.grid.table.normal_(generator=seeded(3))
    return field


def distiller(field, stage) -> Distiller:
    return Distiller(Scene(field), stage, [ball_prior()] * len(stage.terms), tiny_renderer(), 12, 1)


def test_density_and_colour_are_decoded_from_the_grid_at_that_place_and_time():
    field, where, times = awake(), points(), moments()
    features = field.grid(torch.cat([where * 0.5 + 0.5, times[:, None]], dim=1))
    density, colour = field(where, times)
    hidden_density, hidden_colour = (torch.relu(features @ decoder.weights[0].t()) for decoder in (field.density_decoder, field.colour_decoder))
    ball = 5.0 * (1 - where.norm(dim=1) / 0.55) - 1.0
    expected = 8.0 * torch.log1p(torch.exp(4.0 * (hidden_density @ field.density_decoder.weights[1].t())[:, 0] + ball))
    assert torch.allclose(density, expected, rtol=1e-4, atol=1e-5) and torch.equal(density, field.density(where, times))
    assert torch.allclose(colour, torch.sigmoid(hidden_colour @ field.colour_decoder.weights[1].t()))


def test_time_always_counts_unless_no_level_takes_part():
    field = awake()
    assert not field.is_static() and not torch.equal(field.density(points(), torch.zeros(64)), field.density(points(), torch.full((64,), 0.4)))
    field.set_levels(0, 6)
    assert field.is_static() and torch.equal(field.density(points(), torch.zeros(64)), field.density(points(), torch.full((64,), 0.4)))


def test_levels_follow_the_static_schedule():
    field = awake()
    assert field.levels() == (3, 0)
    field.set_levels(1, 0)
    assert not field.features(points(), moments())[:, 2:].any() and field.features(points(), moments())[:, :2].all()
    job = distiller(awake(), Stage((term("multi-view", 4),), static_levels=Schedule(1 / 3, 1.0, 0.0, 1.0), rates=LearningRates(static=1e-2)))
    seen = []
    for _ in range(12):
        job.advance()
        seen.append(job.work.field.active)
    assert seen == pytest.approx([1 + 2 * step / 12 for step in range(12)])


def test_every_parameter_has_one_role_and_none_is_dynamic():
    field = awake()
    listed = [id(parameter) for group in field.roles().values() for parameter in group]
    assert sorted(listed) == sorted(id(parameter) for parameter in field.parameters())
    assert field.roles()["dynamic"] == [] and set(field.roles()) == {"static", "dynamic", "decoder", "material", "background"}


@pytest.mark.parametrize("rate", [1e-2, 0.0])
def test_a_term_that_must_not_touch_motion_trains_the_grid_at_the_static_rate(rate):
    still = Stage((term("multi-view", 4),), rates=LearningRates(static=rate, dynamic=1.0))
    job = distiller(awake(), still)
    before = job.work.field.grid.table.detach().clone()
    job.advance()
    assert float((job.work.field.grid.table.detach() - before).abs().max()) == pytest.approx(rate, rel=1e-3)


def test_a_stage_of_one_instant_leaves_other_times_alone_and_the_split_field_does_not():
    instant = dataclasses.replace(term("multi-view", 4), cameras=CameraSampler(views=4, time_range=(0.0, 0.0), distance=(2.9, 2.9), fov_degrees=(42.0, 42.0)))
    stage = Stage((instant,), rates=LearningRates(static=3e-2, decoder=0.0, background=0.0))

    def change_at_the_end(field) -> float:
        job = distiller(field, stage)
        for _ in range(6):
            job.advance()
        with torch.no_grad():
            before, after = (some.density(0.6 * points(), torch.ones(64)) for some in (field, job.work.field))
        return float((after - before).abs().max())

    dense = dataclasses.replace(TINY, grid=dataclasses.replace(TINY.grid, log2_table=14))  # no two instants share a row; the grid wraps around at its border
    assert change_at_the_end(SingleGridField(dense, seeded())) == 0.0
    assert change_at_the_end(HashField(TINY_FIELD, seeded())) > 0.01


def test_a_stopped_run_goes_on_to_the_same_bytes(tmp_path):
    stage = Stage((term("multi-view", 4), term("video", 1, 4, motion=True)), probabilities=(0.5, 0.5), rates=LearningRates(static=1e-2))
    whole, store = distiller(awake(), stage), CheckpointStore(tmp_path)
    for _ in range(6):
        whole.advance()
    store.write(6, *whole.snapshot())
    again = distiller(awake(), stage)
    again.restore(store.latest())
    for job in (whole, again):
        for _ in range(4):
            job.advance()
    state = again.work.field.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in whole.work.field.state_dict().items())
    with pytest.raises(ValueError, match="holds a field of kind single grid, this graph has hash"):
        distiller(tiny_scene().field, stage).restore(store.latest())


@pytest.mark.parametrize("kind", sorted(FIELDS.keys() - {"dynamic gaussians", "hexplane", "deformable", "deformable gaussians"}))  # these have tests of their own
def test_every_kind_of_field_survives_a_file(kind, tmp_path):
    make, config = FIELDS[kind]
    field = {"hash": lambda: HashField(TINY_FIELD, seeded()), "single grid": awake}[kind]()
    assert type(field) is make and type(field.config) is config
    field.set_levels(2.5, 1)
    field.set_blob(0.8)
    save_scene(Scene(field), tmp_path / "field.safetensors")
    other = load_scene(tmp_path / "field.safetensors").field
    assert type(other) is make and other.config == field.config
    for one, two in zip(field(points(), moments()), other(points(), moments())):
        assert torch.equal(one, two)


def test_a_clone_is_equal_and_independent():
    field = awake()
    field.set_levels(2, 0)
    other = field.clone()
    assert torch.equal(field.density(points(), moments()), other.density(points(), moments()))
    with torch.no_grad():
        other.grid.table.zero_()
    assert not torch.equal(field.density(points(), moments()), other.density(points(), moments()))


def test_sizes_are_those_of_the_split_field():
    count = lambda *grids: sum(grid.entries for grid in grids)  # noqa: E731
    assert 1.0 < count(DEMO_SINGLE_GRID.grid) / count(DEMO_FIELD.static, DEMO_FIELD.dynamic) < 1.15
    assert 1.0 < count(PAPER_SINGLE_GRID.grid) / count(PAPER_FIELD.static, PAPER_FIELD.dynamic) < 1.15
    assert [level.nodes[0] for level in DEMO_SINGLE_GRID.grid.layout][::6] == [8, 96]


def test_bad_shapes_and_blobs_are_refused():
    with pytest.raises(ValueError, match="Set the grid's dimensions to 4"):
        SingleGridConfig(grid=HashGridConfig(dimensions=3))
    with pytest.raises(ValueError, match="above 0"):
        awake().set_blob(0)


def test_backgrounds():
    directions = torch.nn.functional.normalize(points(), dim=1)
    assert 0 < awake().background(directions).min() and awake().background(directions).shape == (64, 3)
    assert SingleGridField(dataclasses.replace(TINY, background=BackgroundConfig())).background(directions) is None
