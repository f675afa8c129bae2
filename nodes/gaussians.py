"""Gaussians over time from and to the host's SPLAT, and as pictures."""

import math

import comfy.model_management
import torch
from comfy_api.latest import Types, io
from torch import Tensor

from ..models.gaussians.batches import from_batch, to_batch
from ..models.gaussians.tools import resampled
from ..models.geometry.cameras import RIG_DISTANCE, RIG_ELEVATION_DEGREES, RIG_FOV_DEGREES, Cameras, orbit
from ..models.geometry.clips import PATHS, TimePath, turntable
from ..models.geometry.frames import from_load3d_camera
from ..models.render.frames import depth_picture, over
from ..models.render.gaussian_frames import render_clip
from ..models.render.splat_projection import SplatSettings
from ..models.render.splat_renderer import SplatRenderer
from .cameras import number
from .field import hex_colour, option_of
from .gaussian_tools import CATEGORY, checked, gaussians_input
from .host.estimates import need_memory
from .host.progress import HostCallback
from .prior import resolve_cameras
from .sockets import CAMERAS_4D, GAUSSIANS_4D, RENDERER_4D

BATCH_NAMES = ("positions", "scales", "rotations", "opacities", "sh")


class Bloom4DGaussiansToSplat(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DGaussiansToSplat",
            display_name="Gaussians to Splat",
            category=CATEGORY,
            description="Gaussians over time as a SPLAT batch with one item per time, for every splat node of the host: Render Splat, Splat to Mesh, the savers.",
            search_aliases=["bake", "field bake", "export splat", "splat batch"],
            inputs=[
                gaussians_input("What to turn into splats."),
                io.Int.Input("frames", default=0, min=0, max=1024, step=1, tooltip="Times, evenly from begin to end, interpolated between the present ones; 0: the present ones."),
            ],
            outputs=[io.Splat.Output("splat", tooltip="One splat per time. Nodes that take a single one use the first: choose an instant with Pick Time before.")],
        )

    @classmethod
    def execute(cls, gaussians, frames):
        return io.NodeOutput(Types.SPLAT(**to_batch(resampled(checked(gaussians, frames or gaussians.frames), frames))))


class Bloom4DSplatToGaussians(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DSplatToGaussians",
            display_name="Splat to Gaussians",
            category=CATEGORY,
            description="A SPLAT batch as Gaussians over time: the items are the times, and the n-th Gaussian of each item is the same one.",
            search_aliases=["import splat", "splat sequence", "batch to gaussians"],
            inputs=[io.Splat.Input("splat", tooltip="One item per time, or a single splat that stands still. Items of different length are welcome: a Gaussian that an item lacks fades out there.")],
            outputs=[GAUSSIANS_4D.Output("gaussians", tooltip="For the viewer, the savers, Render Gaussians and the tools. Foreign objects of another size: Transform Gaussians with fit.")],
        )

    @classmethod
    def execute(cls, splat):
        batch = {name: getattr(splat, name) for name in BATCH_NAMES}
        frames, most = splat.positions.shape[:2]
        what = f"{most:,} Gaussians in {frames} item{'s' * (frames != 1)} take"
        need_memory(4 * sum(value.numel() for value in batch.values()), what, "Give fewer items, or splats of fewer Gaussians.")
        return io.NodeOutput(checked(from_batch(batch, splat.counts)))


def path_input() -> io.Input:
    start, end = (number(f"time_{name}", default, 0, 1, 0.01, f"Time of the {what}.") for name, default, what in (("start", 0, "begin"), ("end", 1, "end")))
    return io.DynamicCombo.Input(
        "path",
        options=[
            io.DynamicCombo.Option(PATHS[0], [start, end]),
            io.DynamicCombo.Option(PATHS[1], [number("time", 0.5, 0, 1, 0.01, "The instant that is shown.")]),
            io.DynamicCombo.Option(PATHS[2], [start, end, number("cycles", 1, 0.01, 100, 0.01, "How often time runs forth and back while the clip lasts.")]),
            io.DynamicCombo.Option(PATHS[3], [start, end, number("cycles", 2, 0.01, 100, 0.01, "How often time runs from begin to end while the clip lasts; 2 with one turn: the camera is half as fast.")]),
        ],
        tooltip="How time runs while the camera turns. together: both once over the clip. frozen: an instant from all sides. ping-pong: forth and back. free orbit: each at its own pace.",
    )


def time_path(path: dict) -> TimePath:
    """The course of time that was chosen."""
    if path["path"] == "frozen":
        return TimePath("frozen", (path["time"], path["time"]))
    return TimePath(path["path"], (path["time_start"], path["time_end"]), path.get("cycles") or 1.0)


def clip_cameras(path: TimePath, frames: int, turns: float, rig: tuple[float, float, float, float], cameras=None, camera_info: dict | None = None) -> Cameras:
    """Cameras of a clip: those given, at their own times along "together" and else along the path; or a turntable that begins
    at `camera_info`, or at `rig` (azimuth, elevation, distance, field of view in degrees)."""
    if cameras is not None and camera_info is not None:
        raise ValueError("Both cameras and a camera_info are connected. Connect one of them: cameras bring a whole path, a camera_info the place where the turns begin.")
    if cameras is not None:
        given = resolve_cameras(cameras)
        return given if path.path == "together" else Cameras(given.camera_to_world, given.fov_y, path.at(len(given)))
    times = path.at(frames)
    if camera_info is not None:
        pose, fov = from_load3d_camera(camera_info)
        return turntable(pose[0], _target(camera_info, pose[0]), fov, times, turns)
    azimuth, elevation, distance, fov = (torch.tensor([value]) for value in (*map(math.radians, rig[:2]), rig[2], math.radians(rig[3])))
    return turntable(orbit(azimuth, elevation, distance)[0], torch.zeros(3), fov, times, turns)


def _target(camera_info: dict, pose: Tensor) -> Tensor:
    """The point that a host camera turns around: its target, or where it looks from its distance to the origin."""
    target = camera_info.get("target")
    if target:
        return torch.tensor([float(target[axis]) for axis in "xyz"])
    return pose[:3, 3] - pose[:3, 2] * pose[:3, 3].norm()


def flow_picture(flow: Tensor) -> Tensor:
    """Colours (N, H, W, 3) of displacements (N, H, W, 2): the hue is the direction, white is no motion, the largest of all is full."""
    from torchvision.utils import flow_to_image

    return flow_to_image(flow.movedim(-1, 1).contiguous()).movedim(1, -1).float() / 255.0


def splat_settings(renderer) -> SplatSettings | None:
    """The settings of a connected renderer, None for the usual ones; ValueError for one that draws no Gaussians."""
    if renderer is not None and not isinstance(renderer, SplatRenderer):
        raise ValueError(f"The renderer draws {renderer.kind}s, and these are Gaussians. Connect a Splat Renderer, or none.")
    return None if renderer is None else renderer.config


class Bloom4DRenderGaussians(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DRenderGaussians",
            display_name="Render Gaussians",
            category=CATEGORY,
            description="Pictures, masks, depth and motion of Gaussians over time: an orbit and time together, an instant from all sides, time forth and back, or each at its own pace.",
            search_aliases=["render 4D", "turntable", "splat video", "4D video", "ping-pong", "optical flow"],
            inputs=[
                gaussians_input("What to look at."),
                path_input(),
                io.Int.Input("frames", default=36, min=1, max=4096, step=1, tooltip="Pictures of the clip; not read where cameras are connected, which bring their own number."),
                number("turns", 1, -20, 20, 0.05, "Turns of the camera around the object over the clip; 0 keeps it still, negative ones run backwards."),
                number("azimuth", 0, -360, 360, 0.5, "Azimuth of the first picture in degrees; 0 is the object's front."),
                number("elevation", RIG_ELEVATION_DEGREES, -89, 89, 0.5, "Elevation in degrees."),
                number("distance", RIG_DISTANCE, 0.1, 100, 0.01, "Distance from the centre; the object fills the unit ball."),
                number("fov", RIG_FOV_DEGREES, 5, 120, 0.5, "Vertical field of view in degrees."),
                io.Int.Input("width", default=256, min=8, max=4096, step=8, tooltip="Width of the pictures."),
                io.Int.Input("height", default=256, min=8, max=4096, step=8, tooltip="Height of the pictures."),
                io.Color.Input("colour", default="#ffffff", tooltip="The colour behind the object."),
                CAMERAS_4D.Input("cameras", optional=True, tooltip="A Camera Path or cameras of your own in the place of turns and the angles; along together their own times are shown."),
                io.Load3DCamera.Input("camera_info", optional=True, tooltip="A camera of the host, such as Create Camera Info or a 3D viewer gives: where the turns begin, in the place of the angles."),
                RENDERER_4D.Input("renderer", optional=True, tooltip="A Splat Renderer with settings of its own."),
            ],
            outputs=[
                io.Image.Output("image", tooltip="The pictures; connect them to Create Video."),
                io.Mask.Output("mask", tooltip="Opacity: 1 inside the object."),
                io.Image.Output("depth", tooltip="Near is white, far is dark, nothing is black; one scale for all pictures."),
                io.Image.Output("flow", tooltip="Motion to the Gaussians' next frame: the hue is the direction, white is none; one scale for all pictures."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, gaussians, frames, turns, azimuth, elevation, distance, fov, width, height, colour, path=None, cameras=None, camera_info=None, renderer=None):
        path = time_path(option_of("path", path, PATHS))
        shots = clip_cameras(path, frames, turns, (azimuth, elevation, distance, fov), cameras, camera_info)
        behind = hex_colour(colour)
        device = comfy.model_management.get_torch_device()
        watch = HostCallback(total=len(shots))
        clip = render_clip(checked(gaussians).to(device), shots, height, width, splat_settings(renderer), flow=True, watch=watch)
        return io.NodeOutput(over(clip, behind), clip.alpha, depth_picture(clip), flow_picture(clip.flow))


NODES = [Bloom4DGaussiansToSplat, Bloom4DSplatToGaussians, Bloom4DRenderGaussians]
