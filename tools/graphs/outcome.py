"""What every recipe has after its last stage: a video, scores, curves, and the field as a file."""

from .builder import Graph

GREEN, GREY = "#3f5a3c", "#4a4a4a"
RATE = 16.0
NEEDS = """**Needs** `embedded_prior.safetensors`, which comes with Bloom4D (folder `models/weights` of the pack, licence Apache-2.0). Nothing is ever downloaded.

Results are in ComfyUI's output folder under `bloom4d`."""
MEASURED = {"views": 4, "frames": 8, "elevation_min": 15.0, "elevation_max": 15.0, "distance_min": 2.9, "distance_max": 2.9, "fov_min": 42.0, "fov_max": 42.0}
"""Cameras of the scores: four sides at eight times."""


def add_optimiser(graph: Graph, title: str, field, stage, renderer, prefix: str):
    """An optimiser with its sheet of pictures; returns the link to its field."""
    graph.column()
    optimiser = graph.add("Bloom4DHybridSDSOptimizer", title, field=field, stage=stage[0], renderer=renderer, filename_prefix=prefix)
    graph.add("PreviewImage", f"{title}: views x times", images=optimiser[2])
    return optimiser[0]


def add_stage(graph: Graph, title: str, terms: list, **settings):
    """A Stage of these guidance nodes."""
    graph.column()
    return graph.add("Bloom4DStage", title, **{f"terms.term{number}": term[0] for number, term in enumerate(terms)}, **settings)


def add_results(graph: Graph, field, prompt: list, name: str):
    """Video of an orbit through time, scores from four sides, curves, and the field; `name` begins the files' names. Returns the link to its renderer."""
    graph.group("Results", GREY)
    fine = graph.add("Bloom4DVolumeRenderer", "Fine renderer")
    graph.column()
    path = graph.add("Bloom4DCameraPath", "Orbit through time")
    render = graph.add("Bloom4DRenderField", "Render", field=field, cameras=path[0], renderer=fine[0], background="field")
    video = graph.add("CreateVideo", "Frames to video", images=render[0], fps=RATE)
    graph.add("SaveVideo", "Save video", video=video[0], filename_prefix=f"bloom4d/{name}")
    graph.column()
    sides = graph.add("Bloom4DCameraSampler", "Four sides, eight times", **MEASURED)
    seen = graph.add("Bloom4DRenderField", "Render for scores", field=field, cameras=sides[0], renderer=fine[0], width=96, height=96, background="field")
    scored = {"images": seen[0], "mask": seen[1], "cameras": sides[0], "prompt": prompt, "label": name, "filename_prefix": f"bloom4d/scores/{name}"}
    graph.add("Bloom4DMetrics", "Scores", **scored)
    graph.column()
    graph.add("Bloom4DSaveField", "Save field", field=field, filename_prefix=f"bloom4d/fields/{name}")
    curves = graph.add("Bloom4DTrainingCurves", "Curves", field=field)
    graph.add("SaveImage", "Save curves", images=curves[0], filename_prefix=f"bloom4d/{name}_curves")
    return fine[0]
