"""Gaussians from and to batches of splats in the 3DGS frame."""

import pytest
import torch
from bloom4d.models.gaussians.batches import from_batch, to_batch
from bloom4d.models.gaussians.gaussians import sample_times
from test_gaussians import moving


def batch(frames=3, count=4, degree=1) -> dict:
    return {name: value.clone() for name, value in to_batch(moving(frames, count, degree)).items()}


def test_there_and_back():
    gaussians = moving(4, 5, degree=3)
    again = from_batch(to_batch(gaussians))
    assert {name: value.shape for name, value in again.attributes().items()} == {name: value.shape for name, value in gaussians.attributes().items()}, "what stands still is kept once"
    for name, value in gaussians.attributes().items():
        assert torch.allclose(getattr(again, name), value, atol=1e-6), name
    assert torch.allclose(again.times, gaussians.times)


def test_a_batch_is_upside_down_and_facing_away():
    gaussians = moving(2, 3)
    positions = to_batch(gaussians)["positions"]
    assert torch.equal(positions, gaussians.positions * torch.tensor([1.0, -1.0, -1.0]))


def test_items_of_different_length_fade_where_they_stand():
    values = batch(5, 4)
    for name in values:
        values[name][0, 2:] = values[name][4, 2:] = 0.0  # the host pads with zeros
        values[name][2, 3:] = 0.0
    gaussians = from_batch(values, torch.tensor([2, 4, 3, 4, 2]))
    full = values["opacities"][1, :, 0]
    assert torch.allclose(gaussians.opacities[:, 2], full[2] * torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0]))
    assert torch.allclose(gaussians.opacities[:, 3], full[3] * torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0]))
    flip = torch.tensor([1.0, -1.0, -1.0])
    for time, near in ((0, 1), (4, 3), (2, 1)):
        assert torch.equal(gaussians.positions[time, 3], values["positions"][near, 3] * flip), "the nearest time that knows it, the earlier of two"
    assert (gaussians.scales > 0).all() and torch.allclose(gaussians.rotations.norm(dim=-1), torch.ones(5, 4), atol=1e-5)
    between = sample_times(gaussians, torch.tensor([0.125]))
    assert torch.allclose(between.positions[0, 3], gaussians.positions[1, 3]) and torch.allclose(between.opacities[0, 3], full[3] / 2)


def test_padding_that_no_item_uses_is_dropped():
    values = {name: torch.cat([value, torch.full_like(value[:, :2], float("nan"))], 1) for name, value in batch(3, 4).items()}
    assert from_batch(values, torch.tensor([4, 4, 4])).count == 4


def test_higher_harmonics_are_dropped():
    values = batch(2, 3, degree=3)
    more = torch.cat([values["sh"], torch.ones(2, 3, 9, 3)], 2)
    assert torch.equal(from_batch({**values, "sh": more}).harmonics, from_batch(values).harmonics)


def broken(name, change) -> dict:
    values = batch()
    values[name] = change(values[name])
    return values


def holed(value):
    value[1, 2] = float("inf")
    return value


@pytest.mark.parametrize(("values", "counts", "message"), [
    (broken("positions", holed), None, "positions are not finite for 1 of 12 Gaussians, first for number 2 of item 1"),
    (broken("sh", holed), None, "sh are not finite"),
    (broken("scales", torch.log), None, "These may be logarithms"),
    (broken("opacities", lambda value: 20 * value - 10), None, "These may be logits"),
    (broken("rotations", lambda value: value[..., :3]), None, r"rotations have the shape \(3, 4, 3\), \(3, 4, 4\) is needed"),
    (broken("sh", lambda value: value[:, :, :3]), None, "1, 4, 9 or 16 harmonics"),
    (batch(), torch.tensor([1, 2]), "in 3 items"),
    (batch(), torch.tensor([1, 2, 5]), "room for 4"),
    (batch(), torch.zeros(3, dtype=torch.int64), "The splat is empty: 0 Gaussians in 3 items"),
    (batch(1, 0), None, "The splat is empty: 0 Gaussians in 1 item. "),
])
def test_what_no_splat_can_be_is_refused(values, counts, message):
    with pytest.raises(ValueError, match=message):
        from_batch(values, counts)
