"""Toy objects: a few coloured Gaussians with an analytic motion, so that tracks, pictures and flow are known exactly.

Bodies lie in the unit ball, centres in a cube of side 0.8 or in a column, a plate or a walker of about that size. Every
motion is a rigid turn of parts, a shift, or a stretch along axes that the parts' own axes follow, so the moved Gaussians are
exact and none is fitted. Time 0 shows the body at rest; `speed` is how many cycles pass until time 1.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ..gaussians.gaussians import Gaussians4D, harmonics_of
from .styles import PALETTE

COLOURS = ("red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink")
HALF = 0.4  # of the cube that centres lie in
SIZES = (0.05, 0.13)  # standard deviations of a part
USUAL_PARTS = 40  # more parts than these are smaller, so that the body keeps its looks
UP, FORTH, SIDE = (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)


@dataclass(frozen=True)
class Body:
    """K parts at rest. centres (K, 3), rotations (K, 4) w, x, y, z, scales (K, 3), opacities (K,), colours (K, 3) sRGB,
    other_colours (K, 3) for the motion that changes them, limbs (K,) int64: 0 the trunk, 1 and 2 what moves against it.
    heights (K,): 0 at the body's lowest centre, 1 at its highest. heading (3,): the horizontal direction of a shift.
    words: names of its colours."""

    centres: Tensor
    rotations: Tensor
    scales: Tensor
    opacities: Tensor
    colours: Tensor
    other_colours: Tensor
    limbs: Tensor
    heights: Tensor
    heading: Tensor
    words: tuple[str, ...]


@dataclass(frozen=True)
class Pose:
    """What a motion does to a body at T times; None leaves it as it is. shift (T, 1, 3). angle (T, K) radians about `axis`
    (3,) through `pivot` (3,). stretch (T, 3) along the world's axes. fade (T, K): factor of the opacity.
    blend (T,): share of the other colours."""

    shift: Tensor | None = None
    angle: Tensor | None = None
    axis: tuple[float, float, float] = UP
    pivot: tuple[float, float, float] = (0.0, 0.0, 0.0)
    stretch: Tensor | None = None
    fade: Tensor | None = None
    blend: Tensor | None = None


@dataclass(frozen=True)
class Toy:
    """A toy object. kind: a name of KINDS. parts: K, at least 1; usual are 8 to 40. bands: split each part into two of
    different colours, which makes 2 K Gaussians. speed: cycles of the motion from time 0 to time 1."""

    kind: str
    seed: int = 0
    parts: int = 24
    bands: bool = False
    speed: float = 1.0

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"There is no toy motion {self.kind!r}: choose one of {', '.join(KINDS)}.")
        if self.parts < 1:
            raise ValueError(f"A toy object of {self.parts} parts shows nothing: give at least 1.")

    def body(self) -> Body:
        """The parts at rest, drawn from the seed; the same seed gives the same parts for every kind of the same layout."""
        return _draw(Generator().manual_seed(self.seed), self.parts, KINDS[self.kind].layout, self.bands)

    def gaussians(self, times: Tensor) -> Gaussians4D:
        """The exact Gaussians at `times` (T,) in [0, 1]; attributes that the motion leaves alone have a leading axis of 1."""
        body, times = self.body(), times.float().cpu()
        return _moved(body, KINDS[self.kind].pose(body, times * self.speed), times)

    def caption(self) -> str:
        """A sentence that names colours and motion: "a red and blue swinging object"."""
        words = self.body().words
        colours = " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
        return f"{'an' if colours[0] in 'aeiou' else 'a'} {colours} {KINDS[self.kind].adjective} object"


@dataclass(frozen=True)
class Kind:
    """A class of motion. layout: cloud, upright cloud (parts turned about Y alone), satellite,
    column, plate or walker. pose: (body, cycles (T,)) -> Pose. adjective: for captions."""

    layout: str
    pose: Callable[[Body, Tensor], Pose]
    adjective: str


def _wave(cycles: Tensor) -> Tensor:
    return torch.sin(2 * math.pi * cycles)


def _swell(cycles: Tensor) -> Tensor:
    """0, up to 1 and back in each cycle."""
    return 0.5 - 0.5 * torch.cos(2 * math.pi * cycles)


def _translate(body: Body, cycles: Tensor) -> Pose:
    return Pose(shift=0.3 * _wave(cycles)[:, None, None] * body.heading)


def _orbit(body: Body, cycles: Tensor) -> Pose:
    return Pose(angle=2 * math.pi * cycles[:, None] * (body.limbs == 1).float())


def _swing(body: Body, cycles: Tensor) -> Pose:
    return Pose(angle=0.6 * _wave(cycles)[:, None].expand(-1, len(body.centres)), axis=FORTH, pivot=(0.0, 0.7, 0.0))


def _bend(body: Body, cycles: Tensor) -> Pose:
    return Pose(angle=0.9 * _wave(cycles)[:, None] * body.heights, axis=FORTH, pivot=(0.0, -0.55, 0.0))


def _squash(body: Body, cycles: Tensor) -> Pose:
    tall = 1 + 0.4 * _wave(cycles)
    return Pose(stretch=torch.stack((tall.rsqrt(), tall, tall.rsqrt()), 1))  # the volume stays


def _twist(body: Body, cycles: Tensor) -> Pose:
    return Pose(angle=1.3 * _wave(cycles)[:, None] * (2 * body.heights - 1))


def _pulse(body: Body, cycles: Tensor) -> Pose:
    return Pose(stretch=(1 + 0.3 * _wave(cycles))[:, None].expand(-1, 3))


def _walk(body: Body, cycles: Tensor) -> Pose:
    side = (body.limbs == 1).float() - (body.limbs == 2).float()  # the legs are out of phase
    bob = 0.03 * _swell(2 * cycles)
    return Pose(shift=bob[:, None, None] * torch.tensor(UP), angle=0.55 * _wave(cycles)[:, None] * side, axis=SIDE, pivot=(0.0, 0.0, 0.0))


def _fold(body: Body, cycles: Tensor) -> Pose:
    side = (body.limbs == 1).float() - (body.limbs == 2).float()
    return Pose(angle=1.3 * _swell(cycles)[:, None] * side, axis=FORTH)


def _appear(body: Body, cycles: Tensor) -> Pose:
    turn = 2 * body.heights - 1  # the lower half is there from the beginning, the upper one grows; never back
    share = (2 * cycles.clamp(0, 1)[:, None] - turn).clamp(0, 1)
    return Pose(fade=torch.where(turn < 0, torch.ones_like(share), share * share * (3 - 2 * share)))


def _spin(body: Body, cycles: Tensor) -> Pose:
    return Pose(angle=2 * math.pi * cycles[:, None].expand(-1, len(body.centres)))


def _rest(body: Body, cycles: Tensor) -> Pose:
    return Pose()


def _recolour(body: Body, cycles: Tensor) -> Pose:
    return Pose(blend=_swell(cycles))


KINDS: dict[str, Kind] = {
    "translate": Kind("cloud", _translate, "sliding"),
    "orbit": Kind("satellite", _orbit, "orbited"),
    "swing": Kind("column", _swing, "swinging"),
    "bend": Kind("column", _bend, "bending"),
    "squash": Kind("upright cloud", _squash, "squashing and stretching"),
    "twist": Kind("column", _twist, "twisting"),
    "pulse": Kind("cloud", _pulse, "pulsing"),
    "walk": Kind("walker", _walk, "walking"),
    "fold": Kind("plate", _fold, "folding and unfolding"),
    "appear": Kind("cloud", _appear, "appearing"),
    "spin": Kind("cloud", _spin, "spinning"),
    "recolour": Kind("cloud", _recolour, "colour-changing"),
    "static": Kind("cloud", _rest, "resting"),
}


def _draw(generator: Generator, count: int, layout: str, bands: bool) -> Body:
    numbers = torch.rand(count, 16, generator=generator)
    whole = torch.rand(5, generator=generator)
    centres, limbs = _placed(numbers[:, :3] * 2 - 1, layout)
    scales = (SIZES[0] + (SIZES[1] - SIZES[0]) * numbers[:, 3:6]) * min(1.0, (USUAL_PARTS / count) ** (1 / 3))
    words = _words(whole[:4])
    choice = (numbers[:, 6] * len(words)).long()
    palette = torch.tensor([PALETTE[word] for word in words])
    shade = 0.85 + 0.15 * numbers[:, 7:8]
    heading = torch.stack((torch.cos(2 * math.pi * whole[4]), torch.zeros(()), torch.sin(2 * math.pi * whole[4])))
    height = centres[:, 1] - centres[:, 1].min()
    body = Body(
        centres=centres,
        rotations=_random_rotations(numbers[:, 8:11], upright=layout == "upright cloud"),
        scales=scales,
        opacities=0.9 + 0.09 * numbers[:, 11],
        colours=palette[choice] * shade,
        other_colours=palette[(choice + 1) % len(words)] * shade,
        limbs=limbs,
        heights=height / height.max().clamp_min(1e-6),
        heading=heading,
        words=words,
    )
    return _banded(body) if bands else body


def _placed(unit: Tensor, layout: str) -> tuple[Tensor, Tensor]:
    """Centres (K, 3) and limbs (K,) from numbers (K, 3) in [-1, 1]."""
    count = len(unit)
    limbs = torch.zeros(count, dtype=torch.int64)
    if layout == "column":
        return unit * torch.tensor((0.18, 0.55, 0.18)), limbs
    if layout == "plate":
        return unit * torch.tensor((0.6, 0.04, 0.4)), torch.where(unit[:, 0] > 0, 1, 2)
    if layout == "walker":
        limbs = torch.tensor([0, 1, 0, 2])[torch.arange(count) % 4]
        leg = (limbs == 1).float() - (limbs == 2).float()
        trunk = unit * torch.tensor((0.24, 0.3, 0.18)) + torch.tensor((0.0, 0.35, 0.0))
        legs = unit * torch.tensor((0.06, 0.3, 0.06)) + torch.tensor((0.0, -0.35, 0.0)) + 0.18 * leg[:, None] * torch.tensor(SIDE)
        return torch.where(limbs[:, None] == 0, trunk, legs), limbs
    centres = unit * HALF
    if layout == "satellite":
        centres[0], limbs[0] = torch.tensor((0.8, 0.0, 0.0)), 1
    return centres, limbs


def _words(numbers: Tensor) -> tuple[str, ...]:
    """Two or three different colour names."""
    left, chosen = list(COLOURS), []
    for number in numbers[: 3 if numbers[3] > 0.5 else 2].tolist():
        chosen.append(left.pop(min(int(number * len(left)), len(left) - 1)))
    return tuple(chosen)


def _random_rotations(numbers: Tensor, upright: bool) -> Tensor:
    """Uniform rotations (K, 4) of numbers (K, 3) in [0, 1] (Shoemake 1992); upright: about Y alone."""
    if upright:
        return _axis_angle(UP, 2 * math.pi * numbers[:, 0])
    first, angle, other = numbers[:, 0], 2 * math.pi * numbers[:, 1], 2 * math.pi * numbers[:, 2]
    low, high = (1 - first).sqrt(), first.sqrt()
    return torch.stack((high * other.cos(), low * angle.sin(), low * angle.cos(), high * other.sin()), -1)


def _banded(body: Body) -> Body:
    """Each part cut across its longest axis into two of different colours; all first halves, then all second ones."""
    longest = torch.nn.functional.one_hot(body.scales.argmax(1), 3).float()
    step = _rotate(body.rotations, longest * body.scales * 0.7)
    scales = body.scales * (1 - 0.4 * longest)

    def twice(first: Tensor, second: Tensor | None = None) -> Tensor:
        return torch.cat((first, first if second is None else second))

    return Body(
        twice(body.centres - step, body.centres + step), twice(body.rotations), twice(scales), twice(body.opacities),
        twice(body.colours, body.other_colours), twice(body.other_colours, body.colours), twice(body.limbs), twice(body.heights),
        body.heading, body.words,
    )  # fmt: skip


def _moved(body: Body, pose: Pose, times: Tensor) -> Gaussians4D:
    centres, rotations, scales = body.centres[None], body.rotations[None], body.scales[None]
    opacities, colours = body.opacities[None], body.colours[None]
    if pose.angle is not None:
        turn, pivot = _axis_angle(pose.axis, pose.angle), torch.tensor(pose.pivot)  # (T, K, 4)
        centres, rotations = pivot + _rotate(turn, centres - pivot), _product(turn, rotations)
    if pose.shift is not None:
        centres = centres + pose.shift
    if pose.stretch is not None:  # all parts' axes lie so that a stretch only scales them: see the layout "upright cloud"
        centres, scales = centres * pose.stretch[:, None], scales * pose.stretch[:, None]
    if pose.fade is not None:
        opacities = opacities * pose.fade
    if pose.blend is not None:
        colours = torch.lerp(colours, body.other_colours[None], pose.blend[:, None, None])
    return Gaussians4D(centres, rotations, scales, opacities, harmonics_of(colours), times)


def _axis_angle(axis: tuple[float, float, float], angle: Tensor) -> Tensor:
    return torch.cat((torch.cos(0.5 * angle)[..., None], torch.sin(0.5 * angle)[..., None] * torch.tensor(axis)), -1)


def _product(first: Tensor, second: Tensor) -> Tensor:
    """Hamilton product of quaternions (..., 4): turn by `second`, then by `first`."""
    real, other = first[..., :1], second[..., :1]
    vector, rest = torch.broadcast_tensors(first[..., 1:], second[..., 1:])
    imaginary = real * rest + other * vector + torch.linalg.cross(vector, rest)
    return torch.cat((real * other - (vector * rest).sum(-1, keepdim=True), imaginary), -1)


def _rotate(quaternion: Tensor, points: Tensor) -> Tensor:
    """Points (..., 3) turned by unit quaternions (..., 4)."""
    vector, points = torch.broadcast_tensors(quaternion[..., 1:], points)
    twice = 2 * torch.linalg.cross(vector, points)
    return points + quaternion[..., :1] * twice + torch.linalg.cross(vector, twice)
