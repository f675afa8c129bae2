"""Procedural 4D Object as the host runs it."""

import pytest
import torch


@pytest.fixture(scope="module")
def node(comfy):
    from bloom4d.nodes.procedural import Bloom4DProcedural4DObject

    return Bloom4DProcedural4DObject


def run(node, **changes):
    inputs = {"phenomenon": "candle burning", "species": "pillar", "colour": "red", "seed": 3, "times": 3, "views": 2}
    return node.execute(**{**inputs, "azimuth": 0.0, "elevation": 15.0, "size": 32, **changes}).result


def test_outputs_are_host_types_and_time_is_the_slowest_axis(node):
    images, mask, mesh, cameras, prompt = run(node)
    assert images.shape == (6, 32, 32, 3) and mask.shape == (6, 32, 32) and images.max() <= 1
    assert torch.equal(images[:, 0, 0], torch.ones(6, 3)) and mask[:, 0, 0].max() == 0
    assert cameras.times.tolist() == [0, 0, 0.5, 0.5, 1, 1] and cameras.frames == 6
    height = mask.amax(2).sum(1)
    assert height[0] > height[2] > height[4]  # the candle burns down over time, not over views
    assert prompt == "a red pillar candle burning"


def test_mesh_is_a_batch_over_time_that_the_host_can_save(node, tmp_path):
    from comfy_extras.nodes_save_3d import save_glb

    mesh = run(node, colour="orange")[2]
    assert mesh.vertices.shape[0] == mesh.faces.shape[0] == mesh.vertex_colors.shape[0] == 3
    assert torch.equal(mesh.faces[0], mesh.faces[2]) and not torch.equal(mesh.vertices[0], mesh.vertices[2])
    assert mesh.vertex_colors.min() >= 0 and mesh.vertex_colors.max() <= 1
    lowest = mesh.vertex_colors[0].amin(0)
    assert lowest[2] < 0.01  # orange has (0.04 / 12.92) of blue in linear light, 0.04 in sRGB
    save_glb(mesh.vertices[1], mesh.faces[1], str(tmp_path / "candle.glb"), vertex_colors=mesh.vertex_colors[1])
    assert (tmp_path / "candle.glb").read_bytes()[:4] == b"glTF"


def test_cameras_of_ones_own_take_the_place_of_times_and_views(node):
    from bloom4d.models.geometry.cameras import CameraPath

    images, mask, mesh, cameras, _ = run(node, cameras=CameraPath(frames=4, turns=0.5))
    assert len(images) == len(mask) == len(cameras) == 4 and mesh.vertices.shape[0] == 3
    assert torch.allclose(cameras.times, torch.arange(4) / 3)
    assert torch.equal(images[0], run(node)[0][0])  # the same front view of time 0


def test_seed_decides_what_is_left_open(node):
    same = [run(node, species="any", colour="any", seed=seed, times=1, views=1) for seed in (1, 1, 2)]
    assert torch.equal(same[0][0], same[1][0]) and same[0][4] == same[1][4]
    assert not torch.equal(same[0][0], same[2][0])


def test_a_name_of_another_phenomenon_is_refused_with_the_choices(node):
    with pytest.raises(ValueError, match="species are pillar, taper, twisted, saucer"):
        run(node, species="rose")
    with pytest.raises(ValueError, match="colours are golden, brown, dark"):
        run(node, phenomenon="bread baking", species="any", colour="red")


def test_result_serves_a_later_backward_pass(node):
    """The host runs nodes under inference mode; what is kept between calls must still work with gradients."""
    from bloom4d.models.data.objects import build_mesh
    from bloom4d.models.data.styles import sample_style

    run(node)
    with torch.inference_mode(False):
        mesh = build_mesh(sample_style("candle burning", torch.Generator().manual_seed(0), "pillar", "red"), torch.tensor([0.0]))
        vertices = mesh.vertices.clone().requires_grad_()
        vertices[0][mesh.faces].sum().backward()
        assert vertices.grad.abs().sum() > 0
