"""Constructing Gaussians inside a node: run folder, resume, device, progress, viewers, and what comes out."""

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import comfy.model_management
from torch import Tensor

from ..models.gaussians.dynamic import DynamicGaussians, DynamicGaussiansConfig
from ..models.gaussians.gaussians import Gaussians4D
from ..models.guidance.seeds import generator
from ..models.optimize.carve import start
from ..models.optimize.checkpoint import CheckpointStore, drop_finished
from ..models.optimize.construct import ConstructConfig, Construction
from ..models.optimize.construct_losses import SOBEL, Perceptual
from ..models.optimize.construct_report import losses_in_words, match, sheet
from ..models.optimize.footage import Footage, coverage
from ..models.optimize.identity import fingerprint
from ..models.optimize.runs import run
from ..models.optimize.scene import Scene
from ..models.render.backend import choose
from .host import judges, paths
from .host.forming import show_forming
from .host.inference import gradients, ordinary
from .host.progress import HostCallback, duration
from .runner import RunPlan, resume

SMALLEST_FOR_LPIPS = 48  # pixels a side
FORMING_FRAMES = 8


@dataclass(frozen=True)
class Order:
    """What to construct: the shape of the Gaussians, how many to begin with and where, how to fit them, and the run's seed."""

    gaussians: DynamicGaussiansConfig
    initial: int
    carved: bool
    config: ConstructConfig
    seed: int
    frames: int  # that the result is baked at
    lpips: str = judges.NONE


@dataclass(frozen=True)
class Constructed:
    """What came of it: the field, the baked Gaussians, total losses by step, a sheet of pictures, a report and its warnings."""

    scene: Scene
    gaussians: Gaussians4D
    losses: list[float]
    sheet: Tensor
    report: str
    notes: str


def construct(footages: list[Footage], driving: Footage | None, order: Order, plan: RunPlan) -> Constructed:
    """Run or resume a construction on the host's device; footage is copied, never changed."""
    check_limits(order)
    device = comfy.model_management.get_torch_device()
    began = time.monotonic()
    with gradients(), ExitStack() as held:
        footages, driving = ordinary(footages), ordinary(driving)
        seen = coverage([*footages, *([driving] if driving is not None else [])]).words()
        field = DynamicGaussians(order.gaussians, generator(order.seed, "planes"), order.initial)
        raw, placed = start(footages, order.initial, order.gaussians.degree, order.carved, generator(order.seed, "cloud"))
        field.restart(raw)
        perceptual, judged = perceptual_loss(order, footages, held)
        name = fingerprint(field.config, field, footages, driving, order.config, order.seed, judged, choose("splats", device).name)
        store = CheckpointStore(paths.run_folder(plan.prefix, name))
        held.enter_context(store.lock())
        job = Construction(field.to(device), footages, order.config, order.seed, driving, perceptual)
        resume(job, store, plan)
        logging.info("Bloom4D: %s %s", placed, seen)
        run(job, store, watcher(job), plan.pace)
        report = [seen, placed, *losses_in_words(order.config.weights, judged, driving, footages), *outcome(job, time.monotonic() - began)]
        matches = [match(job.gaussians, item) for item in job.pool.footages]
        result = Constructed(
            Scene(job.scene().field.to("cpu"), job.scene().history), job.gaussians.bake(order.frames), totals(job), sheet(job.gaussians, job.pool.footages),
            "\n".join([*report, *(item.words() for item in matches)]), "\n".join([report[0], *(line for line in report if "inactive" in line or "No mask" in line)]),
        )  # fmt: skip
    drop_finished(paths.runs_root())
    return result


def check_limits(order: Order) -> None:
    """ValueError when the start is larger than the end may be."""
    most = order.config.density.most
    if order.initial > most:
        raise ValueError(f"The construction begins with {order.initial:,} Gaussians, and max_gaussians allows {most:,}. Raise max_gaussians, or lower initial_gaussians.")


def perceptual_loss(order: Order, footages: list[Footage], held: ExitStack) -> tuple[Perceptual | None, str]:
    """LPIPS where a file was chosen and the pictures are large enough for it, resident as long as `held`; its name for the report."""
    smallest = min(min(item.size) for item in footages)
    if order.lpips == judges.NONE or not order.config.weights.perceptual:
        return None, SOBEL
    if smallest < SMALLEST_FOR_LPIPS:
        return None, f"Sobel pyramid (pictures of {smallest} pixels; LPIPS needs {SMALLEST_FOR_LPIPS})"
    network, note = judges.lpips_network(order.lpips)
    held.enter_context(judges.resident(network))
    return lambda pictures, truth: network(pictures, truth, normalize=True).mean(), note


def watcher(job: Construction) -> Callable:
    """Progress, text and previews on the node, and the Gaussians so far in the viewers behind it."""
    report = HostCallback(total=job.steps, first=job.step)

    def watch(done: int, text: str, preview) -> None:
        report(done, text, preview)
        show_forming(report.node_id, lambda: job.gaussians.bake(FORMING_FRAMES))

    return watch


def outcome(job: Construction, seconds: float) -> list[str]:
    """Count, steps, time and what was skipped, in words."""
    config, lines = job.config, []
    ended = f"; it ended early at step {job.step:,}" if job.step < config.coarse + config.fine else ""
    lines.append(f"{job.gaussians.count:,} Gaussians after {config.coarse:,} coarse and {config.fine:,} fine steps{ended}, {duration(seconds)} in this run.")
    if job.history.skipped:
        lines.append(f"{len(job.history.skipped)} steps were skipped: their gradients were not finite.")
    if job.gaussians.count >= config.density.most:
        lines.append(f"The limit of {config.density.most:,} Gaussians was reached. Raise max_gaussians for finer detail.")
    return lines


def totals(job: Construction) -> list[float]:
    """The sum of all weighted losses of every step."""
    sums: dict[float, float] = {}
    for step, loss in zip(job.history.columns["step"], job.history.columns["loss"]):
        sums[step] = sums.get(step, 0.0) + loss
    return list(sums.values())
