"""Scenes of unseen objects in every role of the prior: what it is told, and the real pictures behind."""

import math
from dataclasses import dataclass

import judging  # noqa: F401  (loads the pack)
import torch
from bloom4d.models.data.prior_dataset import PriorDataset
from bloom4d.models.data.prompts import prompt
from bloom4d.models.data.styles import ObjectStyle
from bloom4d.models.geometry.cameras import RIG_DISTANCE, RIG_FOV_DEGREES, Cameras, orbit
from bloom4d.models.networks.prior_conditioning import Frame
from bloom4d.models.networks.prior_sampling import Views
from torch import Generator, Tensor

KINDS = 7


@dataclass(frozen=True)
class Scenes:
    """S scenes of V pictures in one role."""

    role: str
    prompts: tuple[str, ...]
    views: Views
    truth: Tensor  # (S, V, 4, H, W)
    styles: tuple[ObjectStyle, ...]
    azimuth: Tensor  # (S, V) radians
    elevation: Tensor  # (S, V)
    times: Tensor  # (S, V)
    layout: tuple[int, int]  # (times, views) of the V pictures, time slowest
    guidance: float = 3.0  # the default that travels with the model

    def cameras(self, scene: int) -> Cameras:
        """Of one scene, V of them."""
        pose = orbit(self.azimuth[scene], self.elevation[scene], torch.full((self.views.frames,), RIG_DISTANCE))
        return Cameras(pose, torch.full((len(pose),), math.radians(RIG_FOV_DEGREES)), self.times[scene])

    def part(self, scenes: slice) -> "Scenes":
        """Some of the scenes."""
        cut = lambda value: value[scenes] if isinstance(value, Tensor) else value  # noqa: E731
        views = Views(**{name: cut(value) for name, value in vars(self.views).items()})
        rest = {name: getattr(self, name)[scenes] for name in ("truth", "styles", "azimuth", "elevation", "times")}
        return Scenes(self.role, self.prompts[scenes], views, layout=self.layout, guidance=self.guidance, **rest)


def objects(data: PriorDataset, per_kind: int, offset: int = 0) -> list[int]:
    """Indices of `per_kind` objects of each phenomenon."""
    return [(offset + number) * KINDS + kind for kind in range(KINDS) for number in range(per_kind)]


def text_scenes(role: str, data: PriorDataset, chosen: list[int], times: list[int], views: list[int], camera: Frame, time: Frame) -> Scenes:
    """Held-out sentences; cameras and times told as `camera` and `time` say."""
    grid = _grid(data, chosen, times, views)
    generator = Generator().manual_seed(len(chosen) * 100 + len(times) * 10 + len(views))
    prompts = tuple(prompt(style, generator=generator, split="held_out") for style in grid["styles"])
    frames = len(times) * len(views)
    told = Views(frames, *_angles(grid, camera), None if time is Frame.ABSENT else grid["times"], camera, time)
    return Scenes(role, prompts, told, layout=(len(times), len(views)), **grid)


def picture_scenes(role: str, data: PriorDataset, chosen: list[int], times: list[int], views: list[int], text: bool = False) -> Scenes:
    """The first picture is given, cameras and times relative to it; no text unless asked, then no guidance by it either."""
    grid = _grid(data, chosen, times, views)
    frames = len(times) * len(views)
    clean = torch.zeros(len(chosen), frames, dtype=torch.bool)
    clean[:, 0] = True
    told = Views(frames, grid["azimuth"], grid["elevation"], grid["times"], Frame.RELATIVE, Frame.RELATIVE, clean, grid["truth"])
    generator = Generator().manual_seed(len(chosen))
    prompts = tuple(prompt(style, generator=generator, split="held_out") if text else "" for style in grid["styles"])
    return Scenes(role, prompts, told, layout=(len(times), len(views)), guidance=1.0, **grid)


def _angles(grid: dict, camera: Frame) -> tuple[Tensor | None, Tensor | None]:
    return (None, None) if camera is Frame.ABSENT else (grid["azimuth"], grid["elevation"])


def _grid(data: PriorDataset, chosen: list[int], times: list[int], views: list[int]) -> dict:
    index = torch.tensor(chosen)[:, None, None]
    moments, cameras = torch.tensor(times)[None, :, None], torch.tensor(views)[None, None, :]
    spread = lambda value: value.expand(len(chosen), len(times), len(views)).flatten(1)  # noqa: E731
    return {
        "truth": data.pictures[index, moments, cameras].flatten(1, 2).float() / 255,
        "styles": tuple(data.styles[number] for number in chosen),
        "azimuth": spread(data.azimuth[index, cameras]),
        "elevation": spread(data.elevation[index, cameras]),
        "times": spread(data.times[index, moments]),
    }
