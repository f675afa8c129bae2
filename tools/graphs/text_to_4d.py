"""Text to 4D with the embedded prior: hybrid score distillation in three stages, as 4D-fy does it.

The numbers are the demo's recipe; `python tools/write_workflows.py` writes the workflow again after any change.
"""

from .builder import Graph

NAME = "text_to_4d_demo"
PROMPT = "a red rose blooming"
STEPS = (90, 45, 560)
POLISH_STEPS = 192
VIDEO_FRAMES, VIDEO_RATE, VIDEO_SIZE = 36, 12.0, 256
MESH_TIME, MESH_DENSITY = 0.8, 8.0  # a tenth of the scene's radius at this density blocks half of the light

ABOUT = """## Text to 4D, on any computer

Press **Run**. In a few minutes on two processor cores a prompt becomes an object that changes over time and can be seen from every side: a video, a mesh of one instant, and the field itself as a file.

**Write about one of seven things**: a flower blooming or withering, a plant sprouting, a candle burning, an ice cream melting, a banana rotting, bread baking. The embedded prior is a small demo (64 x 64) that knows nothing else.

**How it works** (4D-fy, hybrid score distillation): one prior judges renders of a hash-grid field in several roles.
1. *Shape*: four views of one instant.
2. *Shape and look*: four views and single pictures.
3. *Motion*: four views, single pictures, videos, and four views at two times together.

At the end a polish: the prior redraws many views and times together, and the field is fitted to them.

Each stage is a Stage and an optimizer. Finished stages stay in the cache, and a run that was interrupted or killed goes on from its last checkpoint when the same graph is queued again.

**With real models**: replace the loader by Load Checkpoint (any image model), or give every guidance node a model of its own: a multi-view model, an image model, a video model. Raise the render sizes, the steps and the guidance scales (0 is the model's own default).

**Needs** `embedded_prior.safetensors`, which comes with Bloom4D (folder `models/weights` of the pack, licence Apache-2.0). Nothing is ever downloaded.

Results are in ComfyUI's output folder under `bloom4d`."""

GREEN, BLUE, GREY = "#3f5a3c", "#3a5068", "#4a4a4a"
STILL = {"time_min": 0.5, "time_max": 0.5}
LEVELS = {"t_max_start": 0.98, "t_max_end": 0.85, "t_min_start": 0.5, "t_min_end": 0.4, "anneal_until": 1.0}
RATES = {"rate_static": 0.03, "rate_decoder": 0.007, "opaque": 30.0}


def build() -> Graph:
    graph = Graph(ABOUT)
    add_results(graph, add_polished_field(graph))
    return graph


def add_polished_field(graph: Graph):
    """Everything up to the polish; returns the link to the polished field."""
    prior = add_prior(graph)
    field, renderer = add_field(graph)
    first, looks = add_shape_stage(graph, prior, field, renderer)
    second = add_look_stage(graph, prior, first, renderer, looks)
    third, joint = add_motion_stage(graph, prior, second, renderer)
    return add_polish(graph, third, joint, renderer)


def add_prior(graph: Graph) -> dict:
    """What every guidance node is connected to."""
    graph.group("Prior and prompt", BLUE)
    loader = graph.add("Bloom4DEmbeddedPriorLoader", "Prior")
    positive = graph.add("CLIPTextEncode", "Prompt", text=PROMPT, clip=loader[1])
    negative = graph.add("CLIPTextEncode", "Negative prompt", text="", clip=loader[1])
    return {"model": loader[0], "vae": loader[2], "positive": positive[0], "negative": negative[0]}


def add_field(graph: Graph):
    graph.column()
    field = graph.add("Bloom4DHashField", "Field")
    return field[0], graph.add("Bloom4DVolumeRenderer", "Renderer")[0]


def add_optimiser(graph: Graph, title: str, steps: int, field, stage, renderer):
    """An optimiser with its sheet of pictures; returns the link to its field."""
    graph.column()
    inputs = {"field": field, "stage": stage[0], "renderer": renderer, "steps": steps, "filename_prefix": "text_to_4d"}
    optimiser = graph.add("Bloom4DHybridSDSOptimizer", title, **inputs)
    graph.add("PreviewImage", f"{title}: views x times", images=optimiser[2])
    return optimiser[0]


def add_shape_stage(graph: Graph, prior: dict, field, renderer):
    """Stage 1: four views of the middle of the time range, motion frozen."""
    graph.group("Stage 1: shape from four views", GREEN)
    cameras = graph.add("Bloom4DCameraSampler", "Four views of one instant", **STILL)
    views = graph.add("Bloom4DMultiViewGuidance", "Multi-view, one instant", cameras=cameras[0], coarse_factor=0.5, coarse_until=1.0, **prior, **LEVELS)
    graph.column()
    stage = graph.add("Bloom4DStage", "Stage 1", **{"terms.term0": views[0]}, name="shape", static_levels=0.5, levels_until=1.0, **RATES)
    return add_optimiser(graph, "Optimize stage 1", STEPS[0], field, stage, renderer), views


def add_look_stage(graph: Graph, prior: dict, field, renderer, views):
    """Stage 2: the same views, and pictures each judged for itself."""
    graph.group("Stage 2: shape and look", GREEN)
    cameras = graph.add("Bloom4DCameraSampler", "Single pictures of one instant", views=1, **STILL)
    pictures = graph.add("Bloom4DSDSGuidance", "Image, one instant", cameras=cameras[0], scenes=4, weighting="recon", **prior, **LEVELS)
    terms = {"terms.term0": views[0], "terms.term1": pictures[0], "probabilities": "0.5, 0.5"}
    graph.column()
    stage = graph.add("Bloom4DStage", "Stage 2", **terms, name="look", static_levels=0.75, levels_until=1.0, **RATES)
    return add_optimiser(graph, "Optimize stage 2", STEPS[1], field, stage, renderer)


def add_motion_stage(graph: Graph, prior: dict, field, renderer):
    """Stage 3: all roles at all times; the prior knows time, so every term may teach motion."""
    graph.group("Stage 3: motion", GREEN)
    common = {**prior, **LEVELS, "train_motion": True, "coarse_factor": 0.5, "coarse_until": 0.24}
    many = graph.add("Bloom4DCameraSampler", "Four views at any time")
    single = graph.add("Bloom4DCameraSampler", "Single pictures at any time", views=1)
    graph.column()
    video = graph.add("Bloom4DCameraSampler", "A video of eight times", views=1, frames=8)
    both = graph.add("Bloom4DCameraSampler", "Four views at two times", views=4, frames=2)
    graph.column()
    terms = [
        graph.add("Bloom4DMultiViewGuidance", "Multi-view", cameras=many[0], **common),
        graph.add("Bloom4DSDSGuidance", "Image", cameras=single[0], scenes=4, weighting="recon", **common),
    ]
    graph.column()
    terms += [
        graph.add("Bloom4DVideoSDSGuidance", "Video", cameras=video[0], weighting="recon", **common),
        graph.add("Bloom4DMultiViewGuidance", "Views and times together", cameras=both[0], name="4D", **common),
    ]
    graph.column()
    links = {f"terms.term{number}": term[0] for number, term in enumerate(terms)}
    settings = {**RATES, "rate_dynamic": 0.06, "static_levels": 0.5, "dynamic_levels": 0.33, "levels_until": 0.4}
    stage = graph.add("Bloom4DStage", "Stage 3", **links, probabilities="0.25, 0.25, 0.25, 0.25", name="motion", **settings)
    return add_optimiser(graph, "Optimize stage 3", STEPS[2], field, stage, renderer), terms[0]


def add_polish(graph: Graph, field, guidance, renderer):
    """The prior redraws views and times together, the field is fitted to that."""
    graph.group("Polish (may be bypassed)", GREEN)
    inputs = {"field": field, "guidance": guidance[0], "renderer": renderer, "steps": POLISH_STEPS, "filename_prefix": "text_to_4d"}
    polish = graph.add("Bloom4DPhotometricRefinement", "Polish", **inputs)
    graph.add("PreviewImage", "Polish: views x times", images=polish[2])
    return polish[0]


def add_results(graph: Graph, field):
    """Video, mesh, field and curves; pictures with more samples per ray than while optimising."""
    graph.group("Results", GREY)
    fine = graph.add("Bloom4DVolumeRenderer", "Fine renderer", samples=64, times_per_slab=2)
    graph.column()
    path = graph.add("Bloom4DCameraPath", "Orbit through time", frames=VIDEO_FRAMES)
    render = graph.add("Bloom4DRenderField", "Render", field=field, cameras=path[0], renderer=fine[0], width=VIDEO_SIZE, height=VIDEO_SIZE)
    video = graph.add("CreateVideo", "Frames to video", images=render[0], fps=VIDEO_RATE)
    graph.add("SaveVideo", "Save video", video=video[0], filename_prefix="bloom4d/text_to_4d")
    graph.column()
    mesh = graph.add("Bloom4DIsosurface", "Mesh of one instant", field=field, time_start=MESH_TIME, threshold=MESH_DENSITY)
    graph.add("SaveGLB", "Save mesh", mesh=mesh[0], filename_prefix="bloom4d/text_to_4d")
    graph.column()
    graph.add("Bloom4DSaveField", "Save field", field=field, filename_prefix="bloom4d/fields/text_to_4d")
    curves = graph.add("Bloom4DTrainingCurves", "Curves", field=field)
    graph.add("SaveImage", "Save curves", images=curves[0], filename_prefix="bloom4d/text_to_4d_curves")
