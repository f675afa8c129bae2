"""4D-fy: text to 4D in three stages of hybrid score distillation, on the embedded prior and on the models of the paper.

Both graphs are one: `build_demo` and `build_real` differ in the loaders and in the tables of values below.
`python tools/write_workflows.py` writes the workflows again after any change.
"""

from .builder import Graph
from .outcome import GREEN, NEEDS, add_optimiser, add_results, add_stage
from .priors import BLUE, Priors, embedded, real_with_learner

NAME = "text_to_4d_4dfy"
DEMO = f"{NAME}_demo"
IMAGE_TERM = "Bloom4DVSDGuidance"
SHARES = {"look": "0.5, 0.5", "motion": "0.5, 0.25, 0.25"}
"""How often each term is drawn: views, pictures, video."""

ABOUT_DEMO = f"""## Text to 4D as 4D-fy does it, on any computer

Press **Run**. In some minutes a prompt becomes an object that changes over time and can be seen from every side: a video, scores, curves, and the field as a file.

**Write about one of seven things**: a flower blooming or withering, a plant sprouting, a candle burning, an ice cream melting, a banana rotting, bread baking. The embedded prior is a small demo (64 x 64) that knows nothing else.

**Three stages** (4D-fy, hybrid score distillation):
1. *Shape*: four views of one instant.
2. *Look*: half of the steps four views, half of them single pictures, which are judged by VSD: a LoRA learns what the pictures look like now, and the object moves from there to what the prior expects. It goes on learning in stage 3, and is saved.
3. *Motion*: half four views, a quarter pictures, a quarter videos from one camera. Only videos train the dynamic grid; pictures and views see one random time; the static grid learns a hundred times slower than before. The ball of the start grows out of the way.

**What differs from the paper**: one small prior plays all three models, and it hears from which side and when each picture is seen, which an image or a video model does not. (Set *told* of the guidance nodes to less and look: `launch.py ablate fourdfy` has the table.) The first two stages show the middle of the time range instead of its start. Fewer steps, smaller pictures and grids, higher noise levels, gradients in reconstruction form, no background.

**With the models of the paper**: *{NAME}* is the same graph.

{NEEDS}"""

ABOUT_REAL = """## Text to 4D as 4D-fy does it, with its models

Write a prompt and press **Run**. The steps are the paper's: 10,000, 10,000 and 100,000; its authors needed 2, 2 and 19 hours and 80 GB on an A100, and say that 40,000 steps of the last stage lose little. A run that was stopped goes on when the same graph is queued again. This graph was tried here on small random networks of the true layout, never yet on the real files.

**Three stages**: MVDream judges four views; from the second stage on Stable Diffusion 2.1-base judges single pictures by VSD, half of the time, while a LoRA on Stable Diffusion 2.1 learns what they look like (it is saved); in the third the shares are 0.5, 0.25 and 0.25, and Zeroscope judges videos of 16 frames from a camera that stands still. Only videos train the dynamic grid; the static one learns a hundred times slower then.

**Where paper and code differ** the values here are
- *steps of stage 2*: the paper's 10,000 (code: 25,000);
- *noise levels of stage 1*: the code's, both ends moving from 0.98 to 0.5 and 0.02 over 8,000 steps (paper: from [0.02, 0.98] to [0.02, 0.5] over 5,000);
- *noise levels of pictures in stage 2*: the code's, [0.02, 0.98], which steps to [0.02, 0.5] after 5,000 steps (paper: [0.02, 0.5] from the start);
- *renders of views*: the code's in stage 1, eight of 64 x 64 for 5,000 steps, then four of 256 x 256 (paper: always four of 256 x 256), and the paper's in stage 2 (code: four of 64 x 64 for 5,000 steps first);
- *shares of stage 3*: the code's meaning of the paper's formula, 0.5, 0.25, 0.25;
- only in the code: sparsity 10 all the time, opacity entropy 1000 as a step after 10,000 steps of a stage (so in stage 3; with the code's 25,000 steps in stage 2 as well), the ball of the start that grows over 50,000 steps, and the ranges of the cameras;
- *video weight 0.1*: both. It gives little motion early; 0.3 to 1 gives more.
- *guidance 101*: the reference code's 100, which counts differently.

The presets *paper* and *code* (right click on the canvas) set all of these that are widgets.

**Less memory**: `save_memory` encodes frame by frame; smaller `width` and `height` of the guidance nodes come next. **Several faces**: raise the share of the views."""

# ---- the paper's values (its code's where the paper is silent; the note says where they differ)

PAPER_CAMERAS = {"distance_min": 2.5, "distance_max": 3.0, "fov_min": 15.0, "fov_max": 60.0}
PAPER_STILL = {**PAPER_CAMERAS, "time_min": 0.0, "time_max": 0.0}
PAPER_VIEWS = {"guidance_scale": 50.0, "rescale": 0.5, "width": 256, "height": 256}
PAPER_PICTURES = {"guidance_scale": 7.5, "width": 256, "height": 256}
LOW = {"t_min_start": 0.02, "t_min_end": 0.02}
SETTLED = {"t_max_start": 0.5, "t_max_end": 0.5, **LOW}
PAPER_STAGE = {"rate_static": 1e-2, "rate_decoder": 1e-3, "rate_background": 1e-3, "warm_up": 0, "final_rate": 1.0, "sparsity": 10.0, "sparsity_schedule": "0, 0, 0", "weight_decay": 0.01}
REAL_VALUES = {
    "Field": {"size": "4D-fy", "initial_density": "magic3d", "blob_radius": 0.5, "background": "network", "background.width": 16},
    "Renderer": {"samples": 512, "bounds": "box", "update_every": 16, "times_per_slab": 2, "decay": 0.95},
    "Views of one instant": PAPER_STILL,
    "Pictures of one instant": PAPER_STILL,
    "Views at any time": PAPER_CAMERAS,
    "Pictures at any time": PAPER_CAMERAS,
    "Video of one camera": {**PAPER_CAMERAS, "frames": 16},
    "Multi-view, stage 1": {**PAPER_VIEWS, "coarse_factor": 0.25, "coarse_until": 0.5, "coarse_scenes": 2, "t_max_start": 0.98, "t_max_end": 0.5, "t_min_start": 0.98, "t_min_end": 0.02, "anneal_until": 0.8},
    "Multi-view, stage 2": {**PAPER_VIEWS, **SETTLED},
    "Multi-view, stage 3": {**PAPER_VIEWS, **SETTLED},
    "Image, stage 2": {**PAPER_PICTURES, **LOW, "t_max_start": 0.98, "t_max_end": 0.5, "anneal_from": 0.5, "anneal_until": 0.5},
    "Image, stage 3": {**PAPER_PICTURES, **SETTLED},
    "Video, stage 3": {"guidance_scale": 101.0, "weight": 0.1, "width": 288, "height": 160, "t_max_start": 0.98, "t_max_end": 0.98, **LOW, "save_memory": True},
    "Stage 1": PAPER_STAGE,
    "Stage 2": PAPER_STAGE,
    "Stage 3": {**PAPER_STAGE, "rate_static": 1e-4, "rate_dynamic": 1e-2, "opaque": 1000.0, "opaque_schedule": "0, 0.1, 0.1", "blob_start": 0.5, "blob_end": 5.0, "blob_until": 0.5},
    "Optimize stage 1": {"steps": 10_000},
    "Optimize stage 2": {"steps": 10_000},
    "Optimize stage 3": {"steps": 100_000},
    "Fine renderer": {"samples": 512, "bounds": "box", "times_per_slab": 2},
    "Orbit through time": {"frames": 64, "distance": 3.0, "fov": 40.0},
    "Render": {"width": 512, "height": 512},
}

# ---- the demo's values: small pictures, few steps, noise levels of a weak prior

INSTANT = {"time_min": 0.5, "time_max": 0.5}
LEVELS = {"t_max_start": 0.98, "t_max_end": 0.85, "t_min_start": 0.5, "t_min_end": 0.4}
COARSE = {"coarse_factor": 0.5, "coarse_until": 0.24}
RATES = {"rate_static": 0.03, "rate_decoder": 0.007, "opaque": 30.0}
LEARNER = {"scenes": 4, "weighting": "recon", "lora_rate": 1e-3}
DEMO_VALUES = {
    "Field": {"size": "demo", "background": "none"},
    "Views of one instant": INSTANT,
    "Pictures of one instant": INSTANT,
    "Video of one camera": {"frames": 8},
    "Multi-view, stage 1": {**LEVELS, "coarse_factor": 0.5, "coarse_until": 1.0},
    "Multi-view, stage 2": LEVELS,
    "Multi-view, stage 3": {**LEVELS, **COARSE},
    "Image, stage 2": {**LEVELS, **LEARNER},
    "Image, stage 3": {**LEVELS, **COARSE, **LEARNER},
    "Video, stage 3": {**LEVELS, **COARSE, "weighting": "recon"},
    "Stage 1": {**RATES, "static_levels": 0.5, "levels_until": 1.0},
    "Stage 2": {**RATES, "static_levels": 0.75, "levels_until": 1.0},
    "Stage 3": {**RATES, "rate_static": 3e-4, "rate_dynamic": 0.06, "dynamic_levels": 0.33, "levels_until": 0.4, "blob_start": 0.55, "blob_end": 5.0},
    "Optimize stage 1": {"steps": 90},
    "Optimize stage 2": {"steps": 90},
    "Optimize stage 3": {"steps": 800},
    "Fine renderer": {"samples": 64, "times_per_slab": 2},
    "Orbit through time": {"frames": 48},
    "Render": {"width": 192, "height": 192},
}


def build_demo() -> Graph:
    graph = Graph(ABOUT_DEMO, DEMO_VALUES)
    return build(graph, embedded(graph, "a red rose blooming"))


def build_real() -> Graph:
    graph = Graph(ABOUT_REAL, REAL_VALUES)
    return build(graph, real_with_learner(graph, "a panda dancing"))


def build(graph: Graph, priors: Priors) -> Graph:
    """Three stages: views; views and pictures; views, pictures and videos. Only videos train motion."""
    graph.column()
    field, renderer = graph.add("Bloom4DHashField", "Field")[0], graph.add("Bloom4DVolumeRenderer", "Renderer")[0]
    graph.group("Cameras", BLUE)
    still = graph.add("Bloom4DCameraSampler", "Views of one instant"), graph.add("Bloom4DCameraSampler", "Pictures of one instant", views=1)
    graph.column()
    moving = graph.add("Bloom4DCameraSampler", "Views at any time"), graph.add("Bloom4DCameraSampler", "Pictures at any time", views=1)
    graph.column()
    clip = graph.add("Bloom4DCameraSampler", "Video of one camera", views=1)
    first = add_shape(graph, priors, field, renderer, still[0])
    second = add_look(graph, priors, first, renderer, still)
    third = add_motion(graph, priors, second, renderer, (*moving, clip))
    add_results(graph, third, priors.prompt, NAME)
    graph.column()
    learned = graph.add("Bloom4DLearnedLoRA", "What VSD learned", field=third)
    graph.add("SaveLoRA", "Save LoRA", lora=learned[0], steps=learned[1], prefix=f"bloom4d/loras/{NAME}")
    return graph


def add_shape(graph: Graph, priors: Priors, field, renderer, cameras):
    graph.group("Stage 1: shape from four views", GREEN)
    views = graph.add("Bloom4DMultiViewGuidance", "Multi-view, stage 1", cameras=cameras[0], **priors.views)
    stage = add_stage(graph, "Stage 1", [views], name="shape")
    return add_optimiser(graph, "Optimize stage 1", field, stage, renderer, NAME)


def add_look(graph: Graph, priors: Priors, field, renderer, cameras):
    graph.group("Stage 2: shape and look", GREEN)
    views = graph.add("Bloom4DMultiViewGuidance", "Multi-view, stage 2", cameras=cameras[0][0], **priors.views)
    picture = graph.add(IMAGE_TERM, "Image, stage 2", cameras=cameras[1][0], **priors.pictures, **priors.learner)
    stage = add_stage(graph, "Stage 2", [views, picture], name="look", probabilities=SHARES["look"])
    return add_optimiser(graph, "Optimize stage 2", field, stage, renderer, NAME)


def add_motion(graph: Graph, priors: Priors, field, renderer, cameras):
    """Stills see one random time, and only the video term trains the dynamic grid; the static one learns a hundred times slower."""
    graph.group("Stage 3: motion", GREEN)
    views = graph.add("Bloom4DMultiViewGuidance", "Multi-view, stage 3", cameras=cameras[0][0], **priors.views)
    picture = graph.add(IMAGE_TERM, "Image, stage 3", cameras=cameras[1][0], **priors.pictures, **priors.learner)
    graph.column()
    video = graph.add("Bloom4DVideoSDSGuidance", "Video, stage 3", cameras=cameras[2][0], **priors.video)
    stage = add_stage(graph, "Stage 3", [views, picture, video], name="motion", probabilities=SHARES["motion"])
    return add_optimiser(graph, "Optimize stage 3", field, stage, renderer, NAME)
