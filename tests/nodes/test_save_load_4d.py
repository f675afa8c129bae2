"""Save 4D and Load 4D as the host runs them: what comes back, what is refused, and what is never left behind."""

import io
import json
import os
import shutil
import struct

import pytest
import torch
from safetensors import safe_open
from splat_clouds import moving


@pytest.fixture(scope="module")
def nodes(comfy):
    import importlib

    return {name: importlib.import_module(f"bloom4d.nodes.{name}") for name in ("exports", "imports", "procedural")}


@pytest.fixture
def output(comfy, tmp_path):
    """The host's output and input folders, in a temporary place."""
    import folder_paths

    before = folder_paths.get_output_directory(), folder_paths.get_input_directory()
    folder_paths.set_output_directory(str(tmp_path / "output"))
    folder_paths.set_input_directory(str(tmp_path / "input"))
    (tmp_path / "input").mkdir()
    yield tmp_path / "output"
    folder_paths.set_output_directory(before[0])
    folder_paths.set_input_directory(before[1])


OFF = {"master": False, "ply": False, "spz": False, "glb": False, "viewer": False}
DEFAULTS = {"filename_prefix": "bloom4d/4d", "fps": 12.0, "glb_mode": "auto", "spz_axes": "Y up"}


def save(nodes, *formats, **values):
    """Save in these formats; the node's output."""
    chosen = {**DEFAULTS, **OFF, **dict.fromkeys(formats, True), **values}
    return nodes["exports"].Bloom4DSave4D.execute(**chosen)


def load(nodes, path, folder="output", spz_axes="Y up"):
    return nodes["imports"].Bloom4DLoad4D.execute(path=path, folder=folder, spz_axes=spz_axes).result


def tetrahedra(times=3, colours=True, growing=False, textured=False):
    """A MESH batch; with `growing` another tetrahedron at each time."""
    from comfy_api.latest import Types

    one = torch.tensor([[0.0, 0.5, 0.0], [0.5, -0.5, 0.0], [-0.5, -0.5, 0.3], [0.0, -0.5, -0.5]])
    sides = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    most = times if growing else 1
    vertices = torch.stack([torch.cat([one * (1 + 0.2 * time) + 0.1 * part for part in range(most)]) for time in range(times)])
    faces = torch.cat([sides + 4 * part for part in range(most)]).expand(times, -1, -1)
    counts = {"vertex_counts": 4 * torch.arange(1, times + 1), "face_counts": 4 * torch.arange(1, times + 1)} if growing else {}
    shades = torch.linspace(0.1, 0.9, 4 * most)[None, :, None].expand(times, -1, 3) if colours else None
    more = {"uvs": torch.rand(1, 4 * most, 2).expand(times, -1, -1), "texture": torch.rand(1, 8, 8, 3)} if textured else {}
    return Types.MESH(vertices, faces, vertex_colors=shades, **counts, **more)


def test_every_format_of_one_save_has_the_same_number_and_nothing_else_is_left(nodes, output):
    for number in ("00001", "00002"):
        path, glb, report = save(nodes, *OFF, gaussians=moving(), mesh=tetrahedra()).result
        names = [f"4d_{number}_{ending}" for ending in (".bloom4d.safetensors", ".glb", ".viewer.safetensors", "ply", "spz")]
        assert path == f"bloom4d/{names[0]}" and glb.get_source() == str(output / "bloom4d" / names[1])
        assert all(f"bloom4d/{name}  " in report for name in names)
        assert sorted(item.name for item in (output / "bloom4d" / names[3]).iterdir()) == [f"frame_{index:04}.ply" for index in range(3)]
    assert len(list((output / "bloom4d").iterdir())) == 2 * 5 + 1  # and the lock


def test_the_master_is_lossless(nodes, output):
    gaussians, mesh = moving(4, degree=3), tetrahedra(2, growing=True)
    mesh.unlit = True
    path, *_ = save(nodes, "master", gaussians=gaussians, mesh=mesh, fps=24.0).result
    again, mesh_again, found, fps, *_ = load(nodes, path)
    for name in (*gaussians.attributes(), "times"):
        assert torch.equal(getattr(again, name), getattr(gaussians, name)), name
    for name in ("vertices", "faces", "vertex_colors", "vertex_counts", "face_counts"):
        assert torch.equal(getattr(mesh_again, name), getattr(mesh, name)), name
    assert mesh_again.unlit and fps == 24.0 and "4 times of 200, harmonics of degree 3" in found and "mesh: 2 times" in found


@pytest.mark.parametrize(("kind", "error"), [("ply", 1e-6), ("spz", 3.1e-5), ("viewer", 2e-5)])
def test_other_formats_come_back_in_place(nodes, output, kind, error):
    gaussians = moving()
    path, *_ = save(nodes, kind, gaussians=gaussians).result
    again, mesh, *_ = load(nodes, path)
    assert torch.allclose(again.positions, gaussians.positions, atol=error) and again.frames == 3 and torch.allclose(again.times, gaussians.times)
    assert type(mesh).__name__ == "ExecutionBlocker" and "holds no mesh" in mesh.message


@pytest.mark.parametrize(("mesh", "mode"), [({}, "morph"), ({"growing": True}, "stepped"), ({"colours": False, "textured": True}, "morph")])
def test_a_glb_comes_back_as_a_mesh(nodes, output, mesh, mode):
    before = tetrahedra(**mesh)
    path, *_ = save(nodes, "glb", mesh=before, fps=10.0).result
    assert json.loads(glb_extras(output / path)["bloom4d"])["mode"] == mode
    gaussians, again, found, fps, *_ = load(nodes, path)
    assert torch.allclose(again.vertices, torch.where(mask(before), before.vertices, 0.0), atol=1e-6) and fps == 10.0
    assert torch.equal(again.faces, torch.where(mask(before, "face_counts"), before.faces, 0)) and "Gaussians" in gaussians.message
    if before.texture is not None:
        assert torch.allclose(again.texture, before.texture.expand(3, -1, -1, -1), atol=0.5 / 255 + 1e-6) and torch.allclose(again.uvs, before.uvs)


def mask(mesh, name="vertex_counts"):
    """Which rows of a batch are no padding."""
    counts, rows = getattr(mesh, name), (mesh.vertices if name == "vertex_counts" else mesh.faces).shape[1]
    return (torch.arange(rows) < (torch.full((len(mesh.vertices),), rows) if counts is None else counts)[:, None])[..., None]


def test_maps_of_a_lit_mesh_are_in_the_glb_and_come_back(nodes, output):
    maps = {"metallic_roughness": torch.rand(1, 4, 4, 3), "normal_map": torch.rand(3, 4, 4, 3)}
    mesh = tetrahedra(textured=True)
    mesh.unlit = True
    for kind in ("glb", "master"):
        path, *_ = save(nodes, kind, mesh=mesh, **maps).result
        *_, rough, normal = load(nodes, path)
        assert torch.allclose(rough, maps["metallic_roughness"].expand_as(rough), atol=0.003) and torch.allclose(normal, maps["normal_map"], atol=0.003)
    with pytest.raises(ValueError, match="2 pictures of metallic roughness came for a mesh of 3 times"):
        save(nodes, "glb", mesh=mesh, metallic_roughness=torch.rand(2, 4, 4, 3))
    with pytest.raises(ValueError, match="textures .metallic_roughness. and no uvs"):
        save(nodes, "glb", mesh=tetrahedra(), metallic_roughness=torch.rand(1, 4, 4, 3))


def glb_extras(path) -> dict:
    content = path.read_bytes()
    length, = struct.unpack("<I", content[12:16])
    return json.loads(content[20 : 20 + length])["asset"]["extras"]


def test_formats_without_their_input_are_left_out_and_told(nodes, output):
    path, glb, report = save(nodes, "master", "ply", "glb", gaussians=moving()).result
    assert "glb left out: no mesh connected" in report and type(glb).__name__ == "ExecutionBlocker"
    _, _, report = save(nodes, "ply", "glb", mesh=tetrahedra()).result
    assert "ply left out: no Gaussians connected" in report
    for values in ({}, {"ply": True}, {"glb": True, "gaussians": moving()}):
        with pytest.raises(ValueError, match="Nothing would be saved: connect gaussians or a mesh"):
            save(nodes, **values)


@pytest.mark.parametrize("kind", ["master", "ply", "spz", "viewer"])
def test_broken_gaussians_are_not_saved(nodes, output, kind):
    gaussians = moving()
    gaussians.positions[1, 7, 0] = float("nan")
    with pytest.raises(ValueError, match="cannot be saved: at time 1 1 of its 200 Gaussians hold numbers that are not finite"):
        save(nodes, kind, gaussians=gaussians)
    assert not list(output.rglob("4d*"))


def test_an_object_without_gaussians_is_not_saved(nodes, output):
    with pytest.raises(ValueError, match="cannot be saved: at time 0 no Gaussian is in it"):
        save(nodes, "master", gaussians=moving().chosen(torch.zeros(200, dtype=torch.bool)))


def test_a_mesh_that_changes_has_no_morph_targets(nodes, output):
    with pytest.raises(ValueError, match="cannot be written with morph targets: it has 4 vertices at the first time and 8 at time 1. Set the GLB mode to stepped"):
        save(nodes, "master", "glb", mesh=tetrahedra(growing=True), glb_mode="morph")
    assert not list(output.rglob("4d*")), "the master was written before the GLB failed"


# ---- large sequences and full disks


def two_million(times=100):
    """Two million Gaussians over time in no memory."""
    from bloom4d.models.gaussians.gaussians import Gaussians4D

    wide = lambda *shape: torch.zeros(()).expand(*shape)  # noqa: E731
    return Gaussians4D(wide(times, 2_000_000, 3), wide(times, 2_000_000, 4), wide(1, 2_000_000, 3), wide(1, 2_000_000), wide(1, 2_000_000, 16, 3), torch.linspace(0, 1, times))


def test_a_sequence_that_no_disk_or_browser_holds_is_refused_with_numbers(nodes, output, monkeypatch):
    free = shutil.disk_usage("/")._replace(free=3_000_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: free)
    with pytest.raises(ValueError, match=r"would write about 5\d\.\d GB \(ply 49\.6 GB, master 6\.\d GB\) and the disk of the output folder has 3\.0 GB free. Switch formats off"):
        nodes["exports"].written(saver(nodes, two_million()), "bloom4d/4d", ["master", "ply"])
    with pytest.raises(ValueError, match=r"viewer file would have 2\.0 GB, and browsers take about 537 MB"):
        nodes["exports"].written(saver(nodes, two_million()), "bloom4d/4d", ["viewer"])
    assert not list(output.rglob("4d*"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits of a process are Unix's")
def test_a_disk_that_fills_in_the_middle_leaves_nothing(nodes, output):
    """No file of this process may pass 30 kB: the PLYs fit, the master does not, and it comes last here."""
    import resource
    import signal

    gaussians = moving(3, 300)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal_before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))
    try:
        with pytest.raises(OSError, match="The 4D files could not be written .File too large.. Free some disk space"):
            nodes["exports"].written(saver(nodes, gaussians), "bloom4d/4d", ["ply", "spz", "master"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, signal_before)
    assert [item.name for item in (output / "bloom4d").iterdir()] == ["saving.lock"]


def saver(nodes, gaussians):
    from bloom4d.models.formats.provenance import Provenance
    from bloom4d.models.gaussians.files import Master

    return nodes["exports"].Saver(Master(gaussians), "auto", "Y up", Provenance())


def test_what_a_killed_process_left_is_cleared_at_the_next_save(nodes, output):
    (output / "bloom4d" / "4d_00001_.tmp").mkdir(parents=True)
    (output / "bloom4d" / "4d_00001_.tmp" / "4d_00001_.glb").write_bytes(b"half")
    (output / "bloom4d" / "4d_mine.tmp").mkdir()  # of the user, for whatever reason
    path, *_ = save(nodes, "master", gaussians=moving()).result
    assert path == "bloom4d/4d_00001_.bloom4d.safetensors" and [item.name for item in output.rglob("*.tmp")] == ["4d_mine.tmp"]


def test_a_move_that_fails_halfway_takes_the_others_back(nodes, output, monkeypatch):
    rename, done = os.rename, []

    def once(source, target):
        if done:
            raise OSError(28, "No space left on device")
        done.append(target)
        rename(source, target)

    monkeypatch.setattr(os, "rename", once)
    with pytest.raises(OSError, match="could not be written"):
        save(nodes, "master", "ply", gaussians=moving())
    assert done and [item.name for item in (output / "bloom4d").iterdir()] == ["saving.lock"]


def test_interrupting_leaves_nothing(nodes, output, monkeypatch):
    import comfy.model_management as management

    calls = []

    def stop():
        calls.append(1)
        if len(calls) == 3:
            raise management.InterruptProcessingException()

    monkeypatch.setattr(management, "throw_exception_if_processing_interrupted", stop)
    with pytest.raises(management.InterruptProcessingException):
        save(nodes, "ply", "spz", gaussians=moving())
    assert [item.name for item in (output / "bloom4d").iterdir()] == ["saving.lock"]


# ---- loading


def test_a_splat_file_of_the_input_folder_and_the_host_agree(nodes, output, tmp_path):
    """F1.6: File3DToSplat(SplatToFile3D(x)) agrees with us, in both directions and formats."""
    from bloom4d.models.gaussians.frames import turned
    from bloom4d.models.gaussians.gaussians import SH_DC
    from comfy_api.latest import Types
    from comfy_extras.nodes_gaussian_splat import File3DToSplat, SplatToFile3D

    one = moving(1, 300)
    theirs = turned(one)
    splat = Types.SPLAT(theirs.positions, theirs.scales, theirs.rotations, theirs.opacities[..., None], theirs.harmonics)
    for kind, axes, error in (("ply", "Y up", 1e-6), ("spz", "Y down", 2e-4)):
        made = SplatToFile3D.execute(splat, kind).result[0]
        made.save_to(str(tmp_path / "input" / f"host.{kind}"))
        ours, *_ = load(nodes, f"host.{kind}", "input", axes)
        assert torch.allclose(ours.positions, one.positions, atol=error) and torch.allclose(ours.opacities, one.opacities, atol=error + 2e-3 * (kind == "spz"))
        path, *_ = save(nodes, kind, gaussians=one, spz_axes=axes).result
        again = File3DToSplat.execute(Types.File3D(str(next((output / path).iterdir())))).result[0]
        exact = kind == "ply"
        assert torch.allclose(again.positions, theirs.positions, atol=1e-6 if exact else 3.1e-5)
        assert torch.allclose(again.scales, theirs.scales, rtol=1e-5 if exact else 0.032)
        assert torch.allclose(again.opacities[..., 0], theirs.opacities, atol=1e-6 if exact else 2e-3)
        assert (again.rotations * theirs.rotations).sum(-1).abs().min() > 1 - 1e-5
        assert torch.allclose(again.sh * SH_DC, theirs.harmonics * SH_DC, atol=1e-6 if exact else 4e-3)


def test_names_in_a_folder_are_in_the_order_of_their_numbers(nodes, output, tmp_path):
    from bloom4d.models.gaussians.files import ply_bytes

    gaussians = moving(3)
    for name, index in (("walk2.ply", 0), ("walk10.ply", 1), ("walk100.ply", 2)):
        (tmp_path / "input" / name).write_bytes(ply_bytes(gaussians, index))
    again, _, found, *_ = load(nodes, ".", "input")
    assert torch.allclose(again.positions, gaussians.positions, atol=1e-6) and "3 PLY files" in found
    (tmp_path / "input" / "other.spz").write_bytes(b"x")
    with pytest.raises(ValueError, match="holds 4 splat files of 2 kinds"):
        load(nodes, ".", "input")


@pytest.mark.parametrize(("path", "told"), [
    ("bloom4d/4d_00009_.glb", 'There is no 4D file "bloom4d/4d_00009_.glb" in the output folder'),
    ("../../etc/passwd", "leads out of the folder"),
    ("/etc/passwd", "leads out of the folder"),
])  # fmt: skip
def test_paths_stay_inside(nodes, output, path, told):
    with pytest.raises(ValueError, match=told):
        load(nodes, path)


def test_a_link_out_of_a_folder_is_not_followed(nodes, output, tmp_path):
    path, *_ = save(nodes, "ply", gaussians=moving()).result
    frame = output / path / "frame_0001.ply"
    frame.rename(tmp_path / "secret.ply")
    frame.symlink_to(tmp_path / "secret.ply")
    with pytest.raises(ValueError, match='"frame_0001.ply" leads out of the folder'):
        load(nodes, path)


def test_damaged_files_are_named(nodes, output):
    path, *_ = save(nodes, *OFF, gaussians=moving(), mesh=tetrahedra()).result
    folder = (output / path).parent
    for name, damaged, told in (
        ("4d_00001_.bloom4d.safetensors", lambda data: data[:-9], "no readable safetensors file"),
        ("4d_00001_.bloom4d.safetensors", lambda data: data.replace(b"bloom4d.4d", b"bloom4d.5d"), "no 4D file of Save 4D"),
        ("4d_00001_.glb", lambda data: data[:-4], "truncated or altered"),
        ("4d_00001_.glb", lambda data: data.replace(b"bloom4d.mesh", b"bloom4d.fish"), "no GLB of Save 4D"),
        ("4d_00001_.viewer.safetensors", lambda data: data[:-4], "no readable safetensors file"),
        ("4d_00001_ply/frame_0001.ply", lambda data: data[:-4], "is truncated"),
        ("4d_00001_spz/frame_0002.spz", lambda data: data[:-40], "is truncated"),
    ):
        file = folder / name
        whole = file.read_bytes()
        assert damaged(whole) != whole
        file.write_bytes(damaged(whole))
        with pytest.raises(ValueError, match=f'"{file.name}".*{told}'):
            load(nodes, file.relative_to(output).as_posix())
        file.write_bytes(whole)
    (folder / "note.txt").write_text("x")
    with pytest.raises(ValueError, match="ending is none that is read"):
        load(nodes, "bloom4d/note.txt")


def test_a_glb_that_refers_elsewhere_is_refused(nodes, output):
    path, *_ = save(nodes, "glb", mesh=tetrahedra(textured=True)).result
    data = (output / path).read_bytes()
    length, = struct.unpack("<I", data[12:16])
    for part in ("buffers", "images"):
        scene = json.loads(data[20 : 20 + length])
        scene[part][0]["uri"] = "file:///etc/passwd"
        text = json.dumps(scene).encode()
        text += b" " * (-len(text) % 4)
        rest = data[20 + length :]
        (output / "elsewhere.glb").write_bytes(struct.pack("<4sIII", b"glTF", 2, 20 + len(text) + len(rest), len(text)) + b"JSON" + text + rest)
        with pytest.raises(ValueError, match='refers to another place \\("file:///etc/passwd"\\), and only what is inside a file is read'):
            load(nodes, "elsewhere.glb")


def test_the_cache_knows_the_content(nodes, output):
    fingerprint = nodes["imports"].Bloom4DLoad4D.fingerprint_inputs
    assert fingerprint("bloom4d/none", "output") == fingerprint(path="bloom4d/other")
    path, *_ = save(nodes, "ply", gaussians=moving()).result
    before = fingerprint(path, "output", spz_axes="Y up")
    assert before == fingerprint(path, "output")
    (output / path / "frame_0001.ply").write_bytes((output / path / "frame_0002.ply").read_bytes())
    assert fingerprint(path, "output") != before


# ---- where files come from


def test_provenance_is_in_every_format_that_can_carry_it(nodes, output, monkeypatch):
    from bloom4d.models.formats.provenance import Provenance, mark
    from bloom4d.nodes.host import provenance

    texts = {"prompt": json.dumps({"1": {"text": "ein Blühen\n\"花\""}}), "workflow": json.dumps({"nodes": []})}
    monkeypatch.setattr(provenance, "of", lambda hidden: Provenance(texts, mark("0.1.0", True)))
    path, *_ = save(nodes, *OFF, gaussians=moving(), mesh=tetrahedra()).result
    stem = (output / path).name.removesuffix(".bloom4d.safetensors")
    folder = (output / path).parent
    found = {"glb": glb_extras(folder / f"{stem}.glb")}
    for kind in ("bloom4d", "viewer"):
        with safe_open(folder / f"{stem}.{kind}.safetensors", "pt") as file:
            found[kind] = file.metadata()
    header = (folder / f"{stem}ply" / "frame_0001.ply").read_bytes().split(b"end_header")[0].decode("ascii")
    found["ply"] = dict(line.split(" ", 2)[1:] for line in header.splitlines() if line.startswith("comment"))
    for kind, metadata in found.items():
        assert {name: metadata[name] for name in texts} == texts, kind
        assert json.loads(metadata["bloom4d"])["description"] == "AI-generated", kind
    assert io.BytesIO((folder / f"{stem}spz" / "frame_0000.spz").read_bytes()).getvalue()[3] == 0, "a gzip header with comments is no SPZ for some readers"
