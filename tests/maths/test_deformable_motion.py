"""Check B10 of the specification: motion that is known exactly, taught by an oracle to a deformable field."""

import dataclasses
import functools

import torch
from deformable_scenes import deformable
from oracle_maths import GaussianOracle, OraclePrior
from toy_scenes import RIG, tiny_renderer
from torch import nn

from bloom4d.models.fields.displacement import DisplacementConfig
from bloom4d.models.fields.hash_grid import HashGridConfig
from bloom4d.models.geometry.cameras import CameraSampler, view_time_grid
from bloom4d.models.guidance.displacement import displacement_tv
from bloom4d.models.guidance.distillation import Distillation
from bloom4d.models.guidance.schedules import NoiseRange, Schedule, constant
from bloom4d.models.optimize.loop import Distiller
from bloom4d.models.optimize.scene import Scene
from bloom4d.models.optimize.stages import ROLES, LearningRates, Resolution, Stage, Term

SIZE, TIMES = 16, 5
GRID = DisplacementConfig(HashGridConfig(dimensions=4, levels=4, base_resolution=4, growth=2.0, log2_table=12, time_cap=4), hidden=16, layers=2)
FINE = dataclasses.replace(GRID, grid=HashGridConfig(dimensions=4, levels=4, base_resolution=8, growth=2.0, log2_table=15, time_cap=8))
SINUSOIDS = dataclasses.replace(GRID, grid=None)
TIP = (0.0, 0.42, 0.0)


class Ball(nn.Module):
    """A soft ball of radius .35, coloured by place, that travels at `velocity` (the canonical one rests)."""

    kind = "ball"

    def __init__(self, velocity=(0.0, 0.0, 0.0)):
        super().__init__()
        self.velocity, self.strength = torch.tensor(velocity), nn.Parameter(torch.ones(()))

    def forward(self, positions, times):
        place = positions - times[:, None] * self.velocity
        return self.strength * 40 * self.inside(place, 0.35), (0.5 + place / 0.8).clamp(0, 1)

    @staticmethod
    def inside(place, radius):
        return torch.sigmoid((radius - place.norm(dim=1).clamp_min(1e-6)) * 40)

    def density(self, positions, times):
        return self(positions, times)[0]

    def is_static(self):
        return False

    def background(self, directions):
        return None

    def roles(self):
        return {"static": [self.strength]}


class Tipped(Ball):
    """A blue body that rests, and a small orange ball on it that travels."""

    def forward(self, positions, times):
        body = self.inside(positions - positions.new_tensor((0.0, -0.2, 0.0)), 0.4)
        tip = self.inside(positions - positions.new_tensor(TIP) - times[:, None] * self.velocity, 0.14)
        colour = torch.where((tip > body)[:, None], positions.new_tensor((0.9, 0.2, 0.1)), positions.new_tensor((0.1, 0.3, 0.9)).expand_as(positions))
        return self.strength * 40 * torch.maximum(body, tip), colour


def pictures(field, cameras, **wanted):
    """Renders without an occupancy grid's guesses."""
    renderer = tiny_renderer()
    state = renderer.new_state(field)
    state.occupied.fill_(True)
    state.reachable.fill_(True)
    with torch.no_grad():
        return renderer.render_views(field, state, cameras, SIZE, SIZE, **wanted)


def teacher(truth, noise: float) -> OraclePrior:
    """A denoiser that knows the truth; with `noise` its opinion jitters, as a real video model's does."""
    draws = torch.Generator().manual_seed(11)

    def denoise(z, a, b, cameras):
        views = pictures(truth, cameras)
        seen = torch.cat([views.rgb, views.opacity[..., None]], dim=-1).movedim(-1, 1)
        return GaussianOracle(seen + noise * torch.randn(seen.shape, generator=draws), 1e-3).denoise(z, a, b)

    return OraclePrior(denoise, native_size=(SIZE, SIZE), accepts_alpha=True)


def taught(canonical, truth, shape, steps: int, rates=(1e-2, 3e-3), tv: float = 0.0, noise: float = 0.0):
    """A deformable field after a dynamic stage with one video term."""
    video = Distillation(weighting="recon", levels=NoiseRange(constant(0.02), Schedule(0.98, 0.3)), level_per="batch")
    cameras = CameraSampler(views=2, frames=4, **RIG)
    term = Term("video", cameras, video, resolution=Resolution(SIZE, SIZE), trains=ROLES, displacement_tv=constant(tv))
    stage = Stage((term,), rates=LearningRates(0.0, rates[0], rates[1], final=0.2), dynamic_levels=Schedule(0.34, 1.0, 0.0, 0.4))
    job = Distiller(Scene(deformable(canonical, shape)), stage, [teacher(truth, noise)], tiny_renderer(), steps, 1)
    for _ in range(steps):
        job.advance()
    return job.work.field


def displacements(field):
    """Rendered displacements (V, F, H, W, 3) and opacities (V, F, H, W)."""
    views = pictures(field, view_time_grid(2, TIMES), displacement=True)
    return (value.unflatten(0, (TIMES, 2)).movedim(1, 0) for value in (views.displacement, views.opacity))


def test_a_travelling_ball_is_followed_at_its_velocity():
    velocity = (0.4, 0.2, 0.0)
    moved, opacity = displacements(taught(Ball(), Ball(velocity), GRID, 80))
    mean = moved.sum((0, 2, 3)) / opacity.sum((0, 2, 3))[:, None]  # (F, 3); from where it is back to where it was, in cubes of side 2
    expected = torch.linspace(0, 1, TIMES)[:, None] * torch.tensor(velocity) / -2
    assert float((mean[-1] - expected[-1]).norm() / expected[-1].norm()) < 0.1
    assert bool(((mean - expected).norm(dim=1) < 0.1 * expected[-1].norm()).all())


def test_without_the_penalty_the_displacement_jitters_at_least_three_times_as_much():
    velocity = torch.tensor([0.2, 0.1, 0.0])

    def energy_and_motion(tv):
        moved, opacity = displacements(taught(Ball(), Ball(velocity.tolist()), FINE, 60, (0.1, 0.03), tv, noise=1.0))
        mean = moved[:, -1].sum((0, 1, 2)) / opacity[:, -1].sum()
        return float(displacement_tv(moved)), float(-2 * mean @ velocity / velocity.square().sum())

    (wild, motion), (calm, less) = energy_and_motion(0.0), energy_and_motion(0.015)
    assert wild > 3 * calm and motion > 0.7
    assert less > 0.3  # it still moves the way it should


def test_a_positional_encoding_follows_a_small_part_less_than_a_grid():
    velocity = (0.0, 0.2, 0.0)
    ball = nn.functional.normalize(torch.randn(500, 3, generator=torch.Generator().manual_seed(5)), dim=1) * 0.1
    tip = ball + torch.tensor(TIP) + torch.tensor(velocity)  # where it is at the end
    follow = functools.partial(taught, Tipped(), Tipped(velocity), steps=80)
    share = {name: float(-2 * follow(shape=shape).displacement(tip, torch.ones(500))[:, 1].detach().mean() / 0.2) for name, shape in (("grid", GRID), ("sinusoids", SINUSOIDS))}
    assert share["grid"] > 0.85 and share["sinusoids"] < 0.8 * share["grid"]
