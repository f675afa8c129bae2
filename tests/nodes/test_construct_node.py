"""Gaussians from Orbit Video as the host runs it: outputs, what it says, resume, and every bad input."""

import math

import pytest
import torch


@pytest.fixture(scope="module")
def node(comfy):
    from bloom4d.nodes.construct import Bloom4DGaussiansFromOrbitVideo

    return Bloom4DGaussiansFromOrbitVideo


@pytest.fixture(autouse=True)
def output(comfy, monkeypatch, tmp_path):
    import folder_paths

    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(tmp_path))
    return tmp_path


def filmed(comfy, size=24, **path):
    """(images, mask, path) of the procedural candle along a Camera Path."""
    from bloom4d.models.geometry.cameras import CameraPath
    from bloom4d.nodes.procedural import Bloom4DProcedural4DObject

    cameras = CameraPath(**path)
    fixed = dict(phenomenon="candle burning", species="pillar", colour="red", seed=3, times=1, views=1, azimuth=0.0, elevation=15.0)
    images, mask, *_ = Bloom4DProcedural4DObject.execute(**fixed, size=size, cameras=cameras).result
    return images, mask, cameras


@pytest.fixture
def video(comfy):
    return filmed(comfy, frames=6)


def defaults(node) -> dict:
    """Every widget's default, as the host would pass it."""
    values = {}
    for item in node.define_schema().inputs:
        if hasattr(item, "default") and item.default is not None and not item.optional:
            values[item.id] = item.default
    values["start"], values["prior_mode"], values["lpips"], values["resume"], values["planes"] = "carve", "none", "none", "auto", {"planes": "demo"}
    return values


SMALL = {"coarse": 6, "fine": 4, "initial_gaussians": 200, "max_gaussians": 400, "densify_from": 2, "densify_every": 3, "frames_out": 3, "pictures": 2, "preview_interval": 0.0}


def build(node, video, **changes):
    images, mask, cameras = video
    with torch.inference_mode():
        return node.execute(**{**defaults(node), **SMALL, "images": images, "mask": mask, "cameras": cameras, **changes})


def test_outputs_are_what_other_nodes_take_and_the_ill_posed_video_is_told(node, video, comfy):
    out = build(node, video)
    gaussians, scene, losses, preview, report = out.result
    assert gaussians.frames == 3 and 0 < gaussians.count <= 400 and gaussians.times.tolist() == [0.0, 0.5, 1.0]
    assert scene.field.kind == "dynamic gaussians" and torch.allclose(scene.field.at(gaussians.times).positions, gaussians.positions, atol=1e-6)
    assert len(losses["loss"]) == 10 and all(map(math.isfinite, losses["loss"])) and preview.shape[1:] == (288, 576, 3)
    said = out.ui["text"][0]
    assert "ill-posed" in said and "Hex loss: inactive" in said and "by frame" in report and "Sobel pyramid" in report
    assert not gaussians.positions.is_inference() and not scene.field.positions.is_inference()


def test_the_field_has_curves_and_survives_a_file(node, video, output, comfy):
    from bloom4d.models.optimize.scene_files import load_scene, save_scene
    from bloom4d.nodes.optimize import Bloom4DTrainingCurves

    scene = build(node, video).result[1]
    save_scene(scene, output / "field.safetensors")
    loaded = load_scene(output / "field.safetensors")
    assert torch.equal(loaded.field.positions, scene.field.positions) and loaded.history[0].terms == scene.history[0].terms
    curves, text = Bloom4DTrainingCurves.execute(run="", field=loaded).result
    assert curves.shape[-1] == 3 and '"perceptual"' in text


def test_a_static_orbit_and_a_driving_video_settle_it(node, video, comfy):
    still, driving = filmed(comfy, frames=5, times=(0.0, 0.0)), filmed(comfy, frames=4, turns=0.0)
    out = build(node, video, static_images=still[0], static_mask=still[1], static_cameras=still[2], driving_images=driving[0], driving_mask=driving[1])
    said = out.ui["text"][0]
    assert "ill-posed" not in said and "inactive" not in said and "shows time 0 from 5 sides" in said
    assert "static orbit:" in out.result[4] and "4 frames at the reference camera" in out.result[4] and "carved out of the static orbit" in out.result[4]


def test_without_a_mask_white_is_assumed_and_said(node, video):
    assert "a white background is assumed" in build(node, video, mask=None).ui["text"][0]


def test_the_same_graph_goes_on_from_its_checkpoint_and_another_one_does_not(node, video, output):
    first = build(node, video)
    again = build(node, video)
    assert torch.equal(first.result[0].positions, again.result[0].positions)
    runs = lambda: {path.parent for path in output.rglob("latest")}  # noqa: E731
    assert len(runs()) == 1
    build(node, video, seed=1)
    assert len(runs()) == 2


@pytest.mark.parametrize(("change", "told"), [
    (lambda v, still: {"images": v[0][:4], "mask": v[1][:4]}, "The video has 4 pictures and 6 cameras"),
    (lambda v, still: {"images": v[0][:1], "mask": v[1][:1]}, "The video has one picture"),
    (lambda v, still: {"mask": v[1] * 0}, "The mask of the video is empty"),
    (lambda v, still: {"mask": v[1][:, :12]}, "of the same size"),
    (lambda v, still: {"mask": v[1][:2]}, "one mask per picture"),
    (lambda v, still: {"static_images": still[0], "static_mask": still[1]}, "The static orbit has 5 pictures and 6 cameras"),
    (lambda v, still: {"static_images": still[0], "static_mask": 1 - still[1], "static_cameras": still[2]}, None),
    (lambda v, still: {"static_images": still[0], "static_mask": still[1] * 0, "static_cameras": still[2]}, "The mask of the static orbit is empty"),
    (lambda v, still: {"static_mask": still[1]}, "static_mask is connected and static_images is not"),
    (lambda v, still: {"driving_mask": still[1]}, "driving_mask is connected and driving_images is not"),
    (lambda v, still: {"driving_images": still[0], "reference_cameras": v[2]}, "The driving video has 5 pictures and 6 cameras"),
    (lambda v, still: {"initial_gaussians": 500}, "max_gaussians allows 400"),
    (lambda v, still: {"planes": None}, "planes"),
    (lambda v, still: {"coarse": 0, "fine": 0}, "does nothing"),
])  # fmt: skip
def test_bad_input_is_told_in_the_first_line(node, video, comfy, change, told):
    still = filmed(comfy, frames=5, times=(0.0, 0.0))
    if told is None:  # an inverted mask carves the background, which the report's decibels show: it must not crash
        assert build(node, video, **change(video, still)).result[0].count
        return
    with pytest.raises(ValueError, match=told):
        build(node, video, **change(video, still))


def test_silhouettes_without_a_common_volume_are_told(node, video):
    from bloom4d.models.geometry.cameras import CameraPath

    masks = torch.zeros(2, 24, 24)
    masks[0, :, :8] = masks[1, :, -8:] = 1.0  # one camera that sees two objects
    with pytest.raises(ValueError, match="no volume in common inside the unit ball"):
        build(node, video, static_images=torch.ones(2, 24, 24, 3), static_mask=masks, static_cameras=CameraPath(frames=2, turns=0.0))


@pytest.mark.parametrize("change", [
    {"prior_mode": "learned"}, {"degree": 2}, {"start": "random"}, {"planes": {"planes": "custom", "channels": 4, "resolution": 6, "levels": 2, "time_nodes": 5}},
    {"still_share": 0.0, "weight_perceptual": 0.0, "weight_depth": 0.0}, {"rate_positions": 1e-2}, {"early_stop": 1},
])  # fmt: skip
def test_widgets_change_what_comes_out(node, video, change):
    plain, changed = build(node, video).result[0], build(node, video, **change).result[0]
    same = plain.harmonics.shape == changed.harmonics.shape and torch.equal(plain.positions, changed.positions)
    assert not same or change.get("early_stop")
    assert changed.positions.isfinite().all()


def test_lpips_is_used_where_the_pictures_are_large_enough(node, comfy, monkeypatch):
    from bloom4d.nodes import construct_run

    class Mean(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()), requires_grad=False)

        def forward(self, one, other, normalize):
            assert normalize and one.shape[1] == 3
            return (one - other).abs().mean(dim=(1, 2, 3), keepdim=True)

    monkeypatch.setattr(construct_run.judges, "lpips_network", lambda name: (Mean(), "LPIPS: mean.safetensors"))
    large = build(node, filmed(comfy, size=48, frames=4), lpips="mean.safetensors", coarse=2, fine=0).result[4]
    small = build(node, filmed(comfy, size=24, frames=4), lpips="mean.safetensors", coarse=2, fine=0).result[4]
    assert "LPIPS: mean.safetensors" in large and "Sobel pyramid (pictures of 24 pixels" in small
