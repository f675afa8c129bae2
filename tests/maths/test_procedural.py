"""Procedural 4D objects: what every one of them promises, the truth behind their pictures, and their sentences."""

import math
from dataclasses import replace

import pytest
import torch
from bloom4d.models.data import prompts
from bloom4d.models.data.objects import build_mesh, render_mesh, render_object
from bloom4d.models.data.shading import linear_to_srgb, srgb_to_linear
from bloom4d.models.data.sheet import contact_sheet
from bloom4d.models.data.styles import COLOURS, HELD_OUT_PAIRS, PHENOMENA, SPECIES, pairs, sample_style
from bloom4d.models.geometry.cameras import Cameras, orbit, view_time_grid
from bloom4d.models.geometry.meshes import TimedMesh

EVERY = [(phenomenon, species) for phenomenon in PHENOMENA for species in SPECIES[phenomenon]]


def style_of(phenomenon, seed=0, **names):
    return sample_style(phenomenon, torch.Generator().manual_seed(seed), **names)


def cameras(azimuths, times, elevation=15.0, distance=2.9):
    count = max(len(azimuths), len(times))
    azimuth, time = torch.tensor(azimuths).expand(count), torch.tensor(times).expand(count)
    pose = orbit(torch.deg2rad(azimuth), torch.full((count,), math.radians(elevation)), torch.full((count,), distance))
    return Cameras(pose, torch.full((count,), math.radians(42)), time)


def ball_radius(mesh):
    return mesh.vertices.norm(dim=-1).max().item()


@pytest.mark.parametrize("phenomenon, species", EVERY)
def test_every_object_is_finite_bounded_and_of_one_topology(phenomenon, species):
    times = torch.linspace(0, 1, 9)
    for seed in range(2):
        style = style_of(phenomenon, seed, species=species)
        mesh = build_mesh(style, times)
        for name in ("vertices", "normals", "albedo", "occlusion", "emission"):
            assert torch.isfinite(getattr(mesh, name)).all(), name
        assert 0 <= mesh.albedo.min() and mesh.albedo.max() <= 1
        assert torch.allclose(mesh.normals.norm(dim=-1), torch.ones(()), atol=1e-4)
        assert ball_radius(mesh) <= 1.0  # what the default rig frames from any side: 2.9 sin(21 degrees) = 1.039
        assert -0.9 < mesh.vertices[..., 1].min() < -0.45
        assert mesh.vertices.shape == (9, mesh.faces.max() + 1, 3) and len(mesh.faces) < 8000
        alone = build_mesh(style, times[3:4])
        assert torch.equal(alone.faces, mesh.faces) and torch.allclose(alone.vertices[0], mesh.vertices[3], atol=1e-6)
    assert ball_radius(replace(mesh, vertices=mesh.vertices * 1.4)) > 1.0


@pytest.mark.parametrize("elevation", [-5.0, 45.0])
def test_no_picture_is_cropped(elevation):
    for phenomenon, species in EVERY:
        style = style_of(phenomenon, 5, species=species)
        rgba = render_object(style, cameras([0.0, 135.0, 250.0], [0.0, 0.55, 1.0], elevation), 32).rgba
        border = torch.cat((rgba[:, 0], rgba[:, -1], rgba[:, :, 0], rgba[:, :, -1]), 1)
        assert border.max() == 0, (phenomenon, species)
        assert (rgba[..., 3].mean((1, 2)) > 0.03).all(), (phenomenon, species)
    near = render_object(style, cameras([0.0], [1.0], elevation, distance=1.4), 32).rgba
    assert near[:, :, -1].max() > 0 or near[:, -1].max() > 0


def test_objects_follow_the_seed():
    rig = cameras([20.0], [0.6])
    for phenomenon in PHENOMENA:
        first, again, other = (render_object(style_of(phenomenon, seed), rig, 24).rgba for seed in (3, 3, 4))
        assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("phenomenon, species", EVERY)
def test_each_sixth_of_the_time_and_each_quarter_turn_looks_different(phenomenon, species):
    style = style_of(phenomenon, 1, species=species)
    over_time = render_object(style, cameras([0.0], [i / 6 for i in range(7)]), 32).rgba
    step = (over_time[1:] - over_time[:-1]).abs().mean((1, 2, 3))
    assert step.min() > 0.001, step
    assert (over_time[:-1] - over_time[-1:]).abs().mean((1, 2, 3)).argmin() == 5  # the last picture but one is the nearest
    around = render_object(style, cameras([0.0, 90.0, 180.0, 270.0], [0.6]), 32).rgba
    assert (around[1:] - around[:1]).abs().mean((1, 2, 3)).min() > 0.004


def test_colour_words_stay_apart_under_light():
    """From one picture the nearest colour word is the right one."""
    names = COLOURS["candle burning"]
    rig = cameras([0.0], [0.3])
    part = {name: _middle_colour(style_of("candle burning", 0, species="pillar", colour=name, split="all"), rig) for name in names}
    for seed, name in enumerate(names):
        seen = _middle_colour(style_of("candle burning", seed + 9, species="pillar", colour=name, split="all"), rig)
        assert min(part, key=lambda other: (part[other] - seen).norm()) == name
    nearest = min((part[a] - part[b]).norm().item() for a in names for b in names if a < b)
    assert nearest > 0.22, nearest


def _middle_colour(style, rig):
    return render_object(style, rig, 32).rgba[0, 16:22, 12:20, :3].mean((0, 1))


def test_pictures_are_premultiplied_and_the_truth_is_where_they_are():
    images = render_object(style_of("flower blooming"), cameras([30.0], [0.9]), 48, truth=True)
    rgba, covered = images.rgba, images.rgba[..., 3] > 0
    assert (rgba[..., :3] <= rgba[..., 3:] + 1e-6).all() and rgba.min() >= 0 and rgba.max() <= 1
    assert rgba[..., 3][covered].max() == 1 and ((rgba[..., 3] > 0) & (rgba[..., 3] < 1)).any()
    assert torch.allclose(images.normals.norm(dim=-1)[covered], torch.ones(()), atol=1e-4)
    for name in ("depth", "albedo", "roughness"):
        assert (getattr(images, name)[~covered] == 0).all() and getattr(images, name)[covered].min() >= 0
    assert 1.9 < images.depth[covered].min() and images.depth.max() < 3.9
    assert images.flow is None and render_object(style_of("flower blooming"), cameras([0.0], [0.0]), 16).depth is None


def test_depth_is_the_distance_along_the_ray():
    plate = _plate(half=0.9)
    rig = cameras([0.0], [0.0], elevation=0.0)
    images = render_mesh(plate, torch.tensor([0]), rig, 33, truth=True)
    assert images.depth[0, 16, 16].item() == pytest.approx(2.9, abs=1e-4)
    offset = (24 - 16) / 33 * 2 * math.tan(math.radians(21))
    assert images.depth[0, 16, 24].item() == pytest.approx(2.9 * math.sqrt(1 + offset**2), abs=2e-3)
    assert torch.allclose(images.normals[0, 10:20, 10:20], torch.tensor((0.0, 0.0, 1.0)), atol=1e-5)


def _plate(half):
    corners = torch.tensor([[(-half, -half, 0.0), (half, -half, 0.0), (half, half, 0.0), (-half, half, 0.0)]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    ones = torch.ones(4)
    up = torch.tensor((0.0, 0.0, 1.0)).expand(1, 4, 3)
    return TimedMesh(corners, faces, up, torch.full((1, 4, 3), 0.5), ones, 0 * ones, ones[None], 0 * ones[None], ones.long() * 0, ("plate",))


def test_flow_of_a_plate_is_focal_length_times_motion_over_depth():
    plate, size = _plate(0.5), 40
    rig = cameras([0.0], [0.0], elevation=0.0)
    moved = plate.vertices + torch.tensor((0.11, 0.07, 0.0))
    flow = render_mesh(plate, torch.tensor([0]), rig, size, later=moved).flow[0, 15:25, 15:25]
    focal = 0.5 * size / math.tan(math.radians(21))
    expected = torch.tensor((focal * 0.11 / 2.9, -focal * 0.07 / 2.9))
    assert (flow - expected).abs().max() < 1e-4
    nearer = render_mesh(plate, torch.tensor([0]), rig, size, later=moved + torch.tensor((0.0, 0.0, 0.5))).flow[0, 15:25, 15:25]
    assert (nearer - expected).abs().max() > 0.2


def test_flow_to_the_same_time_is_zero_and_to_another_is_not():
    style, rig = style_of("candle burning"), cameras([0.0], [0.2])
    still = render_object(style, rig, 32, flow_times=torch.tensor([0.2])).flow
    assert still.abs().max() < 1e-4
    assert render_object(style, rig, 32, flow_times=torch.tensor([0.9])).flow.abs().max() > 3


def test_large_pictures_in_parts_equal_one_batch(monkeypatch):
    from bloom4d.models.data import objects

    style, rig = style_of("bread baking"), view_time_grid(2, 2)
    whole = render_object(style, rig, 20, truth=True)
    monkeypatch.setattr(objects, "SAMPLES_AT_ONCE", 1)
    parts = render_object(style, rig, 20, truth=True)
    assert (whole.rgba - parts.rgba).abs().mean() < 1e-4 and parts.depth.shape == (4, 20, 20) and parts.flow is None


def test_srgb_curve_is_the_standard_and_invertible():
    values = torch.linspace(0, 1, 101)
    assert torch.allclose(linear_to_srgb(srgb_to_linear(values)), values, atol=1e-5)
    assert srgb_to_linear(torch.tensor(0.5)).item() == pytest.approx(0.2140, abs=1e-4)  # IEC 61966-2-1


def test_held_out_pairs_are_only_drawn_on_request():
    generator = torch.Generator().manual_seed(0)
    for phenomenon in PHENOMENA:
        held_out = set(HELD_OUT_PAIRS[phenomenon])
        assert held_out and held_out <= set(pairs(phenomenon, "all"))
        drawn = {split: [sample_style(phenomenon, generator, split=split) for _ in range(120)] for split in ("train", "held_out", "all")}
        seen = {split: {(style.species, style.colour) for style in styles} for split, styles in drawn.items()}
        assert not seen["train"] & held_out and seen["held_out"] == held_out
        assert {species for species, _ in seen["train"]} == set(SPECIES[phenomenon])
        assert {colour for _, colour in pairs(phenomenon)} == set(COLOURS[phenomenon])
    assert (seen["all"] & held_out) and (seen["all"] - held_out)  # what a leak would look like


def test_unknown_names_are_refused_with_the_choices():
    with pytest.raises(ValueError, match="choose one of flower blooming"):
        style_of("volcano erupting")
    with pytest.raises(ValueError, match="species are loaf, round"):
        style_of("bread baking", species="rose")
    species, colour = HELD_OUT_PAIRS["bread baking"][0]
    with pytest.raises(ValueError, match="split 'train'"):
        style_of("bread baking", species=species, colour=colour)


def sentences(split, count=60, **view):
    generator = torch.Generator().manual_seed(7)
    return {
        phenomenon: [prompts.prompt(sample_style(phenomenon, generator), generator=generator, split=split, **view) for _ in range(count)]
        for phenomenon in PHENOMENA
    }


def test_held_out_sentences_never_appear_in_training():
    train, held_out = sentences("train", 250), sentences("held_out")
    assert not set(prompts.TEMPLATES) & set(prompts.HELD_OUT_TEMPLATES)
    for phenomenon in PHENOMENA:
        assert not set(prompts.WORDS[phenomenon].verbs) & set(prompts.WORDS[phenomenon].held_out_verbs)
        assert not set(train[phenomenon]) & set(held_out[phenomenon])
        assert set(train[phenomenon]) & set(sentences("train", 250)[phenomenon])  # the comparison can find a leak
        assert len(set(train[phenomenon])) > 100


def test_sentences_name_their_phenomenon_and_nothing_else_does():
    for split in ("train", "held_out"):
        for phenomenon, texts in sentences(split, time=0.5, azimuth=1.0, elevation=0.2).items():
            assert [text for text in texts if prompts.parse_phenomenon(text) != phenomenon] == []
    for phenomenon in PHENOMENA:
        assert prompts.parse_phenomenon(prompts.default_prompt(phenomenon)) == phenomenon
    for text in ("", "a corgi running", "a volcano erupting at night"):
        assert prompts.parse_phenomenon(text) is None


def test_stage_and_view_words_appear_only_when_given():
    style = style_of("flower blooming", species="rose", colour="red")
    assert prompts.prompt(style) == "a red rose blooming"
    generator = torch.Generator().manual_seed(0)
    stages = prompts.WORDS["flower blooming"].stages
    for time, words in ((0.0, stages[0]), (0.5, stages[2]), (1.0, stages[4])):
        text = prompts.prompt(style, time=time, generator=generator)
        assert any(word in text for word in words)
    assert "left" in prompts.prompt(style, azimuth=-math.pi / 4, generator=generator)
    assert not any(" left" in text or "bud" in text for text in sentences("train")["flower blooming"])
    again = [prompts.prompt(style, 0.3, 1.0, 0.2, torch.Generator().manual_seed(5)) for _ in range(2)]
    assert again[0] == again[1]


def test_contact_sheet_has_a_row_per_phenomenon():
    sheet = contact_sheet(size=16, times=3, seed=0)
    assert sheet.shape == (16 * len(PHENOMENA), 16 * 7, 3) and 0 <= sheet.min() and sheet.max() <= 1
    assert (sheet < 0.9).view(len(PHENOMENA), 16, 7, 16, 3).any(-1).any(3).any(1).all()
