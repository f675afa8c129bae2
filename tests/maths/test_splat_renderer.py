"""Gaussians under the same optimisers, sheets and files as every other field, and pairs that do not fit."""

import math
from dataclasses import replace

import pytest
import torch
from test_refine import CONFIG, drawing_prior
from toy_scenes import ball_pictures, ball_prior, hybrid_stage, tiny_renderer, tiny_scene

from bloom4d.models.gaussians.activation import cloud
from bloom4d.models.gaussians.deformation import DeformationConfig
from bloom4d.models.gaussians.dynamic import DynamicGaussians, DynamicGaussiansConfig
from bloom4d.models.gaussians.hexplane import HexPlaneConfig
from bloom4d.models.geometry.cameras import Cameras, orbit, view_time_grid
from bloom4d.models.geometry.isosurface import isosurface
from bloom4d.models.guidance.regularisers import Regularisers
from bloom4d.models.guidance.schedules import Schedule
from bloom4d.models.optimize.checkpoint import CheckpointStore
from bloom4d.models.optimize.loop import Distiller
from bloom4d.models.optimize.refine import Refiner
from bloom4d.models.optimize.runs import Pace, run
from bloom4d.models.optimize.scene import Scene
from bloom4d.models.optimize.scene_files import load_scene, save_scene
from bloom4d.models.optimize.stages import LearningRates
from bloom4d.models.render.frames import render_frames
from bloom4d.models.render.renderer import default_renderer
from bloom4d.models.render.splat_projection import SplatSettings
from bloom4d.models.render.splat_renderer import SplatRenderer
from bloom4d.models.render.volume import VolumeRenderer

EXACT = SplatSettings(max_alpha=0.999)
RENDERER = SplatRenderer(EXACT)
SMALL = DynamicGaussiansConfig(deformation=DeformationConfig(HexPlaneConfig(channels=4, resolution=4, levels=(1,), times=3), hidden=8))
RATES = LearningRates(static=2e-2, dynamic=5e-2, decoder=2e-2)


def field_of(count=60, dtype=torch.float64, moving=True) -> DynamicGaussians:
    field = DynamicGaussians(SMALL, torch.Generator().manual_seed(3), count).to(dtype)
    with torch.no_grad():
        field.logits += 2.0
        field.quaternions.copy_(torch.randn(count, 4, generator=torch.Generator().manual_seed(1)))
        if moving:
            for parameter in field.deformation.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)).to(dtype))
    return field


def scene_of(count=150) -> Scene:
    return Scene(DynamicGaussians(SMALL, torch.Generator().manual_seed(0), count))


def layers(*heights, opacity=0.8, size=0.6) -> DynamicGaussians:
    """Round Gaussians on the axis of a camera on +Z."""
    field = DynamicGaussians(DynamicGaussiansConfig(deformation=None), count=len(heights)).double()
    positions = torch.tensor([(0.0, 0.0, height) for height in heights], dtype=torch.float64)
    field.set_raw(cloud(positions, torch.full_like(positions, 0.5), torch.full((len(heights),), size, dtype=torch.float64), opacity, 0))
    return field


def front(distance=2.9) -> Cameras:
    zero = torch.zeros(1, dtype=torch.float64)
    return Cameras(orbit(zero, zero, zero + distance), zero + math.radians(42.0), zero)


@pytest.mark.parametrize("chunk", [1, 300, 700])
def test_any_chunk_gives_pictures_and_gradient_of_the_whole(chunk):
    cameras, results = view_time_grid(2, 3).to(torch.float64), []
    for pixels in (0, chunk):
        field = field_of()
        field.quaternions.requires_grad_(False)  # a frozen parameter among the others
        views = RENDERER.render_views(field, RENDERER.new_state(field), cameras, 16, 16, None, pixels)
        weights = torch.randn(views.rgb.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
        ((views.rgb * weights).sum() + views.opacity.square().sum() + views.depth.sum() + views.z_variance.sum()).backward()
        results.append((views, {name: parameter.grad for name, parameter in field.named_parameters() if parameter.grad is not None}))
    (whole, expected), (parts, found) = results
    assert expected.keys() == found.keys() and "positions" in found and "quaternions" not in found and parts.samples == whole.samples > 0
    for name in ("rgb", "opacity", "depth", "z_variance"):
        assert (getattr(parts, name) - getattr(whole, name)).abs().max() < 1e-12
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-10 * gradient.norm(), name


def test_chunks_keep_no_graph_and_see_the_scene_as_it_was():
    field, kept = field_of(), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda tensor: tensor):
        RENDERER.render_views(field, RENDERER.new_state(field), view_time_grid(2, 2).to(torch.float64), 16, 16, None, 256).rgb.sum()
    assert sum(kept) < 16 * 16 * 4 * 8, "only what follows the render is kept, a few numbers per pixel"


def test_depth_is_along_the_ray_and_its_variance_that_of_the_layers():
    field, size = layers(0.5, -0.5), 17
    seen = RENDERER.render_views(field, RENDERER.new_state(field), front(), size, size)
    first, second = 0.8, 0.2 * 0.8
    near, far = 2.4, 3.4
    mean = first * near + second * far
    middle = (0, size // 2, size // 2)
    assert float(seen.depth[middle].detach()) == pytest.approx(mean) and float(seen.opacity[middle].detach()) == pytest.approx(first + second)
    assert float(seen.z_variance[middle].detach()) == pytest.approx(first * (near - mean) ** 2 + second * (far - mean) ** 2)
    single = layers(0.0)
    seen = RENDERER.render_views(single, RENDERER.new_state(single), front(), size, size)
    corner = (0, 3, 4)
    cosine = -float(seen.directions[corner][2])
    assert float((seen.depth[corner] / seen.opacity[corner]).detach()) == pytest.approx(2.9 / cosine)


def test_times_that_cameras_share_are_deformed_once():
    field, asked = field_of(), []
    original = field.deformation.forward
    field.deformation.forward = lambda positions, times: asked.append(times.tolist()) or original(positions, times)
    cameras = view_time_grid(3, 2).to(torch.float64)
    together = RENDERER.render_views(field, RENDERER.new_state(field), cameras, 8, 8)
    assert asked == [[0.0, 1.0]]
    alone = RENDERER.render_views(field, RENDERER.new_state(field), cameras.select(slice(4, 5)), 8, 8)
    assert (together.rgb[4] - alone.rgb[0]).abs().max() < 1e-12


def test_normals_of_a_ball_point_outwards():
    draws = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(4000, 3, generator=draws, dtype=torch.float64), dim=-1)
    field = DynamicGaussians(DynamicGaussiansConfig(deformation=None), count=4000).double()
    field.set_raw(cloud(0.6 * directions, directions, torch.full((4000,), 0.02, dtype=torch.float64), 0.95, 0))
    cameras = view_time_grid(2, 1).to(torch.float64)
    frames = render_frames(field, RENDERER, cameras, 48, 48)
    covered = frames.normals.norm(dim=-1) > 0
    assert ((frames.alpha > 0.5) >= covered).all() and covered.double().mean() > 0.1
    origins, rays, _ = cameras.rays(48, 48)
    points = (origins + rays * frames.depth.view(-1, 1)).view(2, 48, 48, 3)
    agreement = (frames.normals * torch.nn.functional.normalize(points, dim=-1)).sum(-1)[covered]
    assert agreement.median() > 0.95 and (agreement > 0.7).double().mean() > 0.9
    assert frames.background is None


def test_random_pixels_are_whole_random_pictures():
    field, cameras = field_of(), view_time_grid(5, 2).to(torch.float64)
    state = RENDERER.new_state(field)
    pixel, rgb, opacity = RENDERER.render_pixels(field, state, cameras, 8, 8, 100, torch.Generator().manual_seed(0))
    assert pixel.unique().numel() == 2 * 64 and rgb.shape == (128, 3)
    whole = RENDERER.render_views(field, state, cameras, 8, 8)
    assert (whole.rgb.reshape(-1, 3)[pixel] - rgb).abs().max() < 1e-12 and (whole.opacity.flatten()[pixel] - opacity).abs().max() < 1e-12
    everything, _, _ = RENDERER.render_pixels(field, state, cameras, 8, 8, 10_000, torch.Generator().manual_seed(0))
    assert everything.unique().numel() == 640
    other, _, _ = RENDERER.render_pixels(field, state, cameras, 8, 8, 100, torch.Generator().manual_seed(1))
    assert set((other // 64).tolist()) != set((pixel // 64).tolist())


def distiller(seed=1, steps=24) -> Distiller:
    stage = hybrid_stage(rates=RATES)
    return Distiller(scene_of(), stage, [ball_prior()] * 3, RENDERER, steps, seed)


def test_gaussians_learn_a_moving_scene_from_a_prior():
    grid, job = view_time_grid(3, 3), distiller(steps=120)
    error = lambda: float((_rgba(job.work.field, grid) - ball_pictures(grid, 16)).square().mean())  # noqa: E731
    before = error()
    run(job)
    assert error() < 0.7 * before
    early, late = _rgba(job.work.field, view_time_grid(1, 2))[:, 3].sum(dim=(1, 2))
    assert late > 1.3 * early  # the ball grows


def _rgba(field, cameras):
    with torch.no_grad():
        seen = RENDERER.render_views(field, RENDERER.new_state(field), cameras, 16, 16)
    return torch.cat([seen.rgb, seen.opacity[..., None]], dim=-1).movedim(-1, 1)


def test_steps_and_resumed_steps_give_the_same_bytes(tmp_path):
    whole, half = distiller(), distiller()
    run(whole)
    for _ in range(12):
        half.advance()
    store = CheckpointStore(tmp_path)
    store.write(half.step, *half.snapshot())
    resumed = distiller()
    resumed.restore(store.latest())
    run(resumed)
    for (name, value), (_, other) in zip(whole.work.field.state_dict().items(), resumed.work.field.state_dict().items()):
        assert torch.equal(value, other), name


def test_refinement_fits_gaussians_to_redrawn_pictures():
    job = Refiner(scene_of(), drawing_prior(True), RENDERER, replace(CONFIG, rates=RATES, rays=512), 90, seed=1)
    first = job.work.field.clone()
    run(job, pace=Pace(preview=0))
    grid = view_time_grid(3, 3)
    errors = [float((_rgba(field, grid) - ball_pictures(grid, 16)).square().mean()) for field in (first, job.work.field)]
    assert errors[1] < 0.85 * errors[0]


def test_a_saved_field_of_gaussians_looks_the_same(tmp_path):
    field = field_of(dtype=torch.float32)
    save_scene(Scene(field), tmp_path / "field.safetensors")
    loaded = load_scene(tmp_path / "field.safetensors").field
    assert torch.equal(_rgba(field, view_time_grid(2, 2)), _rgba(loaded, view_time_grid(2, 2)))


def test_pairs_that_do_not_fit_are_refused_in_one_line():
    gaussians, radiance = field_of(), tiny_scene().field
    times = torch.zeros(1)
    orientation = Regularisers(orientation=Schedule(0.0, 1.0))
    for wrong, word in (
        (lambda: tiny_renderer().new_state(gaussians), "Splat Renderer"),
        (lambda: tiny_renderer().check(gaussians), "Splat Renderer"),
        (lambda: RENDERER.new_state(radiance), "Volume Renderer"),
        (lambda: render_frames(radiance, RENDERER, front(), 8, 8), "Volume Renderer"),
        (lambda: Distiller(Scene(radiance), hybrid_stage(), [ball_prior()] * 3, RENDERER, 2), "Volume Renderer"),
        (lambda: isosurface(gaussians, times), "Splat to Mesh"),
        (lambda: orientation.check(gaussians), "Set it to 0"),
    ):
        with pytest.raises(ValueError, match=word) as caught:
            wrong()
        assert "\n" not in str(caught.value)
    orientation.check(radiance)
    Regularisers().check(gaussians)


def test_the_default_renderer_suits_the_field():
    assert isinstance(default_renderer(field_of()), SplatRenderer) and isinstance(default_renderer(tiny_scene().field), VolumeRenderer)
