"""Courses of a clip: how time runs while the camera stands still or turns around the object."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .cameras import Cameras

PATHS = ("together", "frozen", "ping-pong", "free orbit")


@dataclass(frozen=True)
class TimePath:
    """Which time each picture of a clip shows.

    "together": from the first of `times` to the last, over the whole clip. "frozen": the first of them always. "ping-pong":
    forth and back `cycles` times; "free orbit": from begin to end `cycles` times. The last two are for clips that are played
    over and over: the picture after the last one is the first. `cycles` beside a number of turns says how much slower or
    faster time runs than the camera.
    """

    path: str = "together"
    times: tuple[float, float] = (0.0, 1.0)
    cycles: float = 1.0

    def __post_init__(self):
        if self.path not in PATHS:
            raise ValueError(f'The path "{self.path}" is unknown. Choose one of: {", ".join(PATHS)}.')

    def at(self, frames: int) -> Tensor:
        """(frames,) float32 times."""
        first, last = self.times
        return (first + (last - first) * self._share(frames)).float()

    def _share(self, frames: int) -> Tensor:
        step = torch.arange(frames, dtype=torch.float64)
        if self.path == "frozen":
            return torch.zeros_like(step)
        if self.path == "together":
            return step / max(frames - 1, 1)
        run = frames / self.cycles  # pictures of one cycle
        if self.path == "ping-pong":
            return 1.0 - (2.0 * (step / run) % 2.0 - 1.0).abs()
        return (step % run / max(run - 1.0, 1.0)).clamp(max=1.0)


def turntable(pose: Tensor, target: Tensor, fov_y: Tensor, times: Tensor, turns: float) -> Cameras:
    """Cameras that carry `pose` (4, 4) `turns` times around the vertical axis through `target` (3,), one per time (T,).

    Picture i stands at 360 turns i / T degrees, towards growing azimuth, so that a whole turn closes without a doubled picture.
    `fov_y`: a scalar tensor, radians.
    """
    angle = 2.0 * math.pi * turns * torch.arange(len(times)) / len(times)
    turn = torch.eye(4).repeat(len(times), 1, 1)
    turn[:, 0, 0] = turn[:, 2, 2] = angle.cos()
    turn[:, 0, 2], turn[:, 2, 0] = angle.sin(), -angle.sin()
    away, back = torch.eye(4), torch.eye(4)
    away[:3, 3], back[:3, 3] = -target, target
    return Cameras(back @ turn @ away @ pose, fov_y.expand(len(times)), times)
