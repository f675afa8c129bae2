"""Meshes over time for tests of GLB files: a ball that breathes, with every kind of colour and texture."""

import io

import numpy as np


def png(colour) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(file, "PNG")
    return file.getvalue()


def ball(side=12, amplitude=0.0, phase=0.0, colours=None, maps=None):
    """A `MeshFrame`: a ball whose radius waves with `amplitude`, faces outwards, uvs around it."""
    from bloom4d.models.formats.mesh_frames import MeshFrame

    around, down = np.meshgrid(np.linspace(0, 2 * np.pi, side), np.linspace(0.1, np.pi - 0.1, side), indexing="ij")
    radius = 1 + amplitude * np.sin(3 * around + phase)
    points = np.stack([radius * np.sin(down) * np.sin(around), np.cos(down), radius * np.sin(down) * np.cos(around)], -1).reshape(-1, 3)
    grid = np.arange(side * side).reshape(side, side)
    a, b, c, d = (part.ravel() for part in (grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]))
    faces = np.concatenate([np.stack([a, d, c], -1), np.stack([a, c, b], -1)])
    uvs = np.stack([around / (2 * np.pi), down / np.pi], -1).reshape(-1, 2)
    return MeshFrame(points.astype(np.float32), faces, colours, uvs.astype(np.float32), maps or {})


def shades(seed=0, channels=3, side=12) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=(side * side, channels)).astype(np.float32)


def every_kind() -> dict:
    """Name -> (frames, mode, unlit): every way in which a GLB of ours may be written."""
    still, lit = shades(), {"base_colour": png((200, 30, 0)), "metallic_roughness": png((0, 200, 10)), "normal": png((127, 127, 255))}
    waves = lambda count=4, **more: [ball(12, 0.3, time, **more) for time in range(count)]  # noqa: E731
    coloured = [ball(12, 0.3, time, shades(time)) for time in range(4)]
    return {
        "morph": (waves(colours=still), "auto", False),
        "morph, unlit": (waves(colours=still), "auto", True),
        "morph of colours": (coloured, "morph", False),
        "morph of colours with alpha": ([ball(12, 0.3, time, shades(time, 4)) for time in range(3)], "morph", True),
        "stepped colours": (coloured, "auto", True),
        "stepped topology": ([ball(8 + time, 0.3, time) for time in range(4)], "auto", False),
        "stepped, empty in between": ([ball(8), ball(8).__class__(np.zeros((0, 3)), np.zeros((0, 3), int)), ball(9)], "auto", False),
        "morph, stepped on demand": (waves(colours=still), "stepped", False),
        "maps": (waves(maps=lit), "auto", False),
        "maps of an unlit mesh": (waves(maps=lit), "auto", True),
        "changing textures": ([ball(12, 0.3, time, maps={"base_colour": png((200, 30 * time, 0))}) for time in range(3)], "auto", False),
        "a single time": ([ball(12, colours=still)], "auto", False),
        "a still object": ([ball(12)] * 3, "auto", False),
        "many vertices": ([ball(260), ball(260, 0.1)], "auto", True),
    }


def written(name: str, extras: dict | None = None) -> bytes:
    """The file of one kind, at 8 times a second."""
    from bloom4d.models.formats.glb_animation import animated_glb

    frames, mode, unlit = every_kind()[name]
    return animated_glb(frames, 8.0, mode, unlit, extras)
