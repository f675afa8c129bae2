"""What Gaussians are constructed from: pictures with cameras and times, and whether they determine the shape."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..geometry.cameras import Cameras

SAME_SIDE = math.radians(10.0)  # directions closer than this see an object from one side
WELL_SEEN = 3  # sides that a time must be seen from for its shape to be determined
NEARBY = 0.25  # of the clip: what moves little in that long is seen from all sides that the camera passes meanwhile
AROUND = 120.0  # degrees between two of those sides that make up front and back, also of an orbit from above


@dataclass(frozen=True)
class Footage:
    """M pictures of one object. `rgb` (M, H, W, 3) sRGB premultiplied by `alpha` (M, H, W), or over white where alpha is None.

    `cameras`: M cameras with their times. `static`: the object stands still at time 0 in all of them, whatever their times say.
    """

    name: str
    rgb: Tensor
    alpha: Tensor | None
    cameras: Cameras
    static: bool = False

    def __post_init__(self):
        count = len(self.rgb)
        if len(self.cameras) != count:
            raise ValueError(
                f"The {self.name} has {count} pictures and {len(self.cameras)} cameras. Give one camera per picture, in the same order: set the "
                "camera path's frames to the number of pictures."
            )
        if self.alpha is not None and self.alpha.shape != self.rgb.shape[:3]:
            raise ValueError(f"The mask of the {self.name} is {_size(self.alpha)}, its pictures are {_size(self.rgb[..., 0])}. Give one mask per picture, of the same size.")
        if self.alpha is not None and not bool((self.alpha > 0.5).any()):
            raise ValueError(f"The mask of the {self.name} is empty in all {count} pictures. Connect a mask that is 1 where the object is; invert it if it is the other way round.")

    def __len__(self) -> int:
        return len(self.rgb)

    @property
    def times(self) -> Tensor:
        """(M,) in [0, 1]; zeros for a static footage."""
        return torch.zeros_like(self.cameras.times) if self.static else self.cameras.times

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return tuple(self.rgb.shape[1:3])

    def silhouettes(self) -> Tensor:
        """(M, H, W): the opacity, or how far a picture is from white where none is known."""
        return self.alpha if self.alpha is not None else ((1.0 - self.rgb.amin(dim=-1)) * 10.0).clamp(0.0, 1.0)

    def over_white(self) -> Tensor:
        """The pictures (M, H, W, 3) over white."""
        return self.rgb if self.alpha is None else self.rgb + (1.0 - self.alpha[..., None])

    def to(self, device) -> "Footage":
        """On another device."""
        alpha = None if self.alpha is None else self.alpha.to(device)
        return Footage(self.name, self.rgb.to(device), alpha, self.cameras.to(device), self.static)


def _size(pictures: Tensor) -> str:
    return " x ".join(map(str, pictures.shape))


def footage(name: str, pictures: Tensor, mask: Tensor | None, cameras: Cameras, static: bool = False) -> Footage:
    """Footage from pictures (M, H, W, 3) in [0, 1] over any plain background, and masks (M, H, W): where there is a mask, the
    background's mean colour is taken out of the soft edges. Without one the background counts as white."""
    rgb = pictures[..., :3].float()
    if mask is None:
        return Footage(name, rgb, None, cameras, static)
    alpha = mask.float().clamp(0.0, 1.0)
    checked = Footage(name, rgb, alpha, cameras, static)
    empty = alpha < 0.01
    behind = rgb[empty].mean(dim=0) if bool(empty.any()) else rgb.new_ones(3)
    rgb = (rgb - (1.0 - alpha[..., None]) * behind).clamp_min(0.0).minimum(alpha[..., None])
    return replace(checked, rgb=rgb)


def stratified(times: Tensor, draws: torch.Generator) -> Tensor:
    """An order (M,) of pictures at `times` (M,) that passes through all times before it returns to one; random otherwise."""
    instants, which = torch.unique(times.cpu(), return_inverse=True)
    shuffled = torch.randperm(len(which), generator=draws)
    rounds = torch.zeros(len(which), dtype=torch.int64)
    seen = [0] * len(instants)
    for index in shuffled.tolist():
        rounds[index] = seen[which[index]]
        seen[which[index]] += 1
    return shuffled[torch.argsort(rounds[shuffled], stable=True)]


@dataclass(frozen=True)
class Coverage:
    """From how many sides the pictures see the object: `sides` of each instant, `still` of time 0 by still pictures; `passed`,
    the angle in degrees between the two farthest sides that are seen within a quarter of the clip, at most instants."""

    sides: tuple[int, ...]
    still: int
    passed: float

    @property
    def ill_posed(self) -> bool:
        """Whether too few sides of most instants are seen, neither nearby in time nor by still pictures."""
        return self._poor() * 2 > len(self.sides) and self.still < WELL_SEEN and self.passed < AROUND

    def words(self) -> str:
        """What a user should know, in a sentence or two."""
        if not self.sides:
            return f"Only time 0 is seen, from {self.still} sides."
        if not self._poor():
            return f"Each of the {len(self.sides)} times is seen from at least {min(self.sides)} sides: the shape is determined."
        seen = "1 side only" if max(self.sides) == 1 else f"{min(self.sides)} to {max(self.sides)} sides"
        told = f"The {len(self.sides)} times are seen from {seen} each"
        if self.ill_posed:
            return f"{told}, so the geometry is ill-posed: depth and hidden sides are guessed. Connect a static orbit of time 0 and a driving video."
        if self.still >= WELL_SEEN:
            return f"{told}; the static orbit shows time 0 from {self.still} sides, and how hidden sides move is carried over from it."
        return f"{told}, but sides {self.passed:.0f} degrees apart within a quarter of the clip: the shape is determined where motion is slow."

    def _poor(self) -> int:
        return sum(count < WELL_SEEN for count in self.sides)


def coverage(footages: list[Footage]) -> Coverage:
    """Count the sides by the cameras' directions; those within 10 degrees of another are one side."""
    still = [_directions(item.cameras) for item in footages if item.static]
    seen = _sides(torch.cat(still)) if still else 0
    moving = [item for item in footages if not item.static]
    if not moving:
        return Coverage((), seen, 0.0)
    times = torch.cat([item.times for item in moving])
    directions = torch.cat([_directions(item.cameras) for item in moving])
    instants = torch.unique(times)
    reach = 0.5 * NEARBY * (instants[-1] - instants[0]) + 1e-6
    passed = torch.stack([_widest(directions[(times - instant).abs() <= reach]) for instant in instants])
    return Coverage(tuple(_sides(directions[times == instant]) for instant in instants), seen, float(passed.median()))


def _widest(directions: Tensor) -> Tensor:
    """Largest angle in degrees between two of unit directions (M, 3)."""
    return torch.rad2deg((directions @ directions.t()).amin().clamp(-1.0, 1.0).acos())


def _directions(cameras: Cameras) -> Tensor:
    return cameras.camera_to_world[:, :3, 2].float()  # from what is looked at to the camera


def _sides(directions: Tensor) -> int:
    """How many of unit `directions` (M, 3) are left when each one's neighbours are dropped, in order."""
    kept = 0
    while len(directions):
        directions = directions[directions @ directions[0] < math.cos(SAME_SIDE)]
        kept += 1
    return kept
