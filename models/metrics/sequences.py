"""T x V pictures of one object as the scores of a sequence take them, made of what nodes hand over."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..geometry.cameras import Cameras, spherical

EMPTY = 0.01  # alpha below which a pixel shows the background only
ONE_COLOUR = 0.02  # standard deviation of a background that counts as one colour
SAME_TIME = 1e-4
RING_TOLERANCE = math.radians(2.0)


@dataclass(frozen=True)
class Sequence:
    """Pictures of T times and V views, and how they came.

    pictures: (T, V, 4, H, W) premultiplied sRGB RGBA in [0, 1]; opaque where nothing says what is covered. shown: the same
    (T V, 3, H, W) over the background they came with. masked: whether alpha is known. background: in words. cameras: of the
    T V pictures, time slowest, or None.
    """

    pictures: Tensor
    shown: Tensor
    masked: bool
    background: str
    cameras: Cameras | None = None

    @property
    def times(self) -> Tensor:
        """(T,) in [0, 1]: what the cameras say, else i / (T - 1)."""
        count, views = self.pictures.shape[:2]
        return self.cameras.times.view(count, views)[:, 0] if self.cameras is not None else torch.arange(count) / max(count - 1, 1)

    def describe(self) -> str:
        count, views, _, height, width = self.pictures.shape
        return f"{count} times x {views} views of {width} x {height} pixels over {self.background}."

    def moving_cameras(self) -> bool:
        """Whether the camera of any view changes from time to time."""
        if self.cameras is None:
            return False
        poses = self.cameras.camera_to_world.unflatten(0, self.pictures.shape[:2])  # (T, V, 4, 4)
        return bool((poses - poses[:1]).abs().max() > 1e-4)

    def is_ring(self) -> bool:
        """Whether view i + V / 2 looks from the side opposite to view i; taken for granted without cameras."""
        views = self.pictures.shape[1]
        if views % 2:
            return False
        if self.cameras is None:
            return True
        azimuth, elevation, _ = spherical(self.cameras.camera_to_world)
        half = lambda angles: angles.view(-1, 2, views // 2).unbind(1)  # noqa: E731  (T, V / 2) each
        (front, back), (low, high) = half(azimuth), half(elevation)
        apart = torch.remainder(back - front, 2 * math.pi) - math.pi
        return bool((apart.abs() < RING_TOLERANCE).all() and ((low - high).abs() < RING_TOLERANCE).all())


def sequence(images: Tensor, mask: Tensor | None = None, views: int = 0, cameras: Cameras | None = None, name: str = "images") -> Sequence:
    """A sequence of `images` (N, H, W, 3 or 4) in [0, 1] and `mask` (N, H, W), 1 where the object is; time slowest.

    views: V; 0 reads it off the cameras, and is 1 without them. `name` is what errors call the pictures. ValueError for sets
    that don't fit together.
    """
    if images.dim() != 4 or not images.numel():
        raise ValueError(f"The {name} are empty (shape {tuple(images.shape)}). Connect pictures: times x views of them, all views of the first time first.")
    images = images.float().cpu()
    count, views = _grid(len(images), views, cameras, name)
    alpha = _alpha(images, mask, name)
    colours, background = images[..., :3], "an unknown background"
    if images.shape[-1] == 4 and mask is None:
        premultiplied, background = colours * alpha[..., None], "white"
        colours = premultiplied + 1 - alpha[..., None]
    elif alpha is not None:
        premultiplied, background = without_background(colours, alpha)
    rgba = torch.cat([colours, torch.ones_like(images[..., :1])] if alpha is None else [premultiplied, alpha[..., None]], -1)
    pictures = rgba.movedim(-1, 1).unflatten(0, (count, views))
    return Sequence(pictures, colours.movedim(-1, 1), alpha is not None, background, cameras)


def _grid(number: int, views: int, cameras: Cameras | None, name: str) -> tuple[int, int]:
    """T and V of `number` pictures."""
    if cameras is not None and len(cameras) != number:
        raise ValueError(f"There are {number} {name} and {len(cameras)} cameras. Connect the cameras that the {name} were rendered with, one per picture.")
    views = views or (1 if cameras is None else _views_of(cameras))
    if number == 1:
        raise ValueError(f"The {name} are a single picture. Scores of a 4D object need at least two: several times, several views, or both.")
    if number % views:
        raise ValueError(f"{number} {name} do not divide by {views} views. Set views to how many cameras see each time, or connect the cameras and set it to 0.")
    if cameras is not None and bool((cameras.times.view(-1, views) - cameras.times.view(-1, views)[:, :1]).abs().max() > SAME_TIME):
        raise ValueError(f"The cameras do not show {views} views of each time, one time after another. Set views to {_views_of(cameras)}, or to 0 to read it off the cameras.")
    return number // views, views


def _views_of(cameras: Cameras) -> int:
    """How many cameras share the first time."""
    later = ((cameras.times - cameras.times[0]).abs() > SAME_TIME).nonzero()
    return int(later[0]) if len(later) else len(cameras)


def _alpha(images: Tensor, mask: Tensor | None, name: str) -> Tensor | None:
    """(N, H, W) of the mask, else of a fourth channel, else None."""
    if mask is None:
        return images[..., 3] if images.shape[-1] == 4 else None
    if mask.shape != images.shape[:3]:
        raise ValueError(f"The mask of the {name} is {_size(mask)} and the {name} are {_size(images)}. Connect the mask that came with them: one per picture, of the same size.")
    return mask.float().cpu()


def _size(value: Tensor) -> str:
    return f"{value.shape[0]} of {value.shape[2]} x {value.shape[1]}" if value.dim() > 2 else f"of shape {tuple(value.shape)}"


def without_background(colours: Tensor, alpha: Tensor) -> tuple[Tensor, str]:
    """Premultiplied colours (N, H, W, 3) of pictures over an unknown background, and that background in words.

    Its colour is read off the pixels where alpha is 0 and taken away exactly; over several colours the edges keep a little.
    """
    seen = colours[alpha < EMPTY]  # (P, 3)
    behind = seen.median(0).values if len(seen) else torch.ones(3)
    cover = alpha[..., None]
    if len(seen) > 1 and float(seen.std(0).max()) > ONE_COLOUR:
        return colours * cover, "a background of several colours"
    word = "white" if bool((behind > 0.999).all()) else "black" if bool((behind < 0.001).all()) else "#" + "".join(f"{round(float(value) * 255):02x}" for value in behind)
    return torch.minimum((colours - (1 - cover) * behind).clamp_min(0), cover), word


def check_reference(given: Sequence, reference: Sequence) -> None:
    """ValueError unless both have the same times, views and picture size."""
    if given.pictures.shape != reference.pictures.shape:
        sizes = [f"{item.pictures.shape[:2].numel()} of {item.pictures.shape[-1]} x {item.pictures.shape[-2]}" for item in (given, reference)]
        raise ValueError(f"The images are {sizes[0]} and the reference is {sizes[1]}. Render both with the same cameras and at the same size.")
