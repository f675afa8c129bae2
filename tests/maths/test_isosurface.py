"""Isosurfaces: closed, outward, in the right place and colour at every time."""

import math

import pytest
import torch
from bloom4d.models.geometry.isosurface import isosurface
from toy_fields import ConstantField

pytest.importorskip("skimage")


class GrowingBall(ConstantField):
    """A soft ball off the centre whose radius is .3 + .2 t at density 25; as red as the time."""

    centre = torch.tensor([0.2, -0.1, 0.3])

    def forward(self, positions, times):
        return self.density(positions, times), torch.stack([times, 1 - times, 0.5 * torch.ones_like(times)], dim=-1)

    def density(self, positions, times):
        return 25 + 100 * (0.3 + 0.2 * times - (positions - self.centre).norm(dim=-1))


def signed_volume(vertices, faces):
    a, b, c = vertices[faces].unbind(dim=1)
    return (torch.cross(a, b, dim=-1) * c).sum() / 6


def test_a_growing_ball():
    times = torch.tensor([0.0, 1.0])
    surface = isosurface(GrowingBall(), times, resolution=40)
    assert surface.vertices.shape[0] == 2 and surface.vertex_counts[0] < surface.vertex_counts[1] == surface.vertices.shape[1]
    assert not surface.vertices[0, surface.vertex_counts[0] :].any() and not surface.faces[0, surface.face_counts[0] :].any()
    for index, radius in enumerate((0.3, 0.5)):
        vertices, faces = surface.vertices[index, : surface.vertex_counts[index]], surface.faces[index, : surface.face_counts[index]]
        distance = (vertices - GrowingBall.centre).norm(dim=-1)
        assert (distance - radius).abs().max() < 2e-3
        assert signed_volume(vertices, faces).item() == pytest.approx(4 / 3 * math.pi * radius**3, rel=0.02)  # outward: positive
        assert torch.allclose(surface.colours[index, : surface.vertex_counts[index], 0], times[index].expand(len(vertices)))
        edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        assert torch.equal(torch.unique(edges, dim=0), torch.unique(edges.flip(1), dim=0))  # closed: every edge runs both ways


def test_a_surface_at_the_border_is_closed():
    surface = isosurface(ConstantField(50.0, dtype=torch.float32), torch.tensor([0.5]), resolution=8)
    assert signed_volume(surface.vertices[0], surface.faces[0]).item() == pytest.approx(8, rel=1e-3)


def test_no_surface_says_how_dense_it_is():
    with pytest.raises(ValueError, match="no surface at density 25 at time 0.5: it reaches 3 there. Lower the threshold"):
        isosurface(ConstantField(3.0, dtype=torch.float32), torch.tensor([0.5]), resolution=8)
