"""P9: the mesh rasteriser, forward, with backward, and with antialiased silhouettes: `python benchmarks/mesh.py`.

A dented ball of 1,024, 5,184 and 20,736 faces at 64, 128 and 256 pixels, one thread, against a loop over faces and, where it
fits, against all pairs of face and pixel. Goal: 20,736 faces at 256 pixels with silhouette gradients below 40 ms on a quiet
core. Writes docs/mesh_benchmark.json and docs/mesh_benchmark.md; `--quick` prints the small cases only and writes nothing.
"""

import argparse
import json
import math
import platform
from pathlib import Path

import naive_mesh
import torch
from measure import alternate, finish, kept_bytes, relative_error, report

from bloom4d.models.geometry.cameras import orbit
from bloom4d.models.geometry.meshes import grid_faces
from bloom4d.models.render.mesh import rasterise, to_screen
from bloom4d.models.render.silhouettes import edges_of

DOCS = Path(__file__).resolve().parent.parent / "docs"
GRIDS = {1024: (32, 17), 5184: (72, 37), 20736: (144, 73)}
SIZES = (64, 128, 256)
DENSE_PAIRS = 1 << 24
GOAL_MS = 40.0


def ball(columns: int, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A sphere with dents: vertices (Nv, 3) and faces."""
    polar = torch.linspace(0, math.pi, rows)
    angle = torch.arange(columns)[:, None] * (2 * math.pi / columns)
    points = torch.stack(torch.broadcast_tensors(polar.sin() * angle.sin(), -polar.cos() + 0 * angle, polar.sin() * angle.cos()), -1)
    points = points * (0.75 + 0.1 * torch.sin(5 * angle + 3 * polar))[..., None]
    return points.reshape(-1, 3), grid_faces(1, columns, rows, True)


def compare(number: int, size: int) -> dict:
    vertices, faces = ball(*GRIDS[number])
    vertices.requires_grad_()
    colours = torch.rand(len(vertices), 3, generator=torch.Generator().manual_seed(0))
    angles = (torch.full((1,), value) for value in (0.4, 0.3, 2.9))
    camera = orbit(*angles), torch.tensor([math.radians(42)])
    edges, weights = edges_of(faces), torch.randn(size, size, 3, generator=torch.Generator().manual_seed(1))

    def ours(smooth):
        return rasterise(vertices[None], faces, colours, *camera, size, size, edges=edges if smooth else None)

    def peer(draw):
        return draw(to_screen(vertices[None], *camera, size, size)[0], faces, colours, size, size)

    def gradient(values):
        vertices.grad = None
        values.backward(weights)
        return vertices.grad.clone()

    cases = {"forward": lambda: _blind(lambda: ours(False)), "backward": lambda: gradient(ours(False).attributes[0]),
             "antialiased": lambda: gradient(ours(True).attributes[0]), "edges": lambda: edges_of(faces)}
    row = {name: value for name, value in alternate(cases, rounds=5).items()}
    peers = {"loop": naive_mesh.loop} | ({"dense": naive_mesh.dense} if number * size**2 <= DENSE_PAIRS else {})
    picture, (identity, values) = ours(False), peer(naive_mesh.loop)
    agreement = float((picture.face_id[0] == identity).float().mean())
    alike = (picture.face_id[0] == identity)[..., None]
    error = relative_error(picture.attributes[0] * alike, values * alike)
    row["kept"] = kept_bytes(lambda: ours(True), [vertices, colours, faces, weights])
    for name, draw in peers.items():
        row[name] = alternate({name: lambda draw=draw: gradient(peer(draw)[1])}, rounds=1)[name]
        row[f"{name}_kept"] = kept_bytes(lambda draw=draw: peer(draw), [vertices, colours, faces, weights])
    numbers = {f"{name}_ms" if not name.endswith("kept") else f"{name}_bytes": value for name, value in row.items()}
    ratios = {f"ratio_to_{name}": row[name] / row["backward"] for name in peers} | {"antialiasing_share": row["antialiased"] / row["backward"]}
    report(f"mesh {number} faces {size} px", max(error, 1 - agreement), 5e-3, **numbers, **ratios, same_face=agreement)
    return {"faces": number, "pixels": size, **numbers, **ratios, "same_face": agreement, "error": error}


def _blind(draw):
    with torch.no_grad():
        return draw()


def page(rows: list[dict], machine: str) -> str:
    """The table for people."""
    lines = ["# Mesh rasteriser (P9)", "", "Milliseconds of one core, least of several rounds; forward / with backward / with antialiased silhouettes and their gradients.", "",
             "| faces | 64 px | 128 px | 256 px | edges, once per topology |", "|---|---|---|---|---|"]
    for number in GRIDS:
        mine = [row for row in rows if row["faces"] == number]
        cells = [f"{row['forward_ms']:.1f} / {row['backward_ms']:.1f} / {row['antialiased_ms']:.1f}" for row in mine]
        lines.append(f"| {number:,} | " + " | ".join(cells) + f" | {min(row['edges_ms'] for row in mine):.1f} |")
    lines += ["", "Against naive torch, forward and backward: how many times as long, and how much memory autograd keeps (ours with antialiasing).", "",
              "| faces | pixels | loop over faces | all pairs | ours keeps | loop keeps | all pairs keep |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        dense = (f"{row['ratio_to_dense']:.0f}x", f"{row['dense_kept_bytes'] / 1e6:.0f} MB") if "ratio_to_dense" in row else ("-", "-")
        lines.append(f"| {row['faces']:,} | {row['pixels']} | {row['ratio_to_loop']:.0f}x | {dense[0]} | {row['kept_bytes'] / 1e6:.1f} MB | {row['loop_kept_bytes'] / 1e6:.1f} MB | {dense[1]} |")
    largest = rows[-1]["antialiased_ms"]
    lines += ["", f"Goal: 20,736 faces at 256 px with silhouette gradients below {GOAL_MS:.0f} ms on a quiet core; here {largest:.1f} ms.", "",
              f"`python benchmarks/mesh.py`, {machine}, torch {torch.__version__}, one thread.", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the small cases only, nothing written")
    options = parser.parse_args()
    torch.set_num_threads(1)
    grids = list(GRIDS)[:1] if options.quick else GRIDS
    rows = [compare(number, size) for number in grids for size in (SIZES[:2] if options.quick else SIZES)]
    finish()
    if not options.quick:
        machine = f"{platform.machine()}, {platform.system()}"
        (DOCS / "mesh_benchmark.json").write_text(json.dumps({"goal_ms": GOAL_MS, "rows": rows}, indent=1) + "\n", encoding="utf-8")
        (DOCS / "mesh_benchmark.md").write_text(page(rows, machine), encoding="utf-8")


if __name__ == "__main__":
    main()
