"""How time runs in a clip, and cameras on a turntable."""

import math

import pytest
import torch
from bloom4d.models.geometry.cameras import CameraPath, look_at, orbit
from bloom4d.models.geometry.clips import TimePath, turntable


def shown(frames, *path) -> list[float]:
    return [round(value, 4) for value in TimePath(*path).at(frames).tolist()]


def test_courses_of_time():
    assert shown(5) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert shown(5, "together", (0.8, 0.0)) == [0.8, 0.6, 0.4, 0.2, 0.0]
    assert shown(3, "frozen", (0.3, 0.9)) == [0.3, 0.3, 0.3]
    assert shown(8, "ping-pong") == [0.0, 0.25, 0.5, 0.75, 1.0, 0.75, 0.5, 0.25]
    assert shown(8, "ping-pong", (0.5, 1.0), 2.0) == [0.5, 0.75, 1.0, 0.75] * 2
    assert shown(6, "free orbit", (0.0, 1.0), 2.0) == [0.0, 0.5, 1.0] * 2
    assert shown(4, "free orbit", (0.0, 1.0), 0.5) == [round(step / 7, 4) for step in range(4)], "half a run: time is slower than the clip"
    for path in ("together", "frozen", "ping-pong", "free orbit"):
        assert shown(1, path) == [0.0]
    with pytest.raises(ValueError, match='path "sideways" is unknown'):
        TimePath("sideways")


def test_a_turntable_is_an_orbit_around_its_target():
    times = TimePath().at(6)
    degrees = lambda *values: [torch.tensor([math.radians(value)]) for value in values]  # noqa: E731
    start = orbit(*degrees(10.0, 25.0), torch.tensor([2.0]))[0]
    around = turntable(start, torch.zeros(3), torch.tensor(0.7), times, 1.0)
    path = CameraPath(frames=6, azimuth_degrees=10.0, elevation_degrees=25.0, distance=2.0, fov_degrees=math.degrees(0.7)).cameras()
    assert torch.allclose(around.camera_to_world, path.camera_to_world, atol=1e-5) and torch.allclose(around.fov_y, path.fov_y)
    assert torch.allclose(around.times, path.times)
    target = torch.tensor([0.3, -0.2, 0.5])
    start = look_at(torch.tensor([[1.0, 2.0, 3.0]]), target)[0]
    for pose in turntable(start, target, torch.tensor(0.7), times, -0.4).camera_to_world:
        to_target = target - pose[:3, 3]
        assert torch.allclose(-pose[:3, 2], to_target / to_target.norm(), atol=1e-5), "it keeps looking at the target"
        assert math.isclose(float(pose[1, 3]), 2.0, abs_tol=1e-5)
