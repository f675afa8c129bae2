"""Preview 4D in a browser at three times, from two sides, in both kinds of nodes: `python tools/picture_viewer.py`.

Writes docs/browser_viewer_classic.png and docs/browser_viewer_nodes2.png. The object is a procedural flower, 12,000 flat Gaussians on its
surface. Needs Chromium and playwright.
"""

import io
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "web"), str(ROOT / "tests" / "host")]

import pack  # noqa: E402

pack.load_pack()

import browser  # noqa: E402
import host  # noqa: E402
import real_host  # noqa: E402
import torch  # noqa: E402
import viewer_page as vp  # noqa: E402
from bloom4d.models.data.objects import build_mesh  # noqa: E402
from bloom4d.models.data.styles import sample_style  # noqa: E402
from bloom4d.models.gaussians.gaussians import Gaussians4D, harmonics_of  # noqa: E402
from PIL import Image  # noqa: E402

COUNT, TIMES, SEED, COLOURS = 12_000, 16, 3, 192
FRAMES, SIDES = (1, 8.5, 16), (0, 110)
LIGHT = torch.nn.functional.normalize(torch.tensor([0.5, 0.9, 0.7]), dim=0)
SHEETS = {"classic": False, "nodes2": True}


def flower(count: int = COUNT, times: int = TIMES) -> Gaussians4D:
    """Flat Gaussians at random places of a blooming flower's surface, lying in it, lit by one lamp."""
    mesh = build_mesh(sample_style("flower blooming", torch.Generator().manual_seed(SEED)), torch.linspace(0, 1, times))
    corners = mesh.vertices[:, mesh.faces]  # (T, F, 3, 3)
    areas = torch.linalg.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0]).norm(dim=-1) / 2
    generator = torch.Generator().manual_seed(0)
    chosen = torch.multinomial(areas.amax(0), count, replacement=True, generator=generator)
    shares = _shares(count, generator)

    def at(values):  # (T, Nv, C) on the vertices -> (T, N, C) on the places
        return (values[:, mesh.faces[chosen]] * shares[:, :, None]).sum(2)

    normals = torch.nn.functional.normalize(at(mesh.normals), dim=-1)
    radius = (areas[:, chosen].clamp_min(1e-8) * len(mesh.faces) / count).sqrt().clamp(0.004, 0.03)
    colours = at(mesh.albedo.expand(times, -1, -1)) * (0.45 + 0.55 * (normals @ LIGHT).abs())[..., None]
    scales = torch.stack([radius, radius, 0.1 * radius], dim=-1)
    return Gaussians4D(at(mesh.vertices), _from_z(normals), scales, torch.full((1, count), 0.95), harmonics_of(colours.clamp(0, 1)), torch.linspace(0, 1, times))


def _shares(count: int, generator: torch.Generator) -> torch.Tensor:
    """Even places in triangles: three shares that sum to 1, (N, 3)."""
    one, other = torch.rand(2, count, generator=generator)
    root = one.sqrt()
    return torch.stack([1 - root, root * (1 - other), root * other], dim=-1)


def _from_z(normals: torch.Tensor) -> torch.Tensor:
    """Quaternions that turn +Z to unit normals."""
    x, y, z = normals.unbind(-1)
    z = z.clamp_min(-0.9999)  # a half turn has no axis
    return torch.nn.functional.normalize(torch.stack([1 + z, -y, x, torch.zeros_like(x)], dim=-1), dim=-1)


def tile(page) -> Image.Image:
    """The node with its title."""
    x, y, width, height = page.evaluate("""() => { const node = window.app.rootGraph.nodes[0], view = window.app.canvas.ds;
        return [(node.pos[0] + view.offset[0]) * view.scale, (node.pos[1] + view.offset[1] - 40) * view.scale, node.size[0] * view.scale, (node.size[1] + 40) * view.scale]; }""")
    shot = page.screenshot(clip={"x": x - 6, "y": y - 4, "width": width + 12, "height": height + 14})
    return Image.open(io.BytesIO(shot)).convert("RGB")


def sheet_of(tiles: list[Image.Image], columns: int) -> Image.Image:
    width, height = tiles[0].size
    sheet = Image.new("RGB", (columns * width, len(tiles) // columns * height))
    for index, picture in enumerate(tiles):
        sheet.paste(picture, (index % columns * width, index // columns * height))
    return sheet


def take(page, file: dict, new_nodes: bool) -> list[Image.Image]:
    """Three times from each side."""
    vp.set_setting(page, "Comfy.VueNodes.Enabled", new_nodes)
    vp.open_viewers(page, size=(420, 560), name="new nodes" if new_nodes else "classic nodes")
    vp.tell(page, "1", file, f"{COUNT:,} Gaussians, {TIMES} times, {file['megabytes']:.2f} MB")
    view, tiles = vp.View(page).wait(seconds=300), []
    for side in SIDES:
        if side:
            view.drag(side, 0)
        for frame in FRAMES:
            view.seek(frame)
            page.mouse.move(1200, 700)
            page.wait_for_timeout(600)
            tiles.append(tile(page))
    return tiles


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        server = real_host.start(host.tree(), real_host.prepare_base(Path(folder) / "base", ROOT))
        try:
            file = vp.place_file(server.base, "flower.safetensors", flower())
            file["megabytes"] = (server.base / "temp" / "bloom4d" / "flower.safetensors").stat().st_size / 1e6
            with browser.open_page(server.url, Path(folder) / "profile") as page:
                sheets = {name: take(page, file, new_nodes) for name, new_nodes in SHEETS.items()}
        finally:
            server.host.stop()
    for name, tiles in sheets.items():
        path = ROOT / "docs" / f"browser_viewer_{name}.png"
        sheet_of(tiles, len(FRAMES)).quantize(COLOURS).save(path, optimize=True)
        print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
