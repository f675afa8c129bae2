"""Preview 4D on the frontend's page: objects as files, nodes that show them, and what its canvas shows."""

import base64
import io
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
IN_PLACE = """async () => { const nodes = window.app.canvas.graph.nodes.filter(node => node.bloom4dViewer);
    const roots = await Promise.all(nodes.map(async node => (await node.bloom4dViewer).root));
    return roots.every(root => root.isConnected) && document.querySelectorAll('.bloom4d-viewer').length === roots.length; }"""
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


def open_viewers(page, count: int = 1, size: tuple[int, int] = (460, 560), columns: int = 6, name: str = "viewers", more: dict | None = None):
    """A graph of viewers in rows, the first in the upper left of the page, and whatever `more` there is."""
    page.evaluate("([prompt, name]) => window.app.loadApiJson(prompt, name)", [{**prompt_of(count), **(more or {})}, name])
    page.evaluate("""([size, columns]) => { window.app.rootGraph.nodes.forEach((node, index) => {
        node.pos = [index % columns * (size[0] + 20), Math.floor(index / columns) * (size[1] + 60)]; node.setSize(size); }); }""", [list(size), columns])
    look(page)
    page.wait_for_function(IN_PLACE)


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
    """Share of the pixels that differ from the background, which is seen near the corner."""
    inner = picture[4:-4, 4:-4]  # a ring shows who has the focus
    return float((numpy.abs(inner - picture[20, 20]).max(-1) > 24).mean())


def middle_of(picture: numpy.ndarray) -> numpy.ndarray:
    """Column and row of the middle of what differs from the background."""
    rows, columns = numpy.nonzero(numpy.abs(picture - picture[20, 20]).max(-1) > 24)
    return numpy.array([columns.mean(), rows.mean()])


def differing(one: numpy.ndarray, other: numpy.ndarray) -> float:
    """Share of the pixels that differ between two pictures."""
    return float((numpy.abs(one - other).max(-1) > 24).mean())


# -- one viewer on the page ----------------------------------------------------------------------------------------------------


class View:
    """The `index`th viewer of the page, as its user has it."""

    def __init__(self, page, index: int = 0):
        self.page, self.root = page, page.locator(".bloom4d-viewer").nth(index)
        self.canvas = self.root.locator("canvas")
        self.time = self.root.get_by_role("slider", name="Time")

    def wait(self, state: str = "ready", seconds: float = 60):
        self.root.and_(self.page.locator(f"[data-state={state}]")).wait_for(timeout=seconds * 1000)
        self.settle()
        return self

    def settle(self):
        """Two pictures later everything asked for so far is drawn."""
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 30))))")

    def pixels(self) -> numpy.ndarray:
        self.settle()
        return pixels(self.canvas)

    def drawn(self) -> numpy.ndarray:
        """(H, W, 4) of the canvas itself, straight alpha, in [0, 1]: without what lies over or behind it."""
        self.settle()
        url = self.canvas.evaluate("canvas => canvas.toDataURL('image/png')")
        return numpy.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGBA")) / 255.0

    def seek(self, frame: float):
        """Frames count from 1."""
        self.time.evaluate("(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', { bubbles: true })); }", frame - 1)
        self.settle()

    def frame(self) -> float:
        return float(self.root.locator("output").text_content().split("/")[0])

    def press(self, *names: str):
        """Buttons by their labels."""
        for name in names:
            self.root.get_by_role("button", name=name).click()
        self.settle()

    def choose(self, label: str, value: str):
        self.root.get_by_role("combobox", name=label).select_option(value)
        self.settle()

    def middle(self) -> tuple[float, float]:
        box = self.canvas.bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def focus(self):
        self.page.mouse.click(*self.middle())
        self.settle()

    def drag(self, right: float, down: float, **options):
        x, y = self.middle()
        self.page.mouse.move(x, y)
        self.page.mouse.down(**options)
        self.page.mouse.move(x + right, y + down, steps=4)
        self.page.mouse.up(**options)
        self.settle()


def decibels(one: numpy.ndarray, other: numpy.ndarray) -> float:
    """PSNR of pictures in [0, 1]."""
    return float(-10 * numpy.log10(((one - other) ** 2).mean()))


def set_setting(page, name: str, value):
    page.evaluate("([name, value]) => window.app.extensionManager.setting.set(name, value)", [name, value])
    page.wait_for_timeout(300)


def graph_state(page) -> dict:
    """What must not change by anything that is done inside a viewer."""
    return page.evaluate("""() => ({ scale: window.app.canvas.ds.scale, offset: [...window.app.canvas.ds.offset],
        nodes: window.app.rootGraph.nodes.map(node => [node.id, ...node.pos, ...node.size]) })""")
