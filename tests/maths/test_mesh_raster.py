"""The rasteriser and grid normals against closed forms."""

import math

import pytest
import torch
from bloom4d.models.geometry.cameras import orbit
from bloom4d.models.geometry.meshes import face_normals, grid_faces, grid_normals
from bloom4d.models.geometry.rays import rays
from bloom4d.models.render.mesh import interpolate, rasterise, to_screen, visible

FOV = math.radians(42)


def camera(azimuth=0.0, elevation=0.0, distance=3.0, dtype=torch.float32):
    angles = [torch.tensor([value], dtype=dtype) for value in (azimuth, elevation, distance)]
    return orbit(*angles), torch.tensor([FOV], dtype=dtype)


def sphere(radius, columns=96, rows=64):
    polar = torch.linspace(0, math.pi, rows)
    angle = torch.arange(columns)[:, None] * (2 * math.pi / columns)
    points = torch.stack(torch.broadcast_tensors(polar.sin() * angle.sin(), -polar.cos() * (angle * 0 + 1), polar.sin() * angle.cos()), -1)
    return points * radius, grid_faces(1, columns, rows, True)


def quad(corners):
    return torch.tensor(corners), torch.tensor([[0, 1, 2], [0, 2, 3]])


def test_a_sphere_covers_the_disc_of_its_tangent_cone():
    radius, distance, size = 0.7, 3.0, 200
    points, faces = sphere(radius)
    drawn = rasterise(points.view(1, -1, 3), faces, points.view(-1, 3), *camera(0.4, 0.3, distance), size, size)
    focal = 0.5 * size / math.tan(FOV / 2)
    disc = math.pi * (focal * radius / math.sqrt(distance**2 - radius**2)) ** 2
    assert drawn.mask.sum().item() == pytest.approx(disc, rel=0.005)
    assert abs(drawn.mask.sum().item() / disc * (math.sqrt(distance**2 - radius**2) / distance) ** 2 - 1) > 0.03  # not f r / d


def test_depth_of_a_sphere_is_the_ray_intersection():
    radius, size = 0.7, 64
    points, faces = sphere(radius)
    pose, fov = camera(0.4, 0.3)
    drawn = rasterise(points.view(1, -1, 3), faces, points.view(-1, 3), pose, fov, size, size)
    origins, directions = rays(pose, fov, size, size)
    along = (origins * directions).sum(-1)
    root = along**2 - (origins**2).sum(-1) + radius**2
    distance = -along - root.clamp(min=0).sqrt()
    depth = distance * (directions @ -pose[0, :3, 2])
    inside = drawn.mask & (root > 0.05)
    assert inside.sum() > 500
    assert (drawn.depth - depth)[inside].abs().max() < 0.004
    hit = origins + distance[..., None] * directions
    assert (drawn.attributes - hit)[inside].abs().max() < 0.02
    assert (drawn.depth - distance)[inside].abs().max() > 0.01  # depth is along -Z, not along the ray


def test_attributes_of_a_slanted_quad_are_perspective_correct():
    points, faces = quad([(-1.0, -0.5, 1.2), (1.0, -0.5, -3.0), (1.0, 0.5, -3.0), (-1.0, 0.5, 1.2)])
    value = points[:, :1].contiguous()
    size = 96
    pose, fov = camera()
    drawn = rasterise(points[None], faces, value, pose, fov, size, size)
    origins, directions = rays(pose, fov, size, size)
    normal = torch.tensor((4.2, 0.0, 2.0))
    distance = ((points[0] - origins) @ normal) / (directions @ normal)
    exact = (origins + distance[..., None] * directions)[..., 0]
    assert drawn.mask.sum() > 800
    assert (drawn.attributes[..., 0] - exact)[drawn.mask].abs().max() < 1e-4
    screen = to_screen(points[None], pose, fov, size, size)
    screen[..., 2] = 1.0  # flat on the screen: interpolation without perspective
    flat = interpolate(visible(screen, faces, size, size), value, faces)[:, 0]
    assert (flat - exact[drawn.mask]).abs().max() > 0.3


def test_the_nearer_face_wins_whatever_the_order():
    near, faces = quad([(-0.3, -0.3, 0.5), (0.3, -0.3, 0.5), (0.3, 0.3, 0.5), (-0.3, 0.3, 0.5)])
    far = near * torch.tensor((2.0, 2.0, -1.0))
    for order in ((near, far), (far, near)):
        points = torch.cat(order)
        drawn = rasterise(points[None], torch.cat((faces, faces + 4)), points, *camera(), 65, 65)
        assert drawn.depth[0, 32, 32].item() == pytest.approx(2.5, abs=1e-5)
        assert drawn.depth[0, 32, 45].item() == pytest.approx(3.5, abs=1e-5)


def test_shared_edges_leave_no_hole_and_row_zero_is_the_top():
    generator = torch.Generator().manual_seed(0)
    columns, rows = 17, 23
    x, y = torch.meshgrid(torch.linspace(-0.9, 0.9, columns), torch.linspace(-0.9, 0.9, rows), indexing="ij")
    inner = torch.zeros(columns, rows, 3)
    inner[1:-1, 1:-1] = (torch.rand(columns - 2, rows - 2, 3, generator=generator) - 0.5) * torch.tensor((0.06, 0.05, 0.3))
    points = torch.stack((x, y, torch.zeros_like(x)), -1) + inner
    drawn = rasterise(points.view(1, -1, 3), grid_faces(1, columns, rows, False), points.view(-1, 3), *camera(), 128, 128)
    covered = drawn.mask[0].nonzero()
    low, high = covered.amin(0), covered.amax(0)
    assert len(covered) == (high - low + 1).prod()
    assert drawn.attributes[0, low[0], 64, 1] > 0.8 > -0.8 > drawn.attributes[0, high[0], 64, 1]
    assert drawn.attributes[0, 64, high[1], 0] > 0.8


def test_chunks_do_not_change_a_bit():
    points, faces = sphere(0.7, 24, 16)
    poses = orbit(torch.tensor([0.0, 1.0, 4.0]), torch.tensor([0.2, -0.3, 0.9]), torch.full((3,), 3.0))
    arguments = (points.view(1, -1, 3).expand(3, -1, -1), faces, points.view(-1, 3), poses, torch.full((3,), FOV), 40, 48)
    whole, chunked = rasterise(*arguments), rasterise(*arguments, pair_budget=37)
    assert torch.equal(whole.face_id, chunked.face_id) and torch.equal(whole.attributes, chunked.attributes)
    assert whole.mask.shape == (3, 40, 48) and not torch.equal(whole.face_id[0], whole.face_id[1])


def test_faces_behind_the_camera_or_without_area_are_not_drawn():
    points, faces = quad([(-0.3, -0.3, 4.0), (0.3, -0.3, 4.0), (0.3, 0.3, 4.0), (-0.3, 0.3, 4.0)])
    assert not rasterise(points[None], faces, points, *camera(), 32, 32).mask.any()
    assert not rasterise(points[None] * torch.tensor((0.0, 1.0, 0.0)), faces, points, *camera(), 32, 32).mask.any()
    assert rasterise(points[None] * torch.tensor((1.0, 1.0, -1.0)), faces, points, *camera(), 32, 32).mask.any()


def test_gradients_of_attributes_and_vertices_inside_the_silhouette():
    points, faces = quad([(-0.8, -0.5, 0.5), (1.0, -0.5, -0.8), (1.0, 0.6, -0.6), (-0.9, 0.5, 0.7)])
    points, value = points.double(), torch.tensor([[0.1, 1.0], [0.9, 2.0], [0.3, -1.0], [0.5, 0.2]], dtype=torch.float64)
    pose, fov = camera(0.2, 0.1, dtype=torch.float64)

    def middle(vertices, attributes):
        drawn = rasterise(vertices[None], faces, attributes, pose, fov, 12, 12)
        return drawn.attributes[0, 4:8, 4:8], drawn.depth[0, 4:8, 4:8]

    assert torch.autograd.gradcheck(middle, (points.requires_grad_(), value.requires_grad_()), eps=1e-6, atol=1e-5)


def test_grid_normals_of_a_sphere_point_outwards_at_the_poles_too():
    points, _ = sphere(0.6, 48, 33)
    normals = grid_normals(points, True)
    assert (normals * points / 0.6).sum(-1).min() > 0.995
    assert (grid_normals(points, False) * points / 0.6).sum(-1)[1:-1].min() > 0.995
    assert torch.equal(grid_normals(points * 0, True), torch.tensor((0.0, 1.0, 0.0)).expand_as(points))


def test_faces_of_a_grid_turn_the_way_of_its_normals():
    points, faces = sphere(0.6, 12, 9)
    flat = points.view(-1, 3)
    outwards = (face_normals(flat, faces) * flat[faces].mean(1)).sum(-1)
    area = torch.linalg.cross(flat[faces[:, 1]] - flat[faces[:, 0]], flat[faces[:, 2]] - flat[faces[:, 0]]).norm(dim=-1)
    assert outwards[area > 1e-6].min() > 0.5
