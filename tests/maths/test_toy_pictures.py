"""Pictures of toys agree with the toys: flow leads to the next picture, depth and parts are those of the nearest Gaussian."""

import math

import pytest
import torch
from torch.nn import functional

from bloom4d.models.data.toy_motion import KINDS, Toy
from bloom4d.models.data.toy_pictures import render_toy, toy_cameras
from bloom4d.models.geometry.cameras import Cameras, spherical

SIZE = 64
MOVING = [kind for kind in KINDS if kind not in ("static", "appear", "recolour")]


def pair(kind, **options):
    """Pictures of a toy at eight times from two sides, and the same a sixtieth of a cycle later."""
    toy, cameras = Toy(kind, seed=3, **options), toy_cameras(2, 8)
    later = cameras.times + 1 / 60
    return render_toy(toy, cameras, SIZE, later), render_toy(toy, Cameras(cameras.camera_to_world, cameras.fov_y, later), SIZE, later)


def sampled(pictures, flow, mode="bilinear"):
    """`pictures` (M, H, W, C) at each pixel's place plus `flow`."""
    centre = torch.arange(SIZE) + 0.5
    place = torch.stack(torch.meshgrid(centre, centre, indexing="xy"), -1) + flow
    return functional.grid_sample(pictures.movedim(-1, 1), place / SIZE * 2 - 1, mode=mode, align_corners=False).movedim(1, -1)


def away_from_edges(now, then):
    """Pixels two pixels inside of one part that the flow leads to the same part."""
    parts = now.parts[:, None].float()
    alike = -functional.max_pool2d(-parts, 5, 1, 2) == functional.max_pool2d(parts, 5, 1, 2)
    target = sampled(then.parts[..., None].float(), now.flow, "nearest")[..., 0]
    return alike[:, 0] & (now.parts >= 0) & (target == now.parts)


@pytest.mark.parametrize("kind", MOVING)
def test_flow_warps_the_next_picture_onto_this_one(kind):
    now, then = pair(kind)
    inside = away_from_edges(now, then)
    assert inside.sum() > 1000
    error = (sampled(then.rgb, now.flow) - now.rgb).abs()[inside].mean()
    wrong = (sampled(then.rgb, -now.flow) - now.rgb).abs()[inside].mean()  # negative control
    assert error < 0.02 and wrong > 1.7 * error


@pytest.mark.parametrize("kind", ["static", "appear", "recolour"])
def test_what_does_not_move_has_no_flow(kind):
    assert pair(kind)[0].flow.abs().max() == 0


def test_one_part_is_seen_where_and_as_far_away_as_it_is():
    toy, cameras = Toy("translate", seed=4, parts=1), toy_cameras(4, 3)
    drawn = render_toy(toy, cameras, SIZE, cameras.times + 0.1)
    now = toy.gaussians(cameras.times).positions[:, 0]  # (M, 3)
    local = ((now - cameras.camera_to_world[:, :3, 3])[:, None] @ cameras.camera_to_world[:, :3, :3])[:, 0]
    focal = 0.5 * SIZE / torch.tan(0.5 * cameras.fov_y)
    centre = torch.stack((SIZE / 2 - local[:, 0] / local[:, 2] * focal, SIZE / 2 + local[:, 1] / local[:, 2] * focal), -1)
    grid = torch.arange(SIZE) + 0.5
    x, y = ((drawn.alpha * grid).sum((1, 2)), (drawn.alpha * grid[:, None]).sum((1, 2)))
    mean = torch.stack((x, y), -1) / drawn.alpha.sum((1, 2))[:, None]
    assert (mean - centre).abs().max() < 0.15
    seen = drawn.alpha > 0.5
    assert all((depth[where] + z).abs().max() < 1e-4 for depth, where, z in zip(drawn.depth, seen, local[:, 2]))
    assert (drawn.parts[seen] == 0).all() and (drawn.parts[drawn.alpha == 0] == -1).all() and not drawn.depth[drawn.alpha == 0].any()


def test_the_map_of_parts_does_not_depend_on_how_many_are_looked_at_together(monkeypatch):
    from bloom4d.models.data import toy_pictures

    toy, cameras = Toy("walk", seed=1), toy_cameras(1, 2)
    whole = render_toy(toy, cameras, SIZE, cameras.times).parts
    monkeypatch.setattr(toy_pictures, "PARTS_AT_ONCE", 7)
    assert torch.equal(render_toy(toy, cameras, SIZE, cameras.times).parts, whole) and whole.unique().numel() > 12


def test_colours_of_a_part_are_those_of_its_pixels():
    toy, cameras = Toy("static", seed=2, parts=8), toy_cameras(1, 1)
    drawn, body = render_toy(toy, cameras, 128, cameras.times), toy.body()
    sure = drawn.alpha > 0.97
    shown = drawn.rgb[sure] / drawn.alpha[sure][:, None]
    own = (shown - body.colours[drawn.parts[sure]]).abs().mean()
    others = (shown - body.colours[(drawn.parts[sure] + 1) % 8]).abs().mean()
    assert sure.sum() > 50 and own < 0.12 < others


def test_held_out_cameras_stand_between_and_elevations_are_rings():
    seen, held_out = (toy_cameras(4, 3, (0.0, 30.0), held_out) for held_out in (False, True))
    assert len(seen) == seen.frames == 24 and seen.times.tolist() == pytest.approx([0.0] * 8 + [0.5] * 8 + [1.0] * 8)
    azimuth, elevation, _ = spherical(seen.camera_to_world)
    other, _, _ = spherical(held_out.camera_to_world)
    assert torch.allclose(torch.remainder(other - azimuth, 2 * math.pi), torch.tensor(math.pi / 4), atol=1e-5)
    assert torch.allclose(elevation.view(3, 2, 4)[:, 1], torch.tensor(math.pi / 6), atol=1e-5) and elevation.view(3, 2, 4)[:, 0].abs().max() < 1e-5
    close, _, _ = spherical(toy_cameras(8, 1, held_out=True).camera_to_world)
    assert close[0].item() == pytest.approx(math.pi / 8, abs=1e-5)  # 45 degrees would be the next camera
