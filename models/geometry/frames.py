"""Conversions between our camera frame and other programs' frames. Every function returns a copy."""

import math

import torch
from torch import Tensor

from .cameras import look_at
from .rotations import matrix_to_quaternion, quaternion_to_matrix

HOST_FOV_DEGREES = 35.0  # what the host assumes when a LOAD3D_CAMERA carries no field of view


def to_opencv(camera_to_world: Tensor) -> Tensor:
    """Poses (N, 4, 4) with OpenCV camera axes (x right, y down, z forward) from OpenGL ones, or back: it is its own inverse."""
    flip = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=camera_to_world.dtype, device=camera_to_world.device)
    return camera_to_world * flip


def to_z_up(camera_to_world: Tensor) -> Tensor:
    """Poses (N, 4, 4) in the world with Z up and the object's front on +X (threestudio, MVDream): (z, x, y) of ours."""
    return _world_axes(camera_to_world) @ camera_to_world


def from_z_up(camera_to_world: Tensor) -> Tensor:
    """Poses (N, 4, 4) in our world from one with Z up and front +X: (x, y, z)_ours = (y, z, x)_theirs."""
    return _world_axes(camera_to_world).mT @ camera_to_world


def _world_axes(like: Tensor) -> Tensor:
    axes = [[0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    return torch.tensor(axes, dtype=like.dtype, device=like.device)


def to_load3d_camera(camera_to_world: Tensor, fov_y: Tensor) -> dict:
    """The host's LOAD3D_CAMERA dictionary of one pose (4, 4) and its vertical field of view (radians, a scalar tensor).

    The target is the point of the viewing ray nearest to the origin, so that orbit controls turn around the object.
    """
    position, back = camera_to_world[:3, 3], camera_to_world[:3, 2]
    target = position - back * (position @ back).clamp_min(1e-3)
    quaternion = matrix_to_quaternion(camera_to_world[None, :3, :3])[0]  # x, y, z, w
    return {
        "position": _named(position, "xyz"),
        "target": _named(target, "xyz"),
        "quaternion": _named(quaternion, "xyzw"),
        "fov": math.degrees(float(fov_y)),
        "zoom": 1.0,
        "cameraType": "perspective",
    }


def from_load3d_camera(camera: dict) -> tuple[Tensor, Tensor]:
    """Pose (1, 4, 4) and vertical field of view (1,) radians of a LOAD3D_CAMERA dictionary, float32 on the CPU.

    The quaternion wins over the target, as in the host; zoom narrows the field of view. Orthographic cameras raise ValueError.
    """
    if camera.get("cameraType") == "orthographic":
        raise ValueError("The camera is orthographic and this renderer needs a perspective one. Switch the camera type in the node that made it.")
    position = _vector(camera["position"], "xyz")
    if camera.get("quaternion"):
        quaternion = _vector(camera["quaternion"], "xyzw")
        pose = torch.eye(4)[None].clone()
        pose[0, :3, :3] = quaternion_to_matrix(quaternion[None])[0]
        pose[0, :3, 3] = position
    else:
        pose = look_at(position[None], _vector(camera["target"], "xyz"))
    half = math.tan(0.5 * math.radians(float(camera.get("fov") or HOST_FOV_DEGREES))) / float(camera.get("zoom") or 1.0)
    return pose, torch.tensor([2.0 * math.atan(half)])


def _named(values: Tensor, names: str) -> dict[str, float]:
    return dict(zip(names, values.tolist()))


def _vector(values: dict, names: str) -> Tensor:
    return torch.tensor([float(values[name]) for name in names])
