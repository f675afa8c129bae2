"""How large a 4D object is in every format that Save 4D writes, and how true: `python benchmarks/file_sizes.py`.

10,000 Gaussians over 16 times without harmonics, and a mesh of 10,000 vertices: tables to docs/file_sizes.md and .json. The
estimates are those that the formats were chosen by, and the viewer file may have at most 1.7 MB.
"""

import json
import math
import sys
import tempfile
from pathlib import Path

import torch
from measure import FAILED, finish, report

from bloom4d.models.formats.glb_animation import animated_glb
from bloom4d.models.formats.mesh_frames import MeshFrame
from bloom4d.models.gaussians import files
from bloom4d.models.gaussians.gaussians import Gaussians4D, harmonics_of

COUNT, TIMES, FPS = 10_000, 16, 12.0
ESTIMATES = {"master": 4649, "ply": 10632, "spz": 2435, "viewer": 1631, "glb morph, unlit": 2266, "glb morph, lit": 4141}  # KiB
LIMITS = {"viewer": 1_700_000}
FOLDER = Path(__file__).resolve().parent.parent / "docs"
KEPT = {
    "master": "every number", "ply": "every number, in each file all of them", "spz": "quantised", "viewer": "quantised, no harmonics",
    "glb morph, unlit": "positions; colours once", "glb morph, lit": "positions and normals; colours once", "glb stepped, unlit": "positions and colours at each time",
}  # fmt: skip


def flower() -> Gaussians4D:
    """Gaussians in a ball that twists and breathes; colours vary with the place."""
    draws = torch.Generator().manual_seed(0)
    start = torch.nn.functional.normalize(torch.randn(COUNT, 3, generator=draws), dim=-1) * torch.rand(COUNT, 1, generator=draws) ** (1 / 3)
    times = torch.linspace(0, 1, TIMES)
    angle = times[:, None] * (1 + start[:, 1])  # (T, N) the higher, the further round
    turn = torch.stack([torch.stack([angle.cos(), angle.sin()], -1), torch.stack([-angle.sin(), angle.cos()], -1)], -2)  # (T, N, 2, 2)
    flat = (turn @ start[:, [0, 2], None])[..., 0]
    positions = torch.stack([flat[..., 0], start[:, 1].expand(TIMES, -1), flat[..., 1]], -1) * (0.8 + 0.2 * times.view(-1, 1, 1))
    spin = torch.nn.functional.normalize(torch.randn(COUNT, 4, generator=draws), dim=-1)
    about_y = torch.stack([(angle / 2).cos(), torch.zeros_like(angle), (angle / 2).sin(), torch.zeros_like(angle)], -1)
    scales = torch.exp(torch.randn(1, COUNT, 3, generator=draws) * 0.4 - 4)
    colours = 0.5 + 0.4 * torch.sin(3 * start + torch.tensor([0.0, 2.0, 4.0]))
    return Gaussians4D(positions, product(about_y, spin), scales, torch.rand(1, COUNT, generator=draws) * 0.6 + 0.4, harmonics_of(colours)[None], times)


def product(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Quaternions w, x, y, z: first the other, then the one."""
    (a, b, c, d), (e, f, g, h) = one.unbind(-1), other.unbind(-1)
    return torch.stack([a * e - b * f - c * g - d * h, a * f + b * e + c * h - d * g, a * g - b * h + c * e + d * f, a * h + b * g - c * f + d * e], -1)


def ball() -> list[MeshFrame]:
    """100 x 100 vertices on a ball that waves."""
    side = math.isqrt(COUNT)
    around, down = torch.meshgrid(torch.linspace(0, 2 * math.pi, side), torch.linspace(0.01, math.pi - 0.01, side), indexing="ij")
    grid = torch.arange(COUNT).view(side, side)
    a, b, c, d = (part.flatten() for part in (grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]))
    faces = torch.cat([torch.stack([a, d, c], -1), torch.stack([a, c, b], -1)]).numpy()
    colours = torch.rand(COUNT, 3, generator=torch.Generator().manual_seed(0)).numpy()
    frames = []
    for time in torch.linspace(0, 1, TIMES):
        radius = 1 + 0.2 * torch.sin(3 * around + 6 * time)
        points = torch.stack([radius * down.sin() * around.sin(), down.cos(), radius * down.sin() * around.cos()], -1)
        frames.append(MeshFrame(points.view(-1, 3).numpy(), faces, colours))
    return frames


def written(folder: Path) -> dict[str, list[Path]]:
    """Every format into a folder; the files of each."""
    gaussians, mesh = flower(), ball()
    made = {name: [folder / f"{name}.safetensors"] for name in ("master", "viewer")}
    files.write_master(made["master"][0], files.Master(gaussians, {}, FPS))
    made["viewer"][0].write_bytes(files.viewer_bytes(gaussians, FPS, {}))
    for kind, pack in (("ply", files.ply_bytes), ("spz", files.spz_bytes)):
        made[kind] = [folder / f"frame_{index:04}.{kind}" for index in range(TIMES)]
        for index, path in enumerate(made[kind]):
            path.write_bytes(pack(gaussians, index))
    for mode, unlit in (("morph", True), ("morph", False), ("stepped", True)):
        path = folder / f"{mode}_{unlit}.glb"
        path.write_bytes(animated_glb(mesh, FPS, mode, unlit))
        made[f"glb {mode}, {'unlit' if unlit else 'lit'}"] = [path]
    return made


def errors(made: dict[str, list[Path]]) -> dict[str, dict[str, float]]:
    """Largest deviation of what is read back: positions, opacities and colours as they are, scales relative, rotations in degrees."""
    before = flower()
    read = {"master": files.read_master(made["master"][0]).gaussians, "viewer": files.read_viewer(made["viewer"][0])[0],
            **{kind: files.read_splat_files(made[kind])[0] for kind in ("ply", "spz")}}  # fmt: skip
    return {name: deviations(before.expanded(), after.expanded()) for name, after in read.items()}


def deviations(before: dict, after: dict) -> dict[str, float]:
    one, other = before["rotations"].double(), after["rotations"].double()
    chord = torch.minimum((one - other).norm(dim=-1), (one + other).norm(dim=-1)).amax()  # both signs are the same rotation
    plain = {name: float((before[name] - after[name]).abs().max()) for name in ("positions", "opacities")}
    colours = 0.28209479177387814 * float((before["harmonics"] - after["harmonics"]).abs().max())
    scales = float((after["scales"] / before["scales"] - 1).abs().max())
    return {"positions": plain["positions"], "scales": scales, "rotations": 4 * math.degrees(math.asin(float(chord) / 2)), "opacities": plain["opacities"], "colours": colours}


def table(sizes: dict[str, int], made: dict[str, list[Path]], deviation: dict) -> str:
    lines = [f"# Sizes of a 4D object\n\n{COUNT:,} Gaussians over {TIMES} times without harmonics; a mesh of {COUNT:,} vertices and {len(ball()[0].faces):,} faces over {TIMES} times. Made by `python benchmarks/file_sizes.py`.\n",
             "| format | files | bytes | KiB | estimated KiB | what is kept |", "|---|---|---|---|---|---|"]
    lines += [f"| {name} | {len(made[name])} | {size:,} | {size / 1024:,.0f} | {format(ESTIMATES[name], ',') if name in ESTIMATES else ''} | {KEPT[name]} |" for name, size in sizes.items()]
    lines += ["\nRead back, the largest deviation (rotations in degrees, scales relative, the others as they are):\n", "| format | positions | scales | rotations | opacities | colours |", "|---|---|---|---|---|---|"]
    lines += [f"| {name} | " + " | ".join(f"{value:.1g}" for value in values.values()) + " |" for name, values in deviation.items()]
    lines.append("\nSPZ has version 3's rotations (4 bytes instead of 3) and positions of 14 fractional bits; the estimate was for version 2 and 12.")
    return "\n".join(lines) + "\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        made = written(Path(name))
        sizes = {kind: sum(path.stat().st_size for path in paths) for kind, paths in sorted(made.items())}
        deviation = errors(made)
        page = table(sizes, made, deviation)
    for kind, size in sizes.items():
        report(f"size of {kind}", max(size / LIMITS.get(kind, size) - 1, 0.0), 0.0, bytes=size, estimated=1024 * ESTIMATES.get(kind, 0))
    (FOLDER / "file_sizes.md").write_text(page, encoding="utf-8")
    (FOLDER / "file_sizes.json").write_text(json.dumps({"count": COUNT, "times": TIMES, "bytes": sizes, "deviation": deviation, "too large": FAILED}, indent=1) + "\n", encoding="utf-8")
    finish()


if __name__ == "__main__":
    sys.exit(main())
