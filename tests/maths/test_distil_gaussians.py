"""Filming fields and meshes, first clouds on their surfaces, and fitting them."""

import math

import pytest
import torch
from bloom4d.models.data.objects import build_mesh
from bloom4d.models.data.styles import sample_style
from bloom4d.models.geometry.cameras import spherical, view_time_grid
from bloom4d.models.optimize.construct_report import match
from bloom4d.models.optimize.distil_gaussians import bytes_needed, construction, moving_cloud, result
from bloom4d.models.optimize.film import Filming, cloud_of_field, film_field
from bloom4d.models.optimize.footage import coverage
from bloom4d.models.optimize.mesh_film import at_times_of, cloud_of_meshes, film_meshes, fixed_topology, in_unit_ball, surfaces
from bloom4d.models.gaussians.riding import RidingGaussians
from bloom4d.models.render.occupancy import OccupancyConfig
from bloom4d.models.render.volume import VolumeRenderer, VolumeRendererConfig
from toy_scenes import ball_pictures

SMALL = Filming(views=4, times=3, size=32)


class Ball(torch.nn.Module):
    """A field of closed form: the ball of `toy_scenes.ball_pictures`, which grows from .3 to .6, red above and blue below."""

    kind = "ball"

    def __init__(self, density: float = 80.0):
        super().__init__()
        self.strength = torch.nn.Parameter(torch.tensor(density))

    def radius(self, times):
        return 0.3 + 0.3 * times

    def density(self, positions, times):
        return self.strength * (positions.norm(dim=-1) < self.radius(times))

    def forward(self, positions, times):
        above = (positions[:, 1:2] > 0).to(positions)
        return self.density(positions, times), above * positions.new_tensor([0.9, 0.1, 0.1]) + (1 - above) * positions.new_tensor([0.1, 0.2, 0.9])

    def roles(self):
        return {"static": [self.strength]}

    def is_static(self):
        return False

    def background(self, directions):
        return None


def renderer():
    return VolumeRenderer(VolumeRendererConfig(samples=64, bounds="ball", occupancy=OccupancyConfig(resolution=16, slabs=3, times_per_slab=4, warmup=1)))


def procedural(times=3):
    style = sample_style("candle burning", torch.Generator().manual_seed(0), None, None, split="all")
    mesh = build_mesh(style, torch.arange(times) / max(times - 1, 1))
    return {"vertices": mesh.vertices, "faces": mesh.faces[None].repeat(times, 1, 1), "vertex_colors": mesh.albedo.square()}


def test_a_film_sees_every_time_from_its_own_sides():
    film = Filming(views=5, times=4)
    cameras = film.cameras()
    assert len(cameras) == 20 and torch.allclose(cameras.times, torch.tensor([0.0, 1 / 3, 2 / 3, 1.0]).repeat_interleave(5))
    azimuth, elevation, distance = spherical(cameras.camera_to_world)
    assert len(azimuth.mul(1000).round().unique()) == 20
    assert math.degrees(elevation.min()) >= -20.001 and math.degrees(elevation.max()) <= 60.001 and torch.allclose(distance, torch.tensor(2.9))
    held = film.held_out()
    assert torch.allclose(held.times.unique(), torch.tensor([1 / 6, 0.5, 5 / 6]))
    nearest = (held.camera_to_world[:, None, :3, 3] - cameras.camera_to_world[None, :, :3, 3]).norm(dim=-1).amin()
    assert nearest > 0.05, "nothing is checked from where it was learned"
    assert not coverage([film_of_ball()]).ill_posed
    with pytest.raises(ValueError, match="elevations go from 30 to 10"):
        Filming(low=30.0, high=10.0)


def film_of_ball(cameras=None):
    cameras = cameras or SMALL.cameras()
    return film_field("film", Ball(), renderer(), cameras, 32)


def test_the_film_of_a_field_is_the_field():
    footage = film_of_ball()
    truth = ball_pictures(footage.cameras, 32).movedim(1, -1)
    assert (footage.alpha - truth[..., 3]).abs().mean() < 0.02 and (footage.rgb - truth[..., :3]).abs().mean() < 0.02
    with pytest.raises(ValueError, match=r"^The field is empty: in none of 12 pictures .*\(at most 0.0\d\)"):
        film_field("film", Ball(0.02), renderer(), SMALL.cameras(), 32)


def test_the_first_cloud_lies_on_the_surface_at_the_largest_time_in_its_colours():
    raw = cloud_of_field(Ball(), torch.tensor([0.0, 0.5, 1.0]), 500, 2, torch.Generator().manual_seed(0))
    radius = raw["positions"].norm(dim=-1)
    assert radius.max() < 0.65 and (radius > 0.5).float().mean() > 0.7 and raw["details"].shape == (500, 8, 3)
    above = raw["positions"][:, 1] > 0.05
    red = 0.5 + 0.28209479 * raw["colours"][above, 0, 0]
    assert torch.allclose(red, torch.full_like(red, 0.9), atol=1e-4)
    with pytest.raises(ValueError, match="nearly zero everywhere"):
        cloud_of_field(Ball(0.0), torch.tensor([0.0, 1.0]), 10, 0, torch.Generator())


def test_few_steps_fit_a_growing_ball_between_its_times_and_standing_still_does_not():
    """The control: the same cloud, steps and film, and no deformation."""
    found = {}
    for name in ("moving", "still"):
        draws = torch.Generator().manual_seed(1)
        raw = cloud_of_field(Ball(), torch.arange(3) / 2, 400, 0, draws)
        gaussians = moving_cloud(raw, 0, 3 if name == "moving" else 1, draws)
        film, held = film_of_ball(), film_of_ball(SMALL.held_out())
        job = construction(gaussians, film, 120, 0)
        before = float(match(job.gaussians, held).decibels.mean())
        while job.step < job.steps:
            job.advance()
        found[name] = result(job, film, held)
        if name == "moving":
            assert float(found[name].held_out.decibels.mean()) > before + 4
    moving, still = (float(found[name].held_out.decibels.mean()) for name in ("moving", "still"))
    assert moving > 22 and moving > still + 4, (moving, still)
    report = found["moving"].report(16)
    assert report.startswith(f"PSNR {moving:.2f} dB over white, on 6 pictures that were never looked at") and "400 Gaussians at 16 times, 120 steps" in report


def test_a_mesh_is_filmed_where_it_is_and_colours_are_srgb():
    parts = surfaces(procedural())
    assert fixed_topology(parts)
    cameras = view_time_grid(2, 3)
    film = film_meshes("film", parts, cameras, 48, 0.0)
    from bloom4d.models.data.objects import render_object

    style = sample_style("candle burning", torch.Generator().manual_seed(0), None, None, split="all")
    truth = render_object(style, cameras, 48).rgba[..., 3]
    assert (film.alpha - truth).abs().mean() < 0.01
    plain = {**procedural(), "vertex_colors": torch.full((3, procedural()["vertices"].shape[1], 3), 0.2140)}
    grey = film_meshes("film", surfaces(plain), cameras, 48, 0.0)
    inside = grey.alpha > 0.999
    assert torch.allclose(grey.rgb[inside], torch.tensor(0.5), atol=2e-3)
    dimmed = film_meshes("film", surfaces(plain), cameras, 48, 1.0)
    assert dimmed.rgb[inside].max() <= 0.5 and dimmed.rgb[inside].std() > 0.02, "light shows the shape"


def test_textures_are_read_where_their_places_say():
    square = {"vertices": torch.tensor([[[-0.5, -0.5, 0.0], [0.5, -0.5, 0.0], [0.5, 0.5, 0.0], [-0.5, 0.5, 0.0]]]), "faces": torch.tensor([[[0, 1, 2], [0, 2, 3]]]),
              "uvs": torch.tensor([[[0.0, 1.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]]]), "texture": torch.zeros(1, 8, 8, 3)}  # fmt: skip
    square["texture"][0, :4, :4, 0] = 1.0  # red at the upper left
    part, = surfaces(square)
    film = film_meshes("film", [part], view_time_grid(1, 1, elevation_degrees=0.0), 64, 0.0)
    red = film.rgb[0, ..., 0] > 0.5
    rows, columns = red.nonzero().unbind(1)
    assert len(rows) > 50 and rows.max() < 33 and columns.max() < 33
    raw, _ = cloud_of_meshes([part], 200, 0.0, 0, torch.Generator().manual_seed(0))
    shown = 0.5 + 0.28209479 * raw["colours"][:, 0, 0]
    left_above = (raw["positions"][:, 0] < -0.07) & (raw["positions"][:, 1] > 0.07)
    right = raw["positions"][:, 0] > 0.07
    assert shown[left_above].min() > 0.9 and shown[right].max() < 0.1


def test_points_cover_the_surface_by_area():
    parts = surfaces(procedural())
    raw, tracks = cloud_of_meshes(parts, 300, 0.0, 1, torch.Generator().manual_seed(0))
    assert tracks.anchors.shape == (3, 300, 3) and raw["details"].shape == (300, 3, 3)
    nearest = torch.cdist(tracks.anchors[1], parts[1].vertices).amin(1)
    assert nearest.max() < 0.2
    # a large and a small square, side by side: nine tenths of the area are one of them
    two = {"vertices": torch.tensor([[[0.0, 0, 0], [0.3, 0, 0], [0.3, 0.3, 0], [0, 0.3, 0], [-0.1, 0, 0], [0, 0, 0], [0, 0.1, 0], [-0.1, 0.1, 0]]]),
           "faces": torch.tensor([[[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]]])}  # fmt: skip
    raw, _ = cloud_of_meshes(surfaces(two), 2000, 0.0, 0, torch.Generator().manual_seed(0))
    assert abs(float((raw["positions"][:, 0] > 0).float().mean()) - 0.9) < 0.03


def test_meshes_beyond_the_unit_ball_are_brought_into_it():
    parts, centre, radius = in_unit_ball(surfaces(procedural()))
    assert radius == 1.0
    large = procedural()
    large["vertices"] = 3.0 * large["vertices"] + torch.tensor([0.0, 10.0, 0.0])
    parts, centre, radius = in_unit_ball(surfaces(large))
    assert math.isclose(max(float(part.vertices.norm(dim=-1).max()) for part in parts), 1.0, rel_tol=1e-4)
    assert torch.allclose(parts[1].vertices * radius + centre, large["vertices"][1], atol=1e-4)
    snapped = at_times_of(parts, Filming(views=1, times=7).cameras())
    assert snapped.times.unique().tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("change", [
    lambda mesh: mesh.update(vertex_counts=torch.tensor([5, 0, 5]), face_counts=torch.tensor([1, 0, 1])),
    lambda mesh: mesh.update(faces=mesh["faces"][:, :0]),
])
def test_a_mesh_that_is_empty_at_some_time_is_refused(change):
    mesh = procedural()
    mesh["faces"] = mesh["faces"].clamp(max=4)
    change(mesh)
    with pytest.raises(ValueError, match=r"The mesh is empty at time \d of 3"):
        surfaces(mesh)


def test_riding_gaussians_keep_their_points_and_beat_their_start():
    parts = surfaces(procedural())
    raw, tracks = cloud_of_meshes(parts, 500, 0.3, 0, torch.Generator().manual_seed(0))
    rider = RidingGaussians(raw, tracks)
    film, held = (film_meshes("film", parts, at_times_of(parts, cameras), 48, 0.3) for cameras in (SMALL.cameras(), SMALL.held_out()))
    job = construction(rider, film, 40, 0)
    before = float(match(job.gaussians, held).decibels.mean())
    while job.step < job.steps:
        job.advance()
    after = result(job, film, held)
    assert float(after.held_out.decibels.mean()) > before + 2
    drift = (job.gaussians.bake(3).positions - tracks.anchors).norm(dim=-1)
    assert drift.median() < 0.02, "they stay at their points of the surface"


def test_a_stopped_distillation_goes_on_to_the_same_bytes(tmp_path):
    from bloom4d.models.optimize.checkpoint import CheckpointStore

    def begin():
        parts = surfaces(procedural())
        raw, tracks = cloud_of_meshes(parts, 60, 0.3, 0, torch.Generator().manual_seed(0))
        film = film_meshes("film", parts, at_times_of(parts, SMALL.cameras()), 24, 0.3)
        return construction(RidingGaussians(raw, tracks), film, 6, 0)

    whole, store = begin(), CheckpointStore(tmp_path)
    while whole.step < 6:
        whole.advance()
        if whole.step == 3:
            store.write(whole.step, *whole.snapshot())
    again = begin()
    again.restore(store.recover())
    assert again.step == 3
    while again.step < 6:
        again.advance()
    for name, value in whole.gaussians.state_dict().items():
        assert torch.equal(value, again.gaussians.state_dict()[name]), name


def test_the_memory_estimate_grows_with_what_is_asked_for():
    film = Filming()
    one = bytes_needed(4000, film, 16, 1)
    assert bytes_needed(2_000_000, film, 24, 1) > 50 * one and bytes_needed(4000, Filming(size=192), 16, 1) > one
    assert 2_000_000 * 24 * 10 * 4 < bytes_needed(2_000_000, film, 24, 1) < 100e9
