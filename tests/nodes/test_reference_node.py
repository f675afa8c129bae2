"""The Reference View Loss as a node: masks of every shape, refusals in one line, and a run through the host's executor path."""

import pytest
import torch
from test_field_nodes import call, nodes, optimise, output, same, state, tiny_field  # noqa: F401  (fixtures)


@pytest.fixture(scope="module")
def node(comfy):
    from bloom4d.nodes import guidance_losses

    return guidance_losses.Bloom4DReferenceViewLoss


def picture(height=24, width=24, channels=3):
    image = torch.full((1, height, width, channels), 0.5)
    image[:, height // 4 : -height // 4, width // 4 : -width // 4, :3] = torch.tensor([0.9, 0.2, 0.1])
    mask = torch.zeros(1, height, width)
    mask[:, height // 4 : -height // 4, width // 4 : -width // 4] = 1.0
    if channels == 4:
        image[..., 3] = mask
    return image, mask


def reference(node, **changes):
    image, mask = picture()
    return call(node, **{"image": image, "mask": mask, "height": 24, **changes})[0]


def result(nodes, term, steps=4, **stage):  # noqa: F811
    return state(optimise(nodes, tiny_field(nodes), call(nodes["optimize"].Bloom4DStage, terms={"term0": term}, **stage)[0], steps=steps)[0])


def test_an_alpha_channel_counts_as_the_mask(node):
    image, mask = picture(channels=4)
    one, two = reference(node, image=image, mask=None), reference(node)
    assert one.source.identity() == two.source.identity() and one.term == two.term


@pytest.mark.parametrize("height,width", [(24, 48), (48, 24), (30, 20)])
def test_renders_have_the_pictures_shape(node, height, width):
    image, mask = picture(height, width)
    term = reference(node, image=image, mask=mask, height=16, quarter_until=0.1, half_until=0.15).term
    assert term.resolution.at(1999, 2000) == (16, round(16 * width / height))
    assert [term.resolution.at(step, 2000)[0] for step in (0, 199, 200, 299, 300)] == [4, 4, 8, 8, 16]
    half = torch.nn.functional.interpolate(mask[None], scale_factor=0.5)[0]
    smaller = reference(node, image=image, mask=half).source
    assert smaller.mask.shape == (height, width) and float((smaller.mask - mask[0]).abs().mean()) < 0.08


def test_what_is_no_reference_is_refused_in_one_line_that_says_what_makes_a_mask(node):
    image, mask = picture()
    refused = {
        "no alpha and no mask": {"mask": None},
        "mask is black: it holds no object": {"mask": torch.zeros(1, 64, 64)},  # what Load Image gives for a picture without alpha
        "mask is white all over": {"mask": torch.ones(1, 24, 24)},
        "24 x 12 and its picture 24 x 24": {"mask": mask[:, :12]},
        "is 2 pictures, and a camera sees one": {"image": image.repeat(2, 1, 1, 1)},
    }
    for words, changes in refused.items():
        with pytest.raises(ValueError, match=words) as caught:
            reference(node, **changes)
        assert ("Remove Background, or with Flat Background Mask" in str(caught.value)) == ("pictures" not in words)


def test_an_inverted_mask_is_noticed(node):
    _, mask = picture()
    assert reference(node).source.notes() == []
    assert "Invert Mask" in reference(node, mask=1 - mask).source.notes()[0]


def test_it_runs_in_the_host_changes_the_field_and_every_widget_counts(nodes, node, output):  # noqa: F811
    plain = result(nodes, reference(node))
    assert same(result(nodes, reference(node)), plain)
    changes = [
        {"azimuth": 40.0}, {"elevation": 40.0}, {"distance": 2.0}, {"fov": 60.0}, {"time": 0.7, "train_motion": True}, {"rgb_weight": 1.0}, {"mask_weight": 900.0},
        {"height": 16}, {"quarter_until": 0.5}, {"half_until": 0.5}, {"name": "other"}, {"mask": (torch.rand(1, 24, 24, generator=torch.Generator().manual_seed(1)) > 0.5).float()},
    ]  # fmt: skip
    for change in changes:
        assert not same(result(nodes, reference(node, **change), rate_dynamic=0.01), plain), change


def test_a_log_of_places_and_a_refinement_know_that_it_has_no_model(nodes, node, output):  # noqa: F811
    term = reference(node)
    assert nodes["runner"].places_of((term.source,)).count(";") == 0 and not nodes["runner"].apart((term.source,))
    with pytest.raises(ValueError, match='"reference" has none. Connect an SDS'):
        call(nodes["optimize"].Bloom4DPhotometricRefinement, field=tiny_field(nodes), guidance=term)
