"""P8: ST-HexPlane's features against bare grid_sample calls, and what a construction step costs: `python benchmarks/hexplane.py`.

Writes docs/hexplane_benchmark.json and .md. Milliseconds of one core, least of several rounds, measured in turns; forward and
backward. "Bare" samples the same six planes of every level at the same points and times and does nothing with the values.
"""

import argparse
import json
import platform
from pathlib import Path

import torch
from measure import alternate, relative_error
from torch.nn import functional

from bloom4d.models.gaussians.dynamic import DEMO_GAUSSIANS, DynamicGaussians
from bloom4d.models.gaussians.hexplane import SPATIAL, HexPlane, HexPlaneConfig
from bloom4d.models.geometry.cameras import CameraPath
from bloom4d.models.optimize.construct import ConstructConfig, Construction
from bloom4d.models.optimize.footage import Footage
from bloom4d.models.render.splats import render_gaussians

DOCS = Path(__file__).resolve().parent.parent / "docs"
GOAL = 1.1
SHAPES = {"demo": DEMO_GAUSSIANS.deformation.planes, "4DGS": HexPlaneConfig()}
CASES = [("demo", 5000, 5), ("4DGS", 5000, 5), ("4DGS", 20000, 1)]
PICTURES, SIZE = 4, 96


def sampled(planes: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """One plane (C, rows, columns) at points whose column and row are `first` and `second`, in [-1, 1]."""
    grid = torch.stack([first, second], dim=-1)[None, :, None]
    return functional.grid_sample(planes[None], grid, mode="bilinear", padding_mode="border", align_corners=True)[0, ..., 0]


def bare(module: HexPlane, points: torch.Tensor, times: torch.Tensor) -> list[list[torch.Tensor]]:
    """Samples (C, M N) of the six planes of every level, each point at each time, as K-planes' code asks for them."""
    everywhere = points.repeat(len(times), 1)
    instants = (2.0 * times - 1.0).repeat_interleave(len(points))
    levels = []
    for spatial, temporal in zip(module.spatial, module.temporal):
        values = [sampled(plane, *everywhere[:, pair].unbind(-1)) for plane, pair in zip(spatial, SPATIAL)]
        levels.append(values + [sampled(plane, everywhere[:, axis], instants) for axis, plane in enumerate(temporal)])
    return levels


def features(name: str, count: int, times: int) -> dict:
    """Bare samples, and features out of them, for `count` points at `times` times."""
    draws = torch.Generator().manual_seed(0)
    module = HexPlane(SHAPES[name], draws)
    points, instants = torch.rand(count, 3, generator=draws) * 2 - 1, torch.rand(times, generator=draws)
    with torch.no_grad():
        for planes in module.temporal:
            planes.add_(0.1 * torch.randn(planes.shape, generator=draws))

    def ours():
        module.zero_grad()
        still, moving = module(points, instants)
        found = still * moving
        found.sum().backward()
        return found

    def plain():
        module.zero_grad()
        found = bare(module, points, instants)
        sum(value.sum() for level in found for value in level).backward()
        return found

    expected = torch.cat([torch.stack(level).prod(dim=0) for level in plain()]).t().reshape(times, count, -1)
    error = relative_error(ours(), expected)
    least = alternate({"bare grid_sample": plain, "features": ours})
    return {"planes": name, "points": count, "times": times, **least, "ratio": least["features"] / least["bare grid_sample"], "error": error}


def construction() -> dict:
    """Milliseconds of one step of 4 pictures of 96 x 96 with 5,000 Gaussians, and of its parts."""
    cloud = DynamicGaussians(DEMO_GAUSSIANS, torch.Generator().manual_seed(0), 5000)
    cameras = CameraPath(frames=16).cameras()
    with torch.no_grad():
        views = render_gaussians(cloud.at(torch.zeros(1)), cameras, SIZE, SIZE)
    job = Construction(cloud, [Footage("video", views.rgb, views.alpha, cameras)], ConstructConfig(10**6, 0, pictures=PICTURES, densify_from=10**6, reset_at=0.0))
    times = cameras.times[:PICTURES]

    def deformation():
        moved = job.gaussians.at(times)
        (moved.positions.sum() + moved.rotations.sum() + moved.scales.sum()).backward()

    def optimiser():
        job.optimiser.update(0.0)

    def parts():
        job._gather()
        job.optimiser.clear()

    least = alternate({"step": job.advance, "gradients": parts, "deformation alone": deformation, "optimiser": lambda: (deformation(), optimiser())})
    least["optimiser"] -= least["deformation alone"]
    return {"gaussians": 5000, "pictures": PICTURES, "size": SIZE, **least}


def write(rows: list[dict], step: dict) -> None:
    """Both files."""
    machine = f"{platform.machine()}, {platform.system()}, torch {torch.__version__}, one thread"
    document = {"features": rows, "construction": step, "machine": machine, "goal": GOAL}
    (DOCS / "hexplane_benchmark.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    lines = ["# ST-HexPlane (P8)", "", "Milliseconds of one core, least of several rounds; forward and backward. Bare: the same six planes sampled at every point and time.", ""]
    lines += ["| planes | points | times | bare grid_sample | features | ratio | error |", "|---|---|---|---|---|---|---|"]
    lines += [f"| {row['planes']} | {row['points']:,} | {row['times']} | {row['bare grid_sample']:.1f} | {row['features']:.1f} | {row['ratio']:.2f} | {row['error']:.0e} |" for row in rows]
    worst = max(row["ratio"] for row in rows)
    lines += ["", f"Goal: features within {GOAL} of bare samples; here {worst:.2f} at worst. What does not depend on time is sampled once for all times.", ""]
    lines += [
        f"A construction step of {step['pictures']} pictures of {step['size']} x {step['size']} with {step['gaussians']:,} Gaussians: {step['step']:.0f} ms, of which "
        f"{step['gradients']:.0f} are gradients (the deformation alone {step['deformation alone']:.0f}) and {step['optimiser']:.0f} the optimiser.", "",
        f"`python benchmarks/hexplane.py`, {machine}.", "",
    ]  # fmt: skip
    (DOCS / "hexplane_benchmark.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    found = [features(*case) for case in CASES]
    write(found, construction())
    print((DOCS / "hexplane_benchmark.md").read_text(encoding="utf-8"))
    if max(row["error"] for row in found) > 1e-5 or max(row["ratio"] for row in found) > GOAL:
        raise SystemExit("the features are not those of the planes, or dearer than the goal")
