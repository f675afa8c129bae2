"""Reference View Loss (specification 2.4, 2.7: B8): its closed form, sizes, and a sphere that fits a picture, or does not without it."""

import math
from dataclasses import replace

import pytest
import torch
from toy_scenes import TINY_FIELD, ball_pictures, tiny_renderer

from bloom4d.models.fields.hash_field import HashField
from bloom4d.models.fields.hash_grid import HashGridConfig
from bloom4d.models.geometry.cameras import FixedCameras, Viewpoint, spherical
from bloom4d.models.guidance.objective import Pictures
from bloom4d.models.guidance.reference import Reference, ReferenceView
from bloom4d.models.optimize.loop import Distiller
from bloom4d.models.optimize.scene import Scene
from bloom4d.models.optimize.stages import LearningRates, Resolution, Stage, Term
from bloom4d.models.render.deferred import RenderedViews
from bloom4d.models.render.volume import VolumeRenderer

SIZE, PLACE = 24, Viewpoint(azimuth_degrees=20, elevation_degrees=10, time=0.5)
FIELD = replace(TINY_FIELD, static=HashGridConfig(dimensions=3, levels=4, base_resolution=4, growth=2.0, log2_table=12))


def ball(size=SIZE, factor=8):
    """The toy ball's colours and mask at the reference camera, with soft edges: the mean over `factor` x `factor` rays."""
    picture = ball_pictures(PLACE.cameras(), size * factor)[0]
    picture = picture.unflatten(1, (size, factor)).unflatten(3, (size, factor)).mean((2, 4))
    mask = picture[3]
    return Reference((picture[:3] / mask.clamp_min(1e-6)).movedim(0, -1), mask), picture


def views_of(rgb, opacity):
    depth = torch.zeros_like(opacity)
    return RenderedViews(rgb, opacity, depth, depth, torch.zeros_like(rgb), 1)


def test_the_loss_in_closed_form():
    draws = torch.Generator().manual_seed(0)
    rgb, opacity, image, mask = (torch.rand(*shape, dtype=torch.float64, generator=draws) for shape in ((1, 5, 4, 3), (1, 5, 4), (5, 4, 3), (5, 4)))
    behind = torch.tensor([0.2, 0.6, 1.0]).double().requires_grad_()
    rgb.requires_grad_(), opacity.requires_grad_()
    pictures = Pictures(views_of(rgb, opacity), PLACE.cameras(), behind)
    loss = ReferenceView(500.0, 50.0).evaluate(pictures, Reference(image, mask), 0, 10, (0,)).loss
    over = lambda colours, alpha: colours + (1 - alpha)[..., None] * behind.detach()  # noqa: E731
    render, target = over(rgb, opacity), over(image * mask[..., None], mask)
    expected = 500 * (render - target).square().sum() / 60 + 50 * (opacity - mask).square().sum() / 20
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)
    loss.backward()
    gradient = 500 * 2 / 60 * (render - target)
    assert torch.allclose(rgb.grad, gradient) and behind.grad is None  # what lies behind learns nothing from it
    assert torch.allclose(opacity.grad, -(gradient * behind.detach()).sum(-1) + 50 * 2 / 20 * (opacity - mask))


def test_references_are_filtered_to_the_renders_size_without_the_background_s_colours():
    image = torch.zeros(64, 32, 3)
    image[..., 1] = 1.0  # a green screen ...
    image[16:48, 8:24] = torch.tensor([0.8, 0.0, 0.4])  # ... behind a box
    mask = (image[..., 1] == 0).float()
    for height, width in ((16, 8), (20, 10), (64, 32), (128, 64)):
        colours, small = Reference(image, mask).at(height, width)
        assert colours.shape == (1, height, width, 3) and small.shape == (1, height, width)
        assert float(small.mean()) == pytest.approx(0.25, abs=0.02)  # the box keeps its share of the picture
        assert colours[..., 1].abs().max() < 1e-6  # no green in its edges
        assert torch.allclose(colours, small[..., None] * torch.tensor([0.8, 0.0, 0.4]), atol=1e-5)
    stripes = Reference((torch.arange(64) % 2).float()[None, :, None].expand(64, 64, 3), torch.ones(64, 64))
    assert (stripes.at(16, 16)[0] - 0.5).abs().max() < 0.15  # taking every fourth pixel would give 0 or 1


def test_a_fixed_camera_is_the_same_in_every_step():
    cameras = FixedCameras(PLACE)
    drawn = [cameras.sample(torch.Generator().manual_seed(seed), 2) for seed in (0, 1)]
    assert torch.equal(drawn[0].camera_to_world, drawn[1].camera_to_world) and len(drawn[0]) == 2 and cameras.views == cameras.frames == 1
    azimuth, elevation, distance = spherical(drawn[0].camera_to_world)
    assert torch.allclose(azimuth, torch.full((2,), math.radians(20))) and torch.allclose(elevation, torch.full((2,), math.radians(10)))
    assert torch.allclose(distance, torch.full((2,), 2.9)) and torch.equal(drawn[0].times, torch.full((2,), 0.5))
    assert cameras == FixedCameras(Viewpoint(20, 10, time=0.5)) and hash(cameras) == hash(FixedCameras(PLACE))


def fitted(objective, steps=300) -> tuple[float, float]:
    """PSNR over white and mean squared error of opacity, both at the reference view, after a stage of this term alone."""
    reference, truth = ball()
    term = Term("reference", FixedCameras(PLACE), objective, resolution=Resolution(SIZE, SIZE, 0.5, 0.2))
    stage = Stage((term,), rates=LearningRates(static=0.02, decoder=5e-3, final=0.1))
    renderer = VolumeRenderer(replace(tiny_renderer().config, samples=32))
    job = Distiller(Scene(HashField(FIELD, torch.Generator().manual_seed(0))), stage, [reference], renderer, steps, seed=1)
    for _ in range(steps):
        job.advance()
    with torch.no_grad():
        views = renderer.render_views(job.work.field, job.work.state, PLACE.cameras(), SIZE, SIZE, 5, 0)
    white = truth[:3] + 1 - truth[3]
    error = (views.over(torch.ones(3))[0].movedim(-1, 0) - white).square().mean()
    return -10 * math.log10(float(error)), float((views.opacity[0] - truth[3]).square().mean())


def test_b8_a_field_reaches_the_reference_and_without_colours_it_does_not():
    psnr, mask = fitted(ReferenceView())
    assert psnr >= 30.0
    without_rgb, _ = fitted(ReferenceView(rgb=0.0))
    assert without_rgb < 20.0
    _, without_mask = fitted(ReferenceView(mask=0.0))
    assert without_mask > mask  # what a random backdrop alone says of opacity is less
