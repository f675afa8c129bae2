"""Animated GLB files, taken apart by pygltflib: what is drawn at which second, lit how, and which way is chosen."""

import json
import sys

import numpy as np
import pytest
from animated_meshes import ball, every_kind, png, shades, written

from bloom4d.models.formats import glb_reading
from bloom4d.models.formats.glb_animation import animated_glb, chosen_mode
from bloom4d.models.formats.mesh_frames import MeshFrame, vertex_normals, vertex_tangents

KINDS = list(every_kind())


class Parsed:
    """A file as another library reads it; arrays by accessor number."""

    def __init__(self, data: bytes):
        pygltflib = pytest.importorskip("pygltflib")
        self.gltf = pygltflib.GLTF2.load_from_bytes(data)
        self.blob = self.gltf.binary_blob()

    def array(self, index: int) -> np.ndarray:
        accessor = self.gltf.accessors[index]
        view = self.gltf.bufferViews[accessor.bufferView]
        kind = {5126: "<f4", 5123: "<u2", 5125: "<u4"}[accessor.componentType]
        width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}[accessor.type]
        values = np.frombuffer(self.blob, kind, accessor.count * width, view.byteOffset + accessor.byteOffset)
        if accessor.min is not None:
            assert accessor.min == np.atleast_1d(values.reshape(-1, width).min(0)).tolist() and accessor.max == np.atleast_1d(values.reshape(-1, width).max(0)).tolist()
        return values.reshape(-1, width)

    def primitive(self, mesh: int):
        return self.gltf.meshes[mesh].primitives[0]

    def seen(self, seconds: float) -> dict[int, np.ndarray]:
        """Node -> its drawn vertices at this time, as a player of the animation shows it: those of scale 0 are left out."""
        values = {(channel.target.node, channel.target.path): self._sampled(self.gltf.animations[0].samplers[channel.sampler], seconds)
                  for animation in self.gltf.animations for channel in animation.channels}
        return {index: points for index, node in enumerate(self.gltf.nodes) if len(points := self._drawn(index, node, values))}

    def _drawn(self, index, node, values) -> np.ndarray:
        primitive = self.primitive(node.mesh)
        points = self.array(primitive.attributes.POSITION).astype(np.float64)
        for weight, target in zip(values.get((index, "weights"), []), primitive.targets or []):
            points = points + weight * self.array(target["POSITION"])
        scale = values.get((index, "scale"), node.scale if node.scale else np.ones(3))
        return points * scale if np.any(scale) else points[:0]

    def _sampled(self, sampler, seconds: float) -> np.ndarray:
        times = self.array(sampler.input)[:, 0]
        assert (np.diff(times) > 0).all() and times[0] == 0
        values = self.array(sampler.output).reshape(len(times), -1).astype(np.float64)
        right = int(np.searchsorted(times, seconds, "right")) - 1
        if sampler.interpolation == "STEP" or right == len(times) - 1:
            return values[right]
        share = (seconds - times[right]) / (times[right + 1] - times[right])
        return (1 - share) * values[right] + share * values[right + 1]


@pytest.mark.parametrize("kind", KINDS)
def test_at_each_time_exactly_its_mesh_is_drawn(kind):
    frames, _, _ = every_kind()[kind]
    parsed = Parsed(written(kind))
    for index, frame in enumerate(frames):
        seen = parsed.seen(index / 8 + 1e-6)
        assert len(seen) == (0 if frame.empty else 1)
        for points in seen.values():
            assert np.abs(points - frame.vertices).max() < 1e-5


def test_between_two_times_a_morph_is_in_the_middle_and_a_step_still_the_first():
    frames, _, _ = every_kind()["morph"]
    half, = Parsed(written("morph")).seen(1.5 / 8).values()
    assert np.abs(half - (frames[1].vertices + frames[2].vertices) / 2).max() < 1e-5
    half, = Parsed(written("stepped topology")).seen(1.5 / 8).values()
    assert len(half) == 9 * 9
    last, = Parsed(written("stepped topology")).seen(3.99 / 8).values()
    assert len(last) == 11 * 11


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read_back(kind):
    frames, mode, unlit = every_kind()[kind]
    about = json.dumps(glb_reading.describe(chosen_mode(frames, mode), len(frames), 8.0))
    again = glb_reading.read_glb(written(kind, {"bloom4d": about}))
    assert (len(again.frames), again.fps, again.unlit) == (len(frames), 8.0, unlit)
    for frame, other in zip(frames, again.frames):
        assert np.array_equal(frame.faces, other.faces) and np.allclose(frame.vertices, other.vertices, atol=1e-6)
        assert frame.colours is None or np.allclose(frame.colours, other.colours, atol=1e-6)
        assert other.maps == ({"base_colour": frame.maps["base_colour"]} if unlit and frame.maps else frame.maps)


@pytest.mark.parametrize(("kind", "mode"), [("morph", "morph"), ("stepped colours", "stepped"), ("stepped topology", "stepped"), ("changing textures", "stepped"), ("maps", "morph"), ("a single time", "morph")])
def test_the_way_is_chosen_by_what_changes(kind, mode):
    assert chosen_mode(every_kind()[kind][0], "auto") == mode
    assert len(Parsed(written(kind)).gltf.nodes) == (1 if mode == "morph" else len(every_kind()[kind][0]))


@pytest.mark.parametrize(("frames", "told"), [
    ([ball(8), ball(9)], "64 vertices at the first time and 81 at time 1"),
    ([ball(8), MeshFrame(ball(8).vertices, ball(8).faces[::-1])], "its faces change at time 1"),
    ([ball(8, maps={"base_colour": png((1, 1, 1))}), ball(8, maps={"base_colour": png((2, 1, 1))})], "its textures change at time 1"),
])  # fmt: skip
def test_morph_targets_that_cannot_be_are_refused(frames, told):
    with pytest.raises(ValueError, match=f"cannot be written with morph targets: .*{told}. Set the GLB mode to stepped"):
        animated_glb(frames, 8.0, "morph")


def test_normals_of_a_ball_point_away_from_its_middle():
    frame = ball(64)
    inner = np.abs(frame.vertices[:, 1]) < 0.9
    normals = vertex_normals(frame.vertices, frame.faces)
    assert (normals * frame.vertices)[inner].sum(1).min() > 0.995 and np.linalg.norm(normals, axis=1) == pytest.approx(1, abs=1e-6)
    assert vertex_normals(np.zeros((3, 3)), np.array([[0, 1, 2]])).tolist() == [[0, 1, 0]] * 3


def test_tangents_follow_u_and_the_side_tells_where_v_points():
    flat = MeshFrame(np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32), np.array([[0, 1, 2], [0, 2, 3]]), None, np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32))
    normals = vertex_normals(flat.vertices, flat.faces)
    assert vertex_tangents(flat, normals) == pytest.approx(np.tile([1, 0, 0, 1], (4, 1)))  # the picture upright: green of the map is up
    mirrored = MeshFrame(flat.vertices, flat.faces, None, flat.uvs * [-1, 1])
    assert vertex_tangents(mirrored, normals) == pytest.approx(np.tile([-1, 0, 0, -1], (4, 1)))
    round_one = ball(24, 0.2)
    tangents = vertex_tangents(round_one, normals := vertex_normals(round_one.vertices, round_one.faces))
    assert np.abs((tangents[:, :3] * normals).sum(1)).max() < 1e-5 and np.linalg.norm(tangents[:, :3], axis=1) == pytest.approx(1, abs=1e-5)
    nowhere = MeshFrame(flat.vertices, flat.faces, None, np.zeros((4, 2), np.float32))
    upright = np.tile([0, 0, 1], (4, 1))
    assert np.linalg.norm(vertex_tangents(nowhere, upright)[:, :3], axis=1) == pytest.approx(1)


def test_materials_carry_the_maps_and_unlit_meshes_only_their_colour():
    lit, = Parsed(written("maps")).gltf.materials
    surface = lit.pbrMetallicRoughness
    assert surface.metallicFactor == surface.roughnessFactor == 1 and surface.metallicRoughnessTexture and surface.baseColorTexture and lit.normalTexture
    parsed = Parsed(written("maps of an unlit mesh"))
    unlit, = parsed.gltf.materials
    assert "KHR_materials_unlit" in unlit.extensions and parsed.gltf.extensionsUsed == ["KHR_materials_unlit"] and not unlit.normalTexture
    assert parsed.primitive(0).attributes.NORMAL is None and parsed.primitive(0).attributes.TANGENT is None


def test_what_no_time_changes_is_stored_once():
    one, three = (animated_glb([ball(40)] * count, 8.0, "stepped") for count in (1, 3))
    assert len(three) < len(one) + 3000


@pytest.mark.parametrize(("change", "told"), [
    (lambda frame: MeshFrame(frame.vertices * np.nan, frame.faces), "vertices that are not finite"),
    (lambda frame: MeshFrame(frame.vertices * 1e9, frame.faces), "it has exploded"),
    (lambda frame: MeshFrame(frame.vertices[:5], frame.faces), "faces to vertices that don't exist"),
    (lambda frame: MeshFrame(frame.vertices, frame.faces, maps={"normal": png((1, 1, 1))}), "no uvs"),
])  # fmt: skip
def test_broken_meshes_are_not_written(change, told):
    with pytest.raises(ValueError, match=f"At time 1 the mesh .*{told}"):
        animated_glb([ball(8), change(ball(8))], 8.0)


def test_nothing_at_any_time_is_told():
    with pytest.raises(ValueError, match="no face at any time"):
        animated_glb([MeshFrame(np.zeros((0, 3)), np.zeros((0, 3), int))] * 2, 8.0)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygltflib", None)
    with pytest.raises(ImportError, match="GLB files need the package pygltflib.*Install the pack's requirements.txt"):
        animated_glb([ball(8)], 8.0)


def test_colours_are_linear_and_within_their_range():
    wide = shades() * 2 - 0.5
    parsed = Parsed(animated_glb([ball(12, colours=wide)], 8.0))
    assert np.allclose(parsed.array(parsed.primitive(0).attributes.COLOR_0), wide.clip(0, 1))
