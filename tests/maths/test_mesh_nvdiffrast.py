"""The nvdiffrast adapter: its conventions against a stand-in that follows the package's documentation, and the package itself
where a GPU and a user's consent are."""

import importlib.util
import logging
import os
import sys
import types

import pytest
import torch
from test_silhouettes import SIZE, camera, scene

from bloom4d.models.render import mesh, mesh_nvdiffrast
from bloom4d.models.render.silhouettes import edges_of


def rasterize(context, place, triangles, resolution):
    """As documented: clip coordinates, row 0 at y = -1, (u, v, z / w, face number from 1), u and v of corners 0 and 1."""
    height, width = resolution
    out = torch.zeros(len(place), height, width, 4)
    x = (torch.arange(width) + 0.5) / width * 2 - 1
    y = (torch.arange(height) + 0.5) / height * 2 - 1
    for image, vertices in enumerate(place):
        nearest = torch.full((height, width), torch.inf)
        for number, corner in enumerate(triangles.long(), 1):
            matrix = vertices[corner][:, [0, 1, 3]].T.double()  # pixel = matrix @ (b / w): barycentrics up to a factor
            if matrix.det().abs() < 1e-12:
                continue
            pixel = torch.stack(torch.broadcast_tensors(x, y[:, None], torch.ones(())), -1).double()
            weight = pixel @ torch.linalg.inv(matrix).T
            inside = (weight >= 0).all(-1)
            weight = weight / weight.sum(-1, keepdim=True)
            depth = (weight @ vertices[corner, 2].double()) / (weight @ vertices[corner, 3].double())
            closer = inside & (depth < nearest)
            nearest = torch.where(closer, depth, nearest.double())
            value = torch.stack((weight[..., 0], weight[..., 1], depth, torch.full_like(depth, number)), -1)
            out[image] = torch.where(closer[..., None], value.float(), out[image])
    return out, None


def interpolate(values, found, triangles):
    corner = triangles.long()[(found[..., 3].long() - 1).clamp(min=0)]  # (B, H, W, 3)
    weight = torch.stack((found[..., 0], found[..., 1], 1 - found[..., 0] - found[..., 1]), -1)
    picked = torch.stack([value[corner[image]] for image, value in enumerate(values)])
    return (picked * weight[..., None]).sum(-2) * (found[..., 3:] > 0), None


@pytest.fixture
def stand_in(monkeypatch):
    package = types.ModuleType("nvdiffrast.torch")
    package.rasterize, package.interpolate, package.antialias = rasterize, interpolate, lambda colour, *rest: colour * 0.5
    package.RasterizeCudaContext = lambda device: "context"
    parent = types.ModuleType("nvdiffrast")
    parent.torch = package
    monkeypatch.setitem(sys.modules, "nvdiffrast", parent)
    monkeypatch.setitem(sys.modules, "nvdiffrast.torch", package)
    monkeypatch.setattr(mesh_nvdiffrast, "wanted", lambda device: True)
    mesh_nvdiffrast._context.cache_clear()
    yield
    mesh_nvdiffrast._context.cache_clear()


def drawn(height=40, width=56, smooth=False):
    vertices, faces, colours = scene(torch.zeros(3, dtype=torch.float64))
    vertices, faces, colours = vertices[:6].float(), faces[:2], colours[:6].float()
    later = vertices + torch.tensor((0.1, 0.05, 0.2))
    return mesh.rasterise(vertices[None], faces, colours, *camera(dtype=torch.float32), height, width, edges=edges_of(faces) if smooth else None, later=later[None])


def test_it_draws_what_the_torch_twin_draws(stand_in, monkeypatch, caplog):
    with caplog.at_level(logging.INFO):
        other = [drawn(), drawn()][1]
    assert sum("non-commercial" in record.message for record in caplog.records) == 1  # said once
    monkeypatch.setattr(mesh_nvdiffrast, "wanted", lambda device: False)
    ours = drawn()
    same = other.face_id == ours.face_id
    assert same.float().mean() > 0.999 and ours.mask.sum() > 150
    for name in ("barycentric", "depth", "attributes", "flow"):
        assert (getattr(other, name) - getattr(ours, name))[same].abs().max() < 1e-3, name
    flipped = other.attributes.flip(1)  # negative control: a picture upside down is another one
    assert (flipped - ours.attributes).abs().max() > 0.5


def test_antialiasing_is_the_packages_and_covers_all_channels(stand_in):
    hard, smooth = drawn(), drawn(smooth=True)
    assert hard.coverage is None and torch.equal(smooth.coverage, 0.5 * smooth.mask) and torch.allclose(smooth.attributes, 0.5 * hard.attributes)
    assert torch.equal(smooth.depth, hard.depth)


def test_it_is_asked_for_and_only_on_cuda(monkeypatch):
    monkeypatch.delenv(mesh_nvdiffrast.OPT_IN, raising=False)
    assert not mesh_nvdiffrast.wanted(torch.device("cuda"))
    monkeypatch.setenv(mesh_nvdiffrast.OPT_IN, "1")
    assert not mesh_nvdiffrast.wanted(torch.device("cpu"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert mesh_nvdiffrast.state() == (False, "not installed")
    monkeypatch.setenv("BLOOM4D_BACKEND", "torch")
    assert not mesh_nvdiffrast.wanted(torch.device("cuda"))
    monkeypatch.delenv("BLOOM4D_BACKEND")
    with pytest.raises(ValueError, match="not installed. Install it from its repository, or unset"):
        mesh_nvdiffrast.wanted(torch.device("cuda"))


def test_its_state_names_the_licence_before_it_runs(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.delenv(mesh_nvdiffrast.OPT_IN, raising=False)
    assert not mesh_nvdiffrast.state()[0] and "non-commercial" in mesh_nvdiffrast.state()[1]
    monkeypatch.setenv(mesh_nvdiffrast.OPT_IN, "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert mesh_nvdiffrast.state()[0] and "unverified" in mesh_nvdiffrast.state()[1]


READY = torch.cuda.is_available() and importlib.util.find_spec("nvdiffrast") and os.environ.get(mesh_nvdiffrast.OPT_IN) == "1"


@pytest.mark.skipif(not READY, reason="needs a CUDA GPU, nvdiffrast and BLOOM4D_NVDIFFRAST=1")
def test_the_package_itself_on_a_gpu():
    vertices, faces, colours = scene(torch.zeros(3, dtype=torch.float64))

    def outcome(device):
        points = vertices.float().to(device).requires_grad_()
        pose, fov = (value.to(device) for value in camera(dtype=torch.float32))
        pictures = mesh.rasterise(points[None], faces.to(device), colours.float().to(device), pose, fov, SIZE, SIZE, edges=edges_of(faces.to(device)))
        pictures.attributes.square().mean().backward()
        return pictures, points.grad.cpu()

    (theirs, their_gradient), (ours, our_gradient) = outcome("cuda"), outcome("cpu")
    assert (theirs.face_id.cpu() == ours.face_id).float().mean() > 0.995
    assert (theirs.attributes.cpu() - ours.attributes).abs().mean() < 0.01
    assert torch.nn.functional.cosine_similarity(their_gradient.flatten(), our_gradient.flatten(), 0) > 0.9
