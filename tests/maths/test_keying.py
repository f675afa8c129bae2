"""The flat-background keyer: mixtures are taken apart exactly, the rest by colour distance; a border that is not flat is refused."""

import pytest
import torch
from bloom4d.models.data.objects import render_object
from bloom4d.models.data.styles import PHENOMENA, sample_style
from bloom4d.models.geometry.cameras import view_time_grid
from bloom4d.models.render.keying import Keying, key_flat, outside

GREEN = torch.tensor([0.1, 0.8, 0.2])
RED = torch.tensor([0.9, 0.1, 0.3])


def square(share: float, behind=GREEN, colour=RED, size=24) -> torch.Tensor:
    """A square of one colour whose outermost pixels hold `share` of it: c = a f + (1 - a) b."""
    alpha = torch.zeros(size, size)
    alpha[7:17, 7:17] = share
    alpha[8:16, 8:16] = 1
    return alpha, (alpha[..., None] * colour + (1 - alpha[..., None]) * behind)[None]


@pytest.mark.parametrize("share", [0.15, 0.37, 0.5, 0.82])
@pytest.mark.parametrize("behind", [GREEN, torch.ones(3), torch.zeros(3)])
def test_the_share_of_a_mixed_pixel_is_found_exactly(share, behind):
    alpha, picture = square(share, behind)
    keyed = key_flat(picture)
    assert torch.allclose(keyed.background[0], behind)
    assert torch.allclose(keyed.opacity[0], alpha, atol=1e-5)
    inside = alpha > 0
    assert torch.allclose(keyed.colours[0][inside], RED.expand(int(inside.sum()), 3), atol=1e-5), "the background's share is gone from the colour"
    assert torch.equal(keyed.colours[0][~inside], picture[0][~inside])


def test_without_unmixing_the_edge_keeps_the_background():
    alpha, picture = square(0.5)
    keyed = key_flat(picture, Keying(edge=0))
    assert (keyed.opacity[0][7, 7:17] == 1).all() and not torch.allclose(keyed.opacity[0], alpha)


@pytest.mark.parametrize("distance, opacity", [(0.02, 0.0), (0.04, 0.0), (0.09, 0.5), (0.14, 1.0), (0.5, 1.0)])
def test_opacity_rises_over_the_softness_above_the_tolerance(distance, opacity):
    picture = torch.full((1, 32, 32, 3), 0.25)
    picture[0, 8:24, 8:24, 1] += distance
    keyed = key_flat(picture, Keying(tolerance=0.04, softness=0.1, edge=0))
    assert keyed.opacity[0, 16, 16] == pytest.approx(opacity, abs=1e-5) and keyed.opacity[0, 0, 0] == 0


def test_two_colours_side_by_side_are_no_mixture_with_the_background():
    picture = GREEN.expand(1, 24, 24, 3).clone()
    picture[0, 6:18, 6:12], picture[0, 6:18, 12:18] = RED, torch.tensor([0.2, 0.2, 0.9])
    assert torch.equal(key_flat(picture).opacity[0, 6:18, 6:18], torch.ones(12, 12))


def test_holes_are_cleared_or_kept():
    picture = torch.ones(1, 32, 32, 3)
    picture[0, 4:28, 4:28] = RED
    picture[0, 12:20, 12:20] = 1.0
    assert key_flat(picture).opacity[0, 16, 16] == 0
    kept = key_flat(picture, Keying(holes=False)).opacity[0]
    assert kept[16, 16] == 1 and kept[0, 0] == 0 and torch.equal(kept[4:28, 4:28], torch.ones(24, 24))


def test_what_is_outside_winds_through_any_maze():
    clear = torch.zeros(1, 43, 43, dtype=torch.bool)
    clear[0, 2:41:2, 2:41] = True  # corridors, each joined to the next at one end
    for number, row in enumerate(range(3, 40, 2)):
        clear[0, row, 40 if number % 2 == 0 else 2] = True
    assert not outside(clear).any()
    clear[0, 2, :2] = True  # the way in
    assert torch.equal(outside(clear), clear)
    walled = torch.ones(1, 9, 9, dtype=torch.bool)
    walled[0, 2:7, 2:7] = False
    walled[0, 4, 4] = True
    assert not outside(walled)[0, 4, 4] and outside(walled)[0, 0, 0]


def test_an_object_that_touches_the_border_does_not_become_the_background():
    picture = torch.ones(1, 40, 40, 3)
    picture[0, 20:, 12:28] = RED
    keyed = key_flat(picture)
    assert torch.allclose(keyed.background, torch.ones(1, 3)) and keyed.opacity[0, 39, 20] == 1


@pytest.mark.parametrize("phenomenon", PHENOMENA)
def test_the_coverage_of_drawn_objects_is_found(phenomenon):
    style = sample_style(phenomenon, torch.Generator().manual_seed(7))
    truth = render_object(style, view_time_grid(2, 2), 96).rgba
    keyed = key_flat(truth[..., :3] + 1 - truth[..., 3:])
    premultiplied = keyed.colours * keyed.opacity[..., None]
    assert (keyed.opacity - truth[..., 3]).abs().mean() < 0.006
    assert (premultiplied - truth[..., :3]).abs().mean() < 0.006
    hard = (truth[..., 3] > 0).float()
    assert (keyed.opacity - truth[..., 3]).abs().mean() < 0.75 * (hard - truth[..., 3]).abs().mean(), "better than a hard mask"


def test_a_border_of_many_colours_is_refused_with_what_to_do():
    noise = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError) as refusal:
        key_flat(noise)
    line = str(refusal.value)
    assert "\n" not in line and "no flat background" in line and "Remove Background" in line and "tolerance" in line
    key_flat(noise, Keying(tolerance=1.0))  # a tolerance that takes everything for background
