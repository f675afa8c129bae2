"""Gradients at silhouettes: covered areas against closed forms, loss gradients against differences of finely sampled pictures."""

import math

import pytest
import torch

from bloom4d.models.geometry.cameras import orbit
from bloom4d.models.geometry.meshes import grid_faces
from bloom4d.models.render.mesh import rasterise, to_screen
from bloom4d.models.render.silhouettes import antialias, edges_of

FOV, DISTANCE, SIZE = math.radians(42), 3.0, 64
FOCAL = 0.5 * SIZE / math.tan(FOV / 2)
TRIANGLE = torch.tensor([[-0.6, -0.5, 0.0], [0.7, -0.3, 0.0], [0.1, 0.8, 0.0]], dtype=torch.float64)


def camera(count=1, dtype=torch.float64):
    pose = orbit(*[torch.full((count,), value, dtype=dtype) for value in (0.0, 0.0, DISTANCE)])
    return pose, torch.full((count,), FOV, dtype=dtype)


def ball(columns, rows):
    polar = torch.linspace(0, math.pi, rows, dtype=torch.float64)
    angle = torch.arange(columns, dtype=torch.float64)[:, None] * (2 * math.pi / columns)
    points = torch.stack(torch.broadcast_tensors(polar.sin() * angle.sin(), -polar.cos() + 0 * angle, polar.sin() * angle.cos()), -1)
    return points.reshape(-1, 3), grid_faces(1, columns, rows, True)


def draw(vertices, faces, colours=None, size=SIZE, smooth=True, **options):
    colours = torch.ones(len(vertices), 1, dtype=vertices.dtype) if colours is None else colours
    edges = edges_of(faces) if smooth else None
    return rasterise(vertices[None], faces, colours, *camera(dtype=vertices.dtype), size, size, edges=edges, **options)


def gradient(loss, parameter):
    return torch.autograd.grad(loss, parameter, allow_unused=True)[0]


def test_a_triangle_covers_its_area_and_the_gradient_is_the_areas():
    vertices, faces = TRIANGLE.clone().requires_grad_(), torch.tensor([[0, 1, 2]])
    found = draw(vertices, faces)
    first, second, third = to_screen(vertices[None], *camera(), SIZE, SIZE)[0, :, :2]
    (ax, ay), (bx, by) = second - first, third - first
    area = 0.5 * (ax * by - ay * bx).abs()
    assert found.coverage.sum().item() == pytest.approx(area.item(), rel=5e-4)
    assert abs(found.mask.sum().item() / area.item() - 1) > 2e-3  # what pixel centres see is coarser
    expected, got = gradient(area, vertices), gradient(found.coverage.sum(), vertices)
    assert (got - expected).norm() < 0.06 * expected.norm()
    mean = torch.zeros_like(got)
    for step in torch.rand(60, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64):  # places in the pixel grid
        moved = (TRIANGLE + torch.cat((step, torch.zeros(1))) * DISTANCE / FOCAL).requires_grad_()
        mean += gradient(draw(moved, faces).coverage.sum(), moved) / 60
    assert (mean - expected)[:, :2].norm() < 0.025 * expected.norm()  # on average only the tips, thinner than a pixel, are missed


@pytest.mark.parametrize(("columns", "rows"), [(64, 48), (200, 120)])
def test_a_ball_grows_as_its_disc_even_when_faces_are_smaller_than_pixels(columns, rows):
    points, faces = ball(columns, rows)
    radius = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    found = draw(points * radius, faces)

    def disc(value):
        return math.pi * FOCAL**2 * value**2 / (DISTANCE**2 - value**2)

    assert found.coverage.sum().item() == pytest.approx(disc(0.7), rel=2e-3)
    slope = (disc(0.7 + 1e-5) - disc(0.7 - 1e-5)) / 2e-5
    assert gradient(found.coverage.sum(), radius).item() == pytest.approx(slope, rel=0.025)
    assert gradient(draw(points * radius, faces, smooth=False).attributes.sum(), radius).abs() < 1e-6 * slope


def scene(shift):
    """A red triangle that hides parts of a green one, and a grey ball behind both; the first moves by `shift` (3,)."""
    back = TRIANGLE * torch.tensor((-1.1, 0.8, 1.0)) + torch.tensor((0.15, 0.1, -0.6))
    points, faces = ball(24, 16)
    vertices = torch.cat((TRIANGLE * 0.8 + shift, back, points * 0.5 + torch.tensor((-0.3, -0.2, -1.2))))
    colours = torch.tensor([[1.0, 0.1, 0.0]] * 3 + [[0.1, 0.8, 0.2]] * 3 + [[0.5, 0.5, 0.6]] * len(points), dtype=torch.float64)
    return vertices, torch.cat((torch.tensor([[0, 1, 2], [3, 4, 5]]), faces + 6)), colours


def loss(picture):
    """A smooth weight over place and colour, as a mean over the picture."""
    size = picture.shape[1]
    place = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    weight = torch.stack((torch.sin(3 * place[:, None] + place), torch.cos(5 * place[:, None] * place), place[:, None] - 2 * place), -1)
    return (picture[0] * weight).mean()


def test_loss_gradients_agree_with_differences_of_a_finely_sampled_picture():
    """Between two surfaces and towards the background alike."""
    shift = torch.tensor((0.02, -0.03, 0.01), dtype=torch.float64, requires_grad=True)
    vertices, faces, colours = scene(shift)
    got = gradient(loss(draw(vertices, faces, colours, 128).attributes), shift)

    def fine(value):
        return loss(draw(*scene(value)[:2], colours, 1152, smooth=False).attributes)

    step = torch.eye(3, dtype=torch.float64) * 0.02
    expected = torch.stack([(fine(shift.detach() + row) - fine(shift.detach() - row)) / 0.04 for row in step])
    assert (got - expected).norm() < 0.05 * expected.norm()
    without = gradient(loss(draw(vertices, faces, colours, 128, smooth=False).attributes), shift)
    assert (without - expected).norm() > 0.9 * expected.norm()  # negative control: no edges, no gradient


def fitted(smooth):
    """How well a ball, scaled and moved by gradient descent, covers the silhouette of another one, and how far off it starts: IoU."""
    points, faces = ball(20, 14)
    points, goal = points.float(), torch.tensor((0.25, -0.15, 0.0))
    target = draw(points * torch.tensor((0.45, 0.6, 0.45)) + goal, faces, size=48).mask.float()
    shift, scale = torch.zeros(3, requires_grad=True), torch.full((3,), 0.35, requires_grad=True)
    optimiser, edges, overlaps = torch.optim.Adam((shift, scale), lr=0.02), edges_of(faces), []
    for _ in range(60):
        drawn = rasterise((points * scale + shift)[None], faces, torch.ones(len(points), 1), *camera(dtype=torch.float32), 48, 48, edges=edges if smooth else None)
        overlaps.append(float((drawn.mask & (target > 0.5)).sum() / (drawn.mask | (target > 0.5)).sum()))
        optimiser.zero_grad()
        (drawn.attributes[..., 0] - target).square().mean().backward()
        optimiser.step()
    return overlaps[-1], overlaps[0]


def test_a_mesh_moves_into_a_silhouette_and_without_antialiasing_it_stays():
    end, begin = fitted(smooth=True)
    assert begin < 0.5 and end > 0.95
    end, begin = fitted(smooth=False)
    assert abs(end - begin) < 0.05


def test_inside_a_surface_nothing_changes():
    points, faces = ball(40, 30)
    colours = torch.rand(len(points), 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    smooth, hard = draw(points * 0.7, faces, colours), draw(points * 0.7, faces, colours, smooth=False)
    alone = torch.nn.functional.max_pool2d(1 - hard.mask.double(), 3, 1, 1)[0] == 0  # no empty pixel beside it
    assert alone.sum() > 800 and torch.equal(smooth.attributes[0][alone], hard.attributes[0][alone])
    changed = (smooth.attributes != hard.attributes).any(-1)
    assert changed.sum() > 50 and hard.coverage is None and smooth.coverage.max() <= 1 + 1e-9


def test_chunks_and_batches_do_not_change_a_bit():
    vertices, faces, colours = scene(torch.zeros(3, dtype=torch.float64))
    whole, chunked = draw(vertices, faces, colours), draw(vertices, faces, colours, pair_budget=29)
    assert torch.equal(whole.attributes, chunked.attributes) and torch.equal(whole.coverage, chunked.coverage)
    two = torch.stack((vertices + 0.1, vertices))
    both = rasterise(two, faces, colours, *camera(2), SIZE, SIZE, edges=edges_of(faces))
    assert torch.equal(both.attributes[1], whole.attributes[0]) and not torch.equal(both.attributes[0], whole.attributes[0])


def test_wide_and_tall_pictures():
    for height, width in ((40, 70), (70, 40)):
        vertices = TRIANGLE.clone().requires_grad_()
        faces = torch.tensor([[0, 2, 1]])
        found = rasterise(vertices[None], faces, torch.ones(3, 1, dtype=torch.float64), *camera(), height, width, edges=edges_of(faces))
        first, second, third = to_screen(vertices[None], *camera(), height, width)[0, :, :2]
        (ax, ay), (bx, by) = second - first, third - first
        area = 0.5 * (ax * by - ay * bx).abs()
        expected = gradient(area, vertices)
        assert found.coverage.sum().item() == pytest.approx(area.item(), rel=4e-3)
        assert (gradient(found.coverage.sum(), vertices) - expected).norm() < 0.15 * expected.norm()


@pytest.mark.parametrize("faces", [torch.zeros(0, 3, dtype=torch.int64), torch.tensor([[0, 1, 2]])], ids=["empty", "behind"])
def test_nothing_to_see_is_empty_and_its_gradient_is_zero(faces):
    vertices = (TRIANGLE + torch.tensor((0.0, 0.0, 4.0))).requires_grad_()
    found = draw(vertices, faces, later=vertices[None] + 1)
    assert not found.mask.any() and found.coverage.abs().max() == 0 and found.flow.abs().max() == 0
    found.coverage.sum().backward()
    assert vertices.grad is None or not vertices.grad.any()
    none = torch.zeros(0, 3, dtype=torch.float64)
    assert not draw(none, torch.zeros(0, 3, dtype=torch.int64)).mask.any()


def test_a_mesh_that_reaches_behind_the_camera_gives_finite_gradients():
    points, faces = ball(24, 16)
    vertices = (points + torch.tensor((0.3, 0.0, 2.6))).requires_grad_()  # the camera stands inside
    found = draw(vertices, faces)
    found.coverage.sum().backward()
    assert found.mask.any() and torch.isfinite(vertices.grad).all() and torch.isfinite(found.coverage).all()


def test_edges_of_a_closed_and_an_open_mesh():
    tetrahedron = edges_of(torch.tensor([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]]))
    assert len(tetrahedron.vertices) == 6 and (tetrahedron.opposite >= 0).all()
    for (a, b), pair in zip(tetrahedron.vertices.tolist(), tetrahedron.opposite.tolist()):
        assert {a, b, *pair} == {0, 1, 2, 3}
    square = edges_of(torch.tensor([[0, 1, 2], [0, 2, 3]]))
    assert len(square.vertices) == 5 and (square.opposite >= 0).sum() == 6
    assert len(edges_of(torch.tensor([[0, 0, 1]])).vertices) == 1  # a corner twice: its other edge has no length


def test_a_shaded_picture_over_its_background_is_blended_too():
    vertices, faces = TRIANGLE.clone().requires_grad_(), torch.tensor([[0, 1, 2]])
    found = draw(vertices, faces, smooth=False)
    over = torch.where(found.mask[..., None], torch.tensor((0.9, 0.2, 0.1), dtype=torch.float64), torch.ones((), dtype=torch.float64))
    screen = to_screen(vertices[None], *camera(), SIZE, SIZE)
    smooth = antialias(over, found.face_id, found.depth, screen, edges_of(faces))
    coverage = draw(vertices, faces).coverage[..., None]
    expected = 1 + coverage * (torch.tensor((0.9, 0.2, 0.1), dtype=torch.float64) - 1)
    assert (smooth - expected).abs().max() < 1e-12


@pytest.mark.parametrize("offset", [0.0, 0.25, 0.5, 0.500001, 0.999999])
def test_a_square_on_the_pixel_grid_is_as_large_as_it_is(offset):
    """Edges exactly through pixel centres, which the rasteriser gives to either side, count as well."""
    low, high = -10.0 + offset, 12.0 + offset
    corners = torch.tensor([[low, low, 0], [high, low, 0], [high, high, 0], [low, high, 0]], dtype=torch.float64) * DISTANCE / FOCAL
    vertices = corners.requires_grad_()
    found = draw(vertices, torch.tensor([[0, 1, 2], [0, 2, 3]]))
    assert found.coverage.sum().item() == pytest.approx(22.0**2, abs=1.01)  # a corner is blended along both axes
    width = gradient(found.coverage.sum(), vertices)[1:3, 0].sum() * DISTANCE / FOCAL
    assert width.item() == pytest.approx(22.0, abs=1.01)


def test_flow_is_where_the_surface_goes():
    """A square that slides and comes nearer: closed form of a pinhole."""
    points = torch.tensor([(-0.5, -0.5, 0.0), (0.5, -0.5, 0.0), (0.5, 0.5, 0.0), (-0.5, 0.5, 0.0)], dtype=torch.float64)
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    found = draw(points, faces, later=(points + points.new_tensor((0.1, 0.2, 0.5)))[None])
    row, column = torch.meshgrid(torch.arange(SIZE).double(), torch.arange(SIZE).double(), indexing="ij")
    x, y = (column + 0.5 - SIZE / 2) * DISTANCE / FOCAL, (SIZE / 2 - row - 0.5) * DISTANCE / FOCAL  # on the square's plane
    scale = FOCAL / (DISTANCE - 0.5)
    moved = torch.stack((SIZE / 2 + (x + 0.1) * scale - column - 0.5, SIZE / 2 - (y + 0.2) * scale - row - 0.5), -1)
    inside = found.mask[0]
    assert inside.sum() > 500 and (found.flow[0] - moved)[inside].abs().max() < 1e-9 and not found.flow[0][~inside].any()
    assert draw(points, faces).flow is None
