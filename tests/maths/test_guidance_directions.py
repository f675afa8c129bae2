"""What each guidance term is there for (specification 4.2): without it a toy scene gets worse in the stated way.

Closed-form oracles as in section 4: a joint prior that knows every camera but has a blurred eye, an image prior that is sharp
but only knows the front, and a video prior that knows the motion. The scores are written here, apart from the pack's own.
"""

from dataclasses import replace

import pytest
import torch
from oracle_maths import GaussianOracle, MixtureOracle, OraclePrior
from toy_scenes import RIG, TINY_FIELD, tiny_renderer

from bloom4d.models.fields.hash_field import HashField
from bloom4d.models.fields.hash_grid import HashGridConfig
from bloom4d.models.geometry.cameras import CameraSampler, view_time_grid
from bloom4d.models.guidance.distillation import Distillation
from bloom4d.models.guidance.schedules import NoiseRange, Schedule, constant
from bloom4d.models.optimize.loop import Distiller
from bloom4d.models.optimize.scene import Scene
from bloom4d.models.optimize.stages import ROLES, STILL_ROLES, LearningRates, Resolution, Stage, Term
from bloom4d.models.render.volume import VolumeRenderer

SIZE, STEPS, SEEDS = 16, 100, (0, 1, 2)
FIELD = replace(TINY_FIELD, static=HashGridConfig(dimensions=3, levels=4, base_resolution=4, growth=2.0, log2_table=12))
RENDERER = VolumeRenderer(replace(tiny_renderer().config, samples=16))


def planet(cameras, belt: bool = False, factor: int = 2) -> torch.Tensor:
    """Premultiplied RGBA (N, 4, H, W): a striped ball with a yellow front, a red moon that rises beside it, perhaps a red belt."""
    origins, directions, times = cameras.rays(SIZE * factor, SIZE * factor)
    rise = torch.stack([torch.full_like(times, 0.72), -0.5 + times, torch.zeros_like(times)], -1)

    def hit(centre, radius):
        offset = origins - centre
        along = -(offset * directions).sum(-1)
        half = (radius**2 - (offset + along[:, None] * directions).square().sum(-1)).clamp_min(0).sqrt()
        return half > 0, along - half

    seen, depth = hit(torch.zeros(3), 0.5)
    point = origins + depth[:, None] * directions
    stripe = (torch.sin(22.0 * point[:, 1]) > 0)[:, None]
    colour = torch.where(stripe, torch.tensor([0.1, 0.2, 0.9]), torch.tensor([0.7, 0.8, 0.9]))
    colour = torch.where((point[:, 2] > 0.38)[:, None], torch.tensor([0.95, 0.85, 0.1]), colour)
    colour = torch.where((belt & (point[:, 1].abs() < 0.13))[:, None], torch.tensor([0.9, 0.1, 0.1]), colour)
    beside, nearer = hit(rise, 0.2)
    beside = beside & (~seen | (nearer < depth))
    colour = torch.where(beside[:, None], torch.tensor([0.9, 0.1, 0.1]), colour)
    alpha = (seen | beside).float()
    picture = torch.cat([colour * alpha[:, None], alpha[:, None]], 1).view(len(cameras), SIZE, factor, SIZE, factor, 4)
    return picture.mean((2, 4)).movedim(-1, 1)


def blurred(pictures):
    return torch.nn.functional.avg_pool2d(pictures, 3, 1, 1, count_include_pad=False)


def joint():
    return OraclePrior(lambda z, a, b, cameras: GaussianOracle(blurred(planet(cameras)), 1e-3).denoise(z, a, b), native_size=(SIZE, SIZE))


def image():
    """Sharp fronts at three times, whatever the camera."""
    fronts = planet(view_time_grid(1, 3))
    return OraclePrior(lambda z, a, b, cameras: MixtureOracle(fronts, 1e-3).denoise(z, a, b), native_size=(SIZE, SIZE))


def whole_image():
    """Sharp pictures from twelve sides, with the belt, whatever the camera: that which is most like the render."""
    sides = view_time_grid(12, 1)
    sides = planet(replace(sides, times=torch.full_like(sides.times, 0.5)), belt=True)
    return OraclePrior(lambda z, a, b, cameras: MixtureOracle(sides, 1e-3).denoise(z, a, b), native_size=(SIZE, SIZE))


def term(name, views, frames=1, motion=False, times=(0.5, 0.5), **changes):
    cameras = CameraSampler(views=views, frames=frames, time_range=times, **RIG)
    form = Distillation(weighting="recon", levels=NoiseRange(constant(0.02), Schedule(0.9, 0.3)), level_per="batch")
    return Term(name, cameras, form, resolution=Resolution(SIZE, SIZE), trains=ROLES if motion else STILL_ROLES, **changes)


def made(terms, priors, seed, probabilities=None, steps=STEPS, **rates):
    """The scene that a stage of these terms makes."""
    stage = Stage(tuple(terms), probabilities, rates=LearningRates(**{"static": 0.03, "decoder": 7e-3, "final": 0.2, **rates}))
    job = Distiller(Scene(HashField(FIELD, torch.Generator().manual_seed(seed))), stage, priors, RENDERER, steps, seed=seed)
    for _ in range(steps):
        job.advance()
    return job


def seen(job, cameras):
    with torch.no_grad():
        views = RENDERER.render_views(job.work.field, job.work.state, cameras, SIZE, SIZE, 5, 0)
    return torch.cat([views.rgb, views.opacity[..., None]], -1).movedim(-1, 1)


def at(azimuth, time=0.5):
    grid = view_time_grid(1, 1, azimuth_degrees=azimuth)
    return replace(grid, times=torch.full_like(grid.times, time))


def yellow(picture):
    """How much of the front's mark is in a picture, as a share of the front's own."""
    strength = lambda rgba: float((rgba[0, :2].mean(0) - rgba[0, 2]).clamp_min(0).sum())  # noqa: E731
    return strength(picture) / strength(planet(at(0)))


def sharpness(job):
    """Mean |Laplacian| of four views against the truth's."""
    cameras = view_time_grid(4, 1)
    cameras = replace(cameras, times=torch.full_like(cameras.times, 0.5))

    def laplacian(pictures):
        inner = pictures[..., 1:-1, 1:-1]
        return (pictures[..., 2:, 1:-1] + pictures[..., :-2, 1:-1] + pictures[..., 1:-1, 2:] + pictures[..., 1:-1, :-2] - 4 * inner).abs().mean()

    return float(laplacian(seen(job, cameras)) / laplacian(planet(cameras)))


def back_error(job):
    return float((seen(job, at(180)) - planet(at(180))).square().mean())


@pytest.mark.parametrize("seed", SEEDS)
def test_without_the_joint_prior_there_are_several_faces_and_without_the_image_prior_no_detail(seed):
    terms = term("3D", 4), term("image", 1)
    full = made(terms, (joint(), image()), seed, (0.5, 0.5))
    no_3d = made(terms, (joint(), image()), seed, (0.0, 1.0))
    no_image = made(terms, (joint(), image()), seed, (1.0, 0.0))
    assert yellow(seen(no_3d, at(180))) > yellow(seen(full, at(180))) + 0.2
    assert back_error(no_3d) > 1.3 * back_error(full)
    assert sharpness(no_image) < 0.9 * sharpness(full)


@pytest.mark.parametrize("seed", SEEDS)
def test_without_the_image_prior_of_a_weighted_sum_a_part_is_missing(seed):
    """Dream-in-4D's static stage: both priors see the same pictures; the joint one does not know the belt, the image one does."""
    both = term("3D", 4), term("2D", 4)
    change = planet(at(180), belt=True) - planet(at(180))
    belt = change.abs().sum(1)[0] > 0.5

    def reddish(job):
        picture = seen(job, at(180))[0]
        return float((picture[0] - picture[2])[belt].mean())

    full, without = made(both, (joint(), whole_image()), seed), made(both[:1], (joint(),), seed)
    assert reddish(full) > reddish(without) + 0.25 and reddish(without) < 0


@pytest.mark.parametrize("seed", SEEDS)
def test_without_the_video_prior_nothing_moves(seed):
    terms = term("3D", 4, times=(0.0, 1.0)), term("video", 1, 4, motion=True, times=(0.0, 1.0))

    def travelled(job):
        """How far the red moon's centre rises in the side-on front view, against the truth."""
        cameras = view_time_grid(1, 3)
        rows = torch.arange(SIZE).float()[None, :, None]

        def centre(pictures):
            red = (pictures[:, 0] - pictures[:, 2]).clamp_min(0) * (torch.arange(SIZE) > SIZE * 0.68)
            return ((red * rows).sum((1, 2)) / red.sum((1, 2)).clamp_min(1e-6))[[0, 2]].diff()

        return float(centre(seen(job, cameras)) / centre(planet(cameras)))

    moving = made(terms, (joint(), joint()), seed, (0.5, 0.5), 160, dynamic=0.02)
    still = made(terms, (joint(), joint()), seed, (1.0, 0.0), 40, dynamic=0.02)
    assert travelled(moving) > 0.4 and abs(travelled(still)) < 0.02
