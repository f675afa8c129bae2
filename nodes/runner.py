"""Running an optimisation inside a node: run folder, resume, priors, progress, pictures."""

import logging
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import comfy.model_management
import folder_paths
import torch
from torch import Tensor

from ..models.geometry.cameras import view_time_grid
from ..models.optimize.checkpoint import CheckpointStore, drop_finished, read_checkpoint
from ..models.optimize.forming import coarse_cloud
from ..models.optimize.identity import fingerprint
from ..models.optimize.loop import Distiller
from ..models.optimize.refine import Refinement, Refiner
from ..models.optimize.runs import Job, Pace, run
from ..models.optimize.scene import Scene, describe_field
from ..models.optimize.stages import Stage, Term
from ..models.render.backend import summary
from ..models.render.sheets import contact_sheet
from ..models.render.renderer import Renderer
from .guidance import PriorSource, Source
from .host import paths
from .host.forming import show_forming
from .host.inference import gradients
from .host.progress import HostCallback
from .host.residency import RunRoom, counting

RAYS_AT_ONCE = {"cpu": 1 << 16}  # whose graph is kept whole, where memory allows
ACCELERATOR_RAYS = 1 << 20
SHEET_TILE = 64


@dataclass(frozen=True)
class HostStage:
    """What travels on STAGE_4D: a stage and, term by term, where its priors come from."""

    stage: Stage
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class RunPlan:
    """Where a run keeps its checkpoints, how it begins, and how often it reports."""

    prefix: str
    resume: str  # auto, new, file
    checkpoint: str
    pace: Pace


def named_apart(terms: list[Term]) -> tuple[Term, ...]:
    """The terms with a number behind a name that another one has already."""
    named, seen = [], {}
    for term in terms:
        seen[term.name] = seen.get(term.name, 0) + 1
        named.append(term if seen[term.name] == 1 else replace(term, name=f"{term.name} {seen[term.name]}"))
    return tuple(named)


def run_id(scene: Scene, sources: tuple[Source, ...], renderer: Renderer, *settings) -> str:
    """The name of a run: a hash of everything that determines its result."""
    backends = summary(comfy.model_management.get_torch_device())  # each rounds in its own way
    start = [describe_field(scene.field), scene.field, len(scene.history), scene.learned, backends]
    return fingerprint(start, [source.identity() for source in sources], renderer.kind, renderer.config, *settings)


def distil(scene: Scene, hosted: HostStage, renderer: Renderer, steps: int, seed: int, plan: RunPlan) -> tuple[Scene, str]:
    """Run or resume one stage of score distillation; the scene's field is copied, never changed. Also what there is to say of it."""
    renderer.check(scene.field)
    hosted.stage.regularisers.check(scene.field)

    def begin(local: Scene, priors: list, chunk: int) -> Distiller:
        return Distiller(local, hosted.stage, priors, renderer, steps, seed, chunk, RunRoom(patchers_of(hosted.sources)))

    name = run_id(scene, hosted.sources, renderer, hosted.stage, steps, seed)
    return work(scene, hosted.sources, begin, name, plan)


def refine(scene: Scene, source: PriorSource, config: Refinement, renderer: Renderer, steps: int, seed: int, plan: RunPlan) -> tuple[Scene, str]:
    """Run or resume a photometric refinement; the scene's field is copied, never changed. Also what there is to say of it."""
    renderer.check(scene.field)

    def begin(local: Scene, priors: list, chunk: int) -> Refiner:
        return Refiner(local, priors[0], renderer, config, steps, seed, chunk)

    return work(scene, (source,), begin, run_id(scene, (source,), renderer, config, steps, seed), plan)


def work(scene: Scene, sources: tuple[Source, ...], begin: Callable, name: str, plan: RunPlan) -> tuple[Scene, str]:
    """Run the job that `begin` makes, on the host's device, with its priors open and its run folder locked.

    Returns the scene, and what the run has to say: models that had to be exchanged.
    """
    store = CheckpointStore(paths.run_folder(plan.prefix, name))
    device = comfy.model_management.get_torch_device()
    with gradients(), ExitStack() as open_things:
        open_things.enter_context(store.lock())
        loads = open_things.enter_context(counting())
        priors = [open_things.enter_context(source.open()) for source in sources]
        job = begin(replace(scene, field=scene.field.clone().to(device)), priors, RAYS_AT_ONCE.get(device.type, ACCELERATOR_RAYS))
        resume(job, store, plan)
        logging.info("Bloom4D: %s", places_of(sources))
        run(job, store, watcher(job, notes_of(sources)), plan.pace)
        finished = job.scene()
    drop_finished(paths.runs_root())
    return replace(finished, field=finished.field.to("cpu")), exchanged(loads)


def watcher(job: Distiller | Refiner, note: str) -> Callable:
    """Progress, text and previews on the node, and the field so far in the viewers behind it."""
    report = HostCallback(total=job.steps, first=job.step, note=note)

    def watch(done: int, text: str, preview) -> None:
        report(done, text, preview)
        show_forming(report.node_id, lambda: coarse_cloud(job.work.field))

    return watch


def notes_of(sources: tuple[Source, ...]) -> str:
    """What there is to say about the prompts, a line each, each once."""
    return "\n".join(dict.fromkeys(note for source in sources for note in source.notes()))


def places_of(sources: tuple[Source, ...]) -> str:
    """Where the field renders and where each prior computes, in words."""
    priors = dict.fromkeys(filter(None, (source.place() for source in sources)))
    return "; ".join([f"The field renders on {comfy.model_management.get_torch_device()}", *priors])


def patchers_of(sources: tuple[Source, ...]) -> list:
    """The host's handles on every model that a run asks, each once; a source without networks has none."""
    found = [patcher for source in sources for patcher in getattr(source, "patchers", tuple)()]
    return [patcher for index, patcher in enumerate(found) if not any(patcher is other for other in found[:index])]


def exchanged(loads: Counter) -> str:
    """Which models had to be loaded more than once, in words; empty when all of them stayed."""
    again: Counter = Counter()
    for (name, _), count in loads.items():
        again[name] += count - 1
    told = ", ".join(f"{name} {count}" for name, count in sorted(again.items()) if count)
    return f"Not everything fits in memory together. Loaded again, times: {told}. A larger block in the Stage exchanges models less often." if told else ""


def apart(sources: tuple[Source, ...]) -> bool:
    """Whether a prior computes on another device than the renderer (the host's Select Device nodes move it)."""
    here = comfy.model_management.get_torch_device()
    return any(device != here for source in sources for device in source.devices())


def resume(job: Job, store: CheckpointStore, plan: RunPlan) -> None:
    """auto: from the run's newest good checkpoint; new: from nothing, forgetting them; file: from the named one."""
    if plan.resume == "new":
        store.clear()
    elif plan.resume == "file":
        job.restore(read_checkpoint(checkpoint_path(plan.checkpoint)))
    elif (found := store.recover()) is not None:
        job.restore(found)


def checkpoint_path(name: str) -> Path:
    """A checkpoint named relative to the host's output folder; ValueError when it is empty or leads elsewhere."""
    if not name.strip():
        raise ValueError("Resume is set to file, but no checkpoint is named. Give its path below the output folder, such as bloom4d/runs/4d/<run>/step_00000100.safetensors.")
    return paths.inside(folder_paths.get_output_directory(), name.strip())


def loss_map(scene: Scene) -> dict:
    """LOSS_MAP of the last stage that has two different losses: the host's graph divides by their range."""
    losses = [history.losses() for history in reversed(scene.history)]
    varied = [values for values in losses if len(set(values)) > 1]
    return {"loss": varied[0] if varied else (losses[0] if losses else [])}


def picture_of(scene: Scene, renderer: Renderer) -> Tensor:
    """A contact sheet (1, H, W, 3): four views in rows, six times in columns."""
    with gradients(), torch.no_grad():
        device = comfy.model_management.get_torch_device()
        field = scene.field.clone().to(device)
        cameras = view_time_grid(4, 6).to(device)
        return contact_sheet(field, renderer, renderer.new_state(field), cameras, 4, SHEET_TILE, 2)
