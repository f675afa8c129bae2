"""Penalties (specification 0.6): value and gradient of each in closed form, which way each drives a field, and who pays them."""

import math
from dataclasses import replace

import pytest
import torch
from deformable_scenes import awake, deformable
from toy_fields import SlopingFog
from toy_scenes import ball_prior, term, tiny_renderer, tiny_scene

from bloom4d.models.geometry.cameras import FixedCameras, Viewpoint, view_time_grid
from bloom4d.models.guidance.reference import Reference, ReferenceView
from bloom4d.models.guidance.regularisers import Regularisers, opaque, orientation, penalty, sparsity, z_variance
from bloom4d.models.guidance.schedules import Schedule, constant
from bloom4d.models.optimize.loop import Distiller
from bloom4d.models.optimize.scene import Scene
from bloom4d.models.optimize.stages import LearningRates, Resolution, Stage
from bloom4d.models.render.facing import density_normals, facing_away
from bloom4d.models.render.occupancy import OccupancyConfig
from bloom4d.models.render.volume import VolumeRenderer, VolumeRendererConfig

RENDERER = VolumeRenderer(VolumeRendererConfig(samples=64, bounds="ball", occupancy=OccupancyConfig(resolution=8, slabs=2)))
NAMES = ("opaque", "sparsity", "z_variance", "orientation")


def leaf(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def slopes(penalised: torch.Tensor, *inputs: torch.Tensor) -> list:
    return [None if value is None else value.tolist() for value in torch.autograd.grad(penalised, inputs, allow_unused=True)]


def test_opaque_is_the_binary_entropy_and_drives_opacity_from_a_half_to_its_nearer_end():
    opacity = leaf(0.2, 0.5, 0.9)
    entropy = -sum(p * math.log(p) + (1 - p) * math.log(1 - p) for p in (0.2, 0.5, 0.9)) / 3
    assert float(opaque(opacity).detach()) == pytest.approx(entropy, rel=1e-12)
    (below, half, above), = slopes(opaque(opacity), opacity)
    assert below == pytest.approx(math.log(0.8 / 0.2) / 3) and below > 0, "descent makes it less"
    assert half == pytest.approx(0.0, abs=1e-12)
    assert above == pytest.approx(math.log(0.1 / 0.9) / 3) and above < 0, "descent makes it more"
    assert float(opaque(leaf(0.0, 1.0)).detach()) == pytest.approx(-(0.001 * math.log(0.001) + 0.999 * math.log(0.999)), rel=1e-12)


def test_sparsity_is_nearly_the_opacity_and_drives_it_down():
    opacity = leaf(0.0, 0.3, 1.0)
    assert float(sparsity(opacity).detach()) == pytest.approx((0.1 + math.sqrt(0.1) + math.sqrt(1.01)) / 3, rel=1e-12)
    (none, some, all_of_it), = slopes(sparsity(opacity), opacity)
    assert none == 0.0 and some == pytest.approx(0.3 / math.sqrt(0.1) / 3) and all_of_it == pytest.approx(1 / math.sqrt(1.01) / 3)


def test_z_variance_is_the_mean_over_rays_that_hit_and_drives_it_down():
    variance, opacity = leaf(1.0, 3.0, 100.0), leaf(0.9, 0.6, 0.2)
    assert float(z_variance(variance, opacity).detach()) == 2.0
    first, second = slopes(z_variance(variance, opacity), variance, opacity)
    assert first == [0.5, 0.5, 0.0] and second is None, "which rays hit is no part of it"
    assert float(z_variance(variance, leaf(0.5, 0.1, 0.0)).detach()) == 0.0


def test_orientation_is_the_mean_over_rays_that_see_anything():
    away, opacity = leaf(0.2, 0.4, 0.0, 0.0), leaf(1.0, 0.01, 0.3, 0.0)
    assert float(orientation(away, opacity).detach()) == pytest.approx(0.2)
    first, second = slopes(orientation(away, opacity), away, opacity)
    assert first == pytest.approx([1 / 3] * 4) and second is None
    assert float(orientation(leaf(0.0), leaf(0.0)).detach()) == 0.0


def test_a_surface_faces_away_when_its_normal_goes_along_the_ray():
    along = torch.tensor([[0.0, 0.0, -1.0]] * 4, dtype=torch.float64)
    normals = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, 0.8, -0.6]], dtype=torch.float64)
    assert facing_away(normals, along).tolist() == pytest.approx([0.0, 1.0, 0.0, 0.36])


def test_normals_point_to_where_density_falls():
    """A ball whose density falls outwards: normals point away from its middle; the other way round with the density's sign."""

    class Ball:
        sign = 1.0

        def density(self, positions, times):
            return self.sign * (5.0 - positions.square().sum(-1))

    points = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    outwards = torch.nn.functional.normalize(points, dim=-1)
    assert torch.allclose(density_normals(Ball(), points, points[:, 0]), outwards, atol=1e-9)
    Ball.sign = -1.0
    assert torch.allclose(density_normals(Ball(), points, points[:, 0]), -outwards, atol=1e-9)


def pictures(field, cameras, chunk: int = 0, size: int = 5):
    return RENDERER.render_views(field, RENDERER.new_state(field), cameras, size, size, seed=3, chunk=chunk, facing_away=True)


def front(azimuth: float):
    return FixedCameras(Viewpoint(azimuth, 0.0, 2.9, 42.0, 0.0)).sample(torch.Generator().manual_seed(0)).to(torch.float64)


@pytest.mark.parametrize("opacity", [0.3, 0.49, 0.51, 0.9])
@pytest.mark.parametrize("azimuth", [0.0, 60.0, 180.0])
def test_rendered_orientation_is_opacity_by_squared_cosine_in_fog_of_one_normal(opacity, azimuth):
    """Every sample's weight counts, however thin the fog: nothing happens at an opacity of a half."""
    field = SlopingFog(base=-math.log(1.0 - opacity) / 2.0, slope=(0.0, 0.0, 1e-3))  # a ray through the middle is 2 long
    views = pictures(field, front(azimuth))
    normal = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)  # density grows towards +Z, where the camera of azimuth 0 is
    expected = views.opacity * torch.relu(views.directions @ normal).square()
    assert float(views.opacity.detach().max()) == pytest.approx(opacity, abs=0.01)
    assert torch.allclose(views.facing_away, expected, atol=1e-9)
    assert bool(expected.any()) == (azimuth < 90.0), "a surface that looks at the camera costs nothing"


def test_its_gradient_turns_the_normal_and_leaves_the_weights_alone():
    field = SlopingFog(slope=(0.03, -0.05, 0.1))
    cameras = view_time_grid(3, 1).to(torch.float64)
    views = pictures(field, cameras)
    found = torch.autograd.grad(penalty({"orientation": 2.0}, views), [field.slope, field.base], allow_unused=True)
    slope = field.slope.detach().clone().requires_grad_()
    turned = torch.relu(views.directions @ -torch.nn.functional.normalize(slope, dim=0)).square()  # the formula again, of one normal for all
    again = 2.0 * (views.opacity.detach() * turned).sum() / (views.opacity > 0).sum()
    expected, = torch.autograd.grad(again, slope)
    assert expected.norm() > 0.1 and torch.allclose(found[0], expected, rtol=1e-6, atol=1e-8)
    assert float(found[1].abs()) < 1e-9 * float(expected.norm()), "more or less fog of the same slope is the same to it"


def rough() -> Scene:
    """A bumpy surface: the smooth ball of the start faces every camera."""
    scene = tiny_scene()
    with torch.no_grad():
        scene.field.static.table.normal_(generator=torch.Generator().manual_seed(1))
    return scene


@pytest.mark.parametrize("kind", ["hash", "deformable"])
@pytest.mark.parametrize("chunk", [1, 7, 50])
def test_all_penalties_have_the_gradient_of_the_whole_in_any_chunk(chunk, kind):
    weights = {"opaque": 0.3, "sparsity": 0.5, "z_variance": 2.0, "orientation": 1.5}

    def gradients(chunk):
        field = (rough().field if kind == "hash" else awake(deformable(), 0.3)).double()
        views = pictures(field, view_time_grid(3, 1).to(torch.float64), chunk)
        penalty(weights, views).backward()
        return {name: value.grad for name, value in field.named_parameters() if value.grad is not None}

    whole, parts = gradients(0), gradients(chunk)
    assert whole.keys() == parts.keys() and {"hash": "static.table", "deformable": "moving.grid.table"}[kind] in whole
    for name, value in whole.items():
        assert (parts[name] - value).norm() <= 1e-6 * value.norm(), name


def test_normals_are_rendered_only_when_asked_for_and_change_nothing_else():
    field = rough().field.double()
    cameras = view_time_grid(3, 1).to(torch.float64)
    without = RENDERER.render_views(field, RENDERER.new_state(field), cameras, 5, 5, seed=3)
    with_them = pictures(field, cameras)
    assert without.facing_away is None and with_them.facing_away.shape == (3, 5, 5) and with_them.facing_away.max() > 0
    for name in ("rgb", "opacity", "depth", "z_variance"):
        assert torch.equal(getattr(without, name), getattr(with_them, name)), name


def charged(weights: Regularisers, scene: Scene | None = None, steps: int = 12) -> Scene:
    """A field after some steps in which nothing but penalties counts."""
    quiet = replace(term("image", 4), weight=constant(0.0))
    rates = LearningRates(static=2e-2, decoder=5e-3)
    work = Distiller(scene or rough(), Stage((quiet,), rates=rates, regularisers=weights), [ball_prior()], tiny_renderer(), steps, 1)
    for _ in range(steps):
        work.advance()
    return work.scene()


@torch.no_grad()
def looked_at(scene: Scene) -> dict[str, float]:
    """What each penalty is about, measured by other means than its formula."""
    renderer, cameras = tiny_renderer(), view_time_grid(4, 1)
    state = renderer.new_state(scene.field)
    views = renderer.render_views(scene.field, state, cameras, 24, 24)
    normals = renderer.normal_views(scene.field, state, cameras, 24, 24)
    away = (normals * views.directions).sum(-1) > 0.0
    hit = views.opacity > 0.5
    return {
        "opaque": float((views.opacity - views.opacity.round()).abs().mean()),  # how far from 0 and 1
        "sparsity": float(views.opacity.mean()),
        "z_variance": float(views.z_variance[hit].mean()),
        "orientation": float((away * views.opacity).sum() / views.opacity.sum()),  # share of what is seen that faces away
    }


@pytest.mark.parametrize("name", NAMES)
def test_descent_goes_the_stated_way(name):
    """Less of what is penalised; the control, a reward of the same size, goes the other way."""
    start, less, more = (looked_at(scene)[name] for scene in (rough(), charged(Regularisers(**{name: constant(1.0)})), charged(Regularisers(**{name: constant(-1.0)}))))
    assert less < 0.9 * start and more > 1.02 * start


def fog(density: float) -> Scene:
    """Nearly uniform fog in the unit ball."""
    scene = tiny_scene()
    scene.field.config = replace(scene.field.config, blob=replace(scene.field.config.blob, height=0.0, bias=density))
    return scene


@torch.no_grad()
def middle(scene: Scene) -> float:
    """Mean opacity of the rays through the middle."""
    renderer = tiny_renderer()
    views = renderer.render_views(scene.field, renderer.new_state(scene.field), view_time_grid(2, 1), 8, 8)
    return float(views.opacity[:, 3:5, 3:5].mean())


@pytest.mark.parametrize(("density", "least", "most", "clears"), [(-4.0, 0.05, 0.5, True), (-2.0, 0.5, 0.95, False)])
def test_opaque_clears_thin_fog_and_fills_thick_fog(density, least, most, clears):
    before, after = middle(fog(density)), middle(charged(Regularisers(opaque=constant(1.0)), fog(density)))
    assert least < before < most and (after < before) == clears and after != before


# ---- who pays


def reference(size: int = 16):
    objective = ReferenceView(rgb=0.0, mask=0.0)
    picture = Reference(torch.zeros(size, size, 3), torch.zeros(size, size))
    return replace(term("reference", 1), cameras=FixedCameras(Viewpoint(0.0, 15.0, 2.9, 42.0, 0.0)), objective=objective, resolution=Resolution(size, size)), picture


def paid(terms, judges, **stage) -> dict:
    """Gradients of the first step, in which nothing but penalties counts."""
    silent = tuple(replace(item, weight=constant(0.0)) for item in terms)
    penalties = Regularisers(*(Schedule(1.0, 1.0) for _ in NAMES))
    work = Distiller(rough(), Stage(silent, regularisers=penalties, **stage), judges, tiny_renderer(), 10, seed=2)
    work._gather()
    return {name: value.grad.double() for name, value in work.work.field.named_parameters() if value.grad is not None and value.grad.any()}


def equal(one: dict, other: dict, factor: float = 1.0) -> bool:
    return one.keys() == other.keys() and all(float((value - factor * other[name]).norm()) <= 1e-5 * float(value.norm()) for name, value in one.items())


def test_a_reference_view_pays_nothing_beside_guidance():
    view, picture = reference()
    views = term("views", 4)
    alone = paid((views,), [ball_prior()])
    assert alone and equal(paid((views, view), [ball_prior(), picture]), alone)
    assert equal(paid((view, views), [picture, ball_prior()]), alone)
    assert not paid((view, views), [picture, ball_prior()], probabilities=(1.0, 0.0)), "nor in a step that drew it alone"


def test_a_stage_of_reference_views_alone_has_nobody_else_to_pay():
    view, picture = reference()
    assert paid((view,), [picture])


def test_the_weight_of_a_step_does_not_grow_with_the_groups_of_pictures():
    views, other = term("views", 4), term("other", 4, size=12)
    first, second = paid((views,), [ball_prior()]), paid((other,), [ball_prior()])
    both = paid((views, other), [ball_prior()] * 2)
    mean = {name: 0.5 * (value + second[name]) for name, value in first.items()}
    assert equal(both, mean) and not equal(first, second)
    same = replace(views, name="same")
    assert equal(paid((views, same), [ball_prior()] * 2), first), "one group of two terms pays what one term pays"
    assert equal(paid((views, other), [ball_prior()] * 2, probabilities=(1.0, 0.0)), first), "and so does a step of one drawn term"
    late = replace(other, begin=0.5)
    assert equal(paid((views, late), [ball_prior()] * 2), first), "a term that is not due has no pictures"
