"""Readers of Load 4D: splat files, animated GLB, master and viewer files, each damaged where its format believes a number or a name."""

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from .engine import Reader
from .tensor_files import Damage, TensorFile, damaged
from .values import one_of, texts_of, weighted

COUNTS = (0, 1, 2, 3, 255, 2**16, 10**7, 2**31, 2**32 - 1)
WORDS = (b"-1", b"0", b"1e9", b"99999999999999", b"9" * 400, b"nan", b"", b"list uchar int", b"double", b"char", b"half", b"vertex", b"x", b"f_rest_7", b"scale_0", b"red", b"ascii", b"binary_big_endian", b"\xff\xfe", b"\n", b"comment")


def sample():
    """Two times of three Gaussians of degree 1."""
    from bloom4d.models.gaussians.gaussians import Gaussians4D

    draws = torch.Generator().manual_seed(0)
    random = lambda *shape: torch.rand(*shape, generator=draws)  # noqa: E731
    return Gaussians4D(random(2, 3, 3), torch.nn.functional.normalize(random(2, 3, 4), dim=-1), 0.1 * random(1, 3, 3), random(1, 3), random(1, 3, 4, 3), torch.tensor([0.0, 1.0]))


def reader_of(name: str, path: Path, cases: SearchStrategy) -> Reader:
    """What Load 4D makes of a damaged file."""
    from bloom4d.nodes.host.meshes import mesh_of
    from bloom4d.nodes.imports import in_words, load

    def read(damage: Damage) -> str:
        path.write_bytes(damage.content)
        master, kind = load(path, False)
        if master.mesh:
            mesh_of(master.mesh, master.unlit)
        if master.gaussians is not None:
            assert all(bool(torch.isfinite(value).all()) for value in master.gaussians.expanded().values())
        return f"read, {len(in_words(master, kind).splitlines())} lines"

    return Reader(name, cases, read, names=lambda case: (path.name,))


def spoiled(whole: bytes) -> SearchStrategy:
    """The bytes of any file: cut, one changed, some put in, something else."""
    place = st.integers(0, len(whole) - 1)
    return (
        place.map(lambda end: Damage(f"cut at {end}", whole[:end]))
        | st.tuples(place, st.integers(1, 255)).map(lambda drawn: Damage(f"byte {drawn[0]} xor {drawn[1]}", whole[: drawn[0]] + bytes([whole[drawn[0]] ^ drawn[1]]) + whole[drawn[0] + 1 :]))
        | st.tuples(place, st.binary(min_size=1, max_size=9)).map(lambda drawn: Damage(f"{drawn[1]!r} put in at {drawn[0]}", whole[: drawn[0]] + drawn[1] + whole[drawn[0] :]))
        | st.binary(max_size=64).map(lambda content: Damage("random bytes", content))
        | st.just(Damage("whole", whole))
    )


# ---- splats


def ply_files(folder: Path) -> Reader:
    """Words of the header exchanged, lines lost and doubled, numbers in the data that are none."""
    from bloom4d.models.gaussians.files import ply_bytes

    whole = ply_bytes(sample(), 0, {"bloom4d": "{}"})
    head, body = whole.split(b"end_header\n")
    lines = head.splitlines(keepends=True)
    line = st.integers(0, len(lines) - 1)
    text = b"ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\nproperty uchar red\nproperty uchar green\nproperty uchar blue\nend_header\n0 1 2 3 4 5\n6 7 8 9 10 11\n"
    rebuilt = lambda parts, data=body: b"".join(parts) + b"end_header\n" + data  # noqa: E731
    cases = (
        st.tuples(line, st.integers(0, 2), one_of(WORDS)).map(lambda drawn: Damage(f"word {drawn[:2]} = {drawn[2][:20]!r}", rebuilt(worded(lines, *drawn))))
        | line.map(lambda index: Damage(f"without line {index}", rebuilt(lines[:index] + lines[index + 1 :])))
        | st.tuples(line, line).map(lambda drawn: Damage(f"line {drawn[0]} again at {drawn[1]}", rebuilt(lines[: drawn[1]] + [lines[drawn[0]]] + lines[drawn[1] :])))
        | st.tuples(st.integers(0, len(body) // 4 - 1), one_of((float("nan"), float("inf"), 3e38, -3e38, 0.0, 1e7, 200.0))).map(lambda drawn: Damage(f"number {drawn[0]} = {drawn[1]}", rebuilt(lines, put(body, *drawn))))
    )
    return reader_of("ply", folder / "frame_0000.ply", weighted((4, cases), (1, spoiled(whole)), (1, spoiled(text))))


def worded(lines: list[bytes], index: int, place: int, word: bytes) -> list[bytes]:
    words = lines[index].split()
    words[min(place, len(words) - 1)] = word
    return [*lines[:index], b" ".join(words) + b"\n", *lines[index + 1 :]]


def put(body: bytes, index: int, value: float) -> bytes:
    numbers = np.frombuffer(body, "<f4").copy()
    numbers[index] = value
    return numbers.tobytes()


def spz_files(folder: Path) -> Reader:
    """Fields of the header inside the stream, its length, and the stream itself."""
    from bloom4d.models.gaussians.files import spz_bytes

    whole = spz_bytes(sample(), 0)
    raw = gzip.decompress(whole)
    fields = {"magic": (0, "I"), "version": (4, "I"), "count": (8, "I"), "degree": (12, "B"), "bits": (13, "B"), "flags": (14, "B")}

    def field(drawn) -> Damage:
        (name, (place, kind)), value = drawn
        value %= 256 if kind == "B" else 2**32
        return Damage(f"{name} = {value}", gzip.compress(raw[:place] + struct.pack("<" + kind, value) + raw[place + struct.calcsize(kind) :], 1))

    cases = (
        st.tuples(one_of(tuple(fields.items())), one_of(COUNTS) | st.integers(0, 6)).map(field)
        | spoiled(raw).map(lambda damage: Damage(f"inside: {damage.words}", gzip.compress(damage.content, 1)))
        | st.integers(1, 2000).map(lambda more: Damage(f"{more} kB more", gzip.compress(raw + bytes(more << 10), 1)))
    )
    return reader_of("spz", folder / "frame_0000.spz", weighted((3, cases), (1, spoiled(whole))))


# ---- meshes


def glb_files(folder: Path) -> Reader:
    """The scene as text, changed in its values, and the parts around it."""
    from bloom4d.models.formats.glb_animation import animated_glb, chosen_mode
    from bloom4d.models.formats.glb_reading import describe
    from bloom4d.models.formats.mesh_frames import MeshFrame
    from bloom4d.nodes.host.meshes import png_of

    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
    maps = {"base_colour": png_of(torch.rand(2, 2, 3, generator=torch.Generator().manual_seed(0)))}
    kinds = [[MeshFrame(corners * scale, np.array([[0, 1, 2]]), corners, corners[:, :2], maps) for scale in (1, 2)], [MeshFrame(np.tile(corners, (times, 1)), np.array([[0, 1, 2]]) + 3 * (times - 1)) for times in (1, 2)]]
    files = [animated_glb(frames, 8.0, "auto", False, {"bloom4d": json.dumps(describe(chosen_mode(frames, "auto"), 2, 8.0))}) for frames in kinds]
    return reader_of("glb", folder / "4d_00001_.glb", st.sampled_from(files).flatmap(lambda whole: weighted((4, _scenes(whole)), (1, spoiled(whole)))))


def _scenes(whole: bytes) -> SearchStrategy:
    length, = struct.unpack("<I", whole[12:16])
    scene, rest = json.loads(whole[20 : 20 + length]), whole[20 + length :]
    return texts_of(scene).map(lambda text: Damage(f"scene {text[:1500]}", contained(text.encode("utf-8", "surrogatepass"), rest)))


def contained(text: bytes, rest: bytes) -> bytes:
    """A GLB of a scene's text and what follows it."""
    text += b" " * (-len(text) % 4)
    return struct.pack("<4sII", b"glTF", 2, 20 + len(text) + len(rest)) + struct.pack("<I", len(text)) + b"JSON" + text + rest


# ---- tensor files


def tensor_reader(name: str, path: Path, write: Callable[[Path], object], *documents: str) -> Reader:
    write(path)
    return reader_of(name, path, damaged(TensorFile.read(path, *documents)))


def master_files(folder: Path) -> Reader:
    from bloom4d.models.gaussians.files import Master, write_master

    mesh = {"vertices": torch.rand(2, 3, 3), "faces": torch.tensor([[[0, 1, 2]]] * 2), "vertex_colors": torch.rand(2, 3, 3), "vertex_counts": torch.tensor([3, 3]), "face_counts": torch.tensor([1, 0])}
    return tensor_reader("master", folder / "4d_00001_.bloom4d.safetensors", lambda path: write_master(path, Master(sample(), mesh)), "bloom4d")


def viewer_files(folder: Path) -> Reader:
    from bloom4d.models.gaussians.files import viewer_bytes

    return tensor_reader("viewer file", folder / "4d_00001_.viewer.safetensors", lambda path: path.write_bytes(viewer_bytes(sample(), 8.0, {})), "aabb", "times")
