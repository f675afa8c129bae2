"""Text to 4D to moving Gaussians: the text-to-4D graph up to its polished field, then Gaussians, a viewer and every export."""

from .builder import Graph
from .text_to_4d import GREEN, GREY, MESH_DENSITY, VIDEO_FRAMES, VIDEO_RATE, VIDEO_SIZE, add_polished_field

NAME = "text_to_4d_gaussians_demo"
GAUSSIANS, STEPS, FRAMES = 4000, 300, 24
MESH_TIMES, MESH_CELLS = 12, 64

ABOUT = """## Text to 4D to moving Gaussians

Press **Run**. In some minutes on two processor cores a prompt becomes an object that changes over time, as Gaussians: play it in the node, turn it, and take it to other programs.

**First** the graph of *text_to_4d_demo*: three stages of score distillation and a polish make a radiance field. Write about one of seven things: a flower blooming or withering, a plant sprouting, a candle burning, an ice cream melting, a banana rotting, bread baking.

**Then Gaussians from Field**: the field is filmed from 80 sides and times; a cloud that begins on its surface learns the film in 300 steps. The report says how many decibels it reaches on pictures that it never saw. While it learns, *Play it* shows it forming.

**Exports**, all of one save: a lossless master for Load 4D, a PLY sequence (SuperSplat, Blender, engines), SPZ (a tenth of that), the viewer's compact file, and the field's surface over time as one animated GLB, which *Play the mesh* shows.

For nodes that take a single splat: *Pick Time*, then *Gaussians to Splat*.

**Needs** `embedded_prior.safetensors`, which comes with Bloom4D (folder `models/weights` of the pack, licence Apache-2.0). Nothing is ever downloaded.

Results are in ComfyUI's output folder under `bloom4d`."""


def build() -> Graph:
    graph = Graph(ABOUT)
    polished = add_polished_field(graph)
    gaussians = add_gaussians(graph, polished)
    add_exports(graph, polished, gaussians)
    return graph


def add_gaussians(graph: Graph, field):
    """The field as Gaussians, with what was reached; returns the link to them."""
    graph.group("Gaussians", GREEN)
    fine = graph.add("Bloom4DVolumeRenderer", "Fine renderer", samples=64, times_per_slab=2)
    graph.column()
    sizes = {"count": GAUSSIANS, "steps": STEPS, "frames": FRAMES}
    made = graph.add("Bloom4DGaussiansFromField", "Gaussians", field=field, renderer=fine[0], filename_prefix="text_to_4d_gaussians", **sizes)
    graph.column()
    graph.add("PreviewImage", "Field, Gaussians, opposite side", images=made[1])
    graph.add("PreviewAny", "Report", source=made[2])
    return made[0]


def add_exports(graph: Graph, field, gaussians):
    """Viewer, video, and files for other programs."""
    graph.group("Results", GREY)
    graph.add("Bloom4DPreview4D", "Play it", gaussians=gaussians, fps=VIDEO_RATE)
    graph.column()
    clip = graph.add("Bloom4DRenderGaussians", "Render clip", gaussians=gaussians, path="together", frames=VIDEO_FRAMES, width=VIDEO_SIZE, height=VIDEO_SIZE)
    video = graph.add("CreateVideo", "Frames to video", images=clip[0], fps=VIDEO_RATE)
    graph.add("SaveVideo", "Save video", video=video[0], filename_prefix="bloom4d/text_to_4d_gaussians")
    graph.column()
    mesh = graph.add("Bloom4DIsosurface", "Meshes over time", field=field, times=MESH_TIMES, time_start=0.0, time_end=1.0, resolution=MESH_CELLS, threshold=MESH_DENSITY)
    formats = {name: True for name in ("master", "ply", "spz", "glb", "viewer")}
    saved = graph.add("Bloom4DSave4D", "Save all formats", gaussians=gaussians, mesh=mesh[0], filename_prefix="bloom4d/text_to_4d_gaussians", fps=VIDEO_RATE, **formats)
    graph.add("Bloom4DSaveField", "Save field", field=field, filename_prefix="bloom4d/fields/text_to_4d_gaussians")
    graph.column()
    graph.add("Preview3D", "Play the mesh", model_file=saved[1])
