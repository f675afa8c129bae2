"""Photometric refinement: redrawing has a closed form on Gaussian data, fitting brings a field to what the prior draws."""

from dataclasses import replace

import pytest
import torch
from oracle_maths import GaussianOracle, OraclePrior
from toy_scenes import RIG, ball_pictures, ball_prior, tiny_renderer, tiny_scene

from bloom4d.models.geometry.cameras import Cameras, CameraSampler, orbit, view_time_grid
from bloom4d.models.guidance.denoising import redraw
from bloom4d.models.guidance.schedules import Schedule
from bloom4d.models.optimize.checkpoint import CheckpointStore
from bloom4d.models.optimize.refine import Pool, Refinement, Refiner
from bloom4d.models.optimize.runs import Pace, run
from bloom4d.models.optimize.stages import LearningRates

CONFIG = Refinement(
    CameraSampler(views=2, frames=2, **RIG),
    denoising_steps=2,
    pool=12,
    steps_per_round=5,
    rays=512,
    rates=LearningRates(static=0.02, dynamic=0.02, decoder=5e-3, background=0.0, material=0.0),
)


def drawing_prior(accepts_alpha=True):
    """The ball's prior, which shows latents as they are: they are pictures."""
    prior = ball_prior(accepts_alpha=accepts_alpha)

    def decode(latents):
        pictures = latents.movedim(1, -1).clamp(0, 1)
        return pictures[..., :3], pictures[..., 3] if accepts_alpha else torch.ones_like(pictures[..., 0])

    prior.decode = decode
    return prior


def cameras(count):
    zeros = torch.zeros(count)
    return Cameras(orbit(zeros, zeros, zeros + 2.9), zeros + 0.7, zeros)


@pytest.mark.parametrize("flow", [False, True])
def test_redrawing_gaussian_data_follows_the_probability_flow(flow):
    mean, variance = torch.tensor(0.3), 0.5
    prior = OraclePrior(lambda z, a, b, c: GaussianOracle(mean, variance).denoise(z, a, b), flow=flow)
    x0 = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    drawn = redraw(x0, cameras(2), prior, 0.6, 400, -1.0, torch.Generator().manual_seed(1))
    sigma = prior.sigma_at(torch.full((2,), 0.4))
    a, b = (float(value[0]) for value in prior.coefficients(sigma))
    z = a * x0 + b * torch.randn(x0.shape, generator=torch.Generator().manual_seed(1))
    # the flow keeps (z / a - mean) / sqrt(variance + (b / a)^2)
    expected = mean + (z / a - mean) * (variance / (variance + (b / a) ** 2)) ** 0.5
    assert (drawn - expected).abs().max() < 0.02
    assert (drawn - GaussianOracle(mean, variance).denoise(z, a, b)).abs().max() > 0.1  # one step is only the mean


def test_the_pool_keeps_the_newest_pictures_with_their_cameras():
    grid = view_time_grid(2, 3)
    pool = Pool(torch.zeros(0, 4, 4, 4), torch.zeros(0, 4, 4), torch.zeros(0), torch.zeros(0))
    for value in (1.0, 2.0):
        pool = pool.add(torch.full((6, 4, 4, 4), value), grid, 8)
    assert pool.pictures[:, 0, 0, 0].tolist() == [1.0] * 2 + [2.0] * 6 and len(pool.times) == 8
    assert torch.equal(pool.cameras.camera_to_world, pool.camera_to_world) and torch.equal(pool.cameras.times, pool.times)


def error(scene, prior_size=16) -> float:
    renderer, grid = tiny_renderer(), view_time_grid(3, 3)
    with torch.no_grad():
        views = renderer.render_views(scene.field, renderer.new_state(scene.field), grid, 16, 16)
    return float((torch.cat([views.rgb, views.opacity[..., None]], -1).movedim(-1, 1) - ball_pictures(grid, 16)).square().mean())


@pytest.mark.parametrize("accepts_alpha", [True, False])
def test_fitting_approaches_what_the_prior_draws(accepts_alpha):
    scene = tiny_scene()
    job = Refiner(scene, drawing_prior(accepts_alpha), tiny_renderer(), CONFIG, 60, seed=1)
    assert run(job)
    refined = job.scene()
    assert error(refined) < 0.5 * error(scene)
    assert len(refined.history[0]) == 60 and refined.history[0].columns["loss"][-1] < refined.history[0].columns["loss"][0]
    assert len(job.pool.times) == 12 and job.preview().shape[-1] == 3
    levels = refined.history[0].columns["level"]
    assert levels[0] == pytest.approx(0.5) and levels[-1] == pytest.approx(Schedule(0.5, 0.25).at(59, 60))
    assert error(scene) == error(tiny_scene())  # the input is untouched


def test_resume_gives_the_same_bytes(tmp_path):
    def job():
        return Refiner(tiny_scene(), drawing_prior(), tiny_renderer(), CONFIG, 13, seed=2)

    run(job(), CheckpointStore(tmp_path / "whole"), pace=Pace(checkpoint=0))

    class Stop(BaseException):
        pass

    def stop(done, text, preview):
        if done == 7:  # in the middle of a round: the pool must be there again
            raise Stop

    store, fresh = CheckpointStore(tmp_path / "parts"), job()
    with pytest.raises(Stop):
        run(job(), store, stop)
    fresh.restore(store.latest())
    run(fresh, store)
    names = [f"step_{13:08d}.{kind}" for kind in ("safetensors", "json")]
    assert all((tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes() for name in names)
