"""Gaussians over time to and from files: the lossless master, and one .ply, .spz or frame after another."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..formats import ply, spz, viewer_file
from ..formats.configs import read_json, shown
from ..formats.mesh_batch import batch_problem
from ..formats.provenance import KEY, Provenance
from ..formats.splat_cloud import COEFFICIENTS, SplatCloud, problem_of
from ..formats.tensors import read_tensors
from ..formats.viewer_file import pack_viewer_file, read_viewer_file
from ..formats.writing import stream_tensors
from .frames import turned
from .gaussians import ATTRIBUTES, DIMENSIONS, Gaussians4D, harmonics_of
from .viewer import viewer_sequence

FORMAT, VERSION = "bloom4d.4d", 1
WIDTHS = {"positions": 3, "rotations": 4, "scales": 3}
MOST_NUMBERS = 1 << 31  # of a sequence in memory: 8 GiB


@dataclass(frozen=True)
class Master:
    """What a master file holds: Gaussians, a batch of meshes by name (empty when there is none), and how fast the times follow each other."""

    gaussians: Gaussians4D | None = None
    mesh: dict[str, Tensor] = field(default_factory=dict)
    fps: float = 12.0
    unlit: bool = False


# ---- the master file


def write_master(path: Path, master: Master, provenance: Provenance = Provenance()) -> None:
    """Every number as it is, in one .safetensors file."""
    tensors = {f"mesh.{name}": value for name, value in master.mesh.items()}
    if master.gaussians is not None:
        tensors |= {f"gaussians.{name}": value for name, value in (*master.gaussians.attributes().items(), ("times", master.gaussians.times))}
    document = {"format": FORMAT, "version": VERSION, "fps": master.fps, "unlit": master.unlit}
    stream_tensors(path, tensors, provenance.metadata(document))


def read_master(path: Path) -> Master:
    """What `write_master` wrote; ValueError in a clause for anything else."""
    tensors, metadata = read_tensors(path)
    document = read_json(metadata.get(KEY, "null"))
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError("it is no 4D file of Save 4D: its description is missing")
    if document.get("version") != VERSION:
        raise ValueError(f"it has version {shown(document.get('version'))} and this pack reads {VERSION}; use the pack that wrote it")
    parts = {kind: {name.removeprefix(f"{kind}."): value for name, value in tensors.items() if name.startswith(f"{kind}.")} for kind in ("gaussians", "mesh")}
    if not any(parts.values()):
        raise ValueError("neither Gaussians nor a mesh are in it")
    fps = document.get("fps")
    if not isinstance(fps, (int, float)) or not 0 < fps <= 1e4:
        raise ValueError(f"it claims {shown(fps)} times per second")
    if parts["mesh"] and (problem := batch_problem(parts["mesh"])):
        raise ValueError(problem)
    return Master(_checked_gaussians(parts["gaussians"]) if parts["gaussians"] else None, parts["mesh"], float(fps), document.get("unlit") is True)


def _checked_gaussians(tensors: dict[str, Tensor]) -> Gaussians4D:
    if tensors.keys() != {*ATTRIBUTES, "times"}:
        raise ValueError(f"its Gaussians consist of {', '.join(sorted(tensors))}")
    times, count = tensors["times"], tensors["positions"].shape[1] if tensors["positions"].dim() == 3 else 0
    if times.dim() != 1 or not len(times) or not times.is_floating_point() or not bool(torch.isfinite(times).all()) or bool((times.diff() < 0).any()):
        raise ValueError("its times are no ascending numbers")
    for name in ATTRIBUTES:
        shape = tuple(tensors[name].shape)
        fits = len(shape) == DIMENSIONS[name] and shape[0] in (1, len(times)) and shape[1] == count and tensors[name].is_floating_point()
        if not fits or (name in WIDTHS and shape[2] != WIDTHS[name]) or (name == "harmonics" and (shape[2] not in COEFFICIENTS or shape[3] != 3)):
            raise ValueError(f"its {name} are {' x '.join(map(str, shape))} of {tensors[name].dtype} for {len(times)} times of {count} Gaussians")
    gaussians = Gaussians4D(**tensors)
    if problem := gaussians_problem(gaussians):
        raise ValueError(problem)
    return gaussians


def gaussians_problem(gaussians: Gaussians4D) -> str:
    """Why Gaussians can't be used at some time, as a clause; empty text when nothing is wrong."""
    for index in range(gaussians.frames):
        if problem := problem_of(cloud_at(gaussians, index)):
            return f"at time {index} {problem}"
    return ""


# ---- one time of Gaussians and a cloud


def cloud_at(gaussians: Gaussians4D, index: int) -> SplatCloud:
    """The Gaussians at one time as arrays, in their own frame."""
    return SplatCloud(*(value[index if len(value) > 1 else 0].detach().float().cpu().numpy() for value in gaussians.attributes().values()))


def from_clouds(clouds: list[SplatCloud]) -> Gaussians4D:
    """Gaussians over time, evenly from 0 to 1, whose times are clouds; smaller ones are filled up with Gaussians that nobody sees.

    Attributes that no time changes are stored once.
    """
    most, coefficients = max(cloud.count for cloud in clouds), max(cloud.harmonics.shape[1] for cloud in clouds)
    parts = [torch.stack([_filled(getattr(cloud, name), most, coefficients) for cloud in clouds]) for name in ATTRIBUTES]
    still = [part[:1] if bool((part == part[:1]).all()) else part for part in parts]
    return Gaussians4D(*still, torch.arange(len(clouds)) / max(len(clouds) - 1, 1))


def _filled(values: np.ndarray, count: int, coefficients: int) -> Tensor:
    if values.ndim == 3 and values.shape[1] < coefficients:
        values = np.concatenate([values, np.zeros((len(values), coefficients - values.shape[1], 3), np.float32)], 1)
    missing = np.repeat(values[-1:] if values.ndim > 1 else np.zeros_like(values[-1:]), count - len(values), 0)  # opacity 0
    return torch.from_numpy(np.concatenate([values, missing]) if len(missing) else np.ascontiguousarray(values))


# ---- one file per time


def ply_bytes(gaussians: Gaussians4D, index: int, comments: dict[str, str] | None = None) -> bytes:
    """The Gaussians at one time as a 3DGS file, turned into its frame."""
    return ply.write_ply(cloud_at(turned(gaussians.at_frames([index])), 0), comments)


def spz_bytes(gaussians: Gaussians4D, index: int, y_down: bool = False) -> bytes:
    """The Gaussians at one time as .spz: Y up as the format says, or Y down as the host writes and shows it."""
    at = gaussians.at_frames([index])
    return spz.write_spz(cloud_at(turned(at) if y_down else at, 0))


def read_splat_files(paths: list[Path], spz_y_down: bool = False) -> tuple[Gaussians4D, str]:
    """A .ply or .spz per time, in our frame, and a note on what is special about them. ValueError that names the file."""
    clouds, notes, numbers = [], {}, 0
    for path in paths:
        cloud, note = _read_cloud(path)
        numbers += cloud.count * (11 + 3 * cloud.harmonics.shape[1])
        if numbers > MOST_NUMBERS:
            raise ValueError(f'The sequence of {len(paths)} files has more than {4 * MOST_NUMBERS >> 30} GiB of numbers at "{path.name}". Load fewer files at once.')
        clouds.append(cloud)
        notes |= {note: None} if note else {}
    counts = [cloud.count for cloud in clouds]
    if min(counts) < max(counts):
        notes["the times have " + f"{min(counts)} to {max(counts)} Gaussians: the missing ones were added unseen, and a number is not the same Gaussian over time"] = None
    gaussians = from_clouds(clouds)
    frame_is_ours = paths[0].suffix.lower() == ".spz" and not spz_y_down
    return gaussians if frame_is_ours else turned(gaussians), "; ".join(notes)


def _read_cloud(path: Path) -> tuple[SplatCloud, str]:
    try:
        data = path.read_bytes()
        cloud, note = (spz.read_spz(data), "") if path.suffix.lower() == ".spz" else ply.read_ply(data)
        problem = problem_of(cloud)
    except ValueError as error:
        problem = str(error)
    if problem:
        raise ValueError(f'"{path.name}" cannot be used: {problem}. Export it again, or load another file.')
    return cloud, note


# ---- the browser's file


def viewer_bytes(gaussians: Gaussians4D, fps: float, metadata: dict[str, str]) -> bytes:
    """The compact file of the viewer: quantised, without the dependence on the viewing direction."""
    return pack_viewer_file(viewer_sequence(gaussians, fps, metadata))


def read_viewer(path: Path) -> tuple[Gaussians4D, float]:
    """The Gaussians of such a file and their times per second; ValueError in a clause."""
    found = read_viewer_file(path)
    gaussians = Gaussians4D(found.positions, found.rotations, found.scales, found.opacities, harmonics_of(found.colours), found.times)
    if problem := gaussians_problem(gaussians):
        raise ValueError(problem)
    return gaussians, found.fps


# ---- sizes before anything is written


def sizes(gaussians: Gaussians4D) -> dict[str, int]:
    """Bytes that each format takes at most: the master, and all times together of the others."""
    frames, count, coefficients = gaussians.frames, gaussians.count, gaussians.harmonics.shape[2]
    master = sum(value.numel() * value.element_size() for value in gaussians.attributes().values())
    looks = max(len(gaussians.scales), len(gaussians.opacities), len(gaussians.harmonics)) > 1
    return {
        "master": master + (64 << 10),
        "ply": frames * (ply.bytes_of(count, coefficients) + ply.LONGEST_COMMENTS),
        "spz": frames * (count * (20 + 3 * (coefficients - 1)) + 64),  # quantised numbers, which hardly shrink
        "viewer": viewer_file.viewer_bytes(frames, count, looks) + (64 << 10),
    }
