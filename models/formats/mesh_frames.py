"""A mesh at one time as files take it, with the directions that lit ones are stored with."""

from dataclasses import dataclass, field

import numpy as np

FARTHEST = 1e6  # units; objects are made in the unit ball
MAPS = ("base_colour", "metallic_roughness", "normal")


@dataclass(frozen=True)
class MeshFrame:
    """A mesh at one time, Y up.

    vertices (Nv, 3), faces (Nf, 3) counter-clockwise from outside, colours (Nv, 3 or 4) linear in [0, 1] or None, uvs (Nv, 2)
    with the origin at the upper left or None. maps: PNG files by the names of `MAPS`: base colour and normal as glTF has
    them, metallic in blue and roughness in green of the other one; they need uvs.
    """

    vertices: np.ndarray
    faces: np.ndarray
    colours: np.ndarray | None = None
    uvs: np.ndarray | None = None
    maps: dict[str, bytes] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether nothing can be seen of it."""
        return not len(self.vertices) or not len(self.faces)


def same(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    """Whether two arrays are equal, or both missing."""
    return one is other or (one is not None and other is not None and np.array_equal(one, other))


def problem_of(frame: MeshFrame) -> str:
    """Why a mesh can't be used, as a clause; empty text when nothing is wrong."""
    if not np.isfinite(frame.vertices).all():
        return "the mesh holds vertices that are not finite"
    if len(frame.vertices) and np.abs(frame.vertices).max() > FARTHEST:
        return f"the mesh reaches {np.abs(frame.vertices).max():.0e} units, it has exploded"
    if frame.faces.size and (frame.faces.min() < 0 or frame.faces.max() >= len(frame.vertices)):
        return "the mesh has faces to vertices that don't exist"
    unplaced = frame.maps and frame.uvs is None
    return f"the mesh has textures ({', '.join(frame.maps)}) and no uvs that place them" if unplaced else ""


def tidy(frame: MeshFrame) -> MeshFrame:
    """In the types of glTF, colours within [0, 1]."""
    colours = None if frame.colours is None else frame.colours.astype(np.float32).clip(0, 1)
    uvs = None if frame.uvs is None else frame.uvs.astype(np.float32)
    return MeshFrame(frame.vertices.astype(np.float32), frame.faces.astype(np.int64), colours, uvs, frame.maps)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals (Nv, 3): the mean of the faces around each vertex, weighted by area; +Y where there is none."""
    corners = vertices.astype(np.float64)[faces]
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.stack([np.bincount(faces.ravel(), np.repeat(area[:, axis], 3), len(vertices)) for axis in range(3)], 1)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.where(length > 1e-20, total / np.maximum(length, 1e-20), [0.0, 1.0, 0.0]).astype(np.float32)


def vertex_tangents(frame: MeshFrame, normals: np.ndarray) -> np.ndarray:
    """Unit tangents along growing u, at right angles to the normals, and the side of growing v: (Nv, 4), as normal maps need them."""
    corners, uvs = frame.vertices.astype(np.float64)[frame.faces], frame.uvs.astype(np.float64)[frame.faces]
    edges, steps = corners[:, 1:] - corners[:, :1], uvs[:, 1:] - uvs[:, :1]
    along_u = edges[:, 0] * steps[:, 1, 1:] - edges[:, 1] * steps[:, 0, 1:]
    along_v = edges[:, 1] * steps[:, 0, :1] - edges[:, 0] * steps[:, 1, :1]
    area = np.sign(steps[:, 0, 0] * steps[:, 1, 1] - steps[:, 0, 1] * steps[:, 1, 0])[:, None]
    u, v = (_around(frame, direction * area) for direction in (along_u, along_v))
    tangent = u - normals * (u * normals).sum(1, keepdims=True)
    across = np.cross(normals, np.where(np.abs(normals[:, :1]) < 0.9, [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]))  # where uvs give no direction
    length = np.linalg.norm(tangent, axis=1, keepdims=True)
    tangent = np.where(length > 1e-12, tangent, across)
    side = np.where((np.cross(normals, tangent) * v).sum(1, keepdims=True) > 0, -1.0, 1.0)  # glTF's v grows downwards
    return np.concatenate([tangent / np.linalg.norm(tangent, axis=1, keepdims=True), side], 1).astype(np.float32)


def _around(frame: MeshFrame, values: np.ndarray) -> np.ndarray:
    """The sum over the faces around each vertex of values (Nf, 3)."""
    corners = frame.faces.ravel()
    return np.stack([np.bincount(corners, np.repeat(values[:, axis], 3), len(frame.vertices)) for axis in range(3)], 1)
