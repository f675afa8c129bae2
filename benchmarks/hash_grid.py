"""P1: hash-grid encoding, forward and backward, by naive torch, our torch reference and our warp kernels, in turns in one process.

65,536 random points, the worst case for the cache. `python benchmarks/hash_grid.py` writes docs/hash_grid_benchmark.json and .md;
`--quick` takes the small cases and writes nothing. Ratios above 1 say how much faster (or smaller) ours is.
"""

import argparse
import json
import platform
from pathlib import Path

import torch
from measure import alternate, finish, kept_bytes, relative_error, report
from naive import encode

from bloom4d.models.fields.hash_field import DEMO_FIELD
from bloom4d.models.fields.hash_grid import HashGrid, HashGridConfig
from bloom4d.models.fields.hash_grid import encode as reference
from bloom4d.models.render.backend import rows
from bloom4d.models.render.warp_hash_grid import encode as kernels

POINTS = 65536
DOCS = Path(__file__).resolve().parent.parent / "docs"
CASES = {
    "3D 16 levels 2^15": HashGridConfig(dimensions=3, log2_table=15),
    "3D 16 levels 2^19": HashGridConfig(dimensions=3, log2_table=19),
    "4D 12 levels 2^15": HashGridConfig(dimensions=4, levels=12, base_resolution=4, growth=1.5, log2_table=15),
    "4D 12 levels 2^19": HashGridConfig(dimensions=4, levels=12, base_resolution=4, growth=1.5, log2_table=19),
    "demo static": DEMO_FIELD.static,
    "demo dynamic": DEMO_FIELD.dynamic,
}
GOALS = {"3D 16 levels 2^15": 4.0, "3D 16 levels 2^19": 3.0}  # warp against naive torch


def compare(name: str, config: HashGridConfig) -> dict:
    generator = torch.Generator().manual_seed(0)
    grid = HashGrid(config, generator)
    positions = torch.rand(POINTS, config.dimensions, generator=generator)
    weights = torch.randn(POINTS, 2 * config.levels, generator=generator)
    levels = float(config.levels)
    forwards = {
        "naive": lambda: encode(positions, grid.table, config),
        "torch": lambda: reference(positions, grid.table, config, levels, 2 * config.levels),
        "warp": lambda: kernels(positions, grid.table, config, levels, 2 * config.levels),
    }
    results = {key: _gradient(forward, grid.table, weights) for key, forward in forwards.items()}
    error = max(relative_error(*pair) for key in ("torch", "warp") for pair in zip(results[key], results["naive"]))
    times = alternate({key: (lambda forward=forward: _gradient(forward, grid.table, weights)) for key, forward in forwards.items()}, rounds=4)
    kept = {key: kept_bytes(forward, [grid.table, positions]) / POINTS for key, forward in forwards.items()}
    for key in ("torch", "warp"):
        kept[key] += positions.element_size() * config.dimensions  # they keep the positions, which the caller may drop
    row = {f"ns_per_point_{key}": value * 1e6 / POINTS for key, value in times.items()}
    row |= {f"ratio_{key}": times["naive"] / times[key] for key in ("torch", "warp")}
    row |= {f"bytes_per_point_{key}": value for key, value in kept.items()} | {"memory_ratio": kept["naive"] / kept["torch"]}
    report(f"hash grid {name}", error, 2e-4, **row)  # single precision of positions times a resolution of thousands
    return {"case": name, **row, "error": error}


def _gradient(forward, table, weights):
    table.grad = None
    features = forward()
    features.backward(weights)
    return features.detach(), table.grad


def page(table: list[dict]) -> str:
    """The table for people."""
    lines = ["# Hash grids (P1)", "", f"{POINTS:,} random points, forward and backward to the table, nanoseconds of processor time per point, least of several rounds in turns; "
             "in brackets how many times as fast as naive torch.", "", "| grid | naive torch | our torch | our warp kernels | kept bytes per point: naive | ours |", "|---|---|---|---|---|---|"]
    for row in table:
        cells = [f"{row['ns_per_point_naive']:.0f}", *(f"{row[f'ns_per_point_{key}']:.0f} ({row[f'ratio_{key}']:.1f}x)" for key in ("torch", "warp"))]
        lines.append(f"| {row['case']} | {' | '.join(cells)} | {row['bytes_per_point_naive']:.0f} | {row['bytes_per_point_torch']:.0f} |")
    met = "; ".join(f"{row['case']} {row['ratio_warp']:.1f}x of {GOALS[row['case']]:.0f}x" for row in table if row["case"] in GOALS)
    lines += ["", f"Goals of warp against naive torch: {met}.", "", f"`python benchmarks/hash_grid.py`, {platform.machine()}, {platform.system()}, torch {torch.__version__}, one thread.", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the demo's grids only, nothing written")
    options = parser.parse_args()
    torch.set_num_threads(1)
    assert any(row.usable for row in rows("hash grid") if row.name == "warp"), "P1 needs warp: pip install warp-lang"
    table = [compare(name, config) for name, config in CASES.items() if not options.quick or name.startswith("demo")]
    finish()
    if not options.quick:
        (DOCS / "hash_grid_benchmark.json").write_text(json.dumps({"goals": GOALS, "rows": table}, indent=1) + "\n", encoding="utf-8")
        (DOCS / "hash_grid_benchmark.md").write_text(page(table), encoding="utf-8")


if __name__ == "__main__":
    main()
