"""MVDream's own part beside Stable Diffusion 2.1: its camera code and which pictures attend to each other (Shi et al. 2023)."""

import torch
from torch import Tensor

from ..geometry.frames import to_z_up

VIEWS = 4
"""Pictures that the published weights saw together: one instant from four sides."""


def camera_code(camera_to_world: Tensor) -> Tensor:
    """Poses (N, 4, 4) of our frame as MVDream's codes (N, 16), on a copy.

    World with Z up and the object's front on +X, OpenGL camera axes, the translation scaled to length 1, row by row.
    """
    pose = to_z_up(camera_to_world)
    place = pose[:, :3, 3]
    pose[:, :3, 3] = place / (place.norm(dim=1, keepdim=True) + 1e-8)
    return pose.reshape(-1, 16)


def views_at_once(frames: int, times: Tensor | None) -> int:
    """How many consecutive pictures of scenes of `frames` attend to each other: 4, or 1 where an instant is a single picture.

    `times` (B,) of the pictures, where they are known, tell the views of one instant from further instants (view fastest).
    ValueError for any other number of views: the weights were trained on four views and on single pictures.
    """
    views = frames if times is None or len(times) < frames else int((times[:frames] == times[0]).sum())
    if views == 1:
        return 1
    if frames % VIEWS or views != VIEWS and times is not None:
        raise ValueError(f"MVDream was given {views} views of one instant; it was trained on {VIEWS} at once, and on single pictures. Set the Camera Sampler's views to {VIEWS} (more scenes make more pictures), or joint_frames of Camera Time Condition to {VIEWS}.")
    return VIEWS


def joined(tokens: Tensor, views: int) -> Tensor:
    """Tokens (B, L, C) of consecutive views as one sequence per group (B / views, views L, C), view by view."""
    return tokens.reshape(-1, views * tokens.shape[1], tokens.shape[2])
