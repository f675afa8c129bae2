"""Flat Background Mask as the host runs it, and Camera Sampler's first view, which belongs to a reference picture."""

import pytest
import torch


@pytest.fixture(scope="module")
def keyer(comfy):
    from bloom4d.nodes.keying import Bloom4DFlatBackgroundMask

    return Bloom4DFlatBackgroundMask


def mask(keyer, image, **changes):
    return keyer.execute(**{"image": image, "tolerance": 0.03, "softness": 0.1, "edge": 2, "holes": True, **changes}).result


def test_a_batch_is_keyed_picture_by_picture(keyer):
    image = torch.ones(2, 32, 32, 3)
    image[1] = torch.tensor([0.0, 0.0, 1.0])
    image[:, 10:20, 10:20] = torch.tensor([0.8, 0.2, 0.1])
    picture, found = mask(keyer, image)
    wanted = torch.zeros(32, 32)
    wanted[10:20, 10:20] = 1
    assert picture.shape == (2, 32, 32, 3) and torch.equal(found[0], wanted) and torch.equal(found[1], wanted)


def test_an_alpha_channel_does_not_disturb(keyer):
    image = torch.ones(1, 32, 32, 4)
    image[:, 10:20, 10:20, :3] = 0.2
    picture, found = mask(keyer, image)
    assert picture.shape[-1] == 3 and found[0, 15, 15] == 1


def test_a_photograph_is_refused_in_one_line_that_names_the_hosts_node(keyer):
    with pytest.raises(ValueError, match="Remove Background"):
        mask(keyer, torch.rand(1, 32, 32, 3))


def test_the_named_node_of_the_host_is_there(comfy):
    import comfy_extras.nodes_bg_removal as host

    assert host.RemoveBackground.define_schema().display_name == "Remove Background"
    assert host.LoadBackgroundRemovalModel.define_schema().display_name == "Load Background Removal Model"


@pytest.fixture(scope="module")
def cameras(comfy):
    from bloom4d.nodes import cameras

    return cameras


def sampler(cameras, **changes):
    schema = {item.id: item.default for item in cameras.Bloom4DCameraSampler.define_schema().inputs if hasattr(item, "default")}
    return cameras.Bloom4DCameraSampler.execute(**{**schema, **changes}).result[0]


def test_the_reference_picture_stands_first_in_every_scene(cameras):
    place, = cameras.Bloom4DCameraPath.execute(frames=1, turns=0.0, time_start=0.4, time_end=0.4, azimuth=25.0, elevation=10.0, distance=3.0, fov=35.0).result
    found = sampler(cameras, views=3, frames=2, spacing="independent", first=place).sample(torch.Generator().manual_seed(0), 2)
    wanted = place.cameras()
    poses, times = found.camera_to_world.view(2, 2, 3, 4, 4), found.times.view(2, 2, 3)
    assert torch.allclose(poses[:, :, 0], wanted.camera_to_world[0].expand(2, 2, 4, 4), atol=1e-6)
    assert torch.allclose(times[:, 0], torch.full((2, 3), 0.4)) and not torch.isclose(times[:, 1], torch.tensor(0.4)).any()
    assert torch.allclose(found.fov_y.view(2, 2, 3)[:, :, 0], wanted.fov_y[0])


def test_a_sampler_is_no_place_of_a_picture(cameras):
    with pytest.raises(ValueError, match="Camera Path with one frame"):
        sampler(cameras, first=sampler(cameras))
