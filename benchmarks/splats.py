"""P2: splatting forward and backward, exact, against all pairs of Gaussian and pixel: `python benchmarks/splats.py`.

A shell of 1k, 4k and 16k Gaussians at 64 and 128 pixels, one thread: plain torch, our kernels where warp is there, and, forward
only, the host's Render Splat, which approximates; and a step of a construction, four views of Gaussians that overlap as
constructed ones do. Every picture and gradient is first compared with all pairs in double. Goals:
plain torch at least 100 times as fast as all pairs at 16k and 64 pixels, and warp 1.25 times as fast as plain torch. Writes
docs/splats_benchmark.json and docs/splats_benchmark.md; `--quick` prints the small case and writes nothing.
"""

import argparse
import json
import math
import os
import platform
import sys
from pathlib import Path

import naive_splats
import torch
from measure import alternate, finish, kept_bytes, relative_error, report

from bloom4d.models.geometry.cameras import orbit, view_time_grid
from bloom4d.models.render.backend import rows
from bloom4d.models.render.splat_projection import SplatSettings
from bloom4d.models.render.splats import rasterise

ROOT = Path(__file__).resolve().parent.parent
COUNTS, SIZES = (1000, 4000, 16000), (64, 128)
SETTINGS = SplatSettings(max_alpha=0.999)
IMAGE, GRADIENT, CLOSE = 1e-6, 1e-5, 1e-3  # relative errors, and the share of pixels that rounding may decide
GOAL, GOAL_WARP = 100.0, 1.25
STEP_ERROR = 1e-3  # of single precision on both sides, with pairs near a limit left in
STEP_COUNT, STEP_VIEWS, STEP_SIZES, STEP_SCALE = 6000, 4, (96, 256), 0.02  # a constructed flower: median 0.01 to 0.02, mean 0.02


def shell(count: int) -> list[torch.Tensor]:
    """Anisotropic Gaussians (N, ...) on a sphere, as large as their distance; double, but numbers of single precision."""
    draws = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(count, *shape, generator=draws, dtype=torch.float64)

    positions = torch.nn.functional.normalize(normal(3), dim=1) * (0.6 + 0.1 * normal(1))
    scene = positions, normal(4), 0.8 / math.sqrt(count) * torch.exp(0.4 * normal(3)), torch.sigmoid(0.5 + 1.5 * normal()), torch.sigmoid(normal(3))
    return [value.float().double() for value in scene]  # the same numbers in both precisions


def view(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Pose (1, 4, 4) and field of view, of single precision too."""
    return orbit(*(torch.tensor([value]) for value in (0.3, 0.2, 2.9))).to(dtype), torch.tensor([math.radians(42.0)]).to(dtype)


def ours(scene, size: int, backend: str) -> torch.Tensor:
    """Colour, alpha and depth (H W, 5)."""
    seen = rasterise(*(value[None] for value in scene), *view(scene[0].dtype), size, size, SETTINGS, backend=backend)
    return torch.cat([seen.rgb, seen.alpha[..., None], seen.depth[..., None]], dim=-1).view(-1, 5)


def peer(scene, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    pose, fov = view(scene[0].dtype)
    return naive_splats.all_pairs(*scene, pose[0], fov[0], size, size, SETTINGS)


def gradients(scene, maps: torch.Tensor, weights: torch.Tensor) -> list[torch.Tensor]:
    return torch.autograd.grad((maps * weights).sum(), scene)


def leaves(scene, dtype: torch.dtype) -> list[torch.Tensor]:
    return [value.to(dtype).clone().requires_grad_() for value in scene]


def compare(count: int, size: int) -> dict:
    scene, weights = shell(count), torch.randn(size * size, 5, generator=torch.Generator().manual_seed(1))
    exact = leaves(scene, torch.float64)
    wanted, close = peer(exact, size)
    weights = weights * ~close[:, None]
    wanted_gradients = gradients(exact, wanted, weights.double())
    single, row = leaves(scene, torch.float32), {"gaussians": count, "pixels": size, "close_share": float(close.double().mean())}
    names = [name for name in ("torch", "warp") if any(line.name == name and line.usable for line in rows("splats"))]
    cases = {"all_pairs": lambda: gradients(single, peer(single, size)[0], weights)} | {name: lambda name=name: gradients(single, ours(single, size, name), weights) for name in names}
    for name in names:
        maps = ours(single, size, name)
        row[f"{name}_image_error"] = relative_error(maps * ~close[:, None], wanted * ~close[:, None])
        row[f"{name}_gradient_error"] = max(relative_error(*pair) for pair in zip(gradients(single, maps, weights), wanted_gradients))
        row[f"{name}_kept_bytes"] = kept_bytes(lambda name=name: ours(single, size, name), single)
    row["all_pairs_kept_bytes"] = all_pairs_bytes(single, size)
    slow = alternate(cases, rounds=1)
    fast = alternate({name: cases[name] for name in names}, rounds=6)
    row |= {f"{name}_ms": value for name, value in (slow | fast).items()}
    row |= forward_times(single, size, names)
    row |= {f"ratio_{name}": slow["all_pairs"] / fast[name] for name in names} | ({"warp_to_torch": fast["torch"] / fast["warp"]} if "warp" in names else {})
    worst = max([row["close_share"] / CLOSE, *(row[f"{name}_image_error"] / IMAGE for name in names), *(row[f"{name}_gradient_error"] / GRADIENT for name in names)])
    report(f"splats {count} at {size} px", worst, 1.0, **row)
    return row


def ball(count: int) -> list[torch.Tensor]:
    """Anisotropic Gaussians (N, ...) all through a ball, many of them behind each pixel."""
    draws = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(count, *shape, generator=draws)  # noqa: E731
    radius = 0.6 * torch.rand(count, 1, generator=draws) ** (1 / 3)
    positions = torch.nn.functional.normalize(normal(3), dim=1) * radius
    return [positions, normal(4), STEP_SCALE * torch.exp(0.3 * normal(3)), torch.sigmoid(0.5 + normal()), torch.sigmoid(normal(3))]


def construction_step(size: int) -> dict:
    """Four views in one call, forward and backward: plain torch and warp in turns, their gradients compared first."""
    scene, cameras = leaves(ball(STEP_COUNT), torch.float32), view_time_grid(STEP_VIEWS, 1)
    weights = torch.randn(STEP_VIEWS * size * size, 5, generator=torch.Generator().manual_seed(1))

    def step(backend: str) -> list[torch.Tensor]:
        shared = (value[None].expand(STEP_VIEWS, *value.shape) for value in scene)
        seen = rasterise(*shared, cameras.camera_to_world, cameras.fov_y, size, size, SETTINGS, backend=backend)
        return gradients(scene, torch.cat([seen.rgb, seen.alpha[..., None], seen.depth[..., None]], dim=-1).view(-1, 5), weights)

    error = max(relative_error(*pair) for pair in zip(step("warp"), step("torch")))
    times = alternate({name: lambda name=name: step(name) for name in ("torch", "warp")}, rounds=6)
    row = {"gaussians": STEP_COUNT, "pixels": size, "views": STEP_VIEWS, "gradient_error": error, **{f"{name}_ms": value for name, value in times.items()}, "warp_to_torch": times["torch"] / times["warp"]}
    report(f"splats of a construction's step at {size} px", error, STEP_ERROR, **row)
    return row


def all_pairs_bytes(scene, size: int) -> int:
    """What all pairs would keep for the backward pass without recomputation, from a part of the picture."""
    pixels = max(naive_splats.PAIRS_AT_ONCE // len(scene[0]), 1)
    pose, fov = view(scene[0].dtype)
    return kept_bytes(lambda: naive_splats.one_chunk(pixels, *scene, pose[0], fov[0], size, size, SETTINGS), scene) * size * size // pixels


def forward_times(scene, size: int, names: list[str]) -> dict:
    """Pictures alone, beside those of the host's node."""
    still = [value.detach() for value in scene]
    cases = {f"{name}_forward": lambda name=name: ours(still, size, name) for name in names}
    if host := host_renderer(still, size):
        cases["host_forward"] = host
    return {f"{name}_ms": value for name, value in alternate(cases, rounds=4).items()}


def host_renderer(scene, size: int):
    """The host's Render Splat of the same Gaussians from the same camera; None without a host."""
    folder = Path(os.environ.get("COMFYUI_PATH", ROOT / ".host"))
    if not (folder / "main.py").is_file():
        return None
    module = host_module(folder)
    positions, rotations, scales, opacities, colours = scene
    pose, fov = view(torch.float64)
    eye = [float(value) for value in pose[0, :3, 3]]
    info = {"position": dict(zip("xyz", eye)), "target": dict.fromkeys("xyz", 0.0), "fov": math.degrees(float(fov)), "zoom": 1.0, "cameraType": "perspective"}
    return lambda: module._render_gaussian(positions, colours, opacities, scales, rotations, size, size, 1.0, (0.0, 0.0, 0.0), info)


def host_module(folder: Path):
    """The host's node file, in this process and on the CPU."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
        sys.argv = [sys.argv[0], "--cpu"]
        import compat

        if compat.needed():
            compat.apply()
        import comfy.options

        comfy.options.enable_args_parsing()
    from comfy_extras import nodes_gaussian_splat

    return nodes_gaussian_splat


def page(table: list[dict], steps: list[dict], machine: str) -> str:
    """The table for people."""
    lines = ["# Splatting (P2)", "", "Milliseconds of one core, forward and backward, least of several rounds; in brackets how many times as fast as all pairs.", "",
             "| Gaussians | pixels | all pairs | plain torch | warp | warp / torch |", "|---|---|---|---|---|---|"]
    for row in table:
        cells = [f"{row[f'{name}_ms']:.1f} ({row[f'ratio_{name}']:.0f}x)" if f"{name}_ms" in row else "-" for name in ("torch", "warp")]
        lines.append(f"| {row['gaussians']:,} | {row['pixels']} | {row['all_pairs_ms']:.0f} | {cells[0]} | {cells[1]} | {row.get('warp_to_torch', float('nan')):.2f}x |")
    lines += ["", "Megabytes kept for the backward pass, and milliseconds of a picture alone, beside the host's Render Splat (which approximates and has no gradient).", "",
              "| Gaussians | pixels | all pairs keep | torch keeps | warp keeps | torch | warp | host |", "|---|---|---|---|---|---|---|---|"]
    for row in table:
        kept = [f"{row[key] / 1e6:.1f}" if (key := f"{name}_kept_bytes") in row else "-" for name in ("all_pairs", "torch", "warp")]
        alone = [f"{row[key]:.1f}" if (key := f"{name}_forward_ms") in row else "-" for name in ("torch", "warp", "host")]
        lines.append(f"| {row['gaussians']:,} | {row['pixels']} | " + " | ".join([*kept, *alone]) + " |")
    errors = [max(row[f"{name}_{kind}_error"] for row in table for name in ("torch", "warp") if f"{name}_{kind}_error" in row) for kind in ("image", "gradient")]
    lines += ["", f"Against all pairs in double: pictures differ by at most {errors[0]:.1e}, gradients by {errors[1]:.1e} (relative norms; {100 * max(row['close_share'] for row in table):.3f} % of the pixels at most have a pair so close to a limit that rounding decides, and are left out).", "",
              verdict(table), "",
              *([f"A step of a construction, {STEP_VIEWS} views of {STEP_COUNT:,} Gaussians that overlap (mean size {STEP_SCALE}):", "", "| pixels | plain torch | warp | warp / torch |", "|---|---|---|---|",
                 *(f"| {row['pixels']} | {row['torch_ms']:.0f} | {row['warp_ms']:.0f} | {row['warp_to_torch']:.2f}x |" for row in steps), ""] if steps else []),
              f"`python benchmarks/splats.py`, {machine}, torch {torch.__version__}, one thread.", ""]
    return "\n".join(lines)


def verdict(table: list[dict]) -> str:
    """The goals and what came out."""
    largest, = (row for row in table if row["gaussians"] == COUNTS[-1])
    warp = f"{min(row['warp_to_torch'] for row in table):.2f} to {max(row['warp_to_torch'] for row in table):.2f}" if "warp_to_torch" in largest else "not there"
    return (f"Goals: plain torch {GOAL:.0f} times as fast as all pairs at 16,000 Gaussians and 64 pixels; here {largest['ratio_torch']:.0f}. "
            f"Warp {GOAL_WARP} times as fast as plain torch; here {warp}, forward and backward: both spend much of it in the projection, which is the same.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the small case only, nothing written")
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = [compare(count, size) for size in SIZES[: 1 if options.quick else 2] for count in COUNTS[: 1 if options.quick else 3] if not (count == 16000 and size == 128)]
    there = any(line.name == "warp" and line.usable for line in rows("splats"))
    steps = [construction_step(size) for size in STEP_SIZES] if there and not options.quick else []
    finish()
    if not options.quick:
        machine = f"{platform.machine()}, {platform.system()}"
        (ROOT / "docs" / "splats_benchmark.json").write_text(json.dumps({"goal": GOAL, "goal_warp_to_torch": GOAL_WARP, "rows": table, "construction_steps": steps}, indent=1) + "\n", encoding="utf-8")
        (ROOT / "docs" / "splats_benchmark.md").write_text(page(table, steps, machine), encoding="utf-8")


if __name__ == "__main__":
    main()
