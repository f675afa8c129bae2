"""Scores of a sequence of pictures: closed forms, what each of them must refuse, and what is left out with a reason."""

import math

import judging
import pytest
import torch
from torch import Generator
from torch.nn import functional

from bloom4d.models.data.styles import sample_style
from bloom4d.models.geometry.cameras import CameraPath, view_time_grid
from bloom4d.models.metrics import similarity
from bloom4d.models.metrics.motion import scrambled
from bloom4d.models.metrics.scores import MEANINGS, best_of
from bloom4d.models.metrics.sequence_scores import Judges, measure
from bloom4d.models.metrics.sequences import sequence, without_background

TIMES, VIEWS, SIZE = 5, 4, 64


def flat(*levels, size=16):
    """Grey pictures (N, size, size, 3)."""
    return torch.tensor(levels).view(-1, 1, 1, 1).expand(-1, size, size, 3).clone()


def scores(images, mask=None, **given):
    return measure("one", sequence(images, mask, **given)).values


# closed forms


def test_stripes_have_a_laplacian_of_two():
    stripes = (torch.arange(16) % 2).float().view(1, 1, 16, 1).expand(2, 16, 16, 3).clone()
    assert scores(stripes)["absolute sharpness"] == pytest.approx(2.0)
    blurred = functional.avg_pool2d(stripes.movedim(-1, 1), 3, 1, 1).movedim(1, -1)
    assert scores(blurred)["absolute sharpness"] < 1.0
    assert scores(flat(0.5, 0.5))["absolute sharpness"] == 0.0


def test_motion_and_flicker_of_known_brightness():
    assert scores(flat(0.1, 0.2, 0.3, 0.4))["absolute motion"] == pytest.approx(0.1)
    assert scores(flat(0.1, 0.2, 0.3, 0.4))["absolute flicker"] == pytest.approx(0.0, abs=1e-6), "an even change is no flicker"
    assert scores(flat(0.1, 0.3, 0.1, 0.3))["absolute flicker"] == pytest.approx(0.4)
    assert scores(flat(0.3, 0.3, 0.3))["absolute motion"] == 0.0, "frozen"


def test_time_is_the_slowest_axis():
    by_time = flat(0.1, 0.5, 0.2, 0.6)  # two views, each brighter by a tenth at the second time
    assert scores(by_time, views=2)["absolute motion"] == pytest.approx(0.1)


def test_psnr_and_ssim_of_flat_pictures():
    one, other = flat(0.5, 0.5).movedim(-1, 1), flat(0.6, 0.6).movedim(-1, 1)
    assert similarity.psnr(one, other) == pytest.approx(20.0, abs=1e-4)
    assert similarity.psnr(one, one) == 100.0
    assert similarity.ssim(one, other) == pytest.approx((2 * 0.5 * 0.6 + 1e-4) / (0.5**2 + 0.6**2 + 1e-4), abs=1e-4), "only the luminance term differs"
    assert similarity.ssim(one, one) == pytest.approx(1.0)
    assert similarity.ssim(one[..., :8, :8], one[..., :8, :8]) is None


def test_any_one_background_is_taken_away_exactly():
    alpha = torch.rand(3, 8, 8, generator=Generator().manual_seed(0))
    alpha = torch.where(alpha < 0.2, 0.0, alpha)
    premultiplied = torch.rand(3, 8, 8, 3, generator=Generator().manual_seed(1)) * alpha[..., None]
    for behind, name in ((torch.tensor([1.0, 1.0, 1.0]), "white"), (torch.zeros(3), "black"), (torch.tensor([1.0, 0.5, 0.0]), "#ff8000")):
        found, word = without_background(premultiplied + (1 - alpha[..., None]) * behind, alpha)
        assert torch.allclose(found, premultiplied, atol=1e-6) and word == name
    several = premultiplied + (1 - alpha[..., None]) * torch.rand(3, 8, 8, 3, generator=Generator().manual_seed(2))
    assert without_background(several, alpha)[1] == "a background of several colours"


def test_rgba_pictures_bring_their_own_mask():
    rgba = torch.cat([flat(0.2, 0.2), torch.full((2, 16, 16, 1), 0.5)], -1)
    seen = sequence(rgba)
    assert seen.masked and seen.pictures[0, 0, :, 0, 0].tolist() == pytest.approx([0.1, 0.1, 0.1, 0.5])
    assert seen.shown[0, :, 0, 0].tolist() == pytest.approx([0.6] * 3)


# a real object and four ways to ruin it


def real(seed=1, phenomenon="candle burning", species="pillar", colour="purple"):
    style = sample_style(phenomenon, Generator().manual_seed(seed), species, colour, "all")
    cameras = view_time_grid(VIEWS, TIMES)
    rgba = judging.pictures(style, cameras, SIZE)  # (N, 4, H, W)
    return rgba, cameras


def given(rgba, cameras):
    """As nodes hand it over: colours over white, and a mask."""
    over = rgba[:, :3] + 1 - rgba[:, 3:]
    return sequence(over.movedim(1, -1), rgba[:, 3], 0, cameras)


@pytest.fixture(scope="module")
def judges():
    return Judges(named=judging.recogniser_name(judging.named("a purple pillar candle burning")), recogniser=judging.recogniser())


@pytest.fixture(scope="module")
def measured(judges):
    """Name of what was done to a real object -> its scores against another one of its name."""
    rgba, cameras = real()
    reference = given(*real(seed=2))
    grid = rgba.unflatten(0, (TIMES, VIEWS))
    soft = functional.avg_pool2d(functional.pad(rgba, (2, 2, 2, 2)), 5, 1)
    done = {
        "real": rgba, "itself": None, "blurred": soft, "frozen": grid[:1].expand_as(grid).flatten(0, 1), "shuffled": grid[scrambled(TIMES)].flatten(0, 1),
        "hazy": rgba + (1 - rgba[:, 3:]) * 0.05, "other": real(phenomenon="bread baking", species="loaf", colour="golden")[0],
    }  # fmt: skip
    found = {name: measure(name, reference if pictures is None else given(pictures, cameras), reference, judges) for name, pictures in done.items()}
    return {name: one.values for name, one in found.items()}


def test_an_object_against_itself_is_perfect(measured):
    perfect = {"PSNR": 100.0, "SSIM": 1.0, "sharpness": 1.0, "inner sharpness": 1.0, "motion": 1.0, "background error": 0.0, "flicker": 0.0, "extra faces": 0.0}
    assert {name: measured["itself"][name] for name in perfect} == pytest.approx(perfect, abs=1e-5)


@pytest.mark.parametrize(("ruin", "names"), [
    ("blurred", ("absolute sharpness", "sharpness", "inner sharpness", "SSIM", "background error")),
    ("frozen", ("motion", "time correlation")),
    ("shuffled", ("motion", "time correlation", "absolute flicker", "PSNR")),
    ("hazy", ("haze", "background error")),
    ("other", ("phenomenon", "species", "colour", "PSNR", "SSIM", "background error")),
])
def test_a_ruin_scores_worse_than_the_real_object(measured, ruin, names):
    for name in names:
        assert best_of(name, [measured["real"][name], measured[ruin][name]]) == {0}, (name, measured["real"][name], measured[ruin][name])


def test_a_frozen_object_does_not_move(measured):
    assert measured["frozen"]["absolute motion"] == 0.0 < measured["real"]["absolute motion"]


def test_a_face_on_every_side_scores_worse():
    rose, cameras = real(phenomenon="flower withering", species="rose", colour="red")
    front = rose.unflatten(0, (TIMES, VIEWS))[:, :1].expand(-1, VIEWS, -1, -1, -1).flatten(0, 1)
    reference = given(rose, cameras)
    good, bad = (measure("", given(pictures, cameras), reference).values for pictures in (rose, front))
    for name in ("multi-face", "extra faces", "opposite views", "hull"):
        assert best_of(name, [good[name], bad[name]]) == {0}, (name, good[name], bad[name])


def test_every_score_has_a_meaning(measured):
    assert set(measured["real"]) == set(MEANINGS) - {"CLIP", "LPIPS"}
    assert not [name for name, value in measured["real"].items() if math.isnan(value)] or set(measured["real"]) >= {"opposite views"}


def test_judges_see_what_they_should():
    asked = {}
    judges = Judges(text=lambda frames: asked.setdefault("text", frames).mean().item(), perceptual=lambda one, other: asked.setdefault("pair", (one, other)) and 0.25, notes=("by hand",))
    images, mask = flat(0.0, 0.0), torch.zeros(2, 16, 16)  # nothing, over black
    found = measure("", sequence(images, mask), sequence(flat(1.0, 1.0), mask), judges)
    assert found.values["CLIP"] == 0.0 and found.values["LPIPS"] == 0.25 and "by hand" in found.notes
    assert asked["text"].max() == 0, "CLIP sees the background as rendered"
    assert asked["pair"][0].min() == asked["pair"][1].min() == 1, "comparisons are over white"


# what is left out, with a reason


def test_without_a_mask_silhouettes_are_not_guessed():
    found = measure("", sequence(flat(0.1, 0.2, 0.4), None), sequence(flat(0.1, 0.2, 0.3), None))
    assert set(found.values) == {"PSNR", "SSIM", "sharpness", "motion", "absolute sharpness", "absolute motion", "absolute flicker"}
    assert any("without a mask" in note for note in found.notes) and any("both have a mask" in note for note in found.notes)
    assert math.isnan(found.values["sharpness"]), "flat pictures have no sharpness to compare with"


def test_views_of_one_instant_have_no_motion():
    rgba, cameras = real()
    one = given(rgba[:VIEWS], cameras.select(slice(0, VIEWS)))
    found = measure("", one, one)
    assert one.pictures.shape[:2] == (1, VIEWS) and "hull" in found.values and not {"motion", "absolute motion", "absolute flicker"} & set(found.values)


def test_a_moving_camera_is_noted():
    path = CameraPath(frames=4).cameras()
    found = measure("", sequence(flat(0.1, 0.2, 0.3, 0.4), torch.ones(4, 16, 16), 0, path))
    assert any("camera moves" in note for note in found.notes) and "hull" not in found.values


def test_a_ring_is_read_off_the_cameras():
    images, mask = flat(*[0.2] * 8), torch.ones(8, 16, 16)
    three_quarters = CameraPath(frames=8, turns=0.75, times=(0.0, 0.0)).cameras()
    assert "multi-face" not in scores(images, mask, cameras=three_quarters)
    assert "multi-face" in scores(images, mask, cameras=CameraPath(frames=8, times=(0.0, 0.0)).cameras())
    assert "multi-face" in scores(images, mask, views=4) and "multi-face" not in scores(flat(*[0.2] * 6), torch.ones(6, 16, 16), views=3)


# what is refused


@pytest.mark.parametrize(("make", "message"), [
    (lambda: sequence(torch.zeros(0, 8, 8, 3)), "The images are empty"),
    (lambda: sequence(flat(0.1)), "are a single picture"),
    (lambda: sequence(flat(*[0.1] * 7), views=4), "7 images do not divide by 4 views"),
    (lambda: sequence(flat(0.1, 0.2), torch.ones(1, 16, 16)), "mask of the images is 1 of 16 x 16 and the images are 2 of 16 x 16"),
    (lambda: sequence(flat(0.1, 0.2), torch.ones(2, 8, 16), name="reference"), "mask of the reference is 2 of 16 x 8"),
    (lambda: sequence(flat(0.1, 0.2), cameras=view_time_grid(2, 2)), "2 images and 4 cameras"),
    (lambda: sequence(flat(*[0.1] * 4), views=4, cameras=view_time_grid(2, 2)), "do not show 4 views of each time.*Set views to 2"),
    (lambda: measure("", sequence(flat(0.1, 0.2)), sequence(flat(0.1, 0.2, 0.3))), "images are 2 of 16 x 16 and the reference is 3 of 16 x 16"),
    (lambda: measure("", sequence(flat(0.1, 0.2)), sequence(flat(0.1, 0.2, size=8))), "the reference is 2 of 8 x 8"),
])
def test_what_does_not_fit_is_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as refusal:
        make()
    assert "\n" not in str(refusal.value)
