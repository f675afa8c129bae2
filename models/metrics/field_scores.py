"""The verdict over a 4D object: its pictures from a grid of views and times against a bank of real objects of its name."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from . import motion, nearest, pictures, views
from .recogniser import Recogniser

OPPOSITE_FLOOR = 0.02  # mean difference of opposite views below which the real object looks alike on all sides


@dataclass(frozen=True)
class Named:
    """What the object should be; None is left open. `species` is the recogniser's name ("candle burning: pillar")."""

    phenomenon: str
    species: str | None = None
    colour: str | None = None


@dataclass(frozen=True)
class Limit:
    """The range in which a score passes, and what it says."""

    low: float
    high: float
    meaning: str

    def passes(self, score: float) -> bool:
        """NaN passes: the score does not apply (nothing stands still, all sides look alike)."""
        return math.isnan(score) or self.low <= score <= self.high


LIMITS = {
    "phenomenon": Limit(0.9, 1.0, "share of the pictures that the recogniser calls by the right phenomenon"),
    "species": Limit(1.0, 1.0, "whether the object as a whole is called by the right species"),
    "colour": Limit(1.0, 1.0, "whether the object as a whole is called by the right colour"),
    "time correlation": Limit(0.8, 1.0, "of the recogniser's time with the true time"),
    "nearest PSNR": Limit(20.0, 100.0, "dB to the nearest real object; rewards blur, so it only says that things are in place"),
    "background error": Limit(0.0, 0.005, "mean opacity where no real object of that name ever is"),
    "sharpness": Limit(0.55, 1.5, "mean |Laplacian| relative to real objects"),
    "inner sharpness": Limit(0.3, 2.0, "the same inside the object"),
    "motion": Limit(0.5, 1.6, "mean |frame difference| relative to the nearest real object"),
    "flicker": Limit(0.0, 0.04, "mean |second difference in time| where the real object stands still"),
    "opposite views": Limit(0.5, 2.0, "their difference, relative to a real object's"),
    "extra faces": Limit(-2.0, 0.45, "correlation of opposite views, not mirrored, minus a real object's"),
    "hull": Limit(0.9, 1.0, "share of the silhouettes that one solid explains"),
}


def field_scores(seen: Tensor, bank: Tensor, cameras, named: Named, recogniser: Recogniser, times: Tensor | None = None) -> dict[str, float]:
    """Every score of `LIMITS` and the absolute values behind the relative ones.

    seen: (T, V, 4, H, W) premultiplied RGBA of a field, bank: (K, T, V, 4, H, W) of real objects by the same cameras (a ring of
    V views, time slowest), times (T,) that the pictures claim, default i / (T - 1).
    """
    count = seen.shape[0]
    times = torch.arange(count) / (count - 1) if times is None else times
    best = nearest.nearest_instance(seen, bank)
    truth, flat, real_flat = bank[best.index], seen.flatten(0, 1), bank.flatten(0, 2)
    absolute = {
        "nearest PSNR of real objects": nearest.leave_one_out(bank),
        "fine detail": pictures.fine_detail(flat, real_flat),
        "haze": pictures.haze(flat),
        "opposite silhouettes": views.opposite_silhouettes(seen),
        "opposite silhouettes of the real object": views.opposite_silhouettes(truth),
    }
    return {
        **recognition_scores(seen, named, recogniser, times),
        "nearest PSNR": best.decibels,
        **looks(seen, bank),
        **change(seen, truth),
        **faces(seen, truth),
        "hull": hull(seen, cameras),
        **absolute,
    }


def looks(seen: Tensor, bank: Tensor) -> dict[str, float]:
    """Cleanness and sharpness of (T, V, 4, H, W) relative to real objects (K, T, V, 4, H, W)."""
    flat, real_flat = seen.flatten(0, 1), bank.flatten(0, 2)
    return {
        "background error": pictures.background_error(seen, nearest.ever_covered(bank)),
        "sharpness": pictures.sharpness(flat, real_flat),
        "inner sharpness": pictures.inner_sharpness(flat, real_flat),
    }


def change(seen: Tensor, truth: Tensor) -> dict[str, float]:
    """Change over time of (T, V, 4, H, W) relative to the true sequence."""
    return {"motion": motion.motion_ratio(seen, truth), "flicker": motion.flicker(seen, truth)}


def faces(seen: Tensor, truth: Tensor) -> dict[str, float]:
    """Opposite views of a ring (T, V, 4, H, W) relative to the true ones."""
    opposite = views.opposite_difference(truth)
    return {
        "opposite views": views.opposite_difference(seen) / opposite if opposite > OPPOSITE_FLOOR else math.nan,
        "extra faces": views.multi_face(seen) - views.multi_face(truth),
    }


def hull(seen: Tensor, cameras) -> float:
    """Mean over the times of (T, V, 4, H, W) of the share of silhouettes that one solid explains; cameras: V, or T V of them."""
    count, across = seen.shape[:2]
    step = 0 if len(cameras) == across else across
    at = lambda time: cameras.select(slice(time * step, time * step + across))  # noqa: E731
    return sum(views.hull_agreement(frame[:, 3], at(time)) for time, frame in enumerate(seen)) / count


def recognition_scores(seen: Tensor, named: Named, recogniser: Recogniser, times: Tensor) -> dict[str, float]:
    """Names and time order. Species and colour are those of the mean over all pictures: a burnt bread has lost its colour."""
    config, said = recogniser.config, recogniser.recognise(seen.flatten(0, 1))
    phenomenon = said.phenomenon.argmax(1) == config.phenomena.index(named.phenomenon)
    whole = lambda names, probability, name: math.nan if name is None else float(names[int(probability.mean(0).argmax())] == name)  # noqa: E731
    return {
        "phenomenon": phenomenon.float().mean().item(),
        "species": whole(config.species, said.species, named.species),
        "colour": whole(config.colours, said.colour, named.colour),
        "time correlation": motion.time_correlation(said.time.view(seen.shape[:2]), times),
    }


def verdict(scores: dict[str, float]) -> dict[str, bool]:
    """Which limits hold."""
    return {name: limit.passes(scores[name]) for name, limit in LIMITS.items()}
