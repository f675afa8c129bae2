"""Renderers and their settings, and pictures of a field."""

import comfy.model_management
from comfy_api.latest import io

from ..models.render.frames import depth_picture, normal_picture, over, render_frames
from ..models.render.occupancy import OccupancyConfig
from ..models.render.splat_projection import SplatSettings
from ..models.render.splat_renderer import SplatRenderer
from ..models.render.renderer import Renderer, default_renderer
from ..models.render.volume import VolumeRenderer, VolumeRendererConfig
from .cameras import number
from .field import hex_colour, option_of
from .host.inference import gradients
from .host.progress import HostCallback
from .prior import resolve_cameras
from .sockets import CAMERAS_4D, FIELD_4D, RENDERER_4D

CATEGORY = "4d/render"
BEHIND = ("field", "colour")
MOST_ALPHA = {"auto": {}, "0.99": {"max_alpha": 0.99}, "0.999": {"max_alpha": 0.999}}


class Bloom4DVolumeRenderer(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DVolumeRenderer",
            display_name="Volume Renderer",
            category=CATEGORY,
            description="How radiance fields are rendered: samples per ray, and the occupancy grid over space and time that skips empty space.",
            search_aliases=["ray marching", "nerf renderer", "occupancy grid"],
            inputs=[
                io.Int.Input("samples", default=48, min=4, max=1024, step=1, tooltip="Samples along the longest way through the scene (4D-fy: 512)."),
                io.Combo.Input("bounds", options=["ball", "box"], default="ball", tooltip="The scene's bounds: the unit ball, or the cube around it (4D-fy)."),
                io.Int.Input("occupancy_resolution", default=32, min=4, max=256, step=1, advanced=True, tooltip="Cells per axis of the occupancy grid."),
                io.Int.Input("time_slabs", default=8, min=1, max=64, step=1, advanced=True, tooltip="Parts of the time range with an occupancy of their own."),
                io.Int.Input("times_per_slab", default=1, min=1, max=32, step=1, advanced=True, tooltip="Random times evaluated per slab and update."),
                io.Int.Input("update_every", default=8, min=1, max=1024, step=1, advanced=True, tooltip="Steps between updates of the occupancy."),
                number("decay", 0.7, 0, 0.999, 0.001, "How slowly a cell is forgotten, per update (4D-fy: 0.95).", advanced=True),
                number("threshold", 0.01, 0, 1, 0.001, "Opacity of one sample above which a cell counts as occupied.", advanced=True),
                number("explore", 0.03, 0, 0.9, 0.01, "Share of empty cells that count as occupied by chance, in the first 70 % of a stage: without it nothing new appears.", advanced=True),
            ],
            outputs=[RENDERER_4D.Output("renderer", tooltip="For an optimiser or Render Field.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, samples, bounds, occupancy_resolution, time_slabs, times_per_slab, update_every, decay, threshold, explore):
        occupancy = OccupancyConfig(
            resolution=occupancy_resolution,
            slabs=time_slabs,
            times_per_slab=times_per_slab,
            every=update_every,
            warmup=2,
            share=0.1,
            decay=decay,
            threshold=threshold,
            explore=explore,
        )
        return io.NodeOutput(VolumeRenderer(VolumeRendererConfig(samples=samples, bounds=bounds, occupancy=occupancy)))


class Bloom4DSplatRenderer(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DSplatRenderer",
            display_name="Splat Renderer",
            category=CATEGORY,
            description="How fields of Gaussians are rendered: splatting exactly as gsplat does, with its kernels, our own or plain PyTorch, whichever runs here.",
            search_aliases=["gaussian splatting", "gsplat", "3dgs renderer", "rasterizer"],
            inputs=[
                number("dilation", 0.3, 0, 10, 0.01, "Squared pixels by which every Gaussian is widened, so that none falls between pixels (3DGS: 0.3)."),
                io.Combo.Input("max_alpha", options=list(MOST_ALPHA), default="auto", tooltip="Largest opacity of one Gaussian in a pixel. auto: the installed gsplat's, 0.999 without it; 0.99 is 3DGS's.", advanced=True),
            ],
            outputs=[RENDERER_4D.Output("renderer", tooltip="For an optimiser or Render Field, with a Gaussian Field.")],
        )

    @classmethod
    def execute(cls, dilation, max_alpha):
        return io.NodeOutput(SplatRenderer(SplatSettings(dilation=dilation, **MOST_ALPHA[max_alpha])))


class Bloom4DRenderField(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DRenderField",
            display_name="Render Field",
            category=CATEGORY,
            description="Pictures, masks, depth and normals of a field along a camera path: an orbit, a sweep through time, or both.",
            search_aliases=["render nerf", "turntable", "4D video"],
            inputs=[
                FIELD_4D.Input("field", tooltip="The field to look at."),
                CAMERAS_4D.Input("cameras", tooltip="A Camera Path; a sampler gives one fixed draw of its cameras."),
                io.Int.Input("width", default=256, min=8, max=4096, step=8, tooltip="Width of the pictures."),
                io.Int.Input("height", default=256, min=8, max=4096, step=8, tooltip="Height of the pictures."),
                io.DynamicCombo.Input(
                    "background",
                    options=[
                        io.DynamicCombo.Option(BEHIND[0], []),
                        io.DynamicCombo.Option(BEHIND[1], [io.Color.Input("colour", default="#ffffff", tooltip="The colour behind the object.")]),
                    ],
                    tooltip="field: the field's own background, white where it has none.",
                ),
                RENDERER_4D.Input("renderer", optional=True, tooltip="How to render. By default volumes at 96 samples per ray, and Gaussians as splats."),
            ],
            outputs=[
                io.Image.Output("image", tooltip="The pictures, one per camera."),
                io.Mask.Output("mask", tooltip="Opacity: 1 inside the object."),
                io.Image.Output("depth", tooltip="Near is white, far is dark, nothing is black; one scale for all pictures."),
                io.Image.Output("normals", tooltip="Normals in the camera's axes: right red, up green, towards the camera blue."),
            ],
        )

    @classmethod
    def execute(cls, field, cameras, width, height, background=None, renderer=None):
        background = option_of("background", background, BEHIND)
        renderer = renderer or for_pictures(field.field)
        renderer.check(field.field)
        resolved = resolve_cameras(cameras)
        colour = hex_colour(background["colour"]) if background["background"] == "colour" else None
        watch = HostCallback(total=len(resolved))
        with gradients():
            local = field.field.clone().to(comfy.model_management.get_torch_device())
            frames = render_frames(local, renderer, resolved, height, width, watch)
            pictures = over(frames, colour), frames.alpha, depth_picture(frames), normal_picture(frames, resolved)
        return io.NodeOutput(*pictures)


def for_pictures(field) -> Renderer:
    """The renderer that suits a field, with more samples than an optimisation takes."""
    renderer = default_renderer(field)
    fine = VolumeRendererConfig(samples=96, bounds="ball", occupancy=OccupancyConfig(times_per_slab=2))
    return VolumeRenderer(fine) if isinstance(renderer, VolumeRenderer) else renderer


NODES = [Bloom4DVolumeRenderer, Bloom4DSplatRenderer, Bloom4DRenderField]
