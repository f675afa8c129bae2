"""What Zero123 is told of a view and of its reference picture (B9 of the specification)."""

import math

import pytest
import torch

from bloom4d.models.geometry.cameras import orbit
from bloom4d.models.networks.zero123 import Framing, Reference, view_code


def camera(elevation, azimuth, distance=3.8):
    """A pose (1, 4, 4) from degrees."""
    e, a = (torch.tensor([math.radians(angle)], dtype=torch.float64) for angle in (elevation, azimuth))
    return orbit(a, e, torch.tensor([distance], dtype=torch.float64))


def code(elevation, azimuth, distance=3.8, reference=Reference(), stable=False):
    return view_code(camera(elevation, azimuth, distance), reference, stable)[0]


@pytest.mark.parametrize("pose", [(0.0, 0.0, 3.8), (20.0, -70.0, 2.5), (-35.0, 179.0, 1.0)])
def test_the_reference_pose_is_0_0_1_0(pose):
    found = code(*pose, reference=Reference(*pose))
    assert torch.allclose(found, torch.tensor([0.0, 0.0, 1.0, 0.0], dtype=torch.float64), atol=1e-12)
    assert torch.allclose(Reference(*pose).code(False), found[None].float(), atol=1e-6)


def test_a_whole_turn_changes_nothing():
    reference = Reference(10.0, 30.0, 3.0)
    assert torch.allclose(code(5, 200, reference=reference), code(5, 560, reference=reference), atol=1e-12)
    turned = Reference(10.0, 390.0, 3.0)
    assert torch.allclose(code(5, 200, reference=reference), code(5, 200, reference=turned), atol=1e-12)
    assert not torch.allclose(code(5, 200, reference=reference), code(5, 380, reference=reference)), "control: half a turn does"


def test_signs():
    """From above the first number is negative; towards +X (growing azimuth) the sine is positive; farther away the last is."""
    assert code(30, 0)[0] == pytest.approx(-math.radians(30)) and code(-30, 0)[0] == pytest.approx(math.radians(30))
    assert code(0, 90)[1:3].tolist() == pytest.approx([1, 0], abs=1e-12) and code(0, -90)[1].item() == pytest.approx(-1)
    to_the_right = torch.eye(4, dtype=torch.float64)[None].clone()
    to_the_right[0, :3, 3] = torch.tensor([2.0, 0.0, 2.0])  # between the front (+Z) and +X, in our world
    assert view_code(to_the_right, Reference(), False)[0, 1:3].tolist() == pytest.approx([math.sqrt(0.5)] * 2)
    assert code(0, 0, 4.8)[3].item() == pytest.approx(1.0) and code(0, 0, 2.8)[3].item() == pytest.approx(-1.0)


@pytest.mark.parametrize("elevation", [0.0, 25.0, -10.0])
def test_the_last_number_of_stable_zero123_is_the_references_polar_angle(elevation):
    reference = Reference(elevation, 40.0, 3.0)
    for pose in ((0, 0, 2.0), (60, 170, 5.0)):
        stable, plain = code(*pose, reference=reference, stable=True), code(*pose, reference=reference)
        assert stable[3].item() == pytest.approx(math.radians(90 - elevation))
        assert torch.equal(stable[:3], plain[:3])
    assert Reference(elevation).code(True)[0].tolist() == pytest.approx([0, 0, 1, math.radians(90 - elevation)])


def disc(height=60, width=40, channels=3, background=1.0):
    """A red disc in the middle of a picture (H, W, C), and its mask."""
    rows, columns = torch.meshgrid(torch.arange(height) - height / 2 + 0.5, torch.arange(width) - width / 2 + 0.5, indexing="ij")
    mask = ((rows**2 + columns**2) < 12**2).float()
    picture = torch.full((height, width, channels), background)
    picture[..., :3] = torch.where(mask[..., None] > 0, torch.tensor([1.0, 0.0, 0.0]), picture[..., :3])
    return picture, mask


def test_the_reference_is_put_on_white_and_padded_to_a_square():
    dark, mask = disc(background=0.2)
    light, _ = disc(background=1.0)
    framed = Framing().composite(dark, mask)
    assert framed.shape == (256, 256, 3)
    assert torch.allclose(framed, Framing().composite(light, None), atol=0.02), "the same disc on white needs no mask"
    assert torch.allclose(framed[:, [0, -1]], torch.ones(256, 2, 3)), "the shorter sides are padded"
    assert framed[128, 128].tolist() == pytest.approx([1, 0, 0], abs=1e-3)
    rgba = torch.cat([dark, mask[..., None]], dim=-1)
    assert torch.allclose(Framing().composite(rgba, None), framed)
    inside = (framed[..., 1] < 0.5).float().mean() * 60 * 60  # pixels of a square of 60
    assert inside.item() == pytest.approx(math.pi * 12**2, rel=0.05), "nothing is stretched"


def test_pictures_that_zero123_would_misread_are_refused_in_one_line():
    dark, mask = disc(background=0.2)
    for picture, given, says in ((dark, None, "no mask and no alpha, and its border is no white background \\(mean 0.20"), (dark, torch.zeros(60, 40), "is empty"), (dark, 1 - mask, "looks inverted.*Invert Mask")):
        with pytest.raises(ValueError, match=says) as failure:
            Framing().composite(picture, given)
        assert "\n" not in str(failure.value)
