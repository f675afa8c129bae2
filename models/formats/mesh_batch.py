"""A batch of meshes over time as tensors by name, the way the host's MESH holds it: what master files keep and GLB files are made of."""

from collections.abc import Callable

import torch
from torch import Tensor

from .mesh_frames import MeshFrame, problem_of

FLOATS = {"vertices": (3,), "uvs": (2,), "vertex_colors": (3, 4)}
PICTURES = {"texture": "base_colour", "metallic_roughness": "metallic_roughness", "normal": "normal"}
COUNTS = ("vertex_counts", "face_counts")
NAMES = (*FLOATS, "faces", *PICTURES, *COUNTS)


def batch_problem(mesh: dict[str, Tensor]) -> str:
    """What is wrong with a batch out of a file, as a clause; empty text when nothing is.

    vertices (B, N, 3), faces (B, M, 3) int64; optional uvs (B, N, 2), vertex_colors (B, N, 3 or 4), pictures (B or 1, H, W, 3),
    vertex_counts and face_counts (B,) int64 where the entries are padded.
    """
    if not {"vertices", "faces"} <= mesh.keys() or mesh.keys() - set(NAMES):
        return f"its mesh consists of {', '.join(sorted(mesh))}"
    if mesh["vertices"].dim() != 3 or not len(mesh["vertices"]):
        return "its mesh has no vertices at any time"
    wanted = {"faces": (3,), **FLOATS}
    for name in wanted.keys() & mesh.keys():
        value = mesh[name]
        same_batch = value.dim() == 3 and value.shape[:1] == mesh["vertices"].shape[:1] and value.shape[2] in wanted[name]
        if not same_batch or (name != "faces" and value.shape[1] != mesh["vertices"].shape[1]) or value.is_floating_point() != (name != "faces"):
            return f"its mesh's {name} are {tuple(value.shape)} of {value.dtype}"
    return _pictures_problem(mesh) or _counts_problem(mesh) or _frames_problem(mesh)


def _pictures_problem(mesh: dict[str, Tensor]) -> str:
    for name in PICTURES.keys() & mesh.keys():
        shape = mesh[name].shape
        if len(shape) != 4 or shape[0] not in (1, len(mesh["vertices"])) or shape[3] != 3 or not mesh[name].is_floating_point():
            return f"its mesh's {name} is {tuple(shape)}"
    return ""


def _counts_problem(mesh: dict[str, Tensor]) -> str:
    if ("vertex_counts" in mesh) != ("face_counts" in mesh):
        return "its mesh has counts of vertices or of faces alone"
    for name, part in zip(COUNTS, ("vertices", "faces")):
        counts = mesh.get(name)
        if counts is None:
            continue
        if counts.shape != mesh[part].shape[:1] or counts.is_floating_point() or counts.is_complex() or bool(((counts < 0) | (counts > mesh[part].shape[1])).any()):
            return f"its mesh's {name} do not fit its {part}"
    return ""


def _frames_problem(mesh: dict[str, Tensor]) -> str:
    for index in range(len(mesh["vertices"])):
        if problem := problem_of(frame_of(mesh, index)):
            return f"at time {index} {problem}"
    return ""


def frame_of(mesh: dict[str, Tensor], index: int, pictures: dict[str, bytes] | None = None) -> MeshFrame:
    """The mesh at one time without its padding; `pictures`: its maps as files."""
    vertices, faces = (_cut(mesh, index, name, counts) for name, counts in (("vertices", COUNTS[0]), ("faces", COUNTS[1])))
    colours, uvs = (_cut(mesh, index, name, COUNTS[0]) if name in mesh else None for name in ("vertex_colors", "uvs"))
    return MeshFrame(vertices, faces, colours, uvs, pictures or {})


def _cut(mesh: dict[str, Tensor], index: int, name: str, counts: str):
    end = int(mesh[counts][index]) if counts in mesh else None
    return mesh[name][index, :end].detach().cpu().numpy()


def frames_of(mesh: dict[str, Tensor], encode: Callable[[Tensor], bytes]) -> list[MeshFrame]:
    """The mesh at every time; `encode` makes a PNG of a picture (H, W, 3) in [0, 1]."""
    drawn = {name: [encode(picture) for picture in mesh[name]] for name in PICTURES if name in mesh}
    maps = [{PICTURES[name]: files[index if len(files) > 1 else 0] for name, files in drawn.items()} for index in range(len(mesh["vertices"]))]
    return [frame_of(mesh, index, pictures) for index, pictures in enumerate(maps)]


def batch_of(frames: list[MeshFrame], decode: Callable[[bytes], Tensor]) -> dict[str, Tensor]:
    """The batch of some frames, padded where they differ in size; `decode` makes a picture (H, W, 3) of a file.

    Pictures need one size; ValueError in a clause otherwise.
    """
    mesh = {name: _padded([torch.from_numpy(getattr(frame, part)) for frame in frames])
            for name, part in (("vertices", "vertices"), ("faces", "faces"), ("vertex_colors", "colours"), ("uvs", "uvs"))
            if all(getattr(frame, part) is not None for frame in frames)}  # fmt: skip
    counts = torch.tensor([[len(frame.vertices), len(frame.faces)] for frame in frames])
    if bool((counts != counts[0]).any()):
        mesh |= {"vertex_counts": counts[:, 0].clone(), "face_counts": counts[:, 1].clone()}
    return mesh | {name: _stacked([decode(frame.maps[part]) for frame in frames]) for name, part in PICTURES.items() if all(part in frame.maps for frame in frames)}


def _padded(parts: list[Tensor]) -> Tensor:
    widest = max(parts, key=len)
    whole = widest.new_zeros(len(parts), *widest.shape)
    for index, part in enumerate(parts):
        whole[index, : len(part)] = part.reshape(len(part), *widest.shape[1:])
    return whole


def _stacked(pictures: list[Tensor]) -> Tensor:
    if any(picture.shape != pictures[0].shape for picture in pictures):
        raise ValueError("its textures differ in size over time")
    return torch.stack(pictures)
