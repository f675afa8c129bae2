"""Where pictures are taken from: random samplers for optimisers, regular paths for renders."""

from comfy_api.latest import io

from ..models.geometry.cameras import CameraPath, CameraSampler, Viewpoint
from .sockets import CAMERAS_4D

CATEGORY = "4d/camera"


def number(name: str, default: float, low: float, high: float, step: float, tooltip: str, advanced: bool = False, optional: bool = False) -> io.Float.Input:
    return io.Float.Input(name, default=default, min=low, max=high, step=step, tooltip=tooltip, advanced=advanced, optional=optional)


def viewpoint(cameras) -> Viewpoint:
    """Where the first of some cameras stands, and when; ValueError for a sampler, whose cameras are drawn anew each time."""
    if isinstance(cameras, CameraSampler):
        raise ValueError("The place of a reference picture is one camera, and a Camera Sampler draws new ones. Connect a Camera Path with one frame.")
    return Viewpoint.of(cameras.cameras() if isinstance(cameras, CameraPath) else cameras)


class Bloom4DCameraSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DCameraSampler",
            display_name="Camera Sampler",
            category=CATEGORY,
            description="Random cameras and times for a guidance term: how many views and times one joint scene has, and from where.",
            search_aliases=["random camera", "views", "orbit sampler"],
            inputs=[
                io.Int.Input("views", default=4, min=1, max=32, step=1, tooltip="Cameras per joint scene and time. 4 for a multi-view model, 1 for image and video models."),
                io.Int.Input("frames", default=1, min=1, max=64, step=1, tooltip="Times per joint scene. 1: all views at one random time. More: a video, or views x times together."),
                io.Combo.Input("spacing", options=["ring", "independent"], default="ring", tooltip="ring: the views stand evenly around the object at one elevation and distance. independent: each is drawn for itself."),
                number("azimuth_min", -180, -360, 360, 0.5, "Smallest azimuth in degrees; 0 is the object's front, growing to its left side as you face it from the front camera (towards +X)."),
                number("azimuth_max", 180, -360, 360, 0.5, "Largest azimuth in degrees."),
                number("elevation_min", 0, -89, 89, 0.5, "Lowest elevation in degrees above the horizon."),
                number("elevation_max", 30, -89, 89, 0.5, "Highest elevation in degrees."),
                number("distance_min", 2.9, 0.1, 20, 0.01, "Nearest distance from the object's centre; the object fills the unit ball."),
                number("distance_max", 2.9, 0.1, 20, 0.01, "Farthest distance."),
                number("fov_min", 42, 5, 120, 0.5, "Narrowest vertical field of view in degrees. 4D-fy draws 15 to 60 at distances 2.5 to 3."),
                number("fov_max", 42, 5, 120, 0.5, "Widest vertical field of view in degrees."),
                io.Boolean.Input("relative_distance", default=False, advanced=True, tooltip="Divide the distance by tan(fov / 2), which keeps the object's size in the picture (MVDream, Dream-in-4D)."),
                number("time_min", 0, 0, 1, 0.01, "Earliest time. Equal to time_max: that instant only."),
                number("time_max", 1, 0, 1, 0.01, "Latest time."),
                number("time_window", 1, 0.01, 1, 0.01, "Part of the time range that one scene spans, at a random place.", advanced=True),
                number("window_shortest", 0, 0, 1, 0.01, "Above 0, the window's length is drawn anew for every scene, from this up to time_window (Dream-in-4D: 0.8 to 1).", advanced=True, optional=True),
                io.Combo.Input("window_times", options=["random offset", "even"], default="random offset", optional=True, advanced=True, tooltip="random offset: the frames are one over F apart and begin at a random place of the first gap (4D-fy). even: from the window's start to its end (Dream-in-4D)."),
                CAMERAS_4D.Input("first", optional=True, tooltip="Where a reference picture was taken, as a Camera Path: its first camera is the first view of every scene, its time the first of the frames; the others spread over the whole range. For Clean Frame Condition, which gives a model that picture."),
            ],
            outputs=[CAMERAS_4D.Output("cameras", tooltip="The sampler, for a guidance node.")],
        )

    @classmethod
    def execute(
        cls, views, frames, spacing, azimuth_min, azimuth_max, elevation_min, elevation_max, distance_min, distance_max,
        fov_min, fov_max, relative_distance, time_min, time_max, time_window, window_shortest=0.0, window_times="random offset", first=None,
    ):  # fmt: skip
        sampler = CameraSampler(
            azimuth_degrees=(azimuth_min, azimuth_max),
            elevation_degrees=(elevation_min, elevation_max),
            distance=(distance_min, distance_max),
            fov_degrees=(fov_min, fov_max),
            relative_distance=relative_distance,
            views=views,
            spacing=spacing,
            frames=frames,
            time_range=(time_min, time_max),
            window=time_window,
            window_min=window_shortest,
            even=window_times == "even",
            first=None if first is None else viewpoint(first),
        )
        return io.NodeOutput(sampler)


class Bloom4DCameraPath(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DCameraPath",
            display_name="Camera Path",
            category=CATEGORY,
            description="A sequence of cameras and times for renders: an orbit, a sweep through time, or both together.",
            search_aliases=["orbit", "turntable", "time sweep", "trajectory"],
            inputs=[
                io.Int.Input("frames", default=24, min=1, max=1024, step=1, tooltip="Pictures along the path."),
                number("turns", 1, -10, 10, 0.05, "Turns around the object over the whole path; 0 keeps the camera still, negative turns run backwards."),
                number("time_start", 0, 0, 1, 0.01, "Time of the first picture."),
                number("time_end", 1, 0, 1, 0.01, "Time of the last picture; equal to time_start for a frozen instant."),
                number("azimuth", 0, -360, 360, 0.5, "Azimuth of the first picture in degrees; 0 is the object's front."),
                number("elevation", 15, -89, 89, 0.5, "Elevation in degrees."),
                number("distance", 2.9, 0.1, 20, 0.01, "Distance from the object's centre."),
                number("fov", 42, 5, 120, 0.5, "Vertical field of view in degrees."),
            ],
            outputs=[CAMERAS_4D.Output("cameras", tooltip="The path, for Render Field or as the cameras of a condition.")],
        )

    @classmethod
    def execute(cls, frames, turns, time_start, time_end, azimuth, elevation, distance, fov):
        path = CameraPath(
            frames=frames,
            azimuth_degrees=azimuth,
            turns=turns,
            elevation_degrees=elevation,
            distance=distance,
            fov_degrees=fov,
            times=(time_start, time_end),
        )
        return io.NodeOutput(path)


NODES = [Bloom4DCameraSampler, Bloom4DCameraPath]
