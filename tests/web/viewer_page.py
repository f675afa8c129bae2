"""Preview 4D on the frontend's page: objects as files, nodes that show them, and what its canvas shows."""

import io
import json
from pathlib import Path

import numpy
import torch
from bloom4d.models.data.objects import build_mesh
from bloom4d.models.data.styles import sample_style
from bloom4d.models.formats.viewer_file import pack_viewer_file
from bloom4d.models.gaussians.gaussians import Gaussians4D, harmonics_of
from bloom4d.models.gaussians.viewer import viewer_sequence
from PIL import Image

NODE = "Bloom4DPreview4D"
SHOWN = ".bloom4d-viewer[data-state=ready]"
EXECUTED = """([id, output]) => window.app.api.dispatchCustomEvent('executed', { node: id, display_node: id, prompt_id: 'x', output })"""


def flower(count: int = 2500, times: int = 6, seed: int = 3) -> Gaussians4D:
    """A procedural flower that blooms, a Gaussian at each of `count` vertices of its mesh."""
    mesh = build_mesh(sample_style("flower blooming", torch.Generator().manual_seed(seed)), torch.linspace(0, 1, times))
    chosen = torch.randperm(mesh.vertices.shape[1], generator=torch.Generator().manual_seed(0))[:count]
    points = mesh.vertices[:, chosen]
    colours = mesh.albedo.expand(times, -1, -1)[:, chosen]
    rotations = torch.tensor([1.0, 0, 0, 0]).expand(1, len(chosen), 4)
    return Gaussians4D(points, rotations, torch.full((1, len(chosen), 3), 0.02), torch.full((1, len(chosen)), 0.9), harmonics_of(colours), torch.linspace(0, 1, times))


def place_file(base: Path, name: str, gaussians: Gaussians4D, fps: float = 8.0, metadata: dict | None = None) -> dict:
    """Write a viewer file where the host's temporary files are; returns how the host names it."""
    return place_bytes(base, name, pack_viewer_file(viewer_sequence(gaussians, fps, metadata)))


def place_bytes(base: Path, name: str, data: bytes) -> dict:
    folder = base / "temp" / "bloom4d"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return {"filename": name, "subfolder": "bloom4d", "type": "temp"}


def prompt_of(count: int = 1) -> dict:
    """An API prompt of viewers whose input nobody connects: what they show is told to them."""
    return {str(index + 1): {"class_type": NODE, "inputs": {"fps": 8, "megabytes": 64}, "_meta": {"title": f"Viewer {index + 1}"}} for index in range(count)}


def open_viewers(page, count: int = 1, size: tuple[int, int] = (460, 560), columns: int = 6, name: str = "viewers"):
    """A graph of viewers in rows, the first in the upper left of the page."""
    page.evaluate("([prompt, name]) => window.app.loadApiJson(prompt, name)", [prompt_of(count), name])
    page.evaluate("""([size, columns]) => { window.app.rootGraph.nodes.forEach((node, index) => {
        node.pos = [index % columns * (size[0] + 20), Math.floor(index / columns) * (size[1] + 60)]; node.setSize(size); }); }""", [list(size), columns])
    look(page)


def look(page, scale: float = 1.0, left: float = 120, top: float = 120):
    page.evaluate("""([scale, left, top]) => { const view = window.app.canvas.ds; view.scale = scale; view.offset = [left / scale, top / scale];
        window.app.canvas.setDirty(true, true); }""", [scale, left, top])


def tell(page, node: str, file: dict, text: str = "") -> None:
    """What the page hears when the node has run."""
    page.evaluate(EXECUTED, [node, {"bloom4d_view": [file], "text": [text]}])


def pixels(locator) -> numpy.ndarray:
    """(H, W, 3) of what an element shows, as whole numbers."""
    return numpy.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("RGB")).astype(int)


def coloured(picture: numpy.ndarray) -> float:
    """Share of the pixels that differ from the picture's corner, its background."""
    return float((numpy.abs(picture - picture[2, 2]).max(-1) > 24).mean())


def differing(one: numpy.ndarray, other: numpy.ndarray) -> float:
    """Share of the pixels that differ between two pictures."""
    return float((numpy.abs(one - other).max(-1) > 24).mean())
