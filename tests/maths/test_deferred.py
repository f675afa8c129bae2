"""Deferred back-propagation equals the gradient of the whole picture, whatever the chunk (A9)."""

import pytest
import torch
from bloom4d.models.fields.background import BackgroundConfig
from bloom4d.models.fields.hash_field import HashField, HashFieldConfig
from bloom4d.models.fields.hash_grid import HashGridConfig
from bloom4d.models.geometry.cameras import view_time_grid
from bloom4d.models.render.occupancy import OccupancyConfig
from bloom4d.models.render.volume import VolumeRenderer, VolumeRendererConfig

RENDERER = VolumeRenderer(VolumeRendererConfig(samples=24, bounds="ball", occupancy=OccupancyConfig(resolution=8, slabs=2)))
SIZE, VIEWS = 4, 3


@pytest.fixture(scope="module")
def field():
    generator = torch.Generator().manual_seed(0)
    config = HashFieldConfig(
        static=HashGridConfig(dimensions=3, levels=2, base_resolution=3, log2_table=7),
        dynamic=HashGridConfig(dimensions=4, levels=2, base_resolution=3, log2_table=7),
        hidden=8,
        background=BackgroundConfig(kind="network"),
    )
    field = HashField(config, generator).double()
    with torch.no_grad():
        for table in (field.static.table, field.dynamic.table):
            table.normal_(generator=generator)
    return field


def gradients(field, chunk, seed=5, seen=None):
    """Gradients of a loss that looks at everything that a picture has."""
    field.zero_grad()
    field.distant.requires_grad_(False)  # a role that is frozen, among the parameters
    cameras = view_time_grid(VIEWS, 1).to(torch.float64)
    views = RENDERER.render_views(field, RENDERER.new_state(field), cameras, SIZE, SIZE, seed, chunk)
    weights = torch.randn(views.rgb.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    loss = (views.over(torch.ones(3, dtype=torch.float64)) * weights).sum() + views.opacity.square().sum() + views.depth.sum() + views.z_variance.sum()
    loss.backward()
    if seen is not None:
        seen.append(views)
    return {name: parameter.grad.clone() for name, parameter in field.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("chunk", [1, 7, 0])
def test_any_chunk_gives_the_gradient_of_the_whole(field, chunk):
    whole, parts = gradients(field, SIZE * SIZE * VIEWS), gradients(field, chunk)
    assert whole.keys() == parts.keys() and "static.table" in whole and not any("distant" in name for name in whole)
    for name, expected in whole.items():
        assert (parts[name] - expected).norm() <= 1e-6 * expected.norm(), name


def test_pictures_are_equal_and_keep_no_graph_of_samples(field):
    seen, kept = [], []
    gradients(field, 0, seen=seen)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda tensor: tensor):
        cameras = view_time_grid(VIEWS, 1).to(torch.float64)
        views = RENDERER.render_views(field, RENDERER.new_state(field), cameras, SIZE, SIZE, seed=5, chunk=7)
    assert torch.allclose(views.rgb, seen[0].rgb, atol=1e-12) and views.samples == seen[0].samples and sum(kept) == 0
    assert torch.allclose(views.depth, seen[0].depth, atol=1e-12) and views.directions.shape == (VIEWS, SIZE, SIZE, 3)


def test_other_samples_in_the_second_pass_would_be_noticed(field):
    """The negative control: with another jitter the gradient is a different one."""
    first, second = gradients(field, 7, seed=5), gradients(field, 7, seed=6)
    assert (first["static.table"] - second["static.table"]).norm() > 1e-3 * first["static.table"].norm()


def test_without_gradient_chunks_render_the_same(field):
    cameras = view_time_grid(VIEWS, 2).to(torch.float64)
    with torch.no_grad():
        state = RENDERER.new_state(field)
        one, other = (RENDERER.render_views(field, state, cameras, SIZE, SIZE, None, chunk) for chunk in (0, 5))
    assert torch.allclose(one.rgb, other.rgb, atol=1e-12) and not other.rgb.requires_grad
