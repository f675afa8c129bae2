"""The embedded prior's training pictures: every procedural object from several cameras at several times.

Each object is drawn as a grid of `times` x `views` pictures. Half of the objects are seen by a ring of cameras at one
elevation, half by cameras anywhere around; so one grid serves single images, view rings, videos and 4D grids.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Callable

import torch
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor

from ..geometry.cameras import RIG_DISTANCE, RIG_FOV_DEGREES, Cameras, orbit
from ..networks.joint_scenes import JointScenes, LabelledPictures
from .objects import render_object
from .prompts import prompt
from .styles import COLOURS, PHENOMENA, SPECIES, ObjectStyle, sample_style

SPECIES_NAMES = tuple(f"{phenomenon}: {species}" for phenomenon in PHENOMENA for species in SPECIES[phenomenon])
COLOUR_NAMES = tuple(dict.fromkeys(colour for colours in COLOURS.values() for colour in colours))
LAYOUTS = {  # role: (times, views, share of the batches)
    "views": (1, 4, 0.30),
    "video": (8, 1, 0.25),
    "image": (1, 1, 0.20),
    "short video": (4, 1, 0.05),
    "grid": (2, 4, 0.12),
    "large grid": (4, 4, 0.08),
}


@dataclass(frozen=True)
class PriorDatasetConfig:
    """`objects` drawn at `times` x `views`; elevations in degrees. `seed` is never the recogniser's."""

    objects: int = 2800
    times: int = 8
    views: int = 4
    size: int = 64
    elevation_degrees: tuple[float, float] = (-5.0, 45.0)
    split: str = "train"
    seed: int = 11


@dataclass(frozen=True)
class PriorDataset:
    """O objects, object i of phenomenon i mod 7."""

    pictures: Tensor  # (O, T, V, 4, H, W) uint8 premultiplied sRGB RGBA
    azimuth: Tensor  # (O, V) radians
    elevation: Tensor  # (O, V) radians
    times: Tensor  # (O, T) in [0, 1]
    styles: tuple[ObjectStyle, ...]
    config: PriorDatasetConfig

    def to(self, device) -> "PriorDataset":
        """The same with its pictures on `device`."""
        return replace(self, pictures=self.pictures.to(device))

    def look(self, where: Tensor) -> Tensor:
        """The pictures numbered `where` (N,), as (N, 4, H, W) in [0, 1] where they are stored."""
        return self.pictures.flatten(0, 2)[where.to(self.pictures.device)].float() / 255

    def sample(self, generator: Generator, pictures: int) -> JointScenes:
        """One batch of `pictures` pictures in a role drawn by its share."""
        roles = {role: layout for role, layout in LAYOUTS.items() if layout[0] <= self.config.times and layout[1] <= self.config.views}
        shares = torch.tensor([share for _, _, share in roles.values()])
        role = tuple(roles)[int(torch.multinomial(shares, 1, generator=generator))]
        return self.scenes(role, max(pictures // (LAYOUTS[role][0] * LAYOUTS[role][1]), 1), generator)

    def scenes(self, role: str, count: int, generator: Generator) -> JointScenes:
        """`count` scenes of random objects in one role of `LAYOUTS`."""
        time_count, view_count, _ = LAYOUTS[role]
        chosen = torch.randint(len(self.styles), (count,), generator=generator)
        times = torch.rand(count, self.config.times, generator=generator).argsort(1)[:, :time_count].sort(1).values
        views = torch.rand(count, self.config.views, generator=generator).argsort(1)[:, :view_count]
        if view_count == self.config.views:
            views = torch.arange(view_count).expand(count, -1)  # keep a ring in its order
        where = (chosen[:, None, None] * self.config.times + times[:, :, None]) * self.config.views + views[:, None, :]  # (S, T', V')
        spread = lambda value, axis: value.unsqueeze(axis).expand(count, time_count, view_count).flatten()  # noqa: E731
        azimuth, elevation = (spread(angle[chosen[:, None], views], 1) for angle in (self.azimuth, self.elevation))
        moments = self.times[chosen[:, None], times]
        prompts = tuple(self._prompt(int(index), scene, moments, views, time_count * view_count == 1, generator) for scene, index in enumerate(chosen))
        return JointScenes(where.flatten(), azimuth, elevation, spread(moments, 2), prompts, time_count * view_count)

    def labelled(self, generator: Generator, count: int) -> LabelledPictures:
        """`count` single pictures with the recogniser's labels."""
        chosen, time, view = (torch.randint(size, (count,), generator=generator) for size in self.pictures.shape[:3])
        styles = [self.styles[index] for index in chosen.tolist()]
        index_of = lambda names, values: torch.tensor([names.index(value) for value in values])  # noqa: E731
        return LabelledPictures(
            self.pictures[chosen, time, view].float() / 255,
            index_of(PHENOMENA, [style.phenomenon for style in styles]),
            index_of(SPECIES_NAMES, [species_name(style) for style in styles]),
            index_of(COLOUR_NAMES, [style.colour for style in styles]),
            self.times[chosen, time],
        )

    def _prompt(self, index: int, scene: int, moments: Tensor, views: Tensor, single: bool, generator: Generator) -> str:
        """Stage and view words only where one picture makes them true, and there in half of the prompts each."""
        say = torch.rand(2, generator=generator) < 0.5
        view = views[scene, 0]
        return prompt(
            self.styles[index],
            time=float(moments[scene, 0]) if single and say[0] else None,
            azimuth=float(self.azimuth[index, view]) if single and say[1] else None,
            elevation=float(self.elevation[index, view]) if single and say[1] else None,
            generator=generator,
            split=self.config.split,
        )


def species_name(style: ObjectStyle) -> str:
    """The recogniser's name of a style's species (a blooming rose is another class than a withering one)."""
    return f"{style.phenomenon}: {style.species}"


def build_dataset(config: PriorDatasetConfig, folder: Path, report: Callable[[int, int], None], shard: int = 140, processes: int = 1) -> PriorDataset:
    """Draw the data set, or read what a previous run has drawn: one file per `shard` objects in `folder`.

    `report(done, total)` is called after each shard; `processes` draw side by side. Deterministic: a shard depends on the
    configuration and its number only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fingerprint = _fingerprint(config)
    ranges = [range(first, min(first + shard, config.objects)) for first in range(0, config.objects, shard)]
    names = [f"{span.start:06d}" + ("" if len(span) == shard else f"_{len(span)}") for span in ranges]  # a short last one is no full one
    paths = [folder / f"prior_{fingerprint}_{name}.safetensors" for name in names]
    parts = []
    for path, span, _ in zip(paths, ranges, _draw_shards(config, ranges, paths, processes)):
        parts.append(load_file(path))
        report(span.stop, config.objects)
    whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    styles = tuple(object_style(config, index) for index in range(config.objects))
    return PriorDataset(**whole, styles=styles, config=config)


def _draw_shards(config: PriorDatasetConfig, ranges: list[range], paths: list[Path], processes: int):
    """Iterate over the shards in their order, drawing what is missing."""
    if processes == 1:
        yield from map(_draw_shard, [config] * len(ranges), ranges, paths)
        return
    import multiprocessing  # only training draws in processes: ComfyUI's start need not load them
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(processes, multiprocessing.get_context("fork")) as pool:  # children keep the loaded pack
        yield from pool.map(_draw_shard, [config] * len(ranges), ranges, paths)


def _draw_shard(config: PriorDatasetConfig, objects: range, path: Path) -> None:
    if path.is_file():
        return
    unfinished = path.with_suffix(".part")
    save_file(_stack([draw_object(config, index)[1] for index in objects]), unfinished)
    os.replace(unfinished, path)


def object_style(config: PriorDatasetConfig, index: int) -> ObjectStyle:
    """Style of object `index`: its phenomenon is index mod 7, the rest is drawn."""
    return sample_style(PHENOMENA[index % len(PHENOMENA)], _generator(config, index, 0), split=config.split)


def draw_object(config: PriorDatasetConfig, index: int) -> tuple[ObjectStyle, dict[str, Tensor]]:
    """Style and pictures of object `index`: pictures (T, V, 4, H, W) uint8, angles (V,), times (T,)."""
    style, generator = object_style(config, index), _generator(config, index, 1)
    azimuth, elevation = _cameras(config, generator)
    jitter = torch.rand(config.times, generator=generator) - 0.5
    times = ((torch.arange(config.times) + jitter) / (config.times - 1)).clamp(0, 1)
    grid = lambda value: value.repeat(config.times)  # noqa: E731
    pose = orbit(grid(azimuth), grid(elevation), torch.full((config.times * config.views,), RIG_DISTANCE))
    fov = torch.full((len(pose),), math.radians(RIG_FOV_DEGREES))
    images = render_object(style, Cameras(pose, fov, times.repeat_interleave(config.views)), config.size)
    pictures = (images.rgba.clamp(0, 1) * 255).round().to(torch.uint8).movedim(-1, 1).unflatten(0, (config.times, config.views))
    return style, {"pictures": pictures.contiguous(), "azimuth": azimuth, "elevation": elevation, "times": times}


def _cameras(config: PriorDatasetConfig, generator: Generator) -> tuple[Tensor, Tensor]:
    low, high = map(math.radians, config.elevation_degrees)
    draw = torch.rand(2, config.views, generator=generator)
    if torch.rand((), generator=generator) < 0.5:
        azimuth = draw[0, :1] * 2 * math.pi + torch.arange(config.views) * 2 * math.pi / config.views
        return azimuth, (low + (high - low) * draw[1, :1]).expand(config.views).clone()
    return draw[0] * 2 * math.pi, low + (high - low) * draw[1]


def _generator(config: PriorDatasetConfig, index: int, purpose: int) -> Generator:
    return Generator().manual_seed((config.seed * 1000003 + index) * 2 + purpose)


def _fingerprint(config: PriorDatasetConfig) -> str:
    """Of the settings and of the generator's source: pictures of an older generator are drawn anew, more objects extend the files."""
    settings = asdict(config)
    settings.pop("objects")
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        if source.name not in (Path(__file__).name, "prompts.py", "prompt_dataset.py", "sheet.py"):  # these draw nothing
            digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


def _stack(objects: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([one[name] for one in objects]) for name in objects[0]}
