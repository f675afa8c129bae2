"""Check B3 of the specification, what the renderers say of a displacement, and how the loop applies the penalty."""

from dataclasses import replace

import pytest
import torch
from deformable_scenes import awake, deformable, deformable_gaussians, hash_canonical, seeded
from toy_scenes import ball_prior, term, tiny_renderer

from bloom4d.models.geometry.cameras import CameraSampler, Viewpoint, view_time_grid
from bloom4d.models.guidance.displacement import displacement_tv, normalisation
from bloom4d.models.guidance.objective import Pictures
from bloom4d.models.guidance.schedules import constant
from bloom4d.models.optimize.loop import Distiller
from bloom4d.models.optimize.scene import Scene
from bloom4d.models.optimize.stages import LearningRates, Stage
from bloom4d.models.render.splat_renderer import SplatRenderer

F, H, W = 5, 4, 6
SLOPE = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)
NEIGHBOURS = {"time": (F - 1) * H * W, "rows": F * (H - 1) * W, "columns": F * H * (W - 1)}


def ramp(*axes: str) -> torch.Tensor:
    """D = c (index along each of the axes), (F, H, W, 3)."""
    index = dict(zip(NEIGHBOURS, torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (F, H, W)), indexing="ij")))
    return sum(index[axis][..., None] * SLOPE for axis in axes)


@pytest.mark.parametrize("axes", [("time",), ("rows",), ("columns",), ("time", "columns"), ("time", "rows", "columns")])
def test_b3_a_ramp_costs_its_squared_slope_at_every_pair_and_axes_add_up(axes):
    expected = sum(NEIGHBOURS[axis] for axis in axes) * float(SLOPE.square().sum())
    assert float(displacement_tv(ramp(*axes))) == pytest.approx(expected, rel=1e-12)


def test_b3_the_specifications_ramp():
    assert float(displacement_tv(ramp("columns"))) == pytest.approx(F * H * (W - 1) * (0.09 + 0.04 + 0.25))


def test_b3_a_constant_costs_nothing_and_adding_one_changes_nothing():
    assert float(displacement_tv(SLOPE.expand(F, H, W, 3))) == 0.0
    video = torch.randn(F, H, W, 3, dtype=torch.float64, generator=seeded())
    assert float(displacement_tv(video + SLOPE)) == pytest.approx(float(displacement_tv(video)), rel=1e-12)


def test_b3_the_gradient_equals_finite_differences():
    video = torch.randn(3, 3, 3, 3, dtype=torch.float64, generator=seeded(), requires_grad=True)
    assert torch.autograd.gradcheck(displacement_tv, (video,))


def test_videos_are_averaged_and_never_compared():
    one, other = ramp("columns"), ramp("time", "rows")
    mean = (displacement_tv(one) + displacement_tv(other)) / 2
    assert float(displacement_tv(torch.stack([one, other]))) == pytest.approx(float(mean), rel=1e-12)
    assert float(displacement_tv(ramp("columns")[:1])) == pytest.approx(H * (W - 1) * float(SLOPE.square().sum()))  # a single time has no neighbours


def test_the_weight_is_the_published_one_at_the_published_size():
    assert normalisation(24, 80, 144) == 1 and normalisation(24, 40, 72) == 4 and normalisation(12, 80, 144) == 2


def pictures(field, renderer, chunk=0, **wanted):
    cameras = view_time_grid(2, 3).to(next(field.parameters()).dtype)
    return renderer.render_views(field, renderer.new_state(field), cameras, 12, 12, 5, chunk, **wanted)


class Shifted(type(deformable())):
    """A field whose displacement is known: (.1, .2 t, 0)."""

    def displacement(self, positions, times):
        return torch.stack([torch.full_like(times, 0.1), 0.2 * times, torch.zeros_like(times)], dim=-1)


def test_a_displacement_is_weighted_as_colours_are_and_nothing_lies_behind_it():
    field = awake(Shifted(deformable().config, seeded(), hash_canonical()))
    views = pictures(field, tiny_renderer(), displacement=True)
    moment = view_time_grid(2, 3).times[:, None, None]
    expected = torch.stack([0.1 * views.opacity, 0.2 * moment * views.opacity, torch.zeros_like(views.opacity)], dim=-1)
    assert views.opacity.max() > 0.5 and torch.allclose(views.displacement, expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["volume", "splats"])
def test_it_is_rendered_only_when_wanted_and_changes_nothing_else(kind):
    field, renderer = (awake(deformable(), 0.3), tiny_renderer()) if kind == "volume" else (awake(deformable_gaussians(), 0.3), SplatRenderer())
    without, with_it = pictures(field, renderer), pictures(field, renderer, displacement=True)
    assert without.displacement is None and with_it.displacement.shape == (6, 12, 12, 3) and with_it.displacement.abs().max() > 1e-3
    assert torch.equal(without.rgb, with_it.rgb) and torch.equal(without.opacity, with_it.opacity) and torch.equal(without.depth, with_it.depth)


@pytest.mark.parametrize("chunk", [7, 100])
def test_its_gradient_through_any_chunk_is_the_gradient_of_the_whole(chunk):
    def gradients(chunk):
        field = awake(deformable().double(), 0.3)
        views = pictures(field, tiny_renderer(), chunk, displacement=True)
        (displacement_tv(views.displacement.unflatten(0, (3, 2)).movedim(1, 0)) + views.rgb.square().sum()).backward()
        return [parameter.grad for parameter in field.moving.parameters()]

    for whole, parts in zip(gradients(0), gradients(chunk)):
        assert whole.any() and float((whole - parts).norm() / whole.norm()) < 1e-6


def test_splats_show_the_displacement_of_each_gaussian():
    field = awake(deformable_gaussians(), 0.3)
    with torch.no_grad():
        field.canonical.logits.fill_(20.0)
        views = pictures(field, SplatRenderer(), displacement=True)
    d = field.displacement(field.canonical.positions, torch.zeros(60))
    low, high = d.amin(0), d.amax(0)
    solid = views.displacement[:2][views.opacity[:2] > 0.99]  # the cameras of t = 0
    assert len(solid) > 5 and bool(((solid >= low - 0.02) & (solid <= high + 0.02)).all())


def job(field, weight, normalised=True, views=1):
    video = term("video", views, 4, motion=True, displacement_tv=constant(weight), displacement_tv_normalised=normalised)
    rates = LearningRates(static=0.0, dynamic=1e-2, decoder=1e-2)
    return Distiller(Scene(field), Stage((video,), rates=rates), [ball_prior()], tiny_renderer(), 12, 1)


def gathered(field, weight, normalised=True, views=1):
    """Gradient of the first step in the displacement's grid."""
    work = job(field, weight, normalised, views)
    work._gather()
    return work.work.field.moving.grid.table.grad


def test_the_loop_adds_the_penalty_of_each_cameras_own_video():
    field = awake(deformable(), 0.3)
    for views in (1, 2):
        base, one, two, raw = (gathered(field, *how, views) for how in ((0.0,  True), (1.0, True), (2.0, True), (1.0, False)))
        assert torch.allclose(two - base, 2 * (one - base), rtol=1e-3, atol=1e-4 * float((one - base).abs().max()))
        factor = 80 * 144 * 24 / (4 * 16 * 16)
        assert float((one - base).norm() / (raw - base).norm()) == pytest.approx(factor, rel=1e-2)


def test_neighbours_in_time_are_neighbours_however_a_scene_begins():
    """Scenes that begin with a given picture of a later time; everything moves along x as far as time has gone."""
    sampler = CameraSampler(views=1, frames=4, first=Viewpoint(time=0.5))
    video = term("video", 1, 4, motion=True, displacement_tv=constant(1.0))
    work = job(deformable(), 1.0)
    cameras = sampler.sample(torch.Generator().manual_seed(0), 3)
    times = cameras.times.view(3, 4)
    assert (times[:, 0] == 0.5).all() and not torch.equal(times, times.sort(1).values)
    moved = torch.zeros(12, 16, 16, 3)
    moved[..., 0] = cameras.times.view(12, 1, 1)
    seen = pictures(deformable(), tiny_renderer())
    shown = Pictures(replace(seen, displacement=moved), cameras, torch.ones(3))
    expected = float(times.sort(1).values.diff(dim=1).square().sum() / 3 * 16 * 16)
    video = replace(video, cameras=sampler, displacement_tv_normalised=False)
    assert float(work._jitter(video, shown)) == pytest.approx(expected, rel=1e-5)
    assert float(displacement_tv(moved.unflatten(0, (3, 4)))) > 1.2 * expected  # in the order of the scene


def test_a_heavy_penalty_calms_the_motion():
    def energy(weight):
        work = job(awake(deformable(), 0.2), weight)
        for _ in range(12):
            work.advance()
        with torch.no_grad():
            return float(displacement_tv(pictures(work.work.field, tiny_renderer(), displacement=True).displacement.unflatten(0, (3, 2)).movedim(1, 0)))

    assert energy(1e4) < 0.5 * energy(0.0)


def test_a_field_that_displaces_nothing_is_refused_in_one_line():
    with pytest.raises(ValueError, match=r'^The term "video" has a Displacement TV, and a field of hash displaces nothing\. Bypass Displacement TV, or put[^\n]*$'):
        job(hash_canonical(), 1000.0)
    job(hash_canonical(), 0.0).advance()
