"""Fields to optimise, and their surfaces."""

import math
import re
from dataclasses import replace

import comfy.model_management
import torch
from comfy_api.latest import Types, io

from ..models.data.shading import srgb_to_linear
from ..models.fields.background import BackgroundConfig
from ..models.fields.density import DEMO_BLOB, DREAMFUSION_BLOB, MAGIC3D_BLOB
from ..models.fields.hash_field import DEMO_FIELD, PAPER_FIELD, HashField, HashFieldConfig
from ..models.fields.hash_grid import HashGridConfig
from ..models.fields.hexplane_field import DEMO_HEXPLANE, FUSIONS, PAPER_HEXPLANE, HexPlaneField, HexPlaneFieldConfig
from ..models.fields.single_grid import DEMO_SINGLE_GRID, PAPER_SINGLE_GRID, SingleGridConfig, SingleGridField
from ..models.geometry.isosurface import isosurface
from ..models.optimize.scene import Scene
from ..models.render.backend import equip
from .cameras import number
from .host.inference import gradients
from .sockets import FIELD_4D

CATEGORY = "4d/field"
BLOBS = {"soft ball": DEMO_BLOB, "magic3d": MAGIC3D_BLOB, "dreamfusion": DREAMFUSION_BLOB}
SIZE_NAMES = ("demo", "4D-fy", "custom")
BACKGROUNDS = ("none", "solid", "network")
SIZES = {"demo": DEMO_FIELD, "4D-fy": PAPER_FIELD}
SINGLE_SIZES = {"demo": DEMO_SINGLE_GRID, "4D-fy": PAPER_SINGLE_GRID}
HEXPLANE_SIZES = {"demo": DEMO_HEXPLANE, "4D-fy": PAPER_HEXPLANE}


def whole(name: str, default: int, low: int, high: int, tooltip: str) -> io.Int.Input:
    return io.Int.Input(name, default=default, min=low, max=high, step=1, tooltip=tooltip)


def shared_sizes() -> list:
    return [
        whole("time_nodes", 8, 0, 1024, "Most nodes along time; 0: as many as along space (4D-fy)."),
        whole("table", 15, 8, 24, "Entries per level, as a power of two: 15 is 32768."),
        whole("hidden", 32, 4, 256, "Width of the decoders."),
        whole("layers", 1, 1, 4, "Hidden layers of the decoders."),
    ]


def custom_single_size() -> list:
    return [
        whole("levels", 7, 1, 24, "Levels of the grid."),
        whole("coarsest", 8, 2, 256, "Nodes per axis of its coarsest level."),
        whole("finest", 96, 2, 8192, "Nodes per axis of its finest level."),
        *shared_sizes(),
    ]


def custom_hexplane_size() -> list:
    return [
        whole("channels", 20, 1, 256, "Features of each of the six planes."),
        whole("resolution", 96, 2, 8192, "Nodes along each axis of space."),
        whole("time_nodes", 8, 2, 4096, "Nodes along time."),
        io.Combo.Input("fusion", options=list(FUSIONS), default=FUSIONS[0], tooltip="What becomes of the three products of planes (HexPlane: concatenated is best)."),
        whole("hidden", 32, 4, 256, "Width of the decoders."),
        whole("layers", 1, 1, 4, "Hidden layers of the decoders."),
    ]


def custom_size() -> list:
    return [
        whole("static_levels", 8, 1, 24, "Levels of the static 3D grid."),
        whole("static_coarsest", 8, 2, 256, "Nodes per axis of its coarsest level."),
        whole("static_finest", 96, 2, 8192, "Nodes per axis of its finest level."),
        whole("dynamic_levels", 6, 1, 24, "Levels of the dynamic 4D grid; it starts at zero, so the field starts static."),
        whole("dynamic_coarsest", 8, 2, 256, "Nodes per axis of its coarsest level."),
        whole("dynamic_finest", 64, 2, 8192, "Nodes per axis of its finest level."),
        *shared_sizes(),
    ]


def scene_inputs(sizes: str, custom: list) -> list:
    """What every new field is asked: its size, the ball it starts as, what lies behind it, its seed."""
    colour = io.Color.Input("colour", default="#ffffff", tooltip="The background's colour.")
    return [
        io.DynamicCombo.Input(
            "size",
            options=[io.DynamicCombo.Option(name, custom if name == "custom" else []) for name in SIZE_NAMES],
            tooltip=sizes,
        ),
        io.Combo.Input("initial_density", options=list(BLOBS), default="soft ball", tooltip="The ball that every scene starts as."),
        number("blob_radius", 0.55, 0.05, 20, 0.01, "Its radius; the object lives in the unit ball."),
        io.DynamicCombo.Input(
            "background",
            options=[
                io.DynamicCombo.Option(BACKGROUNDS[0], []),
                io.DynamicCombo.Option(BACKGROUNDS[1], [colour]),
                io.DynamicCombo.Option(BACKGROUNDS[2], [whole("width", 16, 4, 256, "Width of its hidden layers (4D-fy: 16; Dream-in-4D: 64).")]),
            ],
            tooltip="What lies behind the object. none: transparent. network: a colour for every direction, trained (4D-fy).",
        ),
        io.Int.Input("seed", default=0, min=0, max=2**63 - 1, step=1, tooltip="Initial values of grids and decoders."),
        io.Int.Input("background_layers", default=2, min=1, max=8, step=1, optional=True, advanced=True, tooltip="Hidden layers of a background network (4D-fy: 2; Dream-in-4D's paper: 3); other backgrounds have none."),
    ]


def option_of(name: str, choice: dict | None, options: tuple[str, ...]) -> dict:
    """The value of a DynamicCombo; ValueError where a prompt named none of its options, since the host then passes nothing."""
    if choice is None:
        raise ValueError(f'"{name}" was set to none of its options. Choose one of: {", ".join(options)}.')
    return choice


def new_scene(field, config, initial_density: str, blob_radius: float, seed: int, background: dict | None = None, background_layers: int = 2) -> io.NodeOutput:
    """A field of class `field` and shape `config`, with the ball and the background that were chosen."""
    background = option_of("background", background, BACKGROUNDS)
    blob = replace(BLOBS[initial_density], radius=blob_radius)
    with gradients():
        made = field(replace(config, blob=blob, background=background_config(background, background_layers)), torch.Generator().manual_seed(seed))
    return io.NodeOutput(Scene(made.requires_grad_(False)))


class Bloom4DHashField(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DHashField",
            display_name="Hash Field",
            category=CATEGORY,
            description="A new 4D scene: static 3D and dynamic 4D hash grids, added and decoded to density and colour (4D-fy).",
            search_aliases=["nerf", "radiance field", "instant ngp", "new scene"],
            inputs=scene_inputs("demo: 8 levels up to 96, fast on a CPU. 4D-fy: 16 levels up to 4096, 28 million numbers, for a GPU. custom: your own.", custom_size()),
            outputs=[FIELD_4D.Output("field", tooltip="A new field, for an optimiser.")],
        )

    @classmethod
    def execute(cls, size=None, **values):
        size = option_of("size", size, SIZE_NAMES)
        return new_scene(HashField, SIZES.get(size["size"]) or custom_config(size), **values)


class Bloom4DSingleGridField(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DSingleGridField",
            display_name="Single Grid Field",
            category=CATEGORY,
            description="A new 4D scene in one 4D hash grid: 4D-fy's ablation without the split into a static and a dynamic grid. Swap it for a Hash Field.",
            search_aliases=["ablation", "4d hash grid", "without decoupling", "new scene"],
            inputs=scene_inputs("demo: 7 levels up to 96, 0.67 million numbers, a tenth more than the Hash Field's. 4D-fy: 16 levels up to 4096, 30 million, for a GPU. custom: your own.", custom_single_size()),
            outputs=[FIELD_4D.Output("field", tooltip="A new field, for an optimiser; its grid learns at a stage's rate_static.")],
        )

    @classmethod
    def execute(cls, size=None, **values):
        size = option_of("size", size, SIZE_NAMES)
        return new_scene(SingleGridField, SINGLE_SIZES.get(size["size"]) or custom_single_config(size), **values)


class Bloom4DHexPlaneField(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DHexPlaneField",
            display_name="HexPlane Field",
            category=CATEGORY,
            description="A new 4D scene in six feature planes, at the memory of a Hash Field: the backbone that 4D-fy and Dream-in-4D compare with. Swap it for a Hash Field.",
            search_aliases=["ablation", "k-planes", "feature planes", "new scene"],
            inputs=scene_inputs("demo: 20 channels, 96 nodes, 0.6 million numbers, as the Hash Field's. 4D-fy: 32 channels, 524 nodes, 28 million, for a GPU. custom: your own.", custom_hexplane_size()),
            outputs=[FIELD_4D.Output("field", tooltip="A new field, for an optimiser: planes over space are static, those over time dynamic.")],
        )

    @classmethod
    def execute(cls, size=None, **values):
        size = option_of("size", size, SIZE_NAMES)
        return new_scene(HexPlaneField, HEXPLANE_SIZES.get(size["size"]) or custom_hexplane_config(size), **values)


def custom_hexplane_config(size: dict) -> HexPlaneFieldConfig:
    """The HexPlane field's shape from the node's own numbers."""
    return HexPlaneFieldConfig(size["channels"], size["resolution"], size["time_nodes"], size["fusion"], size["hidden"], size["layers"])


def time_nodes(size: dict) -> dict:
    """A grid's nodes along time: half of those along space up to a limit, or as many (4D-fy) when the limit is 0."""
    return {"time_ratio": 0.5, "time_cap": size["time_nodes"]} if size["time_nodes"] else {}


def custom_single_config(size: dict) -> SingleGridConfig:
    """The single grid field's shape from the node's own numbers."""
    grid = grid_config(4, size["levels"], size["coarsest"], size["finest"], size["table"], **time_nodes(size))
    return SingleGridConfig(grid, size["hidden"], size["layers"])


def custom_config(size: dict) -> HashFieldConfig:
    """The field's shape from the node's own numbers."""
    return HashFieldConfig(
        static=grid_config(3, size["static_levels"], size["static_coarsest"], size["static_finest"], size["table"]),
        dynamic=grid_config(4, size["dynamic_levels"], size["dynamic_coarsest"], size["dynamic_finest"], size["table"], **time_nodes(size)),
        hidden=size["hidden"],
        layers=size["layers"],
    )


def grid_config(dimensions: int, levels: int, coarsest: int, finest: int, table: int, **time) -> HashGridConfig:
    """A grid whose levels grow evenly from the coarsest to the finest resolution."""
    if finest < coarsest:
        raise ValueError(f"The finest grid level has {finest} nodes and the coarsest {coarsest}. Swap them: levels grow finer.")
    growth = math.exp(math.log(finest / coarsest) / max(levels - 1, 1))
    return HashGridConfig(dimensions, levels, coarsest, growth, table, **time)


def background_config(background: dict, layers: int) -> BackgroundConfig:
    """What lies behind the object; `layers`: hidden ones of a network."""
    kind = background["background"]
    if kind == "solid":
        return BackgroundConfig("solid", hex_colour(background["colour"]))
    return BackgroundConfig("network", hidden=background["width"], layers=layers) if kind == "network" else BackgroundConfig("none")


def hex_colour(text: str) -> tuple[float, float, float]:
    """#rrggbb as three numbers in [0, 1]; ValueError for anything else."""
    if not re.fullmatch(r"#?[0-9a-fA-F]{6}", text.strip()):
        raise ValueError(f'"{text}" is no colour. Write it as #rrggbb, such as #ffffff for white.')
    digits = text.strip().lstrip("#")
    return tuple(int(digits[place : place + 2], 16) / 255.0 for place in (0, 2, 4))


class Bloom4DIsosurface(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DIsosurface",
            display_name="Isosurface",
            category=CATEGORY,
            description="The surface of a field at several times, as a MESH batch with vertex colours: time is the batch.",
            search_aliases=["marching cubes", "field to mesh", "export mesh"],
            inputs=[
                FIELD_4D.Input("field", tooltip="The field whose surface is wanted."),
                whole("times", 1, 1, 256, "Meshes, evenly from time_start to time_end."),
                number("time_start", 0.5, 0, 1, 0.01, "Time of the first mesh."),
                number("time_end", 1.0, 0, 1, 0.01, "Time of the last mesh; not read for a single one."),
                whole("resolution", 96, 8, 512, "Cells per axis."),
                number("threshold", 25.0, 0.01, 1000, 0.01, "Density that counts as surface; higher is thinner."),
            ],
            outputs=[io.Mesh.Output("mesh", tooltip="One mesh per time, colours at the vertices, unlit: the light is in the colours.")],
        )

    @classmethod
    def execute(cls, field, times, time_start, time_end, resolution, threshold):
        device = comfy.model_management.get_torch_device()
        instants = torch.linspace(time_start, time_end, times) if times > 1 else torch.tensor([time_start])
        with gradients():
            local = field.field.clone().to(device)
            equip(local, device)
            surfaces = isosurface(local, instants.to(device), resolution, threshold)
        mesh = Types.MESH(
            surfaces.vertices.cpu(),
            surfaces.faces.cpu(),
            vertex_colors=srgb_to_linear(surfaces.colours.cpu().clamp(0, 1)),
            vertex_counts=surfaces.vertex_counts,
            face_counts=surfaces.face_counts,
            unlit=True,
        )
        return io.NodeOutput(mesh)


NODES = [Bloom4DHashField, Bloom4DSingleGridField, Bloom4DHexPlaneField, Bloom4DIsosurface]
