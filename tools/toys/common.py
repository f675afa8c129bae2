"""What both toy systems share: sizes, the renderer, the terms, and how a stage is run."""

from dataclasses import dataclass

import torch
from oracle_maths import OraclePrior
from torch import Tensor

from bloom4d.models.geometry.cameras import RIG_DISTANCE, RIG_ELEVATION_DEGREES, RIG_FOV_DEGREES, CameraSampler
from bloom4d.models.guidance.distillation import Distillation
from bloom4d.models.guidance.schedules import NoiseRange, Schedule, constant
from bloom4d.models.optimize.loop import Distiller
from bloom4d.models.optimize.scene import Scene
from bloom4d.models.optimize.stages import ROLES, Resolution, Stage, Term
from bloom4d.models.render.occupancy import OccupancyConfig
from bloom4d.models.render.volume import VolumeRenderer, VolumeRendererConfig

from . import oracles, scores
from .spheres import Spheres

SIZE, FRAMES = 24, 6
RIG = {"distance": (RIG_DISTANCE, RIG_DISTANCE), "fov_degrees": (RIG_FOV_DEGREES, RIG_FOV_DEGREES), "elevation_degrees": (RIG_ELEVATION_DEGREES, RIG_ELEVATION_DEGREES)}
GRID = dict(levels=4, base_resolution=6, growth=2.0, log2_table=12)
RENDERER = VolumeRendererConfig(samples=32, bounds="ball", occupancy=OccupancyConfig(resolution=16, slabs=3, times_per_slab=2, every=8, warmup=8))


@dataclass(frozen=True)
class Expected:
    """What should happen to a score of `row` when it is compared with `against`."""

    row: str
    score: str
    direction: str
    against: str = "full"


def priors(in_views: Spheres = Spheres(), moments: Tensor = oracles.ANY_MOMENT) -> dict[str, OraclePrior]:
    """The three priors by the names of their terms; `in_views`: what the one that hears cameras knows; `moments`: those of the still ones."""
    knowing = {
        "views": oracles.Views(in_views, SIZE, moments),
        "pictures": oracles.Deaf(Spheres(), SIZE, 1, moments),
        "videos": oracles.videos(Spheres(), SIZE, FRAMES),
    }
    return {name: OraclePrior(oracle, native_size=(SIZE, SIZE)) for name, oracle in knowing.items()}


def terms(time: tuple[float, float], low: float, high: float) -> dict[str, Term]:
    """The three terms, in reconstruction form, since an exact posterior needs no weights; the first anneals from `low`, 0.98 to 0.05, `high`."""
    levels = NoiseRange(Schedule(low, 0.05), Schedule(0.98, high))
    views, picture, video = (CameraSampler(views=count, frames=frames, time_range=time, **RIG) for count, frames in ((4, 1), (1, 1), (1, FRAMES)))
    form = {"weighting": "recon", "guidance": 1.0}
    size = Resolution(SIZE, SIZE)
    return {
        "views": Term("views", views, Distillation(**form, levels=levels, level_per="batch"), resolution=size),
        "pictures": Term("pictures", picture, Distillation(**form, levels=NoiseRange(constant(0.05), constant(0.55))), scenes=4, resolution=size),
        "videos": Term("videos", video, Distillation(**form, levels=NoiseRange(constant(0.05), constant(0.65)), level_per="scene"), resolution=size, trains=ROLES),
    }


def finish(scene: Scene, stage: Stage, judges: dict, steps: int, seed: int) -> Scene:
    """The scene after every step of the stage."""
    job = Distiller(scene, stage, [judges[term.name] for term in stage.terms], VolumeRenderer(RENDERER), steps, seed)
    while job.step < job.steps:
        job.advance()
    return job.scene()


@torch.no_grad()
def seen(field) -> Tensor:
    """Pictures (T, V, 4, H, W) of a field by the cameras of the scores."""
    renderer = VolumeRenderer(RENDERER)
    views = renderer.render_views(field, renderer.new_state(field), scores.cameras(), SIZE, SIZE, None, 1 << 14)
    rgba = torch.cat([views.rgb, views.opacity[..., None]], -1).movedim(-1, 1)
    return rgba.unflatten(0, (scores.TIMES, scores.AZIMUTHS))
