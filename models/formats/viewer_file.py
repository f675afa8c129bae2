"""The compact file that the browser plays: Gaussians over time in 10 bytes per Gaussian and time, and 7 per Gaussian.

One safetensors file: `position` u16 (F, N, 3) over a box, `rotation` i8 (F, N, 4) w, x, y, z, `logscale` u8 and `rgba` u8, which
are (N, 3) and (N, 4) while they do not change, else (T, N, .). F is T, or 1 for what stands still. The box, the times and their
pace are in the metadata. Positions are true to 8e-6 of the box, rotations to 0.4 % per component, scales to 3.2 % between 4.5e-5
and 380 (outside they are clamped), opacities and colours to 0.2 %.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy
import safetensors
import torch
from safetensors import safe_open
from safetensors.numpy import save
from torch import Tensor

from .configs import read_json
from .header import order_metadata

FORMAT, VERSION = "bloom4d viewer", "1"
OURS = ("format", "version", "frames", "count", "fps", "aabb", "times")
TENSORS = {"position": ("U16", 3), "rotation": ("I8", 4), "logscale": ("U8", 3), "rgba": ("U8", 4)}
LOGSCALE_OFFSET, LOGSCALE_STEPS = 10.0, 16.0  # a byte is (ln s + 10) * 16


@dataclass(frozen=True)
class ViewerSequence:
    """N Gaussians at T times, activated; F is T, or 1 for an attribute that serves all times.

    positions (F, N, 3). rotations (F, N, 4) w, x, y, z. scales (F, N, 3) linear. opacities (F, N) and sRGB colours (F, N, 3) in
    [0, 1]. times (T,) ascending. fps: pictures a second at which the times are to be played. metadata: further texts of the file.
    """

    positions: Tensor
    rotations: Tensor
    scales: Tensor
    opacities: Tensor
    colours: Tensor
    times: Tensor
    fps: float = 8.0
    metadata: dict[str, str] = field(default_factory=dict)


def viewer_bytes(frames: int, count: int, moving_looks: bool = False) -> int:
    """Size in bytes of such a file without its header; `moving_looks`: scales, opacities and colours change over time."""
    return 10 * frames * count + 7 * count * (frames if moving_looks else 1)


def pack_viewer_file(sequence: ViewerSequence) -> bytes:
    """The file's bytes; equal sequences give equal bytes. ValueError when there is no Gaussian or a value is not finite."""
    _check_values(sequence)
    points = sequence.positions.detach().cpu().numpy()
    low, high = (edge((0, 1)).astype(numpy.float64) for edge in (points.min, points.max))
    extent = high - low
    tensors = {
        "position": numpy.stack([_in_box(frame, low, extent) for frame in points]),  # frame by frame: in double precision it is large
        "rotation": (torch.nn.functional.normalize(sequence.rotations.detach().float(), dim=-1) * 127).round().cpu().numpy().astype(numpy.int8),
        "logscale": _still(_bytes((sequence.scales.float().clamp_min(1e-30).log() + LOGSCALE_OFFSET) * LOGSCALE_STEPS)),
        "rgba": _still(_bytes(_rgba(sequence) * 255)),
    }
    header = {
        "format": FORMAT, "version": VERSION, "frames": str(len(sequence.times)), "count": str(points.shape[1]), "fps": f"{sequence.fps:g}",
        "aabb": json.dumps([low.tolist(), extent.tolist()]), "times": json.dumps([round(time, 7) for time in sequence.times.tolist()]),
    }  # fmt: skip
    return order_metadata(save(tensors, {**sequence.metadata, **header}))


def _check_values(sequence: ViewerSequence) -> None:
    if not sequence.positions.shape[1] or not len(sequence.times):
        raise ValueError("There are no Gaussians to write: the object is empty.")
    for name in ("positions", "rotations", "scales", "opacities", "colours", "times"):
        value = getattr(sequence, name)
        if not torch.isfinite(value).all():
            raise ValueError(f"The {name} hold {int((~torch.isfinite(value)).sum())} values that are not finite. Leave those Gaussians out.")


def _in_box(points: numpy.ndarray, low: numpy.ndarray, extent: numpy.ndarray) -> numpy.ndarray:
    return numpy.rint((points - low) / numpy.where(extent > 0, extent, 1.0) * 65535).astype(numpy.uint16)


def _rgba(sequence: ViewerSequence) -> Tensor:
    colours, opacities = sequence.colours.float(), sequence.opacities.float()[..., None]
    frames = max(len(colours), len(opacities))
    return torch.cat([part.expand(frames, -1, -1) for part in (colours, opacities)], dim=-1)


def _bytes(values: Tensor) -> numpy.ndarray:
    return values.detach().round().clamp(0, 255).cpu().numpy().astype(numpy.uint8)


def _still(values: numpy.ndarray) -> numpy.ndarray:
    """Without the axis of times when nothing changes along it."""
    return values[0] if (values == values[:1]).all() else values


def read_viewer_file(path: Path) -> ViewerSequence:
    """The sequence of such a file; ValueError in one clause when it is damaged or another kind of file.

    Nothing is allocated before the declared counts were held against each other; the library holds them against the file's size.
    """
    try:
        with safe_open(path, "np") as file:
            metadata = file.metadata() or {}
            frames, count = _check_counts(metadata, {name: file.get_slice(name) for name in file.keys()})
            tensors = {name: file.get_tensor(name) for name in TENSORS}
    except (OSError, safetensors.SafetensorError) as error:
        reason = str(error).splitlines()[0][:120]
        raise ValueError(f'"{Path(path).name}" is no readable safetensors file ({reason})') from None
    return _sequence(tensors, metadata, frames)


def _check_counts(metadata: dict[str, str], slices: dict) -> tuple[int, int]:
    """T and N, after every tensor was found to have just the shape and kind that they ask for."""
    if metadata.get("format") != FORMAT or metadata.get("version") != VERSION:
        raise ValueError(f'it is no viewer file of version {VERSION} (its format is "{str(metadata.get("format"))[:40]}")')
    frames, count = (_whole(metadata, name) for name in ("frames", "count"))
    for name, (kind, width) in TENSORS.items():
        if name not in slices:
            raise ValueError(f"the tensor {name} is missing")
        shape = tuple(slices[name].get_shape())
        still = (count, width) if name in ("logscale", "rgba") else (1, count, width)
        if shape not in (still, (frames, count, width)) or slices[name].get_dtype() != kind:
            raise ValueError(f"the tensor {name} is {slices[name].get_dtype()} {list(shape)[:4]}, which does not suit {frames} times of {count} Gaussians")
    return frames, count


def _whole(metadata: dict[str, str], name: str) -> int:
    text = metadata.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) > 0):
        raise ValueError(f'its {name} is "{text[:40]}", a whole number above 0 is needed')
    return int(text)


def _sequence(tensors: dict[str, numpy.ndarray], metadata: dict[str, str], frames: int) -> ViewerSequence:
    box, times, fps = (_numbers(metadata, name, shape) for name, shape in (("aabb", (2, 3)), ("times", (frames,)), ("fps", ())))
    if (box[1] < 0).any() or (times.diff() < 0).any() or not 0 < fps <= 1000:
        raise ValueError("its box, times or pictures per second are out of range")
    values = {name: torch.from_numpy(value.astype(numpy.float32)) for name, value in tensors.items()}
    values = {name: value if value.dim() == 3 else value[None] for name, value in values.items()}
    return ViewerSequence(
        positions=(box[0] + values["position"] / 65535 * box[1]).float(),
        rotations=torch.nn.functional.normalize(values["rotation"], dim=-1),
        scales=torch.exp(values["logscale"] / LOGSCALE_STEPS - LOGSCALE_OFFSET),
        opacities=values["rgba"][..., 3] / 255,
        colours=values["rgba"][..., :3] / 255,
        times=times.float(),
        fps=float(fps),
        metadata={name: text for name, text in metadata.items() if name not in OURS},
    )


def _numbers(metadata: dict[str, str], name: str, shape: tuple[int, ...]) -> Tensor:
    """A list of finite numbers (nested to `shape`) out of the metadata."""
    values = read_json(metadata.get(name, ""))
    try:
        numbers = torch.tensor(values, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        numbers = torch.full((), math.nan)
    if numbers.shape != shape or not torch.isfinite(numbers).all():
        raise ValueError(f"its {name} is no list of {' x '.join(map(str, shape)) or 'one'} finite numbers")
    return numbers
