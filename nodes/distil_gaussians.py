"""Gaussians distilled from a field or from a batch of meshes, by fitting them to our own pictures of it."""

from collections.abc import Callable
from functools import partial

import comfy.model_management
import torch
from comfy_api.latest import io

from ..models.formats.mesh_batch import batch_problem
from ..models.gaussians.checks import check
from ..models.gaussians.riding import RidingGaussians
from ..models.gaussians.tools import compact
from ..models.optimize.checkpoint import CheckpointStore, drop_finished
from ..models.optimize.construct import Construction
from ..models.optimize.construct_report import sheet
from ..models.optimize.distil_gaussians import Result, bytes_needed, construction, moving_cloud, result
from ..models.optimize.film import Filming, cloud_of_field, film_field
from ..models.optimize.footage import Footage
from ..models.optimize.identity import fingerprint
from ..models.optimize.mesh_film import at_times_of, cloud_of_meshes, film_meshes, fixed_topology, in_unit_ball, surfaces
from ..models.optimize.runs import run
from ..models.optimize.scene import Scene
from ..models.render.backend import choose
from ..models.render.splat_renderer import Cloud, is_cloud
from .cameras import number
from .construct_run import watcher
from .field import whole
from .gaussian_tools import CATEGORY
from .host import paths
from .host.estimates import amount, need_memory
from .host.inference import gradients, ordinary
from .host.meshes import tensors_of
from .host.progress import HostCallback
from .optimize import plan_of, run_inputs, unfinished_stamp
from .render import for_pictures
from .runner import RunPlan, resume, run_id
from .sockets import FIELD_4D, GAUSSIANS_4D

REMEDY = "Ask for fewer Gaussians, frames, views, times or smaller pictures."
"""What to do about too little memory."""


def film_inputs(count: int, views: int, times: int, held: str) -> list:
    """How many Gaussians, and the pictures that they learn from."""
    return [
        io.Int.Input("count", default=count, min=16, max=5_000_000, step=1, tooltip="Gaussians; their number stays. More are sharper and slower."),
        whole("views", views, 3, 256, "Cameras around the object at each time; they stand elsewhere at every time."),
        whole("times", times, 1, 256, f"Times that are filmed. {held}"),
        io.Int.Input("size", default=96, min=16, max=1024, step=8, tooltip="Width and height of the pictures in pixels."),
    ]


def result_inputs(frames: int) -> list:
    """What comes out."""
    return [
        whole("frames", frames, 1, 1024, "Times of the result, evenly from begin to end."),
        whole("degree", 0, 0, 3, "Degree of the colours' spherical harmonics: 0 has one colour from all sides, higher ones let it change with the side."),
        number("elevation_min", -20, -90, 90, 0.5, "Lowest elevation of the cameras in degrees.", advanced=True),
        number("elevation_max", 60, -90, 90, 0.5, "Highest elevation.", advanced=True),
    ]


def outputs() -> list:
    return [
        GAUSSIANS_4D.Output("gaussians", tooltip="The Gaussians over time, for Preview 4D, Save 4D and Render Gaussians."),
        io.Image.Output("preview", tooltip="Rows: pictures that were never looked at, the Gaussians from there, and from the opposite side."),
        io.String.Output("report", tooltip="PSNR on pictures that were never looked at, by frame, view and time."),
    ]


def need(count: int, film: Filming, frames: int, degree: int) -> str:
    """What will be taken, in words; ValueError with numbers when it is more than there is."""
    size = bytes_needed(count, film, frames, (degree + 1) ** 2)
    what = f"{count:,} Gaussians fitted to {film.views} views x {film.times} times of {film.size} x {film.size} pixels and kept at {frames} times take"
    device = comfy.model_management.get_torch_device()
    need_memory(size, what, REMEDY, device)
    return f"Memory, estimated before: {amount(size)}."


def splats() -> str:
    """What will draw the Gaussians: another backend rounds differently, so it makes another run."""
    return choose("splats", comfy.model_management.get_torch_device()).name


Begin = Callable[[torch.device], tuple[Construction, Footage, Footage]]
"""Makes the job, its film, and the film that it is judged by, on a device."""


def distil(begin: Begin, name: str, plan: RunPlan) -> Result:
    """Run or resume a distillation in its own folder, with progress, previews, and a view in the Preview 4D nodes behind it."""
    store = CheckpointStore(paths.run_folder(plan.prefix, name))
    with gradients(), store.lock():
        job, film, held_out = begin(comfy.model_management.get_torch_device())
        resume(job, store, plan)
        run(job, store, watcher(job), plan.pace)
        found = result(job, film, held_out)
    drop_finished(paths.runs_root())
    return found


def finished(found: Result, frames: int, *notes: str) -> io.NodeOutput:
    """A distillation's outputs; the report is shown on the node too."""
    with gradients():
        gaussians, picture = compact(found.gaussians.bake(frames)), sheet(found.gaussians, [found.held.to(found.gaussians.positions.device)])
    check(gaussians)
    text = "\n".join([found.report(frames), *filter(None, notes)])
    return io.NodeOutput(gaussians, picture, text, ui={"text": (text,)})


class Bloom4DGaussiansFromField(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DGaussiansFromField",
            display_name="Gaussians from Field",
            category=CATEGORY,
            description="Any 4D field as moving Gaussians: it is filmed from all sides over time, and a cloud that begins on its surface is fitted to the film. A field that is Gaussians already is taken as it is, exactly.",
            search_aliases=["field to splat", "nerf to gaussian splatting", "bake", "field bake", "distil", "convert"],
            inputs=[
                FIELD_4D.Input("field", tooltip="The field to turn into Gaussians: a finished one."),
                *film_inputs(4000, 10, 8, "The motion between them is learned as a smooth course."),
                *result_inputs(16),
                *run_inputs(300),
            ],
            outputs=outputs(),
        )

    @classmethod
    def fingerprint_inputs(cls, time_budget, step_budget=0, **values):
        return unfinished_stamp(time_budget, step_budget)

    @classmethod
    def execute(cls, field, count, views, times, size, frames, degree, elevation_min, elevation_max, steps, seed, renderer=None, **plan):
        film = Filming(views, times, size, elevation_min, elevation_max)
        if is_cloud(field.field):
            return exact(field.field, frames)
        note = need(count, film, frames, degree)
        renderer = renderer or for_pictures(field.field)
        renderer.check(field.field)
        begin = partial(begin_field, field, renderer, film, count, degree, steps, seed)
        found = distil(begin, run_id(field, (), renderer, "distil", film, count, degree, steps, seed, splats()), plan_of(**plan))
        return finished(found, frames, note)


def exact(field: Cloud, frames: int) -> io.NodeOutput:
    """A field of Gaussians at `frames` times: nothing is fitted."""
    with gradients():
        local = field.clone()
        gaussians = compact(local.bake(frames))
        check(gaussians)
        cameras = Filming(views=1, times=8).cameras()
        empty = torch.zeros(len(cameras), 96, 96, 3)
        picture = sheet(local, [Footage("", empty, None, cameras)])[:, 96:]
    text = f"{gaussians.count:,} Gaussians at {frames} times, taken from the field exactly: it is made of Gaussians, and nothing was fitted."
    return io.NodeOutput(gaussians, picture, text, ui={"text": (text,)})


def begin_field(scene: Scene, renderer, film: Filming, count: int, degree: int, steps: int, seed: int, device: torch.device) -> tuple[Construction, Footage, Footage]:
    """Film a field, put a cloud on its surface, and begin to fit it."""
    field = scene.field.clone().to(device).requires_grad_(False)
    cameras, others = film.cameras(), film.held_out()
    watch = HostCallback(total=len(cameras) + len(others))
    told = lambda first, done: watch(first + done, "filming the field")  # noqa: E731
    seen = film_field("film", field, renderer, cameras, film.size, partial(told, 0))
    held = film_field("held out", field, renderer, others, film.size, partial(told, len(cameras)))
    draws = torch.Generator().manual_seed(seed)
    instants = torch.arange(film.times, device=device) / max(film.times - 1, 1)
    raw = cloud_of_field(field, instants, count, degree, draws)
    return construction(moving_cloud(raw, degree, film.times, draws).to(device), seen.to(device), steps, seed), seen, held


class Bloom4DGaussiansFromMeshBatch(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DGaussiansFromMeshBatch",
            display_name="Gaussians from Mesh Batch",
            category=CATEGORY,
            description="A MESH batch over time as moving Gaussians. With the same faces at all times they ride on the surface, and only their look is fitted; else their motion is learned too.",
            search_aliases=["mesh to splat", "animated mesh", "mesh sequence", "distil", "convert"],
            inputs=[
                io.Mesh.Input("mesh", tooltip="One mesh per time, with vertex colours or a texture, such as Isosurface over several times or Procedural 4D Object gives."),
                *film_inputs(4000, 8, 8, "At most as many as the batch has; meshes between are not looked at."),
                number("light", 0.5, 0, 1, 0.01, "Soft light from above and in front, so that shape is seen; 0 shows plain colours. A mesh that is unlit gets none."),
                *result_inputs(16),
                *(asked for asked in run_inputs(150) if asked.id != "renderer"),
            ],
            outputs=outputs(),
        )

    @classmethod
    def fingerprint_inputs(cls, time_budget, step_budget=0, **values):
        return unfinished_stamp(time_budget, step_budget)

    @classmethod
    def execute(cls, mesh, count, views, times, size, light, frames, degree, elevation_min, elevation_max, steps, seed, **plan):
        batch = mesh_tensors(mesh)
        film = Filming(views, min(times, len(batch["vertices"])), size, elevation_min, elevation_max)
        note = need(count, film, frames, degree)
        light = 0.0 if getattr(mesh, "unlit", False) else light
        told = []
        begin = partial(begin_mesh, batch, film, light, count, degree, steps, seed, told)
        found = distil(begin, fingerprint("mesh", batch, film, light, count, degree, steps, seed, splats()), plan_of(**plan))
        return finished(found, frames, *told, note)


def mesh_tensors(mesh) -> dict[str, torch.Tensor]:
    """The host's MESH as tensors by name, checked."""
    batch = tensors_of(mesh)
    if problem := batch_problem(batch):
        raise ValueError(f"The mesh can not be filmed: {problem}. Repair the node that made it.")
    return batch


def begin_mesh(batch: dict, film: Filming, light: float, count: int, degree: int, steps: int, seed: int, told: list[str], device: torch.device) -> tuple[Construction, Footage, Footage]:
    """Film meshes, put a cloud on their surface, and begin to fit it; `told` gets what there is to say about them."""
    parts, centre, radius = in_unit_ball(surfaces({name: value.to(device) for name, value in ordinary(batch).items()}))
    fixed = fixed_topology(parts)
    told.append("The faces are the same at all times: the Gaussians ride on them." if fixed else "The faces change over time: the motion was learned from the pictures.")
    if radius != 1.0:
        told.append(f"The mesh reached beyond the unit ball and was moved by {[-round(value, 4) for value in centre.tolist()]} and divided by {radius:.4g}.")
    cameras, others = (at_times_of(parts, shots) for shots in (film.cameras(), film.held_out()))
    watch = HostCallback(total=len(cameras) + len(others))
    note = lambda first, done: watch(first + done, "filming the meshes")  # noqa: E731
    seen = film_meshes("film", parts, cameras, film.size, light, partial(note, 0))
    held = film_meshes("held out", parts, others, film.size, light, partial(note, len(cameras)))
    draws = torch.Generator().manual_seed(seed)
    raw, tracks = cloud_of_meshes(parts, count, light, degree, draws)
    gaussians = RidingGaussians(raw, tracks, degree) if fixed else moving_cloud(raw, degree, film.times, draws)
    return construction(gaussians.to(device), seen.to(device), steps, seed), seen, held


NODES = [Bloom4DGaussiansFromField, Bloom4DGaussiansFromMeshBatch]
