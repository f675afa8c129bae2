"""Checks B1, B2, B4 and B5 of the specification: what stays frozen, where motion starts, what it may do, which levels take part."""

import dataclasses
import math
from dataclasses import replace

import pytest
import torch
from deformable_scenes import (
    TINY_DISPLACEMENT, awake, deformable, deformable_gaussians, gaussian_canonical, hash_canonical, hexplane_canonical, moments, moving_hash_canonical, points, seeded,
    single_grid_canonical, sums,
)  # fmt: skip
from toy_scenes import ball_prior, hybrid_stage, term, tiny_renderer

from bloom4d.models.fields.background import BackgroundConfig
from bloom4d.models.fields.deformed import RELEARNED_BACKGROUND, DeformableConfig
from bloom4d.models.fields.displacement import DEMO_DISPLACEMENT, PAPER_DISPLACEMENT, Displacement, DisplacementConfig
from bloom4d.models.geometry.cameras import view_time_grid
from bloom4d.models.guidance.schedules import Schedule
from bloom4d.models.optimize.checkpoint import CheckpointStore
from bloom4d.models.optimize.loop import Distiller
from bloom4d.models.optimize.scene import Scene
from bloom4d.models.optimize.stages import LearningRates, Stage
from bloom4d.models.render.splat_renderer import SplatRenderer
from bloom4d.models.render.volume import VolumeRenderer

CANONICALS = {
    "hash": hash_canonical,
    "moving hash": moving_hash_canonical,
    "single grid": single_grid_canonical,
    "hexplane": hexplane_canonical,
    "deformable": lambda: awake(deformable(), 0.3),
}
RATES = LearningRates(static=1e-2, dynamic=1e-2, decoder=1e-2, material=1e-2, background=1e-2)


def motion_stage(**changes) -> Stage:
    """Every role at work, with weight decay, and a term that may train them all."""
    return Stage((term("video", 1, 4, motion=True),), rates=RATES, weight_decay=0.1, **changes)


def distiller(field, stage=None, renderer=None, chunk=0, **changes) -> Distiller:
    return Distiller(Scene(field), stage or motion_stage(**changes), [ball_prior()], renderer or tiny_renderer(), 12, 1, chunk)


def advance(job, steps):
    for _ in range(steps):
        job.advance()
    return job


@pytest.mark.parametrize("kind", CANONICALS)
def test_b1_the_canonical_field_keeps_its_bytes_through_training_saving_and_going_on(kind, tmp_path):
    start = deformable(CANONICALS[kind](), background=RELEARNED_BACKGROUND)
    expected = sums(start)
    job, store = advance(distiller(start), 4), CheckpointStore(tmp_path)
    store.write(4, *job.snapshot())
    resumed = distiller(start)
    resumed.restore(store.latest())
    for work in (job, resumed):
        advance(work, 3)
        assert sums(work.work.field) == expected
        assert all(parameter.grad is None and not parameter.requires_grad for parameter in work.work.field.canonical.parameters())
    assert all(torch.equal(value, resumed.work.field.state_dict()[name]) for name, value in job.work.field.state_dict().items())
    moved = [name for name, value in job.work.field.state_dict().items() if not name.startswith("canonical.") and not torch.equal(value, start.state_dict()[name])]
    assert {"moving.grid.table", "moving.decoder.weights.0", "moving.decoder.weights.1"} <= set(moved)


def test_b1_half_precision_of_the_steps_changes_no_canonical_byte():
    start = deformable()
    job = distiller(start)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        advance(job, 3)
    assert sums(job.work.field) == sums(start)
    assert not torch.equal(job.work.field.moving.grid.table, start.moving.grid.table)


def test_b1_a_canonical_field_in_the_optimiser_would_change():
    class Leaky(type(deformable())):
        """The mistake: the canonical field's parameters have roles, and gradients are let through."""

        def roles(self):
            below = self.canonical.roles()
            return {role: [*mine, *below[role]] for role, mine in super().roles().items()}

    leaky = Leaky(deformable().config, seeded(1), hash_canonical())
    job = advance(distiller(leaky), 2)
    changed = {name for name, value in sums(leaky).items() if sums(job.work.field)[name] != value}
    assert {"canonical.static.table", "canonical.density_decoder.weights.0"} <= changed


def test_b1_the_hash_tells_of_every_byte_and_of_nothing_else():
    field = deformable()
    before = field.canonical_hash()
    assert before == awake(deformable()).canonical_hash() == deformable(scale=2.0, seed=5).canonical_hash()
    with torch.no_grad():
        field.canonical.static.table[3, 1] += 1e-7
    changed = field.canonical_hash()
    field.canonical.set_levels(2, 1)
    assert len({before, changed, field.canonical_hash(), deformable(single_grid_canonical()).canonical_hash()}) == 4


@pytest.mark.parametrize("kind", ["hash", "hexplane", "single grid", "deformable"])
def test_b2_at_the_start_every_time_shows_the_canonical_field_to_the_bit(kind):
    canonical, renderer, cameras = CANONICALS[kind](), tiny_renderer(), view_time_grid(2, 3)
    at_rest = deformable(canonical.clone())
    with torch.no_grad():
        for one, other in zip(at_rest(points(), moments()), canonical(points(), torch.zeros(64))):
            assert torch.equal(one, other)
        assert torch.equal(at_rest.density(points(), moments()), canonical.density(points(), torch.zeros(64)))
    for one, other in zip(at_rest(points(), moments()), canonical(points(), torch.zeros(64))):  # with a graph too
        assert torch.equal(one.detach(), other.detach())
    if kind not in ("hash", "hexplane"):
        return  # these move by themselves: their pictures at other times are others
    seen = [renderer.render_views(field, renderer.new_state(field), cameras, 16, 16) for field in (at_rest, canonical.requires_grad_(False))]
    assert torch.equal(seen[0].rgb, seen[1].rgb) and torch.equal(seen[0].depth, seen[1].depth) and seen[0].opacity.max() > 0.5
    moved = awake(at_rest)
    assert not torch.equal(renderer.render_views(moved, renderer.new_state(moved), cameras, 16, 16).rgb, seen[1].rgb)


def test_b2_a_canonical_field_that_moves_is_asked_at_the_chosen_time():
    canonical = moving_hash_canonical()
    for time in (0.0, 0.7):
        frozen = deformable(canonical.clone(), time=time)
        assert torch.equal(frozen(points(), moments())[0], canonical(points(), torch.full((64,), time))[0])
    assert not torch.equal(canonical(points(), torch.zeros(64))[0], canonical(points(), torch.full((64,), 0.7))[0])


def test_b2_gaussians_start_as_the_canonical_cloud_and_move_forwards():
    canonical = gaussian_canonical(moving=True)
    field, times = deformable_gaussians(canonical.clone(), time=0.5), torch.tensor([0.0, 0.3, 1.0])
    now, frozen = field.at(times).expanded(), canonical.at(torch.tensor([0.5])).expanded()
    assert all(torch.equal(value, frozen[name].expand_as(value)) for name, value in now.items())
    awake(field)
    d = field.displacement(frozen["positions"][0], torch.full((60,), 0.3))
    assert d.abs().max() > 0.05 and torch.allclose(field.at(times).positions[1], frozen["positions"][0] + 2 * d)
    assert torch.equal(field.at(times).expanded()["scales"], frozen["scales"].expand(3, 60, 3))


def test_gaussians_train_their_motion_and_nothing_else():
    start = deformable_gaussians()
    job = advance(distiller(start, renderer=SplatRenderer()), 3)
    assert sums(job.work.field) == sums(start) and start.count == 60
    now = job.work.field.at(torch.tensor([0.0, 1.0])).positions
    assert not torch.equal(now[0], now[1]) and job.work.field.bake(3).positions.shape == (3, 60, 3)


def test_b4_displacements_stay_inside_one_cube():
    reached = [awake(deformable(), size).displacement(points(4096), torch.rand(4096, generator=seeded(9))).abs().max() for size in (0.5, 3.0)]
    assert 0.1 < reached[0] < 1 and 0.99 < reached[1] <= 1  # rounding reaches the bound, nothing passes it


def test_b4_points_that_leave_the_cube_read_its_border_and_have_finite_gradients():
    field = awake(deformable(), 0.7)
    arrived = points() + 2 * field.displacement(points(), moments())
    left = arrived.abs().amax(dim=1) > 1
    assert left.any() and not left.all()
    density, colour = field(points(), moments())
    unit = (0.5 * points() + 0.5 + field.displacement(points(), moments())).clamp(0, 1)  # the specification's order
    assert torch.allclose(density, field.canonical(2 * unit - 1, torch.zeros(64))[0], rtol=1e-3, atol=1e-4)
    (density.sum() + colour.sum()).backward()
    gradients = [parameter.grad for parameter in field.moving.parameters()]
    assert all(torch.isfinite(gradient).all() for gradient in gradients) and any(gradient.any() for gradient in gradients)


class Sphere(torch.nn.Module):
    """A solid ball of radius .3, as a canonical field."""

    kind = "sphere"

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def roles(self):
        return {"static": [self.unused]}

    def is_static(self):
        return True

    def forward(self, positions, times):
        return self.density(positions, times), torch.ones_like(positions)

    def density(self, positions, times):
        return 1e4 * (positions.norm(dim=1) < 0.3)

    def background(self, directions):
        return None


DISTANCE = 3.0


def silhouette(field) -> float:
    """The radius of the round patch that a render shows, from its area, at unit distance before the camera."""
    sharp = VolumeRenderer(replace(tiny_renderer().config, samples=128))
    camera = view_time_grid(1, 1, distance=DISTANCE, fov_degrees=28.0)
    with torch.no_grad():
        opacity = sharp.render_views(field, sharp.new_state(field), camera, 96, 96).opacity[0]
    pixel = 2 * math.tan(math.radians(14.0)) / 96
    return float((opacity.sum() / math.pi).sqrt()) * pixel


@pytest.mark.parametrize("scale", [0.5, 1.5, 2.0])
def test_b4_the_scale_enlarges_the_silhouette(scale):
    reach = lambda field: float(max(x for x in torch.linspace(0, 1, 2001) if field.density(torch.tensor([[x, 0.0, 0.0]]), torch.zeros(1)) > 0))  # noqa: E731
    assert reach(deformable(Sphere(), scale=scale)) / reach(Sphere()) == pytest.approx(scale, rel=0.02)
    assert silhouette(deformable(Sphere(), scale=scale)) / silhouette(Sphere()) == pytest.approx(scale, rel=0.02)
    for size, field in ((0.3, Sphere()), (0.3 * scale, deformable(Sphere(), scale=scale))):
        assert silhouette(field) == pytest.approx(size / (DISTANCE**2 - size**2) ** 0.5, rel=0.015)  # the tangent of its cone
    cloud, larger = gaussian_canonical(), deformable_gaussians(scale=scale).at(torch.zeros(1))
    still = cloud.at(torch.zeros(1))
    assert torch.allclose(larger.positions, scale * still.positions) and torch.allclose(larger.scales, scale * still.scales)


def test_b4_the_displacement_is_twice_a_sigmoid_less_one_in_units_of_the_cube():
    field = awake(deformable())
    unit = torch.cat([points() * 0.5 + 0.5, moments()[:, None]], dim=1)
    first, last = field.moving.decoder.weights
    o = torch.relu(field.moving.grid(unit) @ first.t()) @ last.t()
    d = field.displacement(points(), moments())
    assert torch.allclose(d, torch.tanh(o / 2), atol=1e-6)
    expected = field.canonical((points() + 2 * d).clamp(-1, 1), torch.zeros(64))[0]
    assert torch.allclose(field(points(), moments())[0], expected)
    zoomed = deformable(scale=2.0)
    zoomed.load_state_dict(field.state_dict())
    p_c = ((points() * 0.5 + 0.5 + d) - 0.5) / 2.0 + 0.5  # the specification's form, in the unit cube
    assert torch.allclose(zoomed(points(), moments())[0], field.canonical(2 * p_c.clamp(0, 1) - 1, torch.zeros(64))[0], rtol=1e-3, atol=1e-4)


def test_b5_levels_join_one_by_one_every_500_steps():
    stage = motion_stage(dynamic_levels=Schedule(0.3333, 1.0), levels_every=500)
    assert [stage.active_levels(step, 10000, (16, 12))[1] for step in (0, 499, 500, 999, 1000, 3999, 4000, 9999)] == [4, 4, 5, 5, 6, 11, 12, 12]
    assert [stage.active_levels(step, 100, (16, 12))[0] for step in (0, 99)] == [16, 16]
    half = motion_stage(dynamic_levels=Schedule(1 / 3, 0.5), levels_every=10)
    assert half.active_levels(99, 100, (0, 12))[1] == 6 and half.active_levels(99, 100, (0, 0)) == (0, 0)
    fading = motion_stage(dynamic_levels=Schedule(1 / 3, 1.0, 0.0, 0.4))
    assert fading.active_levels(250, 10000, (0, 12))[1] == pytest.approx(4.5)


def test_b5_a_level_that_has_not_joined_gives_nothing_and_learns_nothing():
    shape = dataclasses.replace(PAPER_DISPLACEMENT, grid=dataclasses.replace(PAPER_DISPLACEMENT.grid, log2_table=8))
    field = awake(deformable(shape=shape), 0.3)
    stage = motion_stage(dynamic_levels=Schedule(1 / 3, 1.0), levels_every=500)
    layout = shape.grid.layout
    for step, active in ((0, 4), (499, 4), (500, 5), (4000, 12)):
        field.set_levels(*stage.active_levels(step, 10000, field.levels()))
        field.zero_grad(set_to_none=True)
        unit = torch.cat([points() * 0.5 + 0.5, moments()[:, None]], dim=1)
        features = field.moving.grid(unit, field.moving.active)
        assert not features[:, 2 * active :].any() and all(features[:, 2 * level].any() for level in range(active))
        field(points(), moments())[0].sum().backward()
        learned = [bool(field.moving.grid.table.grad[level.offset : level.offset + level.entries].any()) for level in layout]
        assert learned == [True] * active + [False] * (12 - active)


def test_b5_the_loop_sets_them():
    stage = motion_stage(dynamic_levels=Schedule(1 / 3, 1.0), levels_every=2)
    job, seen = distiller(deformable(), stage), []
    for _ in range(6):
        job.advance()
        seen.append(job.work.field.moving.active)
    assert seen == [1, 1, 2, 2, 3, 3]


def test_learning_rates_are_halved_where_the_published_code_does():
    rates = LearningRates(halved_at=(0.8, 0.9))
    assert [rates.factor(step, 10000) for step in (0, 7999, 8000, 8999, 9000, 9999)] == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert LearningRates(final=0.5, halved_at=(0.5,)).factor(50, 100) == 0.375
    with pytest.raises(ValueError, match="Give fractions between 0 and 1"):
        LearningRates(halved_at=(8000.0,))


def test_published_shape():
    assert [level.nodes[0] for level in PAPER_DISPLACEMENT.grid.layout] == [4, 6, 9, 13, 18, 26, 37, 54, 77, 112, 162, 234]
    network = Displacement(dataclasses.replace(PAPER_DISPLACEMENT, grid=dataclasses.replace(PAPER_DISPLACEMENT.grid, log2_table=4)), seeded())
    assert [tuple(weight.shape) for weight in network.decoder.weights] == [(64, 24), (64, 64), (64, 64), (64, 64), (3, 64)]
    assert len(RELEARNED_BACKGROUND.kind) and (RELEARNED_BACKGROUND.hidden, RELEARNED_BACKGROUND.layers) == (64, 3)
    assert DEMO_DISPLACEMENT.grid.layout[-1].nodes == (32, 32, 32, 8)


def test_a_positional_encoding_stands_in_the_grids_place():
    shape = DisplacementConfig(None, frequencies=2, hidden=16, layers=1)
    field = awake(deformable(shape=shape))
    x, t = points(1), moments(1)
    place = [*(x[0] * 0.5 + 0.5).tolist(), float(t)]
    angles = torch.tensor([torch.pi * 2**k * value for value in place for k in range(2)])
    features = torch.cat([angles.sin(), angles.cos()])
    first, last = field.moving.decoder.weights
    assert torch.allclose(field.displacement(x, t)[0], torch.tanh(last @ torch.relu(first @ features) / 2), atol=1e-5)
    assert field.levels() == (0, 0) and field.roles()["dynamic"] == [] and deformable(shape=shape).requires_grad_(False).is_static() and not field.is_static()
    assert first.shape[1] == 16 and DisplacementConfig(None).frequencies == 6


def test_every_trained_parameter_has_one_role_and_no_canonical_one_has():
    field = deformable(background=RELEARNED_BACKGROUND)
    listed = [id(parameter) for group in field.roles().values() for parameter in group]
    trained = [id(parameter) for name, parameter in field.named_parameters() if not name.startswith("canonical.")]
    assert sorted(listed) == sorted(trained) and field.roles()["static"] == []
    assert set(field.roles()) == {"static", "dynamic", "decoder", "material", "background"}


def test_a_term_that_must_not_touch_motion_leaves_the_grid_alone():
    job = Distiller(Scene(deformable()), hybrid_stage(probabilities=(1.0, 0.0, 0.0), rates=RATES), [ball_prior()] * 3, tiny_renderer(), 12, 1)
    before = job.work.field.moving.grid.table.detach().clone()
    assert torch.equal(advance(job, 2).work.field.moving.grid.table, before)


def test_a_background_is_kept_frozen_or_learned_anew():
    ways = torch.nn.functional.normalize(points(), dim=1)
    with_network = hash_canonical()
    with_network = type(with_network)(dataclasses.replace(with_network.config, background=BackgroundConfig("network")), seeded())
    assert torch.equal(deformable(with_network.clone()).background(ways), with_network.background(ways))
    own = deformable(with_network.clone(), background=RELEARNED_BACKGROUND)
    assert not torch.equal(own.background(ways), with_network.background(ways)) and len(own.roles()["background"]) == 4
    assert deformable().background(ways) is None and deformable().roles()["background"] == []


def test_clones_and_calls_never_thaw_the_canonical_field():
    field = awake(deformable(background=RELEARNED_BACKGROUND))
    other = field.requires_grad_(False).clone()
    assert all(parameter.requires_grad == (not name.startswith("canonical.")) for name, parameter in other.named_parameters())
    assert all(torch.equal(one, two) for one, two in zip(field(points(), moments()), other(points(), moments())))
    with torch.no_grad():
        other.canonical.static.table.zero_()
        other.moving.grid.table.zero_()
    assert field.canonical.static.table.any() and field.moving.grid.table.any()


def test_chunks_give_the_same_step():
    whole, parts = (advance(distiller(deformable(), chunk=chunk), 2) for chunk in (0, 100))
    for name, value in whole.work.field.state_dict().items():
        assert torch.allclose(value, parts.work.field.state_dict()[name], atol=2e-5), name


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match="Set the grid's dimensions to 4"):
        DisplacementConfig(dataclasses.replace(PAPER_DISPLACEMENT.grid, dimensions=3))
    with pytest.raises(ValueError, match="1 to 16 frequencies"):
        DisplacementConfig(None, frequencies=0)
    for wrong in ({"scale": 0.0}, {"scale": float("nan")}, {"time": 1.5}):
        with pytest.raises(ValueError, match="Change"):
            DeformableConfig(TINY_DISPLACEMENT, **wrong)
    with pytest.raises(ValueError, match="dynamic gaussians, which has none"):
        deformable(gaussian_canonical())
    with pytest.raises(ValueError, match="hash field, which has none"):
        deformable_gaussians(hash_canonical())
    with pytest.raises(ValueError, match="Connect a Splat Renderer"):
        tiny_renderer().check(deformable_gaussians())
    with pytest.raises(ValueError, match="deformable field has none. Connect a Volume Renderer"):
        SplatRenderer().check(deformable())


def test_the_backend_of_a_device_reaches_every_grid_inside():
    from bloom4d.models.fields.hash_grid import HashGrid, encode
    from bloom4d.models.render import backend

    field = awake(deformable(deformable()), 0.3)
    expected = field(points(), moments())[0]
    backend.equip(field, torch.device("cpu"))
    grids = [part for part in field.modules() if isinstance(part, HashGrid)]
    assert len(grids) == 4 and all(vars(grid)["encoder"] is backend.implementation("hash grid") for grid in grids)
    assert torch.allclose(field(points(), moments())[0], expected, rtol=1e-3, atol=1e-4)
    assert all(part.encoder is encode for part in field.clone().modules() if isinstance(part, HashGrid))
