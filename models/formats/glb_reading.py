"""Reading back the animated .glb files of `glb_animation`. Nothing outside the file is ever opened, and no size in it is believed."""

import math
import struct
from dataclasses import dataclass, replace

import numpy as np

from .configs import read_json, shown
from .glb import FLOAT, INT, KIND, SHORT
from .mesh_frames import MeshFrame, problem_of
from .provenance import KEY

FORMAT, VERSION = "bloom4d.mesh", 1
TYPES = {FLOAT: "<f4", SHORT: "<u2", INT: "<u4"}
WIDTH = {name: width for width, name in KIND.items()}
MOST_TIMES, MOST_VERTICES = 4096, 50_000_000
SLOTS = {"base_colour": ("pbrMetallicRoughness", "baseColorTexture"), "metallic_roughness": ("pbrMetallicRoughness", "metallicRoughnessTexture"), "normal": ("normalTexture",)}


@dataclass(frozen=True)
class AnimatedMesh:
    """frames: the mesh at each time. fps: times per second. unlit: whether its colours hold the light already."""

    frames: list[MeshFrame]
    fps: float
    unlit: bool


def describe(mode: str, times: int, fps: float) -> dict:
    """What a file says about itself under our key, beside where it comes from."""
    return {"format": FORMAT, "version": VERSION, "mode": mode, "times": times, "fps": fps}


def read_glb(data: bytes) -> AnimatedMesh:
    """An animated mesh that Save 4D wrote; ValueError in a clause for everything else."""
    scene, blob = _chunks(data)
    try:
        return _Document(scene, blob).mesh()
    except (KeyError, TypeError, IndexError, AttributeError):
        raise ValueError("its scene is not of the shape that Save 4D writes") from None


def _chunks(data: bytes) -> tuple[dict, bytes]:
    if len(data) < 20 or data[:4] != b"glTF":
        raise ValueError("it does not begin as a binary glTF file")
    version, total, length, kind = struct.unpack("<IIII", data[4:20])
    if version != 2 or total != len(data) or kind != 0x4E4F534A or length > len(data) - 20:
        raise ValueError(f"it is no glTF 2.0 of the {total} bytes that its header promises ({len(data)} are there): it is truncated or altered")
    scene, rest = read_json(data[20 : 20 + length].decode("utf-8", "replace")), data[20 + length :]
    size, kind = struct.unpack("<II", rest[:8]) if len(rest) >= 8 else (0, 0x004E4942)
    if kind != 0x004E4942 or size > max(len(rest) - 8, 0):
        raise ValueError("its second part is not the data that its header promises")
    if not isinstance(scene, dict):
        raise ValueError("its scene is no group of named values")
    return scene, rest[8 : 8 + size]


@dataclass(frozen=True)
class _Document:
    scene: dict
    blob: bytes

    def mesh(self) -> AnimatedMesh:
        self._refuse_references()
        about = self._about()
        times, fps = about["times"], about["fps"]
        if not _whole(times) or not 1 <= times <= MOST_TIMES or not _number(fps) or not 0 < fps <= 1e4:
            raise ValueError(f"it claims {shown(times)} times at {shown(fps)} per second")
        frames = self._morphed(times) if about["mode"] == "morph" else self._stepped(times)
        for index, frame in enumerate(frames):
            if problem := problem_of(frame):
                raise ValueError(f"at time {index} {problem}")
        materials = self.scene.get("materials") or [{}]
        return AnimatedMesh(frames, float(fps), "KHR_materials_unlit" in (materials[0].get("extensions") or {}))

    def _about(self) -> dict:
        """Our description; ValueError when the file is not ours."""
        extras = (self.scene.get("asset") or {}).get("extras") or {}
        about = read_json(extras.get(KEY) or "null")
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            raise ValueError("it is no GLB of Save 4D (its description is missing), and other GLB files are for the host's 3D nodes")
        if about.get("version") != VERSION or about.get("mode") not in ("morph", "stepped"):
            raise ValueError(f"it is a {shown(about.get('mode'))} GLB of version {shown(about.get('version'))}, this pack reads {VERSION}")
        return about

    def _refuse_references(self):
        for kind in ("buffers", "images"):
            for item in self.scene.get(kind) or []:
                if "uri" in item:
                    raise ValueError(f"it refers to another place ({shown(item['uri'])}), and only what is inside a file is read")

    def _morphed(self, times: int) -> list[MeshFrame]:
        primitive = self.scene["meshes"][0]["primitives"][0]
        base, targets = self._frame(primitive), primitive.get("targets") or []
        if len(targets) != times - 1:
            raise ValueError(f"it claims {times} times and holds {len(targets) + 1}")
        _affordable(times * len(base.vertices))
        return _without_alpha([base, *(self._moved(base, target) for target in targets)])

    def _moved(self, base: MeshFrame, target: dict) -> MeshFrame:
        move = self._array(target["POSITION"], like=base.vertices)
        colours = base.colours if "COLOR_0" not in target else base.colours + self._array(target["COLOR_0"], like=base.colours)
        return MeshFrame(base.vertices + move, base.faces, colours, base.uvs, base.maps)

    def _stepped(self, times: int) -> list[MeshFrame]:
        frames = [MeshFrame(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int64))] * times
        primitives = [self.scene["meshes"][node["mesh"]]["primitives"][0] for node in self.scene["nodes"]]
        _affordable(sum(self._count(index) for primitive in primitives for index in (primitive["attributes"]["POSITION"], primitive["indices"])))
        for node, primitive in zip(self.scene["nodes"], primitives):
            index = node["name"].removeprefix("time ")
            if not index.isascii() or not index.isdecimal() or int(index[:9]) >= times:
                raise ValueError(f"its node {shown(node['name'])} is at no time")
            frames[int(index)] = self._frame(primitive)
        return frames

    def _frame(self, primitive: dict) -> MeshFrame:
        attributes = primitive["attributes"]
        vertices, faces = self._array(attributes["POSITION"]), self._array(primitive["indices"])
        if vertices.shape[1:] != (3,) or faces.ndim != 1 or len(faces) % 3:
            raise ValueError("its vertices or faces are not in threes")
        colours, uvs = (self._array(attributes[name]) if name in attributes else None for name in ("COLOR_0", "TEXCOORD_0"))
        if any(part is not None and len(part) != len(vertices) for part in (colours, uvs)):
            raise ValueError("it has another number of colours or uvs than of vertices")
        return MeshFrame(vertices, faces.astype(np.int64).reshape(-1, 3), colours, uvs, self._maps(primitive) if uvs is not None else {})

    def _maps(self, primitive: dict) -> dict[str, bytes]:
        found, material = {}, self.scene["materials"][primitive["material"]]
        for name, path in SLOTS.items():
            slot = material
            for part in path:
                slot = (slot or {}).get(part)
            if slot is not None:
                image = self.scene["images"][self.scene["textures"][slot["index"]]["source"]]
                found[name] = self._view(image["bufferView"])
        return found

    def _count(self, index: int) -> int:
        count = self.scene["accessors"][index]["count"]
        return count if _whole(count) else 0

    def _array(self, index: int, like: np.ndarray | None = None) -> np.ndarray:
        """An accessor's values, (N,) or (N, C); they are all there, and shaped `like` another array where one is given."""
        accessor = self.scene["accessors"][index]
        kind, width, count = np.dtype(TYPES[accessor["componentType"]]), WIDTH[accessor["type"]], accessor["count"]
        if "sparse" in accessor or "bufferView" not in accessor or not _whole(count):
            raise ValueError("one of its arrays has no values of its own")
        data, start = self._view(accessor["bufferView"]), accessor.get("byteOffset") or 0
        if not _whole(start) or start + count * width * kind.itemsize > len(data):
            raise ValueError(f"one of its arrays claims {count} entries and {len(data)} bytes are there for it")
        values = np.frombuffer(data, kind, count * width, start)
        values = values.reshape(count, width) if width > 1 else values
        if like is not None and values.shape != like.shape:
            raise ValueError("one of its morph targets has another size than its base")
        return values.astype(np.float32) if kind == np.float32 else values

    def _view(self, index: int) -> bytes:
        view = self.scene["bufferViews"][index]
        start, length = view.get("byteOffset") or 0, view["byteLength"]
        if not _whole(start) or not _whole(length) or start + length > len(self.blob) or "byteStride" in view:
            raise ValueError("a part of its data lies outside the file")
        return self.blob[start : start + length]


def _without_alpha(frames: list[MeshFrame]) -> list[MeshFrame]:
    """Without the alpha that morphed colours were given, where it says nothing."""
    opaque = all(frame.colours is not None and frame.colours.shape[1] == 4 and bool((frame.colours[:, 3] == 1).all()) for frame in frames)
    return [replace(frame, colours=frame.colours[:, :3]) for frame in frames] if opaque else frames


def _affordable(count: int) -> None:
    """ValueError for more vertices and corners over all times than are read: many times may share one array of a small file."""
    if count > MOST_VERTICES:
        raise ValueError(f"it has {count} vertices over all times, and at most {MOST_VERTICES} are read")


def _number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
