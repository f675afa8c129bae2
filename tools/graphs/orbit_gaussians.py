"""An orbit video to dynamic Gaussians: a procedural object is filmed, constructed, and compared where no camera stood."""

from .builder import Graph

NAME = "orbit_video_to_4d_gaussians_demo"
PROMPT = "a red rose blooming"  # what the scores expect; the object itself is chosen at its nodes
OBJECT = {"phenomenon": "flower blooming", "species": "rose", "colour": "red", "seed": 1, "times": 1, "views": 1}
SIZE = 96
VIDEO = {"frames": 48, "turns": 4}
STILL = {"frames": 16, "turns": 1, "time_start": 0.0, "time_end": 0.0}
DRIVING = {"frames": 16, "turns": 0}
HELD_OUT = {"frames": 32, "turns": 3, "azimuth": 11.0, "elevation": 20.0, "time_start": 0.01, "time_end": 0.99}
"""Between the construction's views and times, and higher up."""
STEPS = {"coarse": 1000, "fine": 600}
RECIPE = {
    "initial_gaussians": 3000, "max_gaussians": 12000, "still_share": 0.25, "densify_from": 100, "densify_every": 50, "reset_at": 0.0, "frames_out": 24,
    "rate_positions": 2e-3, "rate_colours": 2e-2, "rate_scales": 1e-2, "rate_rotations": 5e-3, "rate_planes": 2e-2, "rate_networks": 5e-3,
    "weight_roughness": 0.1, "weight_variation": 1e-3,
}  # fmt: skip
"""Higher rates than for 9,000 steps, smoother planes for few views, and the static orbit in the fine phase too."""
CLIP, RATE = 48, 12.0

ABOUT = """## An orbit video to dynamic Gaussians

Press **Run**. A procedural flower stands in for what a video model would make: a video whose camera circles the object while it blooms, a static orbit of its first instant, and a driving video from the front. In some minutes on two processor cores they become Gaussians that move, which you can play, turn and save.

**Why three videos**: an orbit video shows each time from one side only. Here its camera turns four times, so that every side is seen in each quarter of the clip; most video models turn once. The static orbit says what the object looks like all around, the driving video how its front moves. Unplug them, or set the turns to 1, and the node tells you what the cameras leave open.

**How it works** (the 4D construction of Orster): points on the surface that all silhouettes share become a cloud, which grows where pictures pull at it. Six feature planes over space and time (ST-HexPlane) move, turn and stretch every Gaussian. The first phase builds, the second learns the motion.

**Truth**: 32 pictures from sides, heights and times that the construction never saw are compared with the real object in *4D Metrics*.

**With your own video**: Load Video, a mask that is 1 on the object, and a Camera Path with the number of frames and turns of your orbit. Raise the steps (6000 and 3000) and set the rates back to their defaults.

Nothing is downloaded and no model is needed. Results are in ComfyUI's output folder under `bloom4d`."""

BLUE, GREEN, GREY, RED = "#3a5068", "#3f5a3c", "#4a4a4a", "#684040"


def build() -> Graph:
    graph = Graph(ABOUT)
    videos = add_videos(graph)
    made = add_construction(graph, videos)
    add_comparison(graph, made)
    add_results(graph, made)
    return graph


def filmed(graph: Graph, title: str, **path):
    """A camera path and the procedural object seen along it."""
    cameras = graph.add("Bloom4DCameraPath", f"{title}: cameras", **path)
    return graph.add("Bloom4DProcedural4DObject", title, size=SIZE, cameras=cameras[0], **OBJECT)


def add_videos(graph: Graph) -> dict:
    """The construction's inputs."""
    graph.group("What a video model would give", BLUE)
    video = filmed(graph, "Orbit video", **VIDEO)
    graph.column()
    still = filmed(graph, "Static orbit", **STILL)
    graph.column()
    driving = filmed(graph, "Driving video", **DRIVING)
    return {
        "images": video[0], "mask": video[1], "cameras": video[3],
        "static_images": still[0], "static_mask": still[1], "static_cameras": still[3],
        "driving_images": driving[0], "driving_mask": driving[1], "reference_cameras": driving[3],
    }  # fmt: skip


def add_construction(graph: Graph, videos: dict):
    graph.group("Construction", GREEN)
    made = graph.add("Bloom4DGaussiansFromOrbitVideo", "Construct", filename_prefix="orbit_gaussians", **videos, **STEPS, **RECIPE)
    graph.column()
    graph.add("PreviewImage", "Video, Gaussians, opposite side", images=made[3])
    graph.add("PreviewAny", "Report", source=made[4])
    return made


def add_comparison(graph: Graph, made):
    """Pictures from other sides and times beside the real ones."""
    graph.group("Compared where no camera stood", RED)
    prompt = graph.add("PrimitiveStringMultiline", "Prompt", value=PROMPT)
    truth = filmed(graph, "Truth", **HELD_OUT)
    seen = graph.add("Bloom4DRenderGaussians", "Render held-out views", gaussians=made[0], path="together", cameras=truth[3], width=SIZE, height=SIZE)
    graph.column()
    given = {"images": seen[0], "mask": seen[1], "reference": truth[0], "reference_mask": truth[1], "cameras": truth[3]}
    graph.add("Bloom4DMetrics", "Measure", label="constructed", prompt=prompt[0], filename_prefix="bloom4d/scores/orbit_gaussians", **given)


def add_results(graph: Graph, made):
    graph.group("Results", GREY)
    graph.add("Bloom4DPreview4D", "Play it", gaussians=made[0], fps=RATE)
    graph.column()
    clip = graph.add("Bloom4DRenderGaussians", "Render clip", gaussians=made[0], path="ping-pong", frames=CLIP, width=256, height=256)
    video = graph.add("CreateVideo", "Frames to video", images=clip[0], fps=RATE)
    graph.add("SaveVideo", "Save video", video=video[0], filename_prefix="bloom4d/orbit_gaussians")
    graph.column()
    graph.add("Bloom4DSave4D", "Save files", gaussians=made[0], filename_prefix="bloom4d/orbit_gaussians", fps=RATE)
    graph.add("Bloom4DSaveField", "Save field", field=made[1], filename_prefix="bloom4d/fields/orbit_gaussians")
