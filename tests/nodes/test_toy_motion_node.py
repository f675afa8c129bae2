"""Toy Motion as the host runs it."""

import pytest
import torch


@pytest.fixture(scope="module")
def node(comfy):
    from bloom4d.nodes.toy_motion import Bloom4DToyMotion

    return Bloom4DToyMotion


def run(node, **changes):
    inputs = {"motion": "spin", "parts": 12, "bands": True, "speed": 1.0, "seed": 3, "times": 3, "views": 2}
    return node.execute(**{**inputs, "azimuth": 0.0, "elevation": 15.0, "size": 32, **changes}).result


def test_gaussians_pictures_and_cameras_belong_together(node):
    gaussians, images, mask, cameras, caption = run(node, speed=0.5)
    assert gaussians.positions.shape == (3, 24, 3) and gaussians.times.tolist() == [0, 0.5, 1]
    assert images.shape == (6, 32, 32, 3) and mask.shape == (6, 32, 32) and 0 <= images.min() and images.max() <= 1
    assert cameras.times.tolist() == [0, 0, 0.5, 0.5, 1, 1] and cameras.frames == 6
    assert torch.equal(images[:, 0, 0], torch.ones(6, 3)) and mask.amax((1, 2)).min() > 0.9
    assert (images[1] - images[4]).abs().max() < 1e-4  # half a turn later the front camera sees the back
    assert (images[0] - images[4]).abs().max() > 0.2 and caption.endswith(" spinning object")


def test_whole_cycles_return_and_no_time_passes_in_one(node):
    images = run(node, times=5, views=1)[1]
    assert (images[0] - images[4]).abs().max() < 1e-4 and (images[0] - images[1]).abs().max() > 0.2
    alone = run(node, times=1, views=1)
    assert (alone[1][0] - images[0]).abs().max() < 1e-6 and alone[0].times.tolist() == [0]


def test_seed_and_motion_decide(node):
    assert torch.equal(run(node)[1], run(node)[1]) and not torch.equal(run(node)[1], run(node, seed=4)[1])
    assert not torch.equal(run(node)[1][4], run(node, motion="fold")[1][4])
    with pytest.raises(ValueError, match="choose one of"):
        run(node, motion="fly")


def test_a_result_of_inference_mode_serves_a_later_optimisation(node):
    with torch.inference_mode():
        gaussians = run(node)[0]
    with torch.inference_mode(False):
        positions = gaussians.positions.clone().requires_grad_()
        positions.square().sum().backward()
    assert positions.grad.abs().sum() > 0
