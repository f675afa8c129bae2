"""P4: deferred back-propagation of a rendered picture against plain autograd.

`python benchmarks/deferred.py` writes docs/deferred_benchmark.json and .md. Goal: at least 10 times less memory kept, at most twice the
time, the same gradient. The render alone is measured: with a denoiser between the two passes the share of the second render shrinks.
"""

import json
import platform
from pathlib import Path

import torch
from field_iteration import build
from measure import alternate, finish, kept_bytes, relative_error, report

from bloom4d.models.geometry.cameras import view_time_grid
from bloom4d.models.render.backend import flushed_denormals
from bloom4d.models.render.volume import VolumeRenderer

SIZE, VIEWS = 64, 8
PARTS = (4, 16, 64)
GOALS = {"memory_ratio": 10.0, "time_ratio": 2.0, "error": 1e-5}
DOCS = Path(__file__).resolve().parent.parent / "docs"


def main() -> None:
    scene, renderer = build(), VolumeRenderer()
    state, cameras = renderer.new_state(scene), view_time_grid(VIEWS, 1)
    parameters = list(scene.parameters())
    origins, directions, times = cameras.rays(SIZE, SIZE)
    weights = torch.randn(VIEWS, SIZE, SIZE, 3, generator=torch.Generator().manual_seed(2))

    def gradient(chunk):
        scene.zero_grad(set_to_none=True)
        (renderer.render_views(scene, state, cameras, SIZE, SIZE, seed=3, chunk=chunk).rgb * weights).sum().backward()
        return torch.cat([parameter.grad.flatten() for parameter in parameters])

    def largest(pieces):
        """What the backward pass keeps at once: one chunk's graph."""
        parts = [[values[start::pieces] for values in (origins, directions, times)] for start in range(pieces)]
        return max(kept_bytes(lambda part=part: renderer.render(scene, state, *part), parameters) for part in parts)

    whole, everything = gradient(0), kept_bytes(lambda: renderer.render(scene, state, origins, directions, times), parameters)
    rows = []
    for pieces in PARTS:
        chunk = len(origins) // pieces
        error = relative_error(gradient(chunk), whole)
        with flushed_denormals():
            least = alternate({"plain": lambda: gradient(0), "deferred": lambda chunk=chunk: gradient(chunk)}, rounds=4)
        row = dict(
            ms_plain=least["plain"],
            ms_deferred=least["deferred"],
            time_ratio=least["deferred"] / least["plain"],
            megabytes_plain=everything / 2**20,
            megabytes_deferred=largest(pieces) / 2**20,
            memory_ratio=everything / largest(pieces),
        )
        report(f"deferred in {pieces} chunks", error, GOALS["error"], **row)
        rows.append({"chunks": pieces, "error": error, **row})
    finish()
    (DOCS / "deferred_benchmark.json").write_text(json.dumps({"goals": GOALS, "rays": len(origins), "rows": rows}, indent=1) + "\n", encoding="utf-8")
    (DOCS / "deferred_benchmark.md").write_text(page(rows, len(origins)), encoding="utf-8")


def page(rows: list[dict], rays: int) -> str:
    """The table for people."""
    lines = [
        "# Deferred back-propagation (P4)", "", f"{rays:,} rays of the demo field, up to 512 samples each: the picture's gradient in every parameter.", "",
        "| chunks | kept, MB | less memory | ms | time | gradient differs by |", "|---|---|---|---|---|---|",
        f"| plain autograd | {rows[0]['megabytes_plain']:.1f} | 1x | {rows[0]['ms_plain']:.0f} | 1x | |",
    ]  # fmt: skip
    lines += [f"| {row['chunks']} | {row['megabytes_deferred']:.1f} | {row['memory_ratio']:.1f}x | {row['ms_deferred']:.0f} | {row['time_ratio']:.2f}x | {row['error']:.1g} |" for row in rows]
    reached = [row for row in rows if row["memory_ratio"] >= GOALS["memory_ratio"] and row["time_ratio"] <= GOALS["time_ratio"]]
    verdict = f"reached in {reached[0]['chunks']} chunks" if reached else "not reached"
    goal = f"Goal: at least {GOALS['memory_ratio']:g}x less memory at most {GOALS['time_ratio']:g}x the time: {verdict}."
    return "\n".join([*lines, "", goal, "", f"`python benchmarks/deferred.py`, {platform.machine()}, {platform.system()}, torch {torch.__version__}, one thread.", ""])


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
