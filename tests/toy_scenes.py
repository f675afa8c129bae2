"""Tiny scenes for optimiser tests: a closed-form picture of a coloured ball that grows, and stages small enough for seconds."""

import torch
from oracle_maths import GaussianOracle, OraclePrior

from bloom4d.models.fields.density import DensityBlob
from bloom4d.models.fields.hash_field import HashField, HashFieldConfig
from bloom4d.models.fields.hash_grid import HashGridConfig
from bloom4d.models.geometry.cameras import Cameras, CameraSampler
from bloom4d.models.guidance.distillation import Distillation
from bloom4d.models.guidance.schedules import NoiseRange, Schedule, constant
from bloom4d.models.optimize.scene import Scene
from bloom4d.models.optimize.stages import ROLES, STILL_ROLES, LearningRates, Resolution, Stage, Term
from bloom4d.models.render.occupancy import OccupancyConfig
from bloom4d.models.render.volume import VolumeRenderer, VolumeRendererConfig

TINY_FIELD = HashFieldConfig(
    static=HashGridConfig(dimensions=3, levels=3, base_resolution=4, growth=2.0, log2_table=10),
    dynamic=HashGridConfig(dimensions=4, levels=2, base_resolution=4, growth=2.0, log2_table=10, time_ratio=0.5, time_cap=4),
    hidden=16,
    blob=DensityBlob(height=5.0, radius=0.55, bias=-1.0, gain=4.0, scale=8.0),
)
RIG = {"distance": (2.9, 2.9), "fov_degrees": (42.0, 42.0), "elevation_degrees": (15.0, 15.0)}


def tiny_renderer() -> VolumeRenderer:
    return VolumeRenderer(VolumeRendererConfig(samples=16, bounds="ball", occupancy=OccupancyConfig(resolution=8, slabs=2, times_per_slab=1, every=4, warmup=2)))


def tiny_scene(seed: int = 0) -> Scene:
    return Scene(HashField(TINY_FIELD, torch.Generator().manual_seed(seed)))


def ball_pictures(cameras: Cameras, size: int) -> torch.Tensor:
    """Premultiplied RGBA (N, 4, H, W): a ball of radius .3 + .3 t, red above and blue below, exact silhouettes."""
    origins, directions, times = cameras.rays(size, size)
    radius = 0.3 + 0.3 * times
    along = -(origins * directions).sum(-1)
    squared = (origins + along[:, None] * directions).square().sum(-1)
    half = (radius**2 - squared).clamp_min(0.0).sqrt()
    alpha = (half > 0).float()
    height = (origins + (along - half)[:, None] * directions)[:, 1]
    colour = torch.where((height > 0)[:, None], height.new_tensor([0.9, 0.1, 0.1]), height.new_tensor([0.1, 0.2, 0.9]))
    picture = torch.cat([colour * alpha[:, None], alpha[:, None]], dim=1)
    return picture.view(len(cameras), size, size, 4).movedim(-1, 1)


def ball_prior(size: int = 16, accepts_alpha: bool = True) -> OraclePrior:
    """A denoiser that knows the ball from every camera and time."""

    def denoise(z, a, b, cameras):
        truth = ball_pictures(cameras, size)
        truth = truth if accepts_alpha else truth[:, :3] + 1.0 - truth[:, 3:]
        return GaussianOracle(truth, 1e-3).denoise(z, a, b)

    return OraclePrior(denoise, native_size=(size, size), accepts_alpha=accepts_alpha)


def term(name: str, views: int, frames: int = 1, motion: bool = False, size: int = 16, **changes) -> Term:
    """A term on the default rig."""
    cameras = CameraSampler(views=views, frames=frames, **RIG)
    levels = NoiseRange(constant(0.02), Schedule(0.98, 0.3))
    distillation = Distillation(weighting="recon", levels=levels, level_per="batch")
    return Term(name, cameras, distillation, resolution=Resolution(size, size), trains=ROLES if motion else STILL_ROLES, **changes)


def hybrid_stage(**changes) -> Stage:
    """Three terms as in 4D-fy's third stage; motion learns from the video term only."""
    terms = (term("multi-view", 4), term("image", 1), term("video", 1, 4, motion=True))
    settings = dict(probabilities=(0.5, 0.25, 0.25), rates=LearningRates(static=1e-4, dynamic=1e-2, decoder=1e-3, background=1e-3))
    return Stage(terms, **{**settings, **changes})
