"""Procedural 4D Object: one of the objects that the demo prior was trained on, with pictures, mesh, cameras and prompt."""

import torch
from comfy_api.latest import Types, io

from ..models.data.objects import build_mesh, render_object
from ..models.data.prompts import prompt
from ..models.data.shading import srgb_to_linear
from ..models.data.styles import COLOURS, PHENOMENA, SPECIES, ObjectStyle, sample_style
from ..models.geometry.cameras import view_time_grid
from .prior import resolve_cameras
from .sockets import CAMERAS_4D

ANY = "any"


def names_of(table: dict[str, tuple[str, ...]]) -> list[str]:
    """"any" and every name of the table, each once, in the table's order."""
    return [ANY, *dict.fromkeys(name for names in table.values() for name in names)]


def choose_style(phenomenon: str, species: str, colour: str, seed: int) -> ObjectStyle:
    """The object of the widgets; raises ValueError that lists the phenomenon's own names when one does not fit."""
    generator = torch.Generator().manual_seed(seed)
    return sample_style(phenomenon, generator, *(None if name == ANY else name for name in (species, colour)), split="all")


def mesh_batch(style: ObjectStyle, times: int) -> Types.MESH:
    """The object as a host mesh with one batch entry per time and linear vertex colours."""
    mesh = build_mesh(style, torch.arange(times) / max(times - 1, 1))
    faces = mesh.faces[None].repeat(times, 1, 1)
    return Types.MESH(mesh.vertices, faces, vertex_colors=srgb_to_linear(mesh.albedo))


class Bloom4DProcedural4DObject(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DProcedural4DObject",
            display_name="Procedural 4D Object",
            category="4d/data",
            description="A made-up object that changes over time, rendered from any side: ground truth to compare with, or a mesh to start from.",
            search_aliases=["ground truth", "test object", "flower", "animated mesh", "data set"],
            inputs=[
                io.Combo.Input("phenomenon", options=list(PHENOMENA), default=PHENOMENA[0], tooltip="What happens to the object: the seven things that the demo prior knows."),
                io.Combo.Input("species", options=names_of(SPECIES), default=ANY, tooltip="Which kind of it. any: drawn from the seed. Each phenomenon has its own kinds; the help page lists them."),
                io.Combo.Input("colour", options=names_of(COLOURS), default=ANY, tooltip="Its colour, or the colour of a plant's pot. any: drawn from the seed."),
                io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFF, step=1, control_after_generate=True, tooltip="Draws what is set to any, and small differences of proportion."),
                io.Int.Input("times", default=8, min=1, max=256, step=1, tooltip="Instants, evenly from the begin to the end. One time is the begin."),
                io.Int.Input("views", default=1, min=1, max=64, step=1, tooltip="Cameras around the object at each time, evenly spaced from the azimuth on."),
                io.Float.Input("azimuth", default=0.0, min=-360.0, max=360.0, step=0.5, tooltip="Azimuth of the first view in degrees; 0 is the front, 90 the object's side on the right of the front picture."),
                io.Float.Input("elevation", default=15.0, min=-89.0, max=89.0, step=0.5, tooltip="Elevation in degrees above the horizon."),
                io.Int.Input("size", default=256, min=16, max=2048, step=8, tooltip="Width and height of the pictures in pixels."),
                CAMERAS_4D.Input("cameras", optional=True, tooltip="Cameras and times of your own, such as a Camera Path: one picture each, in the place of times x views. The mesh keeps its times."),
            ],
            outputs=[
                io.Image.Output("images", tooltip="times x views pictures over white, all views of the first time first; or one for each camera that is connected."),
                io.Mask.Output("mask", tooltip="How much of each pixel the object covers."),
                io.Mesh.Output("mesh", tooltip="One mesh per time, the same faces in all of them, colours at the vertices."),
                CAMERAS_4D.Output("cameras", tooltip="The cameras and times of the pictures, as one joint scene."),
                io.String.Output("prompt", tooltip="A sentence that names the object."),
            ],
        )

    @classmethod
    def execute(cls, phenomenon, species, colour, seed, times, views, azimuth, elevation, size, cameras=None):
        style = choose_style(phenomenon, species, colour, seed)
        shots = view_time_grid(views, times, azimuth, elevation) if cameras is None else resolve_cameras(cameras)
        rgba = render_object(style, shots, size).rgba
        alpha = rgba[..., 3]
        white = rgba[..., :3] + 1 - alpha[..., None]
        return io.NodeOutput(white, alpha, mesh_batch(style, times), shots, prompt(style))


NODES = [Bloom4DProcedural4DObject]
