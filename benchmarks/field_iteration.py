"""P3: one whole training iteration of a 4D field, 64 x 64 rays of 64 samples, against naive dense torch in one run.

Render, loss, backward and Adam of the demo field with both grids awake, on one thread: `python benchmarks/field_iteration.py`
writes docs/field_iteration_benchmark.json and .md. "warp" is the packed iteration by our kernels, "packed" by plain torch.
"Dense" evaluates every sample, "packed" only those in occupied cells. Equality: our renderer, told that everything is
occupied, must give the naive picture and gradients (both in double precision); what skipping empty space changes is reported beside it.
"""

import dataclasses
import json
import os
import platform
from pathlib import Path

import torch
from measure import alternate, finish, kept_bytes, relative_error, report
from naive import render

from bloom4d.models.fields.density import DensityBlob
from bloom4d.models.fields.hash_field import DEMO_FIELD, HashField
from bloom4d.models.geometry.cameras import CameraPath
from bloom4d.models.geometry.rays import ray_ball
from bloom4d.models.render.backend import flushed_denormals
from bloom4d.models.render.volume import DEMO_RENDERER, VolumeRenderer

SIZE, SAMPLES = 64, 64
GOAL = 20  # times as fast as naive torch, with warp
DOCS = Path(__file__).resolve().parent.parent / "docs"
OBJECT = DensityBlob(height=24.0, radius=0.42, bias=-1.0, gain=4.0, scale=8.0)  # a compact object, as after some training


def build() -> HashField:
    generator = torch.Generator().manual_seed(0)
    scene = HashField(dataclasses.replace(DEMO_FIELD, blob=OBJECT), generator)
    with torch.no_grad():
        for table in (scene.static.table, scene.dynamic.table):
            table.copy_(torch.randn(table.shape, generator=generator) * 0.05)
    return scene


def main() -> None:
    scene = build()
    fast = scene.clone()
    renderer = VolumeRenderer(dataclasses.replace(DEMO_RENDERER, samples=SAMPLES))
    origins, directions, times = CameraPath(frames=1, times=(0.4, 0.4)).cameras().rays(SIZE, SIZE)
    near, far = ray_ball(origins, directions, 1.0)
    counts = ((far - near) / renderer.config.step - 1e-4).ceil()
    hit = counts == counts.max()  # rays of one sample count, so that both sides sample the same points
    os.environ["BLOOM4D_BACKEND"] = "warp"
    renderer.new_state(fast)
    os.environ["BLOOM4D_BACKEND"] = "torch"
    state = renderer.new_state(scene)
    for step in range(8):
        renderer.update(scene, state, 0, torch.Generator().manual_seed(step), progress=1.0)
    everything = renderer.occupancy.new_state(scene.static.table)
    target = torch.rand(len(origins), 3, generator=torch.Generator().manual_seed(1))

    rays = (origins, directions, times)

    def ours(rays, state, scene=scene):
        return lambda: (lambda seen: (seen.rgb, seen.opacity))(renderer.render(scene, state, *rays))

    def naive(rays, near, far, scene=scene):
        return lambda: render(scene, *rays, near, far, int(counts.max()))

    exact = scene.clone().double()
    middle = [values[hit].double() for values in rays]
    bounds = ray_ball(*middle[:2], 1.0)
    same = [_step(exact, forward, target[hit]) for forward in (ours(middle, everything, exact), naive(middle, *bounds, exact))]
    error = max(relative_error(one, other) for one, other in zip(*same))
    forwards = {"naive dense": naive(rays, near, far), "ours dense": ours(rays, everything), "ours packed": ours(rays, state)}
    skipped = relative_error(forwards["ours packed"]()[0], forwards["ours dense"]()[0])
    optimisers = {id(field): torch.optim.Adam(field.parameters(), lr=0.0) for field in (scene, fast)}  # does all of Adam's work and leaves the scene as it is

    def iterate(forward, field):
        _step(field, forward, target)
        optimisers[id(field)].step()

    twins = [_step(field, ours(rays, state, field), target) for field in (fast, scene)]
    warp_error = max(relative_error(one, other) for one, other in zip(*twins))
    cases = {name: (forward, scene) for name, forward in forwards.items()} | {"warp packed": (ours(rays, state, fast), fast)}
    with flushed_denormals():
        least = alternate({name: (lambda case=case: iterate(*case)) for name, case in cases.items()}, rounds=5)
    samples = {name: renderer.render(scene, s, *rays).samples for name, s in (("dense", everything), ("packed", state))}
    numbers = dict(
        ms_naive_dense=least["naive dense"],
        ms_dense=least["ours dense"],
        ms_packed=least["ours packed"],
        ms_warp=least["warp packed"],
        ratio_encoding=least["naive dense"] / least["ours dense"],
        ratio_whole=least["naive dense"] / least["ours packed"],
        ratio_warp=least["naive dense"] / least["warp packed"],
        samples_naive=len(origins) * int(counts.max()),
        samples_dense=samples["dense"],
        samples_packed=samples["packed"],
        occupied=float(state.occupied.float().mean()),
        picture_change_by_skipping=skipped,
        bytes_per_sample=kept_bytes(forwards["ours packed"], list(scene.parameters())) / samples["packed"],
    )
    report("field iteration 64x64x64", error, 1e-9, **numbers)
    report("field iteration by warp against torch", warp_error, 1e-4, goal=GOAL, ratio=numbers["ratio_warp"])
    finish()
    (DOCS / "field_iteration_benchmark.json").write_text(json.dumps({"goal": GOAL, **numbers, "error": error, "warp_error": warp_error}, indent=1) + "\n", encoding="utf-8")
    (DOCS / "field_iteration_benchmark.md").write_text(page(numbers, warp_error), encoding="utf-8")


def page(numbers: dict, warp_error: float) -> str:
    """The table for people."""
    ways = (("naive torch, every sample", "ms_naive_dense", "samples_naive"), ("our torch, every sample", "ms_dense", "samples_dense"),
            ("our torch, occupied cells only", "ms_packed", "samples_packed"), ("our warp kernels, occupied cells only", "ms_warp", "samples_packed"))  # fmt: skip
    lines = ["# One iteration of a 4D field (P3)", "", "64 x 64 rays of 64 samples, both grids awake: render, loss, backward, Adam; milliseconds of processor time, least of several rounds in turns.", "",
             "| | ms | samples | as fast |", "|---|---|---|---|"]
    lines += [f"| {name} | {numbers[time]:.1f} | {numbers[count]:,} | {numbers['ms_naive_dense'] / numbers[time]:.1f}x |" for name, time, count in ways]
    return "\n".join([*lines, "", f"Goal: at least {GOAL}x of naive torch with warp. Pictures and gradients by warp and by torch differ by {warp_error:.1g} (relative).",
                      "", f"`python benchmarks/field_iteration.py`, {platform.machine()}, {platform.system()}, torch {torch.__version__}, one thread.", ""])


def _step(scene: HashField, forward, target) -> list[torch.Tensor]:
    """Picture and gradients of one loss."""
    scene.zero_grad(set_to_none=True)
    rgb, opacity = forward()
    ((rgb - target).square().sum() + opacity.square().sum()).backward()
    return [rgb.detach(), scene.static.table.grad, scene.dynamic.table.grad, *(weight.grad for weight in scene.roles()["decoder"])]


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
