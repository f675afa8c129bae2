"""Toy Motion: a few Gaussians that move exactly as a formula says, with pictures: something for every Gaussian node in a second."""

from comfy_api.latest import io

from ..models.data.toy_motion import KINDS, Toy
from ..models.geometry.cameras import view_time_grid
from ..models.render.splats import render_gaussians
from .sockets import CAMERAS_4D, GAUSSIANS_4D


class Bloom4DToyMotion(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DToyMotion",
            display_name="Toy Motion",
            category="4d/data",
            description="Coloured Gaussians that move exactly as a formula says, with pictures of them: truth for reconstruction, and a first thing to play, convert and export.",
            search_aliases=["test gaussians", "ground truth", "moving splats", "example", "toy"],
            inputs=[
                io.Combo.Input("motion", options=list(KINDS), default="swing", tooltip="What the object does. The help page describes each."),
                io.Int.Input("parts", default=24, min=1, max=65536, step=1, tooltip="Gaussians that the object is made of. 8 to 40 make a toy with visible parts; many thousands test a player or a converter."),
                io.Boolean.Input("bands", default=False, tooltip="Cut each part into two of different colours. Makes twice as many Gaussians and turns visible."),
                io.Float.Input("speed", default=1.0, min=0.0, max=16.0, step=0.05, tooltip="Cycles of the motion from begin to end. A whole number returns to the begin, so the result loops."),
                io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFF, step=1, control_after_generate=True, tooltip="Draws places, sizes and colours of the parts."),
                io.Int.Input("times", default=16, min=1, max=256, step=1, tooltip="Instants, evenly from the begin to the end. One time is the begin."),
                io.Int.Input("views", default=1, min=1, max=64, step=1, tooltip="Cameras around the object at each time, evenly spaced from the azimuth on."),
                io.Float.Input("azimuth", default=0.0, min=-360.0, max=360.0, step=0.5, tooltip="Azimuth of the first view in degrees; 0 is the front. 45 with four views gives views that lie between those of 0."),
                io.Float.Input("elevation", default=15.0, min=-89.0, max=89.0, step=0.5, tooltip="Elevation in degrees above the horizon."),
                io.Int.Input("size", default=256, min=16, max=2048, step=8, tooltip="Width and height of the pictures in pixels."),
            ],
            outputs=[
                GAUSSIANS_4D.Output("gaussians", tooltip="The Gaussians at every time, exact; each keeps its index."),
                io.Image.Output("images", tooltip="times x views pictures over white, all views of the first time first."),
                io.Mask.Output("mask", tooltip="Opacity of the pictures."),
                CAMERAS_4D.Output("cameras", tooltip="The cameras and times of the pictures, as one joint scene."),
                io.String.Output("caption", tooltip="A sentence that names colours and motion."),
            ],
        )

    @classmethod
    def execute(cls, motion, parts, bands, speed, seed, times, views, azimuth, elevation, size):
        toy, cameras = Toy(motion, seed, parts, bands, speed), view_time_grid(views, times, azimuth, elevation)
        gaussians = toy.gaussians(cameras.times[::views])
        drawn = render_gaussians(gaussians, cameras, size, size)
        images = (drawn.rgb + 1 - drawn.alpha[..., None]).clamp(0, 1)
        return io.NodeOutput(gaussians, images, drawn.alpha.clamp(0, 1), cameras, toy.caption())


NODES = [Bloom4DToyMotion]
