"""The three priors of the toy ablations, each good at one thing, as the published systems use them (specification 4).

- views: knows every side of the object as it may be at some instant, slightly blurred and pale: consistent in 3D, medium look.
- pictures: knows sharp pictures, most of them from the front, and does not hear the camera: sharp, but every side wants a face.
- videos: knows blurred videos, most of them from the front, and does not hear the camera: poor look, and the only one that moves.

All of them are exact posterior means of mixtures of Gaussians over pictures; the frames of a video share one posterior.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bloom4d.models.geometry.cameras import Cameras

from .spheres import Spheres, rig, softened

AZIMUTHS, MOMENTS = 16, 6  # of the pictures that the camera-deaf priors know, and the instants that a still one may be of
INSTANTS = 31  # of the videos: the nearest of these stands for each time
FRONTAL = 4.0  # how much more front views weigh: log weight FRONTAL (cos azimuth - 1)
SPREAD = 2e-3  # variance of every mode, per number


@dataclass(frozen=True)
class Mixture:
    """E[x0 | z] of a mixture over scenes of F pictures (K, F, C, h, w) with weights; z (S F, C, h, w)."""

    means: Tensor
    log_weights: Tensor

    def denoise(self, z: Tensor, a: Tensor, b: Tensor) -> Tensor:
        frames = self.means.shape[1]
        scenes = z.unflatten(0, (-1, frames))
        a, b = (value.to(z).view(-1, frames)[:, :1].reshape(-1, 1, 1, 1, 1) for value in (a, b))
        spread = a**2 * SPREAD + b**2
        distance = (scenes[:, None] - a[:, None] * self.means).square().flatten(2).sum(-1)  # (S, K)
        share = (self.log_weights - 0.5 * distance / spread.view(-1, 1)).softmax(-1)
        mean = torch.einsum("sk,k...->s...", share, self.means)
        return ((a * SPREAD * scenes + b**2 * mean) / spread).flatten(0, 1)


class Views:
    """Hears the cameras but not the time, as a model of still objects: the views of a scene are of one of the known moments."""

    def __init__(self, scene: Spheres, size: int, moments: Tensor, blur: float = 0.8, fade: float = 0.25):
        self.scene, self.size, self.moments, self.blur, self.fade = scene, size, moments, blur, fade

    def __call__(self, z: Tensor, a: Tensor, b: Tensor, cameras: Cameras) -> Tensor:
        parts = []
        for first in range(0, len(cameras), cameras.frames):
            piece = slice(first, first + cameras.frames)
            parts.append(Mixture(self.known(cameras.select(piece)), torch.zeros(len(self.moments))).denoise(z[piece], a[piece], b[piece]))
        return torch.cat(parts)

    def known(self, cameras: Cameras) -> Tensor:
        """(T, V, 4, h, w): what the cameras see at each of the moments."""
        count = len(self.moments)
        poses, fields = cameras.camera_to_world.repeat(count, 1, 1), cameras.fov_y.repeat(count)
        pictures = self.scene.render(Cameras(poses, fields, self.moments.repeat_interleave(len(cameras))), self.size)
        return softened(pictures, self.blur, self.fade).unflatten(0, (count, len(cameras)))


class Deaf:
    """Does not hear the cameras: a mixture of what is known from many sides, in scenes of `frames` times."""

    def __init__(self, scene: Spheres, size: int, frames: int, moments: Tensor, blur: float = 0.0, fade: float = 0.0, azimuths: int = AZIMUTHS):
        turns = 2 * math.pi * torch.arange(azimuths) / azimuths
        self.log_weights = FRONTAL * (turns.cos() - 1.0)
        self.frames, self.moments = frames, len(moments)
        pictures = scene.render(rig(turns.repeat_interleave(len(moments)), moments.repeat(azimuths)), size)
        self.pictures = (softened(pictures, blur, fade) if blur else pictures).unflatten(0, (azimuths, len(moments)))  # (A, T, 4, h, w)

    def __call__(self, z: Tensor, a: Tensor, b: Tensor, cameras: Cameras) -> Tensor:
        if self.frames == 1:
            means = self.pictures.flatten(0, 1)[:, None]
            return Mixture(means, self.log_weights.repeat_interleave(self.moments)).denoise(z, a, b)
        parts = []
        for scene in range(0, z.shape[0], self.frames):  # each video has times of its own
            piece = slice(scene, scene + self.frames)
            known = self.pictures[:, (cameras.times[piece] * (self.moments - 1)).round().long()]
            parts.append(Mixture(known, self.log_weights).denoise(z[piece], a[piece], b[piece]))
        return torch.cat(parts)


ANY_MOMENT = torch.arange(MOMENTS) / (MOMENTS - 1)


def videos(scene: Spheres, size: int, frames: int) -> Deaf:
    """Soft, pale videos of `frames` times."""
    return Deaf(scene, size, frames, torch.arange(INSTANTS) / (INSTANTS - 1), 1.6, 0.3, 12)
