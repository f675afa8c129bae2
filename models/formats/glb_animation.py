"""Meshes over time as one animated .glb, Y up: morph targets where the topology is fixed, a node per time where it is not.

The host's own exporter writes one static file per time, without normals, roughness or animation; that is why this one exists.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .glb import INDICES, VERTICES, Glb
from .mesh_frames import MAPS, MeshFrame, problem_of, same, tidy, vertex_normals, vertex_tangents

MODES = ("auto", "morph", "stepped")
CLIP = "4D"  # the animation's name in players
UNLIT = "KHR_materials_unlit"


def animated_glb(frames: Sequence[MeshFrame], fps: float, mode: str = "auto", unlit: bool = False, extras: dict | None = None) -> bytes:
    """One .glb of T meshes; the mesh of time i is shown at i / fps seconds.

    morph: the first time is the base, every other one a morph target of positions, normals (where the mesh is lit) and colours
    (where they change); between times it is interpolated. stepped: one node per time, visible (scale 1) during its time only.
    auto: morph where faces, colours and maps stay the same. ValueError says why morph is impossible.
    """
    frames = checked([tidy(frame) for frame in frames])
    if all(frame.empty for frame in frames):
        raise ValueError("The mesh has no face at any time, so there is nothing to write. Lower the threshold of the node that made it.")
    problem = fixed_topology_problem(frames)
    if mode == "morph" and problem:
        raise ValueError(f"The mesh cannot be written with morph targets: {problem}. Set the GLB mode to stepped or auto.")
    made = Glb()
    if mode == "morph" or (mode == "auto" and not problem and not colours_change(frames)):
        _morph(made, frames, fps, unlit)
    else:
        _stepped(made, frames, fps, unlit)
    return made.finish(extras)


def checked(frames: list[MeshFrame]) -> list[MeshFrame]:
    """The same frames; ValueError at the first that no viewer could show."""
    for index, frame in enumerate(frames):
        if problem := problem_of(frame):
            raise ValueError(f"At time {index} {problem}. Look at the node that made it; nothing was written.")
    return frames


def chosen_mode(frames: Sequence[MeshFrame], mode: str) -> str:
    """"morph" or "stepped": what `animated_glb` does with this mode."""
    return mode if mode != "auto" else "stepped" if fixed_topology_problem(frames) or colours_change(frames) else "morph"


def fixed_topology_problem(frames: Sequence[MeshFrame]) -> str:
    """What changes that morph targets can't change, as a clause; empty when nothing does."""
    first = frames[0]
    for index, frame in enumerate(frames):
        if len(frame.vertices) != len(first.vertices):
            return f"it has {len(first.vertices)} vertices at the first time and {len(frame.vertices)} at time {index}"
        if not np.array_equal(frame.faces, first.faces):
            return f"its faces change at time {index}"
        if not same(frame.uvs, first.uvs) or frame.maps != first.maps:
            return f"its textures change at time {index}"
    return ""


def colours_change(frames: Sequence[MeshFrame]) -> bool:
    """Whether vertices change colour; players other than three.js ignore morphed colours."""
    return any(not same(frame.colours, frames[0].colours) for frame in frames)


# ---- parts of both ways


def _attributes(made: Glb, frame: MeshFrame, unlit: bool) -> dict[str, int]:
    parts = {"POSITION": frame.vertices, **({} if unlit else _directions(frame)), "COLOR_0": frame.colours, "TEXCOORD_0": frame.uvs if frame.maps else None}
    return {name: made.accessor(values, VERTICES) for name, values in parts.items() if values is not None}


def _directions(frame: MeshFrame) -> dict[str, np.ndarray]:
    """What light needs: normals, and tangents where a normal map stands on them."""
    normals = vertex_normals(frame.vertices, frame.faces)
    return {"NORMAL": normals, **({"TANGENT": vertex_tangents(frame, normals)} if "normal" in frame.maps else {})}


def _primitive(made: Glb, frame: MeshFrame, unlit: bool, **more) -> dict:
    small = len(frame.vertices) < 65535  # the last number of a type means a new strip
    indices = made.accessor(frame.faces.ravel().astype(np.uint16 if small else np.uint32), INDICES)
    return {"attributes": _attributes(made, frame, unlit), "indices": indices, "mode": 4, "material": _material(made, frame, unlit), **more}


def _material(made: Glb, frame: MeshFrame, unlit: bool) -> int:
    textures = {name: {"index": made.texture(frame.maps[name])} for name in MAPS[: 1 if unlit else None] if name in frame.maps}
    rough = "metallic_roughness" in textures
    surface = {"metallicFactor": 1.0 if rough else 0.0, "roughnessFactor": 1.0}  # factors multiply the map
    if "base_colour" in textures:
        surface["baseColorTexture"] = textures["base_colour"]
    if rough:
        surface["metallicRoughnessTexture"] = textures["metallic_roughness"]
    see_through = frame.colours is not None and frame.colours.shape[1] == 4 and bool((frame.colours[:, 3] < 1).any())
    values = {
        "pbrMetallicRoughness": surface,
        "normalTexture": textures.get("normal"),
        "doubleSided": True,
        "alphaMode": "BLEND" if see_through else "OPAQUE",
        "extensions": {UNLIT: {}} if unlit else {},
    }
    known = [index for index, other in enumerate(made.document.materials) if all(getattr(other, name) == value for name, value in values.items())]
    return known[0] if known else made.add("materials", alphaCutoff=None, **values)


def _animation(made: Glb, channels: list[tuple[int, str, str, np.ndarray, np.ndarray]]) -> None:
    """Channels as (node, path, interpolation, seconds (K,), values)."""
    samplers = [{"input": made.accessor(seconds.astype(np.float32)), "interpolation": kind, "output": made.accessor(values.astype(np.float32))} for _, _, kind, seconds, values in channels]
    targets = [{"sampler": index, "target": {"node": node, "path": path}} for index, (node, path, *_) in enumerate(channels)]
    made.add("animations", name=CLIP, samplers=samplers, channels=targets)


# ---- fixed topology: the base and what is added to it


def _morph(made: Glb, frames: list[MeshFrame], fps: float, unlit: bool) -> None:
    coloured = colours_change(frames)
    if coloured:
        frames = [replace(frame, colours=_with_alpha(frame.colours)) for frame in frames]
    base, count = frames[0], len(frames)
    start = _parts(base, unlit, coloured)
    moved = [{name: values - start[name] for name, values in _parts(frame, unlit, coloured).items()} for frame in frames[1:]]
    targets = [{name: made.accessor(values, VERTICES) for name, values in parts.items()} for parts in moved]
    more = {"targets": targets} if targets else {}
    mesh = {"weights": [0.0] * len(targets), "extras": {"targetNames": [f"time {index}" for index in range(1, count)]}} if targets else {}
    node = made.add("nodes", name="4D object", mesh=made.add("meshes", primitives=[_primitive(made, base, unlit, **more)], **mesh))
    if targets:
        weights = np.eye(count)[:, 1:].ravel()  # each time is the base or one whole target
        _animation(made, [(node, "weights", "LINEAR", np.arange(count) / fps, weights)])


def _with_alpha(colours: np.ndarray) -> np.ndarray:
    """Colours with an alpha of 1 where they have none: three.js (r184) compiles no shader for morphed colours of three components."""
    return colours if colours.shape[1] == 4 else np.concatenate([colours, np.ones_like(colours[:, :1])], 1)


def _parts(frame: MeshFrame, unlit: bool, coloured: bool) -> dict[str, np.ndarray]:
    """What a morph target changes; a tangent's side stays."""
    directions = {} if unlit else {name: values[:, :3] for name, values in _directions(frame).items()}
    return {"POSITION": frame.vertices, **directions, **({"COLOR_0": frame.colours} if coloured else {})}


# ---- changing topology: a node per time


def _stepped(made: Glb, frames: list[MeshFrame], fps: float, unlit: bool) -> None:
    channels = []
    for index, frame in enumerate(frames):
        if frame.empty:
            continue
        mesh = made.add("meshes", primitives=[_primitive(made, frame, unlit)])
        hidden = {"scale": [0.0, 0.0, 0.0]} if index else {}  # players without animation show the first time
        node = made.add("nodes", name=f"time {index:04}", mesh=mesh, **hidden)
        if len(frames) > 1:
            channels.append((node, "scale", "STEP", *_visible(index, len(frames), fps)))
    if channels:
        _animation(made, channels)


def _visible(index: int, count: int, fps: float) -> tuple[np.ndarray, np.ndarray]:
    """Key times in seconds and scales: 1 from index / fps on for the time of one picture, also for the last one."""
    keys = [(index, 1.0), (index + 1, 0.0 if index + 1 < count else 1.0)]
    keys = keys if index == 0 else [(0, 0.0), *keys]
    return np.array([key for key, _ in keys]) / fps, np.repeat([[scale] for _, scale in keys], 3, 1)
