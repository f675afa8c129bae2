"""Gaussians from fields and mesh batches, run as the host runs them."""

from dataclasses import replace

import pytest
import torch
from test_field_nodes import call, defaults, output, tiny_field  # noqa: F401  (a fixture)

QUICK = {"count": 40, "views": 3, "times": 2, "size": 16, "frames": 3, "steps": 3, "preview_interval": 0}


@pytest.fixture(scope="module")
def nodes(comfy):
    import importlib

    names = ("distil_gaussians", "field", "procedural", "gaussians", "gaussian_tools")
    return {name: importlib.import_module(f"bloom4d.nodes.{name}") for name in names}


def dense(nodes):
    """A field that is a ball of density."""
    return tiny_field(nodes)


def candle(nodes, times=3):
    return call(nodes["procedural"].Bloom4DProcedural4DObject, phenomenon="candle burning", seed=1, times=times, size=16)[2]


def test_a_field_becomes_gaussians_with_a_report_and_is_not_changed(nodes, output):  # noqa: F811
    field = dense(nodes)
    gaussians, preview, report = call(nodes["distil_gaussians"].Bloom4DGaussiansFromField, field=field, **QUICK, degree=1)
    assert gaussians.count == 40 and gaussians.frames == 3 and gaussians.degree == 1 and gaussians.positions.device.type == "cpu"
    assert not gaussians.positions.requires_grad and preview.shape[0] == 1 and preview.shape[3] == 3
    assert report.startswith("PSNR ") and "on 3 pictures that were never looked at" in report and "40 Gaussians at 3 times, 3 steps on 6 pictures of 16 x 16" in report
    assert "Memory, estimated before" in report
    assert gaussians.positions[0].norm(dim=-1).median() < 0.8, "it began on the ball"


def test_the_same_graph_goes_on_and_another_begins_anew(nodes, output):  # noqa: F811
    field = dense(nodes)
    node = nodes["distil_gaussians"].Bloom4DGaussiansFromField
    first = call(node, field=field, **QUICK)[0]
    runs = sorted((output / "bloom4d" / "runs" / "4d").iterdir())
    again = call(node, field=field, **{**QUICK, "resume": "auto"})[0]
    assert torch.equal(first.positions, again.positions) and sorted((output / "bloom4d" / "runs" / "4d").iterdir()) == runs
    other = call(node, field=field, **QUICK, seed=5)[0]
    assert not torch.equal(first.positions, other.positions) and len(list((output / "bloom4d" / "runs" / "4d").iterdir())) == len(runs) + 1


def test_a_field_of_gaussians_is_taken_exactly(nodes, output):  # noqa: F811
    from bloom4d.models.gaussians.dynamic import DynamicGaussians
    from bloom4d.models.optimize.scene import Scene

    with torch.inference_mode(False):
        moving = DynamicGaussians(generator=torch.Generator().manual_seed(0), count=30)
        with torch.no_grad():
            moving.deformation.heads.bias.normal_(0.0, 0.05, generator=torch.Generator().manual_seed(1))
            for planes in moving.deformation.planes.temporal:
                planes.normal_(1.0, 0.5, generator=torch.Generator().manual_seed(2))
            moving.deformation.heads.weight.normal_(0.0, 0.1, generator=torch.Generator().manual_seed(3))
    gaussians, preview, report = call(nodes["distil_gaussians"].Bloom4DGaussiansFromField, field=Scene(moving), frames=5)
    assert gaussians.frames == 5 and "taken from the field exactly" in report and preview.shape[0] == 1
    with torch.no_grad():
        for frame, time in enumerate((0.0, 0.25, 0.5, 0.75, 1.0)):
            wanted = moving.at(torch.tensor([time]))
            for name, value in gaussians.expanded().items():
                assert torch.allclose(value[frame], getattr(wanted, name)[0], atol=1e-6), name
    assert not torch.equal(gaussians.positions[0], gaussians.positions[4])


def test_a_mesh_batch_of_one_topology_is_ridden(nodes, output):  # noqa: F811
    mesh = candle(nodes)
    gaussians, _, report = call(nodes["distil_gaussians"].Bloom4DGaussiansFromMeshBatch, mesh=mesh, **{**QUICK, "times": 3})
    assert gaussians.count == 40 and gaussians.frames == 3 and "the Gaussians ride on them" in report
    top = mesh.vertices[:, :, 1].amax(1)
    assert gaussians.positions[2, :, 1].max() < top[0] and top[2] < top[0] - 0.05, "the candle burns down, and they with it"


def test_a_mesh_batch_of_changing_topology_is_learned(nodes, output):  # noqa: F811
    field = dense(nodes)
    with pytest.raises(ValueError, match="has no surface"):
        call(nodes["field"].Bloom4DIsosurface, field=field, resolution=12, threshold=900.0)
    mesh, = call(nodes["field"].Bloom4DIsosurface, field=field, times=2, time_start=0.0, resolution=12, threshold=5.0)
    mesh.vertices, mesh.faces = mesh.vertices.clone(), mesh.faces.clone()
    mesh.face_counts = mesh.face_counts - torch.tensor([0, 2])
    gaussians, _, report = call(nodes["distil_gaussians"].Bloom4DGaussiansFromMeshBatch, mesh=mesh, **QUICK)
    assert gaussians.frames == 3 and "the motion was learned from the pictures" in report


def test_a_large_mesh_is_brought_into_the_unit_ball_and_told(nodes, output):  # noqa: F811
    mesh = candle(nodes, 2)
    mesh.vertices = mesh.vertices * 5.0
    gaussians, _, report = call(nodes["distil_gaussians"].Bloom4DGaussiansFromMeshBatch, mesh=mesh, **QUICK)
    assert "moved by" in report and gaussians.positions.norm(dim=-1).median() < 1.2


def test_empty_fields_and_broken_meshes_are_refused(nodes, output):  # noqa: F811
    field = dense(nodes)
    with torch.inference_mode(False), torch.no_grad():
        faint = field.field.clone()
        faint.set_blob(1e-3)
        for parameter in faint.parameters():
            parameter.mul_(0.0)
    with pytest.raises(ValueError, match="The field is empty"):
        call(nodes["distil_gaussians"].Bloom4DGaussiansFromField, field=replace(field, field=faint), **QUICK)
    node = nodes["distil_gaussians"].Bloom4DGaussiansFromMeshBatch
    mesh = candle(nodes)
    mesh.faces = mesh.faces[:, :0]
    with pytest.raises(ValueError, match="The mesh is empty at time 0 of 3"):
        call(node, mesh=mesh, **QUICK)
    mesh = candle(nodes)
    mesh.vertices[1, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="The mesh can not be filmed: at time 1 the mesh holds vertices that are not finite"):
        call(node, mesh=mesh, **QUICK)
    with pytest.raises(ValueError, match="elevations go from 50 to 10"):
        call(node, mesh=candle(nodes), **QUICK, elevation_min=50, elevation_max=10)


def test_two_million_gaussians_are_estimated_and_refused_with_numbers(nodes, output, monkeypatch):  # noqa: F811
    from bloom4d.nodes.host import estimates

    monkeypatch.setattr(estimates, "free_bytes", lambda device: 8_000_000_000)
    node = nodes["distil_gaussians"].Bloom4DGaussiansFromField
    with pytest.raises(ValueError, match=r"^2,000,000 Gaussians fitted to 10 views x 8 times of 96 x 96 pixels and kept at 24 times take about \d\d\.\d GB, and 8.0 GB are free. Ask for fewer"):
        node.execute(**{**defaults(node), "field": dense(nodes), "count": 2_000_000, "frames": 24})
    assert not (output / "bloom4d" / "runs").exists(), "nothing was begun"
