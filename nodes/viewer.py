"""Preview 4D: Gaussians over time, played in the browser."""

import hashlib
import math
from pathlib import Path

from comfy_api.latest import io

from ..models.formats.viewer_file import pack_viewer_file
from ..models.formats.writing import write_bytes
from ..models.gaussians.gaussians import Gaussians4D
from ..models.gaussians.viewer import drawable, viewer_sequence
from ..models.geometry.cameras import RIG_DISTANCE, RIG_ELEVATION_DEGREES, RIG_FOV_DEGREES
from .cameras import number
from .host import paths
from .sockets import GAUSSIANS_4D

VIEW = io.Custom("BLOOM4D_VIEW")
"""The viewer itself as a widget. Its value is the LOAD3D_CAMERA that somebody sent with the viewer's button, else nothing."""


def usual_camera() -> dict:
    """The pack's usual rig as a LOAD3D_CAMERA: in front of the object, a little above, the unit ball just inside."""
    angle = math.radians(RIG_ELEVATION_DEGREES)
    position = {"x": 0.0, "y": RIG_DISTANCE * math.sin(angle), "z": RIG_DISTANCE * math.cos(angle)}
    return {"position": position, "target": {"x": 0.0, "y": 0.0, "z": 0.0}, "fov": RIG_FOV_DEGREES, "zoom": 1, "cameraType": "perspective"}


def check_camera(camera) -> dict:
    """A LOAD3D_CAMERA whose position and target are finite points; ValueError when it is none."""
    points = [camera.get(name) for name in ("position", "target")] if isinstance(camera, dict) else [None]
    if not all(isinstance(point, dict) and all(isinstance(point.get(axis), (int, float)) and math.isfinite(point[axis]) for axis in "xyz") for point in points):
        raise ValueError("The view is no camera: position and target with finite x, y and z are needed. Connect a camera of the host's 3D nodes, or press the viewer's send button again.")
    return camera


def write_view(gaussians: Gaussians4D, fps: float, megabytes: float) -> tuple[Path, str]:
    """The viewer's file in the host's temporary folder, named by its content, and what there is to say about it."""
    shown, notes = drawable(gaussians, int(megabytes * 1e6))
    if gaussians.degree > 0:
        notes.append(f"The colours' dependence on the viewing direction (degree {gaussians.degree}) is not shown.")
    data = pack_viewer_file(viewer_sequence(shown, fps))
    path = paths.temporary_file(f"{hashlib.sha256(data).hexdigest()[:24]}.safetensors")
    write_bytes(path, data)
    return path, "\n".join([f"{shown.count:,} Gaussians, {shown.frames} times, {len(data) / 1e6:.2f} MB", *notes])


class Bloom4DPreview4D(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DPreview4D",
            display_name="Preview 4D",
            category="4d/gaussians",
            description="Plays Gaussians over time in the node: orbit, scrub, play, save a picture, send the view on as a camera. Shows them forming while an optimiser runs. Meshes play in the host's Preview 3D & Animation.",
            search_aliases=["4D viewer", "player", "gaussian splat viewer", "orbit", "time slider"],
            inputs=[
                GAUSSIANS_4D.Input("gaussians", tooltip="The Gaussians to look at."),
                number("fps", 8, 0.1, 240, 0.1, "Times a second at speed 1; between them the viewer interpolates."),
                number("megabytes", 64, 1, 2048, 1, "Largest file for the browser. Of a larger object the most visible Gaussians are shown, and the node says how many.", advanced=True),
                VIEW.Input("view", optional=True, tooltip="The viewer. Its send button makes the present view the node's camera.", extra_dict={"socketless": True}),
                io.Load3DCamera.Input("camera", optional=True, tooltip="The view to begin with, and the camera output until a view is sent; without it the usual view from the front."),
            ],
            outputs=[
                GAUSSIANS_4D.Output("gaussians_out", display_name="gaussians", tooltip="What came in, whole."),
                io.Load3DCamera.Output("camera_out", display_name="camera", tooltip="The view that was sent, else the camera input's, else the usual one. For Render Splat and other nodes that take a camera."),
            ],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def execute(cls, gaussians, fps, megabytes, view=None, camera=None):
        chosen = check_camera(view or camera or usual_camera())
        path, text = write_view(gaussians, fps, megabytes)
        file = {"filename": path.name, "subfolder": path.parent.name, "type": "temp"}
        if camera is not None:
            file["camera"] = check_camera(camera)
        return io.NodeOutput(gaussians, chosen, ui={"bloom4d_view": [file], "text": (text,)})


NODES = [Bloom4DPreview4D]
