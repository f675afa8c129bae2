"""One camera convention: Y up, front +Z, azimuth towards +X, OpenGL axes; and every other frame reached from it."""

import math
from dataclasses import replace

import pytest
import torch
from bloom4d.models.geometry import cameras as C
from bloom4d.models.geometry import frames, rotations
from bloom4d.models.geometry.rays import ray_ball, ray_box, rays

DEGREE = math.pi / 180


def pose(azimuth, elevation, distance=2.0):
    angles = (torch.tensor([value], dtype=torch.float64) for value in (azimuth * DEGREE, elevation * DEGREE, distance))
    return C.orbit(*angles)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("azimuth, elevation, position", [(0, 0, (0, 0, 2)), (90, 0, (2, 0, 0)), (180, 0, (0, 0, -2)), (0, 90, (0, 2, 0)), (0, 30, (0, 1, math.sqrt(3)))])
def test_orbit_positions(azimuth, elevation, position):
    assert torch.allclose(pose(azimuth, elevation)[0, :3, 3], torch.tensor(position, dtype=torch.float64), atol=1e-12)


def test_front_camera_axes_are_the_worlds():
    assert torch.allclose(pose(0, 0)[0, :3, :3], torch.eye(3, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize("azimuth, elevation", [(0, 0), (33, 15), (-170, -80), (120, 90), (10, -90)])
def test_poses_are_rotations_that_look_at_the_origin(azimuth, elevation):
    c2w = pose(azimuth, elevation)[0]
    rotation = c2w[:3, :3]
    assert torch.allclose(rotation @ rotation.T, torch.eye(3, dtype=torch.float64), atol=1e-12)
    assert torch.linalg.det(rotation).item() == pytest.approx(1)
    assert torch.allclose(-rotation[:, 2], -c2w[:3, 3] / 2, atol=1e-12)


def test_orbit_is_continuous_over_the_pole():
    assert (pose(40, 90) - pose(40, 89.999)).abs().max() < 1e-4


def test_look_at_agrees_with_orbit_and_survives_the_poles():
    for azimuth, elevation in ((0, 0), (77, 40), (-130, -60)):
        c2w = pose(azimuth, elevation)
        assert torch.allclose(C.look_at(c2w[:, :3, 3], torch.zeros(3, dtype=torch.float64)), c2w, atol=1e-12)
    top = C.look_at(torch.tensor([[0.0, 3.0, 0.0]]), torch.zeros(3))
    assert torch.isfinite(top).all() and torch.allclose(top[0, :3, 1], torch.tensor([0.0, 0.0, 1.0]))


def test_spherical_inverts_orbit():
    azimuth, elevation, distance = C.spherical(torch.cat([pose(33, 15, 2.9), pose(-170, -80, 1.5)]))
    assert torch.allclose(azimuth / DEGREE, torch.tensor([33.0, -170.0], dtype=torch.float64))
    assert torch.allclose(elevation / DEGREE, torch.tensor([15.0, -80.0], dtype=torch.float64))
    assert torch.allclose(distance, torch.tensor([2.9, 1.5], dtype=torch.float64))


def test_rays_have_unit_length_the_right_angles_and_row_zero_on_top():
    fov = torch.tensor([90 * DEGREE], dtype=torch.float64)
    origins, directions = rays(pose(0, 0), fov, 2, 4)  # focal length 1 pixel
    assert origins.shape == directions.shape == (1, 2, 4, 3)
    assert torch.allclose(directions.norm(dim=-1), torch.ones(1, 2, 4, dtype=torch.float64))
    expected = torch.tensor([-1.5, 0.5, -1.0], dtype=torch.float64)
    assert torch.allclose(directions[0, 0, 0], expected / expected.norm())


def test_projection_inverts_the_rays():
    c2w, fov = torch.cat([pose(25, 10), pose(-140, 50)]), torch.tensor([42 * DEGREE, 30 * DEGREE], dtype=torch.float64)
    origins, directions = rays(c2w, fov, 6, 8)
    pixel, depth = C.project(origins + 1.7 * directions, c2w, fov, 6, 8)
    rows, columns = torch.meshgrid(torch.arange(6.0) + 0.5, torch.arange(8.0) + 0.5, indexing="ij")
    assert torch.allclose(pixel, torch.stack([columns, rows], dim=-1).double().expand_as(pixel), atol=1e-9)
    assert (depth > 0).all() and (depth < 1.7).all()  # along -z, so shorter than the way along the ray


def test_the_unit_ball_fits_the_default_rig():
    _, directions = rays(*_rig(), 64, 64)
    origins = _rig()[0][:, :3, 3].expand(64 * 64, 3)
    near, far = ray_ball(origins, directions.reshape(-1, 3), 1.0)
    inside = (far > near).reshape(64, 64)
    assert not inside[0].any() and not inside[:, -1].any() and inside[32].float().mean() > 0.85


def _rig():
    cameras = C.CameraPath(frames=1).cameras()
    return cameras.camera_to_world, cameras.fov_y


def test_ray_intervals_with_box_and_ball():
    origins = torch.tensor([[0.0, 0.0, 3.0], [0.0, 0.0, 3.0], [0.0, 0.0, 0.0], [0.9, 0.9, 3.0]])
    directions = torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
    near, far = ray_box(origins, directions, 1.0)
    assert torch.allclose(near, torch.tensor([2.0, 0.0, 0.0, 2.0])) and torch.allclose(far, torch.tensor([4.0, 0.0, 1.0, 4.0]))
    near, far = ray_ball(origins, directions, 1.0)
    assert torch.allclose(near, torch.tensor([2.0, 0.0, 0.0, 0.0])) and torch.allclose(far, torch.tensor([4.0, 0.0, 1.0, 0.0]))


def test_ring_shares_everything_but_the_azimuth():
    cameras = C.CameraSampler(views=4).sample(seeded(), 3)
    azimuth, elevation, distance = (value.reshape(3, 4) for value in C.spherical(cameras.camera_to_world))
    steps = (azimuth[:, 1:] - azimuth[:, :-1]) % (2 * math.pi)
    assert torch.allclose(steps, torch.full_like(steps, math.pi / 2), atol=1e-5) and cameras.frames == 4
    for shared in (elevation, distance, cameras.fov_y.reshape(3, 4), cameras.times.reshape(3, 4)):
        assert (shared - shared[:, :1]).abs().max() < 1e-5
    first = azimuth[:, 0] + math.pi  # one stratum of the first quarter circle per scene
    assert torch.equal((first / (math.pi / 2 / 3)).floor(), torch.tensor([0.0, 1.0, 2.0]))


def test_independent_views_are_stratified_over_the_batch():
    azimuth, elevation, _ = C.spherical(C.CameraSampler(views=1, spacing="independent").sample(seeded(), 8).camera_to_world)
    assert torch.equal(((azimuth + math.pi) / (math.pi / 4)).floor(), torch.arange(8.0))
    assert elevation.unique().numel() == 8


def test_elevations_are_half_by_angle_half_by_area():
    sampler = C.CameraSampler(elevation_degrees=(-20, 80), views=1)
    _, elevation, _ = C.spherical(sampler.sample(seeded(), 20000).camera_to_world)
    low, high = -20 * DEGREE, 80 * DEGREE
    assert elevation.min() >= low - 1e-5 and elevation.max() <= high + 1e-5
    area_mean = (high * math.sin(high) + math.cos(high) - low * math.sin(low) - math.cos(low)) / (math.sin(high) - math.sin(low))
    assert elevation.mean().item() == pytest.approx(0.5 * (0.5 * (low + high)) + 0.5 * area_mean, abs=0.015)


def test_relative_distance_keeps_the_objects_size():
    cameras = C.CameraSampler(distance=(0.9, 0.9), relative_distance=True).sample(seeded(), 6)
    assert torch.allclose(C.spherical(cameras.camera_to_world)[2] * torch.tan(cameras.fov_y / 2), torch.full((24,), 0.9))


def test_times_of_a_scene_are_spaced_by_one_over_f():
    cameras = C.CameraSampler(views=2, frames=4).sample(seeded(), 5)
    times = cameras.times.reshape(5, 4, 2)  # time slower than view
    assert torch.equal(times[:, :, 0], times[:, :, 1])
    assert torch.allclose(times[:, 1:, 0] - times[:, :-1, 0], torch.full((5, 3), 0.25)) and (times[:, 0] < 0.25).all()
    assert cameras.frames == 8 and (times >= 0).all() and (times <= 1).all()
    fixed = C.CameraSampler(time_range=(0.5, 0.5)).sample(seeded())
    assert torch.equal(fixed.times, torch.full((4,), 0.5))
    short = C.CameraSampler(frames=8, window=0.25).sample_times(seeded(), 100)
    assert (short[:, -1] - short[:, 0]).max() < 0.25 and short.max() <= 1 and short[:, 0].std() > 0.1


def test_b7_dream_in_4d_windows_are_of_random_length_and_evenly_filled():
    sampler = C.CameraSampler(azimuth_degrees=(-150, 150), elevation_degrees=(0, 45), views=1, frames=24, window_min=0.8, even=True)
    times = sampler.sample_times(seeded(), 20000).double()
    length, start = times[:, -1] - times[:, 0], times[:, 0]
    assert times.shape == (20000, 24) and times.min() >= 0 and times.max() <= 1 + 1e-6
    assert length.min() >= 0.8 - 1e-6 and length.max() <= 1 + 1e-6
    spacing = times.diff(dim=1)
    assert (spacing - length[:, None] / 23).abs().max() < 1e-6  # uniform
    # length ~ U(.8, 1) and start / (1 - length) ~ U(0, 1), independent: means, variances and correlation within 4 sigma
    place = start / (1 - length).clamp_min(1e-9)
    place, wide = place[length < 0.999], length[length < 0.999]  # where rounding leaves a place to measure
    assert length.mean().item() == pytest.approx(0.9, abs=4 * 0.2 / math.sqrt(12 * 20000))
    assert length.var().item() == pytest.approx(0.04 / 12, rel=0.03) and place.var().item() == pytest.approx(1 / 12, rel=0.03)
    assert place.mean().item() == pytest.approx(0.5, abs=4 / math.sqrt(12 * 20000)) and abs(torch.corrcoef(torch.stack([place, wide]))[0, 1]) < 0.03
    azimuth, elevation, _ = C.spherical(sampler.sample(seeded(), 500).camera_to_world)
    assert azimuth.abs().max() <= 150 * DEGREE + 1e-5 and azimuth.abs().max() > 145 * DEGREE and elevation.max() <= 45 * DEGREE + 1e-5
    fixed = C.CameraSampler(views=1, frames=24, window=0.8, even=True).sample_times(seeded(), 200)
    assert (fixed[:, -1] - fixed[:, 0]).std() < 1e-6  # a fixed window is none of theirs
    offset = C.CameraSampler(views=1, frames=24, window_min=0.8).sample_times(seeded(), 200)
    assert (offset[:, -1] - offset[:, 0]).min() < 0.8  # nor do 4D-fy's times reach its end


def test_old_windows_draw_what_they_drew():
    draws = seeded(3)
    start, offset = torch.rand(5, 1, generator=draws) * 0.6, torch.rand(5, 1, generator=draws)
    times = C.CameraSampler(frames=4, time_range=(0.2, 0.7), window=0.4).sample_times(seeded(3), 5)
    assert torch.allclose(times, 0.2 + 0.5 * (start + 0.4 * (offset + torch.arange(4)) / 4), atol=1e-7)


def test_a_window_that_is_longest_below_its_shortest_is_refused():
    with pytest.raises(ValueError, match="shortest time window is 0.9 and its longest 0.5"):
        C.CameraSampler(window=0.5, window_min=0.9)


def test_sampling_is_the_generators_alone():
    one, two, other = (C.CameraSampler().sample(seeded(seed), 2).camera_to_world for seed in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_path_orbits_and_sweeps_together_or_apart():
    both = C.CameraPath(frames=5).cameras()
    assert torch.allclose(both.times, torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]))
    azimuth = C.spherical(both.camera_to_world)[0] % (2 * math.pi)
    assert torch.allclose(azimuth, 2 * math.pi * torch.arange(5.0) / 5, atol=1e-5)  # closed: the first view does not come twice
    frozen = C.CameraPath(frames=4, times=(0.3, 0.3)).cameras()
    assert torch.allclose(frozen.times, torch.full((4,), 0.3))
    fixed = C.CameraPath(frames=4, turns=0.0).cameras().camera_to_world
    assert torch.equal(fixed, fixed[:1].expand_as(fixed))
    grid = C.view_time_grid(3, 2)
    assert torch.equal(grid.times, torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0])) and grid.frames == 6


def test_bad_settings_say_what_to_change():
    with pytest.raises(ValueError, match="Swap them"):
        C.CameraSampler(elevation_degrees=(30, 0))
    with pytest.raises(ValueError, match="joint scenes of 3"):
        C.view_time_grid(2, 2).select(slice(None), frames=3)


def test_z_up_frame_is_the_cyclic_permutation_and_opencv_flips_two_axes():
    c2w = torch.cat([pose(0, 0), pose(90, 0), pose(0, 90)])
    expected = torch.tensor([[2.0, 0, 0], [0, 2, 0], [0, 0, 2]], dtype=torch.float64)  # front +X, azimuth towards +Y, up +Z
    theirs = frames.to_z_up(c2w)
    assert torch.allclose(theirs[:, :3, 3], expected, atol=1e-12)
    assert torch.allclose(theirs[0, :3, :3], torch.tensor([[0, 0, 1], [1, 0, 0], [0, 1, 0]], dtype=torch.float64), atol=1e-12)
    assert torch.allclose(frames.from_z_up(theirs), c2w)
    opencv = frames.to_opencv(c2w)
    assert torch.equal(opencv[:, :3, 2], -c2w[:, :3, 2]) and torch.equal(opencv[:, :3, 1], -c2w[:, :3, 1])
    assert torch.equal(opencv[:, :3, 3], c2w[:, :3, 3]) and torch.equal(frames.to_opencv(opencv), c2w)


def test_quaternions_round_trip_through_half_turns():
    turns = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0.5, 0.5, 0.5, 0.5], [0.1, -0.7, 0.2, 0.3]], dtype=torch.float64)
    matrices = rotations.quaternion_to_matrix(turns)
    quarter_about_y = rotations.quaternion_to_matrix(torch.tensor([[0.0, 1.0, 0.0, 1.0]]))[0]
    assert torch.allclose(quarter_about_y @ torch.tensor([0.0, 0, 1]), torch.tensor([1.0, 0, 0]), atol=1e-6)  # front turns towards +X
    assert torch.allclose(rotations.quaternion_to_matrix(rotations.matrix_to_quaternion(matrices)), matrices, atol=1e-12)


def test_host_camera_round_trip_with_and_without_quaternion():
    c2w, fov = pose(50, 20, 2.9).float(), torch.tensor(0.7)
    camera = frames.to_load3d_camera(c2w[0], fov)
    back, angle = frames.from_load3d_camera(camera)
    assert torch.allclose(back, c2w, atol=1e-5) and angle.item() == pytest.approx(0.7, abs=1e-6)
    assert max(abs(value) for value in camera["target"].values()) < 1e-5
    aimed, _ = frames.from_load3d_camera({key: value for key, value in camera.items() if key != "quaternion"})
    assert torch.allclose(aimed, c2w, atol=1e-5)
    _, zoomed = frames.from_load3d_camera({**camera, "zoom": 2.0})
    assert math.tan(zoomed.item() / 2) == pytest.approx(math.tan(0.35) / 2)
    with pytest.raises(ValueError, match="perspective"):
        frames.from_load3d_camera({**camera, "cameraType": "orthographic"})


@pytest.mark.parametrize("views, frames", [(1, 1), (4, 1), (1, 5), (3, 4)])
def test_a_first_viewpoint_takes_view_and_time_zero_and_leaves_the_rest(views, frames):
    place = C.Viewpoint(azimuth_degrees=-70, elevation_degrees=20, distance=2.5, fov_degrees=30, time=0.25)
    plain = C.CameraSampler(views=views, frames=frames, spacing="independent")
    drawn, changed = (replace(plain, first=first).sample(seeded(3), 2) for first in (None, place))
    others = replace(plain, frames=max(frames - 1, 1)).sample(seeded(3), 2).times.view(2, -1, views)[:, : frames - 1]
    assert changed.frames == drawn.frames == views * frames
    grid = lambda cameras: (cameras.camera_to_world.view(2, frames, views, 4, 4), cameras.fov_y.view(2, frames, views), cameras.times.view(2, frames, views))  # noqa: E731
    (poses, fov, times), (old_poses, old_fov, _) = grid(changed), grid(drawn)
    azimuth, elevation, distance = C.spherical(poses[:, :, 0].reshape(-1, 4, 4))
    assert torch.allclose(azimuth, torch.tensor(-70 * DEGREE)) and torch.allclose(elevation, torch.tensor(20 * DEGREE)) and torch.allclose(distance, torch.tensor(2.5))
    assert torch.allclose(fov[:, :, 0], torch.tensor(30 * DEGREE)) and torch.equal(times[:, 0], torch.full((2, views), 0.25))
    assert torch.equal(poses[:, :, 1:], old_poses[:, :, 1:]) and torch.equal(fov[:, :, 1:], old_fov[:, :, 1:]) and torch.equal(times[:, 1:], others)


def test_times_beside_a_given_one_still_reach_from_end_to_end():
    sampler = C.CameraSampler(views=1, frames=4, first=C.Viewpoint(time=0.5))
    times = sampler.sample_times(seeded(1), 400)
    assert torch.equal(times[:, 0], torch.full((400,), 0.5))
    counts = times[:, 1:].flatten().histc(12, 0, 1)
    assert counts.min() > 60 and counts.sum() == 1200  # 100 expected in each twelfth of the range


def test_a_viewpoint_is_read_off_a_camera():
    place = C.Viewpoint(33, -12, 2.2, 50, 0.7)
    found = C.Viewpoint.of(place.cameras())
    assert (found.azimuth_degrees, found.elevation_degrees, found.distance, found.fov_degrees, found.time) == pytest.approx((33, -12, 2.2, 50, 0.7), abs=1e-4)
