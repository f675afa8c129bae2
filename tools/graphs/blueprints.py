"""Blocks that most 4D graphs have, as subgraphs for the node library: a distillation stage; render and save.

Each is written as a whole small graph: the group `INSIDE` becomes the subgraph, the nodes around it only show what is
connected to it. `python tools/write_blueprints.py` writes them again after any change.
"""

from dataclasses import dataclass

from .builder import Graph
from .text_to_4d import MESH_DENSITY, MESH_TIME, VIDEO_FRAMES, VIDEO_RATE, VIDEO_SIZE

INSIDE = "Inside"
GREEN = "#3f5a3c"
PROMPT = "a red rose blooming"


@dataclass(frozen=True)
class Blueprint:
    """name: of the file and in the node library. widgets: (title of a node inside, input) that the block shows, in order."""

    name: str
    about: str
    aliases: tuple[str, ...]
    graph: Graph
    widgets: tuple[tuple[str, str], ...]


def distillation_stage() -> Blueprint:
    about = "One stage of score distillation: random cameras, a term that asks any image, multi-view or video model, and the loop. Chain several, field to field."
    graph = Graph(about)
    graph.group("Around", GREEN)
    prior = graph.add("Bloom4DEmbeddedPriorLoader", "Prior")
    positive, negative = (graph.add("CLIPTextEncode", title, text=text, clip=prior[1]) for title, text in (("Prompt", PROMPT), ("Negative prompt", "")))
    field, renderer = graph.add("Bloom4DHashField", "Field"), graph.add("Bloom4DVolumeRenderer", "Renderer")
    graph.group(INSIDE, GREEN)
    cameras = graph.add("Bloom4DCameraSampler", "Cameras")
    graph.column()
    inputs = {"model": prior[0], "vae": prior[2], "positive": positive[0], "negative": negative[0], "cameras": cameras[0], "train_motion": True}
    guidance = graph.add("Bloom4DMultiViewGuidance", "Guidance", **inputs)
    graph.column()
    stage = graph.add("Bloom4DStage", "Stage", **{"terms.term0": guidance[0]}, rate_dynamic=0.06)
    graph.column()
    optimiser = graph.add("Bloom4DHybridSDSOptimizer", "Optimize", field=field[0], stage=stage[0], renderer=renderer[0], filename_prefix="4d")
    graph.group("After", GREEN)
    graph.add("Bloom4DTrainingCurves", "Curves", field=optimiser[0])
    graph.add("PreviewImage", "Views x times", images=optimiser[2])
    shown = (("Optimize", "steps"), ("Optimize", "seed"), ("Cameras", "views"), ("Cameras", "frames"), ("Guidance", "guidance_scale"), ("Stage", "rate_dynamic"))
    return Blueprint("4D distillation stage", about, ("SDS", "score distillation", "text to 4D"), graph, shown)


def render_and_save() -> Blueprint:
    about = "A video that orbits a field while its time runs, a mesh of one instant, and the field as a file, all in the output folder."
    graph = Graph(about)
    graph.group("Around", GREEN)
    field = graph.add("Bloom4DHashField", "Field")
    renderer = graph.add("Bloom4DVolumeRenderer", "Renderer", samples=64, times_per_slab=2)
    graph.group(INSIDE, GREEN)
    path = graph.add("Bloom4DCameraPath", "Orbit through time", frames=VIDEO_FRAMES)
    graph.column()
    render = graph.add("Bloom4DRenderField", "Render", field=field[0], cameras=path[0], renderer=renderer[0], width=VIDEO_SIZE, height=VIDEO_SIZE, background="field")
    mesh = graph.add("Bloom4DIsosurface", "Mesh of one instant", field=field[0], time_start=MESH_TIME, threshold=MESH_DENSITY)
    graph.column()
    video = graph.add("CreateVideo", "Frames to video", images=render[0], fps=VIDEO_RATE)
    graph.add("SaveGLB", "Save mesh", mesh=mesh[0], filename_prefix="bloom4d/4d")
    graph.add("Bloom4DSaveField", "Save field", field=field[0], filename_prefix="bloom4d/fields/4d")
    graph.column()
    graph.add("SaveVideo", "Save video", video=video[0], filename_prefix="bloom4d/4d")
    graph.group("After", GREEN)
    graph.add("PreviewImage", "Frames", images=render[0])
    shown = (("Orbit through time", "frames"), ("Render", "width"), ("Render", "height"), ("Mesh of one instant", "time_start"), ("Mesh of one instant", "threshold"))
    return Blueprint("4D render and save", about, ("export", "video", "mesh", "GLB"), graph, shown)


BLUEPRINTS = {blueprint.name: blueprint for blueprint in (distillation_stage(), render_and_save())}
