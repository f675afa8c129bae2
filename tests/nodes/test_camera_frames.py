"""Our cameras and the host's LOAD3D_CAMERA agree, judged by the host's own nodes."""

import math

import pytest
import torch
from bloom4d.models.geometry.cameras import orbit
from bloom4d.models.geometry.frames import from_load3d_camera, to_load3d_camera


@pytest.fixture
def splats(comfy):
    import comfy_extras.nodes_gaussian_splat as splats

    return splats


@pytest.mark.parametrize("yaw, pitch", [(0, 0), (30, 20), (-135, -40)])
def test_the_hosts_orbit_is_ours(splats, yaw, pitch):
    with torch.inference_mode():
        mode = {"mode": "orbit", "yaw": yaw, "pitch": pitch, "distance": 2.9}
        (camera,) = splats.CreateCameraInfo.execute(mode, 0.0, 0.0, 0.0, 0.0, 42.0).args
        pose, fov = from_load3d_camera(camera)
        expected = orbit(*(torch.tensor([value]) for value in (math.radians(yaw), math.radians(pitch), 2.9)))
    assert torch.allclose(pose, expected, atol=1e-5) and fov.item() == pytest.approx(math.radians(42))


def test_the_host_reads_our_camera_as_we_mean_it(splats):
    """The host's own basis: eye, target, and the picture's right, down and forward, in its splat frame (x, -y, -z)."""
    pose = orbit(*(torch.tensor([value]) for value in (0.7, 0.3, 2.9)))[0]
    eye, target, right, down, forward = splats._camera_basis(to_load3d_camera(pose, torch.tensor(0.7)), torch.device("cpu"))
    flip = torch.tensor([1.0, -1.0, -1.0])
    for theirs, ours in ((eye, pose[:3, 3]), (right, pose[:3, 0]), (down, -pose[:3, 1]), (forward, -pose[:3, 2])):
        assert torch.allclose(theirs, flip * ours, atol=1e-5)
    assert target.norm() < 1e-5
