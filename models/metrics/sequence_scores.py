"""Every score of a sequence of pictures, with a note for each that cannot be had."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from . import field_scores, motion, pictures, similarity, views
from .field_scores import Named
from .recogniser import Recogniser
from .scores import Scores
from .sequences import Sequence, check_reference


@dataclass(frozen=True)
class Judges:
    """What judges beside closed forms; None or a missing file leaves its scores out.

    named: what the object should be, for the recogniser. text: frames (N, 3, H, W) in [0, 1] as they came -> CLIP score.
    perceptual: pictures, reference (N, 3, H, W) -> LPIPS. notes: on the files they come from, or on what is missing.
    """

    named: Named | None = None
    recogniser: Recogniser | None = None
    text: Callable[[Tensor], float] | None = None
    perceptual: Callable[[Tensor, Tensor], float] | None = None
    notes: tuple[str, ...] = ()


def measure(label: str, seen: Sequence, reference: Sequence | None = None, judges: Judges = Judges()) -> Scores:
    """All scores that can be had of `seen`, in closed form and by the judges; ValueError when the reference is of another size."""
    notes = [seen.describe(), *judges.notes]
    values = {}
    if judges.text is not None:
        values["CLIP"] = judges.text(seen.shown)
    values |= recognised(seen, judges, notes)
    if reference is not None:
        check_reference(seen, reference)
        values |= compared(seen, reference, judges, notes)
    values |= plain(seen, notes)
    if seen.moving_cameras():
        notes.append("The camera moves from time to time, so motion and flicker measure it too.")
    return Scores(label, values, tuple(notes))


def recognised(seen: Sequence, judges: Judges, notes: list[str]) -> dict[str, float]:
    """Phenomenon, species, colour and order of times by the recogniser."""
    if judges.recogniser is None or judges.named is None:
        return {}
    if not seen.masked:
        notes.append("Absent without a mask: phenomenon, species, colour, time correlation.")
        return {}
    times = seen.times
    values = field_scores.recognition_scores(seen.pictures, judges.named, judges.recogniser, times)
    if float(times.max() - times.min()) == 0:
        del values["time correlation"]  # one instant has no order
    return values


def compared(seen: Sequence, reference: Sequence, judges: Judges, notes: list[str]) -> dict[str, float]:
    """Scores against the reference: the errors, and how sharp, moving, clean and many-faced it is relative to it."""
    given, real = over_white(seen), over_white(reference)
    values = {"PSNR": similarity.psnr(given, real)}
    structure = similarity.ssim(given, real)
    if structure is None:
        notes.append(f"Absent below {similarity.WINDOW} pixels: SSIM.")
    else:
        values["SSIM"] = structure
    if judges.perceptual is not None:
        values["LPIPS"] = judges.perceptual(given, real)
    if not (seen.masked and reference.masked):
        notes.append("Absent unless both have a mask: background error, inner sharpness, flicker, opposite views, extra faces.")
        return values | {"sharpness": pictures.sharpness(seen.pictures.flatten(0, 1), reference.pictures.flatten(0, 1))} | _motion_ratio(seen, reference)
    values |= field_scores.looks(seen.pictures, reference.pictures[None])
    if len(seen.pictures) > 1:
        values |= field_scores.change(seen.pictures, reference.pictures)
    return values | (field_scores.faces(seen.pictures, reference.pictures) if seen.is_ring() else {})


def _motion_ratio(seen: Sequence, reference: Sequence) -> dict[str, float]:
    return {"motion": motion.motion_ratio(seen.pictures, reference.pictures)} if len(seen.pictures) > 1 else {}


def plain(seen: Sequence, notes: list[str]) -> dict[str, float]:
    """Scores that need nothing but the pictures, and of silhouettes where a mask says what is covered."""
    values = silhouettes(seen, notes)
    values["absolute sharpness"] = float(pictures.laplacian(over_white(seen)).mean())
    if len(seen.pictures) < 3:
        notes.append("Absent with fewer than two times: motion. With fewer than three: flicker.")
    if len(seen.pictures) > 1:
        values["absolute motion"] = float(motion.motion(seen.pictures))
    if len(seen.pictures) > 2:
        values["absolute flicker"] = float(motion.second_difference(seen.pictures).mean())
    return values


def silhouettes(seen: Sequence, notes: list[str]) -> dict[str, float]:
    """Agreement of the views, and haze."""
    if not seen.masked:
        notes.append("Absent without a mask: hull, multi-face, haze.")
        return {}
    values = {}
    if seen.cameras is not None and seen.pictures.shape[1] > 1:
        values["hull"] = field_scores.hull(seen.pictures, seen.cameras)
    else:
        notes.append("Absent without cameras and at least two views: hull.")
    if seen.is_ring():
        values["multi-face"] = views.multi_face(seen.pictures)
        notes += ["The views are taken as evenly around the object: connect the cameras to check that."] if seen.cameras is None else []
    else:
        notes.append("Absent unless the views face each other in pairs, evenly around the object: multi-face, opposite views, extra faces.")
    return values | {"haze": pictures.haze(seen.pictures.flatten(0, 1))}


def over_white(seen: Sequence) -> Tensor:
    """(T V, 3, H, W) in [0, 1]."""
    return pictures.over_white(seen.pictures.flatten(0, 1)).clamp(0, 1)
