"""4D-fy on the toy scene: three stages of three terms, and rows that take something away (specification 4.2)."""

from dataclasses import dataclass, replace

import torch

from bloom4d.models.fields.density import DEMO_BLOB
from bloom4d.models.fields.hash_field import HashField, HashFieldConfig
from bloom4d.models.fields.hash_grid import HashGridConfig
from bloom4d.models.fields.hexplane_field import HexPlaneField, HexPlaneFieldConfig
from bloom4d.models.fields.single_grid import SingleGridConfig, SingleGridField
from bloom4d.models.guidance.regularisers import Regularisers
from bloom4d.models.guidance.schedules import Schedule
from bloom4d.models.optimize.scene import Scene
from bloom4d.models.optimize.stages import STILL_ROLES, LearningRates, Stage

from .common import GRID, Expected, finish, priors, seen, terms
from .scores import scores

TITLE = "4D-fy"
ABOUT = (
    "Hybrid score distillation with exact priors. The 3D term knows the object from every side at some instant, soft and pale, and does not hear the time. "
    "The image term knows sharp pictures, mostly from the front, and hears nothing. The video term knows soft videos, mostly from the front, hears the time, and alone trains motion. "
    "24 pixels, 80 + 80 + 320 steps, grids of four levels."
)
STEPS = (80, 80, 320)
SPLIT = HashFieldConfig(
    static=HashGridConfig(dimensions=3, **GRID), dynamic=HashGridConfig(dimensions=4, **GRID, time_ratio=0.5, time_cap=6), hidden=16, blob=DEMO_BLOB,
)  # fmt: skip
SINGLE = SingleGridConfig(grid=HashGridConfig(dimensions=4, **{**GRID, "log2_table": 13}, time_ratio=0.5, time_cap=6), hidden=16, blob=DEMO_BLOB)  # as many numbers as both
HEXPLANE = HexPlaneFieldConfig(channels=8, resolution=44, times=6, hidden=16, blob=DEMO_BLOB)  # the same
FIELDS = {"split": (HashField, SPLIT), "single grid": (SingleGridField, SINGLE), "hexplane": (HexPlaneField, HEXPLANE)}


@dataclass(frozen=True)
class Row:
    """Shares of (views, pictures, videos) in each stage; a stage that is None is left out and its steps go to the last one."""

    about: str
    stages: tuple[tuple[float, float, float] | None, ...] = ((1, 0, 0), (0.5, 0.5, 0), (0.5, 0.25, 0.25))
    field: str = "split"


FULL = Row("three stages: views; views and pictures; views, pictures and videos")
ROWS = {
    "full": FULL,
    "no 3D": Row("no views in any stage", ((0, 1, 0), (0, 1, 0), (0, 0.5, 0.5))),
    "no image": Row("no pictures in any stage", ((1, 0, 0), (1, 0, 0), (0.67, 0, 0.33))),
    "no video": Row("nothing trains motion", ((1, 0, 0), (0.5, 0.5, 0), (0.67, 0.33, 0))),
    "no 3D and no image": Row("videos alone, from the initial ball, with the steps of all stages", (None, None, (0, 0, 1))),
    "no hybrid": replace(FULL, about="videos alone in stage 3", stages=(*FULL.stages[:2], (0, 0, 1))),
    "single grid": replace(FULL, about="one 4D grid with as many numbers", field="single grid"),
    "HexPlane": replace(FULL, about="six planes with as many numbers", field="hexplane"),
    "single stage": replace(FULL, about="the last stage alone, with the steps of all", stages=(None, None, FULL.stages[2])),
}
EXPECTED = (
    Expected("no 3D", "multi-face", "up"),
    Expected("no 3D", "back PSNR", "down"),
    Expected("no image", "sharpness", "down"),
    Expected("no video", "motion", "down"),
    Expected("no 3D and no image", "sharpness", "down"),
    Expected("no 3D and no image", "back PSNR", "down"),
    Expected("no hybrid", "sharpness", "down"),
    Expected("single grid", "PSNR", "down"),
    Expected("HexPlane", "PSNR", "down"),
    Expected("single stage", "PSNR", "down"),
)
READING = (
    "Written after looking at the sheets.",
    "**Guidance: all seven directions hold with every seed.** Without the 3D term no side is the back any more: the ball is the mean of what the image model knows, mostly fronts, from all around. "
    "Without the image term the same object is blurrier. Without the video term nothing moves. Videos alone, from the start or in the last stage, give one soft ball on all sides: "
    "the video model does not hear the camera, and the mean over its sides has neither face nor moving part.",
    "**Representation: not at this size.** A single grid is as good or better, HexPlane and a single stage vary around the full row. Every grid here has tens of thousands of numbers and 24 pixels to explain, "
    "so that capacity is not what limits it, and the dynamic grid of the split adds speckles that the single grid does not. HexPlane repeats features along the axes (seed 1: a thorn below the ball).",
)


def make(name: str, seed: int, steps: tuple[int, ...] = STEPS):
    """Pictures and scores of a row."""
    row, judges = ROWS[name], priors()
    kind, config = FIELDS[row.field]
    scene = Scene(kind(config, torch.Generator().manual_seed(seed)))
    left_out = sum(count for count, share in zip(steps, row.stages) if share is None)
    for number, share in enumerate(row.stages):
        if share is not None:
            length = steps[number] + (left_out if number == len(row.stages) - 1 else 0)
            scene = finish(scene, stage(number, share, row), judges, length, seed)
    pictures = seen(scene.field)
    return pictures, scores(pictures)


def stage(number: int, share: tuple[float, float, float], row: Row) -> Stage:
    """Stage 0, 1 or 2 with these shares; the static grid slows down in the last one, as the paper has it."""
    last = number == 2
    known = terms((0.0, 1.0) if last else (0.5, 0.5), 0.6 if number == 0 else 0.05, 0.4)
    used = [(term, probability) for term, probability in zip(known.values(), share) if probability]
    single = row.field == "single grid"  # one grid has the role static, and everything trains it
    if single:
        used = [(replace(term, trains=STILL_ROLES), probability) for term, probability in used]
    total = sum(probability for _, probability in used)
    slow = last and any(row.stages[:2]) and not single
    return Stage(
        tuple(term for term, _ in used),
        tuple(probability / total for _, probability in used),
        name=f"stage {number + 1}",
        rates=LearningRates(static=0.003 if slow else 0.03, dynamic=0.02 if last else 0.0, decoder=0.005, background=0.0),
        regularisers=Regularisers(opaque=Schedule(0.0, 5.0, 0.0, 0.5)),
    )
