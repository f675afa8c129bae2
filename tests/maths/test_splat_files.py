"""PLY and SPZ: what is written is read back by us and by others within stated errors, and what is damaged is refused in words."""

import gzip
import io
import json
import struct
import tracemalloc

import numpy as np
import pytest
import torch
from splat_clouds import cloud, moving

from bloom4d.models.formats import ply, spz
from bloom4d.models.formats.splat_cloud import SH_DC, SplatCloud, problem_of
from bloom4d.models.gaussians import files
from bloom4d.models.gaussians.frames import turned
from bloom4d.models.geometry.cameras import view_time_grid
from bloom4d.models.render.splats import render_gaussians

PARTS = ("positions", "rotations", "scales", "opacities", "harmonics")


def largest(one, other) -> dict[str, float]:
    return {name: float(np.abs(getattr(one, name) - getattr(other, name)).max()) for name in PARTS}


# ---- PLY


@pytest.mark.parametrize("degree", range(4))
def test_a_ply_comes_back_to_single_precision(degree):
    before = cloud(degree=degree)
    after, note = ply.read_ply(ply.write_ply(before))
    assert note == "" and after.degree == degree
    assert largest(before, after) == pytest.approx(dict.fromkeys(PARTS, 0.0), abs=3e-7)


@pytest.mark.parametrize("degree", [0, 3])
def test_plyfile_reads_our_ply_by_the_names_of_3dgs(degree):
    plyfile = pytest.importorskip("plyfile")
    before = cloud(degree=degree)
    text = json.dumps({"a": 'ü "quoted"\n'})
    read = plyfile.PlyData.read(io.BytesIO(ply.write_ply(before, {"prompt": text})))
    vertex = read["vertex"]
    assert vertex.count == before.count and read.comments == [f"prompt {text}"] and json.loads(read.comments[0][7:]) == {"a": 'ü "quoted"\n'}
    assert [item.name for item in vertex.properties][:9] == ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    together = lambda *names: np.stack([vertex[name] for name in names], 1)  # noqa: E731
    assert np.array_equal(together("x", "y", "z"), before.positions) and not together("nx", "ny", "nz").any()
    assert np.abs(np.exp(together("scale_0", "scale_1", "scale_2")) / before.scales - 1).max() < 1e-6
    assert np.abs(1 / (1 + np.exp(-vertex["opacity"].astype(np.float64))) - before.opacities).max() < 1e-6
    assert np.array_equal(together("rot_0", "rot_1", "rot_2", "rot_3"), before.rotations)
    assert np.array_equal(together("f_dc_0", "f_dc_1", "f_dc_2"), before.harmonics[:, 0])
    for channel in range(3 if degree else 0):  # all of red, then all of green, then all of blue
        assert np.array_equal(together(*(f"f_rest_{15 * channel + index}" for index in range(15))), before.harmonics[:, 1:, channel])


def test_opacities_of_nothing_and_all_have_a_logit():
    extreme = cloud(2)
    extreme.opacities[:] = [0.0, 1.0]
    after, _ = ply.read_ply(ply.write_ply(extreme))
    assert after.opacities == pytest.approx([1e-6, 1 - 1e-6], abs=1e-7)


def vertices(names: list[str], values: np.ndarray, kinds=None, order="little", extra: str = "") -> bytes:
    """A binary PLY of these columns, written by hand."""
    kinds = kinds or ["float"] * len(names)
    header = "".join(f"property {kind} {name}\n" for name, kind in zip(names, kinds))
    sign = "<" if order == "little" else ">"
    row = np.dtype([(name, sign + ply.KINDS[kind]) for name, kind in zip(names, kinds)])
    rows = np.array([tuple(line) for line in values], row)
    return f"ply\nformat binary_{order}_endian 1.0\n{extra}element vertex {len(values)}\n{header}end_header\n".encode() + rows.tobytes()


def test_any_order_of_properties_without_normals_is_read():
    before, _ = ply.read_ply(whole := ply.write_ply(cloud(20, 1)))
    names = ply.names_of(4)
    columns = np.frombuffer(whole[whole.index(b"end_header\n") + 11 :], "<f4").reshape(20, -1)
    keep = [index for index in reversed(range(len(names))) if names[index][0] != "n"]
    for order in ("little", "big"):
        after, _ = ply.read_ply(vertices([names[index] for index in keep], columns[:, keep], order=order))
        assert largest(before, after) == dict.fromkeys(PARTS, 0.0)


def test_a_ply_without_higher_harmonics_as_l4gm_writes_it():
    names = [name for name in ply.names_of(1) if name[0] != "n"]
    after, _ = ply.read_ply(vertices(names, np.tile(np.arange(len(names)) / 10, (5, 1))))
    assert after.degree == 0 and after.positions[0] == pytest.approx([0, 0.1, 0.2]) and after.scales[0] == pytest.approx(np.exp([0.7, 0.8, 0.9]))


def test_a_plain_point_cloud_has_its_colours_and_the_spacing_of_its_points():
    grid = np.stack(np.meshgrid(*[np.arange(4) * 0.5] * 3), -1).reshape(-1, 3)
    colours = np.tile([255, 51, 0], (64, 1))
    kinds = ["float"] * 3 + ["uchar"] * 3
    after, note = ply.read_ply(vertices(["x", "y", "z", "red", "green", "blue"], np.concatenate([grid, colours], 1), kinds))
    assert after.harmonics[0, 0] * SH_DC + 0.5 == pytest.approx([1.0, 0.2, 0.0], abs=1e-6) and "point cloud" in note and "grey" not in note
    assert after.scales == pytest.approx(0.25) and after.opacities.min() == 1


def test_a_ply_without_colours_is_grey_and_says_so():
    after, note = ply.read_ply(b"ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty double z\nelement face 1\nproperty list uchar int i\nend_header\n0 1 2\n3 4 5\n3 0 1 1\n")
    assert after.positions.tolist() == [[0, 1, 2], [3, 4, 5]] and not after.harmonics.any() and "grey" in note


HEAD = b"ply\nformat binary_little_endian 1.0\nelement vertex %d\nproperty float x\nproperty float y\nproperty float z\n%send_header\n%s"


@pytest.mark.parametrize(("data", "told"), [
    (b"solid cube", "does not begin"),
    (b"ply\nformat ascii 1.0\nelement vertex 1\n", "no end"),
    (HEAD % (10**15, b"", b""), "promises 1000000000000000 vertices of 12 bytes and 0 bytes follow"),
    (HEAD % (3, b"", bytes(35)), "promises 3 vertices of 12 bytes and 35 bytes follow: it is truncated"),
    (HEAD % (1, b"property list uchar int i\n", bytes(12)), "lists in front"),
    (HEAD % (1, b"".join(b"property float f_dc_%d\n" % i for i in range(3)), bytes(24)), "no opacity, scale_0"),
    (b"ply\nformat binary_little_endian 1.0\nelement vertex 1\nproperty half x\nend_header\n", "unknown type"),
    (b"ply\nformat binary_middle_endian 1.0\nelement vertex 0\nproperty float x\nend_header\n", "no known format"),
    (b"ply\nformat binary_little_endian 1.0\nelement chunk 1\nproperty float min_x\nend_header\n", "compressed PLY"),
    (b"ply\nformat ascii 1.0\nelement vertex 9\nproperty float x\nproperty float y\nproperty float z\nend_header\n1 2 x\n" + b" " * 99, "fewer than the 27 numbers"),
    (b"ply\nformat ascii 1.0\nelement vertex 99999999999\nproperty float x\nend_header\n1\n", "promises 99999999999 vertices"),
])  # fmt: skip
def test_a_damaged_ply_is_refused_before_memory_is_taken(data, told):
    tracemalloc.start()
    with pytest.raises(ValueError, match=told):
        ply.read_ply(data)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("rest", [3, 10, 72])
def test_a_degree_of_harmonics_that_does_not_exist_is_named(rest):
    names = [*ply.names_of(1), *(f"f_rest_{index}" for index in range(rest))]
    with pytest.raises(ValueError, match=f"{rest} values f_rest; spherical harmonics of degree 0 to 3 have 0, 9, 24 or 45"):
        ply.read_ply(vertices(names, np.zeros((1, len(names)))))


def test_comments_that_would_hide_the_end_of_the_header_are_left_out():
    whole = ply.write_ply(cloud(2), {"bloom4d": "{}", "workflow": "x" * 200_000})
    end = whole.index(b"end_header")
    assert end < 65536 and b"comment bloom4d {}" in whole[:end] and b"comment workflow is too long" in whole[:end]


# ---- SPZ


def test_an_spz_comes_back_within_its_steps():
    before = cloud(2000, 3)
    after = spz.read_spz(spz.write_spz(before))
    assert np.abs(after.positions - before.positions).max() <= 0.5 / (1 << 14) + 1e-7
    assert np.abs(np.log(after.scales / before.scales)).max() <= 0.5 / 16 + 1e-5
    assert np.abs(after.opacities - before.opacities).max() <= 0.5 / 255 + 1e-6
    assert (2 * np.arccos((np.abs((after.rotations * before.rotations).sum(1))).clip(max=1))).max() < 5e-3  # radians
    assert np.abs(after.harmonics[:, 0] - before.harmonics[:, 0]).max() * SH_DC <= 0.5 * SH_DC / 255 / 0.15 + 1e-5
    kept = np.abs(before.harmonics[:, 1:]) < 0.99  # what lies beyond is cut to it
    assert np.abs((after.harmonics - before.harmonics)[:, 1:])[kept].max() <= 0.5 / 128 + 1e-6


def test_far_positions_take_coarser_steps():
    far = cloud(10)
    far.positions[0] = 3000.0
    after = spz.read_spz(spz.write_spz(far))
    assert np.abs(after.positions - far.positions).max() <= 0.5 / (1 << 11) + 1e-4


def packed(version: int, body: bytes, count=1, degree=0, bits=12, flags=0) -> bytes:
    return gzip.compress(struct.pack("<IIIBBBB", spz.MAGIC, version, count, degree, bits, flags, 0) + body)


def test_the_older_versions_are_read():
    rest = bytes([255]) + bytes([128, 0, 255]) + bytes([160, 144, 176]) + bytes([128, 128, 255])
    one = spz.read_spz(packed(1, np.array([1, -2, 0.5], "<f2").tobytes() + rest))
    two = spz.read_spz(packed(2, bytes([0, 16, 0, 0, 224, 255, 0, 8, 0]) + rest))
    for found in (one, two):
        assert found.positions[0] == pytest.approx([1, -2, 0.5]) and found.scales[0] == pytest.approx(np.exp([0, -1, 1])) and found.opacities[0] == 1
        assert found.harmonics[0, 0] == pytest.approx((np.array([128, 0, 255]) / 255 - 0.5) / 0.15, abs=1e-5) and found.rotations[0] == pytest.approx([0, 0, 0, 1], abs=5e-3)


@pytest.mark.parametrize(("data", "told"), [
    (struct.pack("<I", spz.MAGIC) + bytes(60), "version 4 or later"),
    (b"PK\x03\x04", "no gzip stream"),
    (gzip.compress(b"x" * 99), "no gzip stream with the header"),
    (packed(4, bytes(20)), "version 4, and 1 to 3 are read"),
    (packed(2, bytes(19), degree=4), "harmonics of degree 4"),
    (packed(3, bytes(20), bits=200), "200 fractional bits"),
    (packed(2, bytes(18)), "1 Gaussians in 19 bytes and only 18 are in it: it is truncated"),
    (packed(2, bytes(20)), "more than the 1 Gaussians"),
    (packed(2, bytes(19), count=9_000_000), "9000000 Gaussians, more than"),
    (packed(2, bytes(19), count=2**32 - 1), "4294967295 Gaussians, more than"),
])  # fmt: skip
def test_a_damaged_spz_is_refused_before_memory_is_taken(data, told):
    tracemalloc.start()
    with pytest.raises(ValueError, match=told):
        spz.read_spz(data)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_truncated_stream_and_a_bomb_are_refused():
    whole = spz.write_spz(cloud(500))
    for end in (300, len(whole) // 2, len(whole) - 9):
        with pytest.raises(ValueError, match="truncated"):
            spz.read_spz(whole[:end])
    bomb = packed(2, bytes(50 << 20), count=1000)  # 50 MB of zeros in 50 kB
    tracemalloc.start()
    with pytest.raises(ValueError, match="more than the 1000 Gaussians"):
        spz.read_spz(bomb)
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()


# ---- clouds that are of no use


@pytest.mark.parametrize(("change", "told"), [
    (lambda it: it.positions.__setitem__((3, 1), np.nan), "1 of its 400 Gaussians hold numbers that are not finite"),
    (lambda it: it.scales.__setitem__(slice(0, 5), np.inf), "5 of its 400"),
    (lambda it: it.positions.__setitem__(0, 1e9), "reach 1e\\+09 units, it has exploded"),
])  # fmt: skip
def test_exploded_and_unfinished_clouds_are_told(change, told, tmp_path):
    broken = cloud()
    assert problem_of(broken) == ""
    change(broken)
    path = tmp_path / "frame_0000.ply"
    path.write_bytes(ply.write_ply(broken))
    with pytest.raises(ValueError, match=f'"frame_0000.ply" cannot be used: .*{told}'):
        files.read_splat_files([path])
    assert problem_of(SplatCloud(*(getattr(cloud(0), name) for name in PARTS))) == "no Gaussian is in it"


# ---- sequences


def written(gaussians, folder, kind, **options):
    paths = [folder / f"frame_{index:04}.{kind}" for index in range(gaussians.frames)]
    for index, path in enumerate(paths):
        path.write_bytes(files.ply_bytes(gaussians, index) if kind == "ply" else files.spz_bytes(gaussians, index, **options))
    return paths


def test_a_sequence_of_plys_is_the_same_over_time(tmp_path):
    before = moving(4, degree=2)
    after, note = files.read_splat_files(written(before, tmp_path, "ply"))
    assert note == "" and torch.equal(after.times, before.times) and len(after.scales) == 1
    for name in PARTS:
        assert torch.allclose(getattr(after, name), getattr(before, name), atol=1e-6), name


def test_files_are_in_the_frame_of_their_format(tmp_path):
    """Up is -y in a PLY and +y in an SPZ, unless that is asked for as the host has it."""
    one = moving(1, 1)
    up = type(one)(torch.tensor([[[0.0, 0.5, 0.25]]]), *list(one.attributes().values())[1:], one.times)
    assert ply.read_ply(files.ply_bytes(up, 0))[0].positions[0] == pytest.approx([0, -0.5, -0.25])
    assert spz.read_spz(files.spz_bytes(up, 0)).positions[0] == pytest.approx([0, 0.5, 0.25], abs=3.1e-5)
    assert spz.read_spz(files.spz_bytes(up, 0, True)).positions[0] == pytest.approx([0, -0.5, -0.25], abs=3.1e-5)
    for y_down in (False, True):
        after, _ = files.read_splat_files(written(up, tmp_path, "spz", y_down=y_down), y_down)
        assert after.positions[0, 0].tolist() == pytest.approx([0, 0.5, 0.25], abs=3.1e-5)


def test_times_of_different_counts_are_filled_up_unseen(tmp_path):
    few, many = moving(1, 30, seed=1), moving(1, 50, degree=1, seed=2)
    paths = [tmp_path / "a.ply", tmp_path / "b.ply"]
    for path, part in zip(paths, (few, many)):
        path.write_bytes(files.ply_bytes(part, 0))
    after, note = files.read_splat_files(paths)
    assert after.count == 50 and after.degree == 1 and "30 to 50 Gaussians" in note
    assert not after.opacities[0, 30:].any() and torch.allclose(after.opacities[0, :30], few.opacities[0], atol=1e-6)


# ---- what is seen (F1.6)


@pytest.mark.parametrize(("kind", "limit"), [("ply", 2e-3), ("spz", 2e-2)])
def test_a_file_renders_as_the_original_did(kind, limit, tmp_path, record_property):
    before = moving(3, 300, degree=1)
    after, _ = files.read_splat_files(written(before, tmp_path, kind))
    cameras = view_time_grid(2, 3)
    shown = [render_gaussians(gaussians, cameras, 48, 48) for gaussians in (before, after)]
    error = float((shown[0].rgb - shown[1].rgb).abs().max())
    assert error < limit and float(shown[0].alpha.amax()) > 0.9
    assert float((shown[0].rgb - render_gaussians(turned(before), cameras, 48, 48).rgb).abs().max()) > 0.2, "turned over it would look the same"
