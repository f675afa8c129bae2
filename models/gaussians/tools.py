"""What people do with finished Gaussians: cut, play at another pace, move, put together, pick an instant."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from ..geometry.rotations import matrix_to_quaternion, quaternion_product
from .gaussians import ATTRIBUTES, Gaussians4D, sample_times
from .harmonics import rotation_of_coefficients

ENDS = ("hold", "loop", "ping-pong")


def even_times(frames: int) -> Tensor:
    """i / (T - 1), (T,) float32; a single frame is the begin."""
    return torch.arange(frames) / max(frames - 1, 1)


def resampled(gaussians: Gaussians4D, frames: int) -> Gaussians4D:
    """The same motion at `frames` even times; 0 leaves the frames as they are."""
    return gaussians if frames == 0 else sample_times(gaussians, even_times(frames))


def compact(gaussians: Gaussians4D) -> Gaussians4D:
    """The same Gaussians with every attribute that is equal at all times kept once."""
    same = {name: value[:1].clone() for name, value in gaussians.attributes().items() if value.shape[0] > 1 and bool((value == value[:1]).all())}
    return replace(gaussians, **same)


def pick_time(gaussians: Gaussians4D, time: float) -> Gaussians4D:
    """One frame: the Gaussians as they are at `time` in [0, 1]."""
    return replace(sample_times(gaussians, torch.tensor([time])), times=torch.zeros(1).to(gaussians.times))


def cut_time(gaussians: Gaussians4D, start: float, end: float) -> Gaussians4D:
    """The part from `start` to `end` stretched over [0, 1]: its own frames within, and one interpolated at either end."""
    if start > end:
        raise ValueError(f"The time range starts at {start:g} and ends at {end:g}. Swap them: the start comes first.")
    if start == end:
        return pick_time(gaussians, start)
    times = gaussians.times
    kept = torch.cat([times.new_tensor([start]), times[(times > start) & (times < end)], times.new_tensor([end])])
    return replace(sample_times(gaussians, kept), times=(kept - start) / (end - start))


@dataclass(frozen=True)
class Trimming:
    """Which Gaussians stay: at some time as opaque as `opacity` or more; never longer than `longest` (largest standard
    deviation, 0 allows any); inside the box from `low` to `high` (None: everywhere)."""

    opacity: float = 0.0
    longest: float = 0.0
    box: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None

    def __post_init__(self):
        if self.box is not None and any(low >= high for low, high in zip(*self.box)):
            raise ValueError(f"The box goes from {_point(self.box[0])} to {_point(self.box[1])}. Its lower corner must lie below the upper one on every axis.")


def trim(gaussians: Gaussians4D, trimming: Trimming) -> Gaussians4D:
    """Without the Gaussians that `trimming` rejects, and without those that have numbers that are not finite.

    Outside the box a Gaussian has opacity 0 at that time, and is removed where it is outside at all times. ValueError when
    none stays.
    """
    finite = torch.stack([torch.isfinite(value).reshape(*value.shape[:2], -1).all(-1).all(0) for value in gaussians.attributes().values()]).all(0)
    keep = finite & (gaussians.opacities.amax(0) >= trimming.opacity)
    if trimming.longest:
        keep &= gaussians.scales.amax((0, 2)) <= trimming.longest
    if trimming.box is not None:
        low, high = (gaussians.positions.new_tensor(corner) for corner in trimming.box)
        inside = ((gaussians.positions >= low) & (gaussians.positions <= high)).all(-1)  # (T | 1, N)
        keep &= inside.any(0)
        if not bool(inside[:, keep].all()):
            gaussians = replace(gaussians, opacities=torch.where(inside, gaussians.opacities, 0.0))
    if not bool(keep.any()):
        raise ValueError(f"Trimming would leave none of the {gaussians.count} Gaussians: {_most(gaussians, finite)}. Lower the opacity, allow longer ones, or widen the box.")
    return gaussians.chosen(keep)


def _most(gaussians: Gaussians4D, finite: Tensor) -> str:
    if not bool(finite.any()):
        return "none of them is finite"
    some = gaussians.chosen(finite)
    low, high = some.positions.flatten(0, 1).aminmax(dim=0)
    return (
        f"their opacities reach {float(some.opacities.amax()):.3g}, their longest deviations start at {float(some.scales.amax((0, 2)).amin()):.3g}, "
        f"their centres lie between {_point(low.tolist())} and {_point(high.tolist())}"
    )


def _point(values) -> str:
    return f"({', '.join(f'{value:.3g}' for value in values)})"


@dataclass(frozen=True)
class Pace:
    """How time runs: `speed` times as fast from the begin (or, reversed, from the end); `end` says what follows the last frame:
    "hold" it, "loop" to the first, or back and forth ("ping-pong"). `frames` of the result, 0 for as many as there are."""

    speed: float = 1.0
    reverse: bool = False
    end: str = "hold"
    frames: int = 0

    def __post_init__(self):
        if self.end not in ENDS:
            raise ValueError(f'After the end comes "{self.end}", which is unknown. Choose one of: {", ".join(ENDS)}.')

    def source(self, times: Tensor) -> Tensor:
        """Which original time is seen at each of `times` in [0, 1]."""
        run = times.double() * self.speed
        if self.end == "hold":
            shown = run.clamp(max=1.0)
        elif self.end == "loop":
            shown = torch.where((run > 0) & (run == run[-1:]) & (run == run.round()), torch.ones_like(run), run - run.floor())
        else:
            shown = 1.0 - (run % 2.0 - 1.0).abs()
        return (1.0 - shown if self.reverse else shown).to(times.dtype)


def retime(gaussians: Gaussians4D, pace: Pace) -> Gaussians4D:
    """The same Gaussians along another course of time, at even times over [0, 1]."""
    times = even_times(pace.frames or gaussians.frames).to(gaussians.times)
    return replace(sample_times(gaussians, pace.source(times)), times=times)


@dataclass(frozen=True)
class Placement:
    """Scale, then turn (about x, then y, then z, degrees), then move, about the world's origin. `fit`: before that the object
    is moved and scaled so that its centres over all times fill the unit ball."""

    scale: float = 1.0
    rotation_degrees: tuple[float, float, float] = (0.0, 0.0, 0.0)
    translation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    fit: bool = False


def rotation_matrix(degrees: tuple[float, float, float]) -> Tensor:
    """(3, 3) float64: turns about the fixed axes x, then y, then z."""
    x, y, z = (_about(axis, angle) for axis, angle in enumerate(degrees))
    return z @ y @ x


def _about(axis: int, degrees: float) -> Tensor:
    angle = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    turn = torch.eye(3, dtype=torch.float64)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    turn[first, first] = turn[second, second] = angle.cos()
    turn[second, first], turn[first, second] = angle.sin(), -angle.sin()
    return turn


def place(gaussians: Gaussians4D, placement: Placement) -> Gaussians4D:
    """Every time of the Gaussians scaled, turned and moved: centres, orientations, sizes and what is seen from each side."""
    if placement.fit:
        gaussians = _fitted(gaussians)
    turn = rotation_matrix(placement.rotation_degrees)
    positions = gaussians.positions.double() @ turn.T * placement.scale + torch.tensor(placement.translation, dtype=torch.float64).to(gaussians.positions.device)
    mixing = rotation_of_coefficients(turn, gaussians.degree)
    return replace(
        gaussians,
        positions=positions.to(gaussians.positions),
        rotations=normalize(quaternion_product(_quaternion(turn).to(gaussians.rotations), gaussians.rotations), dim=-1),
        scales=gaussians.scales * placement.scale,
        harmonics=torch.einsum("jk,tnkc->tnjc", mixing.to(gaussians.harmonics), gaussians.harmonics),
    )


def _fitted(gaussians: Gaussians4D) -> Gaussians4D:
    low, high = gaussians.positions.flatten(0, 1).aminmax(dim=0)
    centred = gaussians.positions - (low + high) / 2
    reach = centred.norm(dim=-1).amax().clamp_min(1e-12)
    return replace(gaussians, positions=centred / reach, scales=gaussians.scales / reach)


def _quaternion(turn: Tensor) -> Tensor:
    return matrix_to_quaternion(turn[None])[0].roll(1)  # x, y, z, w -> w, x, y, z


def merge(clouds: list[Gaussians4D], frames: int = 0) -> Gaussians4D:
    """All clouds as one, at `frames` even times, or at every time that one of them has (0, exact). Harmonics take the highest degree."""
    times = even_times(frames) if frames else torch.cat([cloud.times.cpu() for cloud in clouds]).unique()
    coefficients = max(cloud.harmonics.shape[2] for cloud in clouds)
    clouds = [sample_times(cloud, times.to(cloud.times)) for cloud in clouds]
    joined = {name: _joined([_attribute(cloud, name, coefficients) for cloud in clouds]) for name in ATTRIBUTES}
    return Gaussians4D(**joined, times=times.to(clouds[0].times))


def _attribute(cloud: Gaussians4D, name: str, coefficients: int) -> Tensor:
    value = getattr(cloud, name)
    return pad(value, (0, 0, 0, coefficients - value.shape[2])) if name == "harmonics" else value


def _joined(values: list[Tensor]) -> Tensor:
    most = max(value.shape[0] for value in values)
    return torch.cat([value.expand(most, *value.shape[1:]) for value in values], 1)
