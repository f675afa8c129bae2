"""A new motion for an asset that exists: it is frozen, and a video model moves it as another prompt says.

Both graphs are one: `build_demo` and `build_real` differ in the loaders, in where the asset comes from, and in the values.
"""

from . import dream_in_4d
from .builder import Graph
from .dream_in_4d import DEMO_VALUES as MOVING
from .dream_in_4d import REAL_VALUES as REAL_MOVING
from .dream_in_4d import add_motion
from .outcome import GREEN, NEEDS, add_optimiser, add_results, add_stage
from .priors import BLUE, embedded, real_video

NAME = "reanimate_4d"
DEMO = f"{NAME}_demo"
ASSET = "bloom4d/fields/asset_00001_.safetensors"

ABOUT_DEMO = f"""## A new motion for an existing asset, on any computer

Press **Run**. A candle, made by one prompt, is frozen; then another prompt lets it burn down. In some minutes: a video, scores, curves, and the moving field as a file.

**The asset** here comes out of a short static stage, so that this graph runs by itself. Any file of Save Field does: write its path into *Asset* (of hash fields, and of Gaussian Fields) and delete the group in front of it. A field that moves already is frozen at the instant that *Moving field* names.

**The motion** is Dream-in-4D's second stage: a displacement over space and time in front of the frozen asset, learned from videos of 16 frames, and smooth enough to be played at 64. Nothing of the asset itself changes: *Moving field* shows its hash.

Colours stay as they are, and nothing appears that the asset does not have: ask for motions of the thing that it is. Try *a pink ice cream with a cherry* and its *melting*, or *a golden loaf of bread* and its *baking*; a flower that was made to bloom tears when it is asked to wither, because the prior draws withering ones in a vase.

{NEEDS}"""

ABOUT_REAL = """## A new motion for an existing asset

Save Field writes assets; put the path of one into *Asset*, below ComfyUI's output folder, write what should happen, and press **Run**. Any field does: of *text_to_4d_dream_in_4d* and *text_to_4d_4dfy*, a Gaussian Field, or one that moves already (it is frozen at one instant).

It is the second stage of Dream-in-4D with its values: 10,000 steps of Zeroscope on videos of 24 frames. The prompt should name the asset and its motion. Nothing of the asset changes: *Moving field* shows its hash.

**Where paper and code differ** the values here are the code's: renders of 144 x 80, as the paper's supplement says too (the paper's text: 144 x 72), and, only in the code, learning rates halved at 8,000 and 9,000 steps and a new background. The presets *paper* and *code* (right click on the canvas) set what are widgets of these.

This graph was tried here on small random networks of the true layout, never yet on the real files."""

OWN = ("Renderer", "Video of one camera", "Video, motion", "Smooth motion", "Moving field", "Stage 2", "Optimize stage 2", "Fine renderer", "Orbit through time", "Render")
REAL_VALUES = {title: REAL_MOVING[title] for title in OWN if title in REAL_MOVING}
DEMO_VALUES = {
    "Field": {"size": "demo", "background": "none"},
    **{title: MOVING[title] for title in OWN if title in MOVING},
    "Views of the asset": {"time_min": 0.4, "time_max": 0.4},
    "Multi-view of the asset": {**dream_in_4d.LEVELS, "coarse_factor": 0.5, "coarse_until": 0.5},
    "Stage of the asset": MOVING["Stage 1"],
    "Make the asset": {"steps": 180},
    "Optimize stage 2": {"steps": 160},
    "Video of one camera": {**MOVING["Video of one camera"], "frames": 16},
}


def build_demo() -> Graph:
    graph = Graph(ABOUT_DEMO, DEMO_VALUES)
    priors = embedded(graph, "a purple pillar candle burning")
    renderer = add_renderer(graph)
    return build(graph, priors, add_asset(graph, priors, renderer, "a purple pillar candle"), renderer)


def build_real() -> Graph:
    graph = Graph(ABOUT_REAL, REAL_VALUES)
    return build(graph, real_video(graph, "a clown fish swimming"), ASSET, add_renderer(graph))


def add_renderer(graph: Graph):
    graph.column()
    return graph.add("Bloom4DVolumeRenderer", "Renderer")[0]


def add_asset(graph: Graph, priors, renderer, prompt: str):
    """A short static stage makes what people already have; returns the link to its file's name."""
    graph.group("An asset, in the place of yours", BLUE)
    field = graph.add("Bloom4DHashField", "Field")
    positive = graph.add("CLIPTextEncode", "Prompt of the asset", text=prompt, clip=priors.clip)
    cameras = graph.add("Bloom4DCameraSampler", "Views of the asset")
    graph.column()
    views = graph.add("Bloom4DMultiViewGuidance", "Multi-view of the asset", cameras=cameras[0], **{**priors.views, "positive": positive[0]})
    stage = add_stage(graph, "Stage of the asset", [views], name="asset")
    made = add_optimiser(graph, "Make the asset", field[0], stage, renderer, NAME)
    return graph.add("Bloom4DSaveField", "Save the asset", field=made, filename_prefix="bloom4d/fields/asset")[0]


def build(graph: Graph, priors, path, renderer) -> Graph:
    """`path`: of a saved field below the output folder, as a text or a link to one."""
    graph.group("The asset", GREEN)
    asset = graph.add("Bloom4DLoadField", "Asset", path=path)
    add_results(graph, add_motion(graph, priors.video, asset[0], renderer, NAME), priors.prompt, NAME)
    return graph
