"""Motion for an existing scene: a frozen canonical field behind a displacement that learns, and what keeps that motion smooth."""

from dataclasses import replace

import comfy.model_management
import torch
from comfy_api.latest import io

from ..models.fields.background import BackgroundConfig
from ..models.fields.deformable import DeformableField
from ..models.fields.deformable_gaussians import DeformableGaussians
from ..models.fields.deformed import DeformableConfig
from ..models.fields.displacement import DEMO_DISPLACEMENT, PAPER_DISPLACEMENT, DisplacementConfig
from ..models.guidance.displacement import PUBLISHED_WEIGHT, displacement_tv, normalisation
from ..models.guidance.schedules import constant
from ..models.render.displacement import displacement_picture, mean_motion, render_displacement
from ..models.render.splat_renderer import is_cloud
from .cameras import number
from .field import CATEGORY, grid_config, option_of, time_nodes, whole
from .guidance import CATEGORY as GUIDANCE_CATEGORY
from .host.inference import gradients
from .host.progress import HostCallback
from .prior import resolve_cameras
from .render import CATEGORY as RENDER_CATEGORY
from .render import for_pictures
from .sockets import CAMERAS_4D, FIELD_4D, GUIDANCE_4D, RENDERER_4D

GRID, POSITIONAL = "multi-resolution grid", "positional encoding"
SIZES = {"demo": DEMO_DISPLACEMENT, "Dream-in-4D": PAPER_DISPLACEMENT}
SIZE_NAMES = (*SIZES, "custom")
KEPT, RELEARNED = "keep", "learn anew"


class Bloom4DDeformableField(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        custom = [
            whole("levels", 6, 1, 24, "Levels of the grid over space and time."),
            whole("coarsest", 4, 2, 256, "Nodes per axis of its coarsest level."),
            whole("finest", 32, 2, 8192, "Nodes per axis of its finest level; motion is smoother than shape (Dream-in-4D: 234)."),
            whole("time_nodes", 8, 0, 1024, "Most nodes along time; 0: as many as along space (Dream-in-4D)."),
            whole("table", 15, 8, 24, "Entries per level, as a power of two: 15 is 32768."),
            whole("hidden", 32, 4, 256, "Width of the network that turns features into displacements."),
            whole("layers", 2, 1, 8, "Its hidden layers."),
        ]
        network = [
            whole("width", 64, 4, 256, "Width of its hidden layers (Dream-in-4D: 64)."),
            whole("depth", 3, 1, 8, "Its hidden layers (Dream-in-4D: 3)."),
        ]
        return io.Schema(
            node_id="Bloom4DDeformableField",
            display_name="Deformable Field",
            category=CATEGORY,
            description="Freezes any field, Gaussians too, and puts a displacement over space and time on it that an optimiser can train (Dream-in-4D). It starts exactly as the field that came in.",
            search_aliases=["dream-in-4d", "deformation field", "canonical", "motion", "animate", "reanimate"],
            inputs=[
                FIELD_4D.Input("canonical", tooltip="The finished field that is to move. It is copied, and nothing changes the copy any more."),
                io.Combo.Input("encoding", options=[GRID, POSITIONAL], default=GRID, tooltip="How the displacement sees space and time. positional encoding is Dream-in-4D's ablation without a multi-resolution grid: small parts hardly move."),
                io.DynamicCombo.Input(
                    "size",
                    options=[io.DynamicCombo.Option(name, custom if name == "custom" else []) for name in SIZE_NAMES],
                    tooltip="The displacement's grid and network. demo: 6 levels up to 32, 2 x 32, fast on a CPU. Dream-in-4D: 12 levels up to 234, 4 x 64. custom: your own.",
                ),
                number("deformation_scale", 1.0, 0.1, 10, 0.01, "How many times larger the canonical field is shown (Dream-in-4D: 1.5 to 2 for a small object out of one image)."),
                io.DynamicCombo.Input(
                    "background",
                    options=[io.DynamicCombo.Option(KEPT, []), io.DynamicCombo.Option(RELEARNED, network)],
                    tooltip="keep: the canonical field's background, frozen too. learn anew: a network of the direction that trains with the motion (Dream-in-4D's code).",
                ),
                io.Int.Input("seed", default=0, min=0, max=2**63 - 1, step=1, tooltip="Initial values of the displacement's grid and network, and of a new background."),
                number("time", 0.0, 0, 1, 0.01, "The instant at which a canonical field that moves already is frozen.", advanced=True),
                whole("frequencies", 6, 1, 16, "Octaves of the positional encoding; a grid has none."),
            ],
            outputs=[FIELD_4D.Output("field", tooltip="The deformable field with the canonical one's history, for an optimiser: its grid is dynamic, its network a decoder.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, canonical, encoding, deformation_scale, seed, time, frequencies, size=None, background=None):
        shape = displacement_config(option_of("size", size, SIZE_NAMES), encoding, frequencies)
        config = DeformableConfig(shape, deformation_scale, time, relearned(option_of("background", background, (KEPT, RELEARNED))))
        kind = DeformableGaussians if is_cloud(canonical.field) else DeformableField
        with gradients():
            field = kind(config, torch.Generator().manual_seed(seed), canonical.field.clone())
            text = canonical_text(field)
        return io.NodeOutput(replace(canonical, field=field.requires_grad_(False)), ui={"text": (text,)})


def displacement_config(size: dict, encoding: str, frequencies: int) -> DisplacementConfig:
    """The displacement's shape that was chosen."""
    config = SIZES.get(size["size"])
    if config is None:
        grid = grid_config(4, size["levels"], size["coarsest"], size["finest"], size["table"], **time_nodes(size))
        config = DisplacementConfig(grid, hidden=size["hidden"], layers=size["layers"])
    return replace(config, grid=None if encoding == POSITIONAL else config.grid, frequencies=frequencies)


def relearned(background: dict) -> BackgroundConfig | None:
    """The background of its own that was chosen, None for the canonical field's."""
    return None if background["background"] == KEPT else BackgroundConfig("network", hidden=background["width"], layers=background["depth"])


def canonical_text(field) -> str:
    """Which canonical field lies in a field, to be compared before and after a stage; empty for a field without one."""
    known = getattr(field, "canonical_hash", None)
    return "" if known is None else f"Frozen canonical field ({field.canonical.kind}): SHA-256 {known()}"


class Bloom4DDisplacementTV(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DDisplacementTV",
            display_name="Displacement TV",
            category=GUIDANCE_CATEGORY,
            description="Adds a penalty on jitter to a guidance term: the total variation of the displacement that its cameras see, in x, y and time (Dream-in-4D). Bypass it for the ablation.",
            search_aliases=["total variation", "smooth motion", "dream-in-4d", "regularise motion"],
            inputs=[
                GUIDANCE_4D.Input("guidance", tooltip="The term that teaches motion, of a stage whose field is a Deformable Field."),
                number("weight", PUBLISHED_WEIGHT, 0, 1e9, 0.1, "Factor on the squared differences (Dream-in-4D: 1000). Too much of it stops small parts."),
                io.Boolean.Input("normalise", default=True, tooltip="Count the weight for a video of 24 frames of 144 x 80, as published: other sizes and lengths are balanced. Off: the raw sum."),
            ],
            outputs=[GUIDANCE_4D.Output("guidance_out", display_name="guidance", tooltip="The same term with the penalty, for a Stage.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, guidance, weight, normalise):
        term = replace(guidance.term, displacement_tv=constant(weight), displacement_tv_normalised=normalise)
        return io.NodeOutput(replace(guidance, term=term))


class Bloom4DRenderDisplacement(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DRenderDisplacement",
            display_name="Render Displacement",
            category=RENDER_CATEGORY,
            description="Shows how far every point of a Deformable Field has moved from its frozen canonical place, and measures motion and jitter.",
            search_aliases=["motion map", "deformation", "displacement map", "total variation"],
            inputs=[
                FIELD_4D.Input("field", tooltip="A Deformable Field, trained or not."),
                CAMERAS_4D.Input("cameras", tooltip="A Camera Path. With one that does not turn, jitter is of the motion alone."),
                io.Int.Input("width", default=128, min=8, max=4096, step=8, tooltip="Width of the pictures."),
                io.Int.Input("height", default=128, min=8, max=4096, step=8, tooltip="Height of the pictures."),
                RENDERER_4D.Input("renderer", optional=True, tooltip="How to render. By default volumes at 96 samples per ray, and Gaussians as splats."),
            ],
            outputs=[
                io.Image.Output("image", tooltip="The way since the canonical scene: along x red, y green, z blue; grey rests, black is nothing; one scale for all pictures."),
                io.Float.Output("motion", tooltip="Root mean square way of all that is seen, where the scene is 2 wide."),
                io.Float.Output("jitter", tooltip="Total variation of the displacement in x, y and time, counted for 24 frames of 144 x 80: what Displacement TV weighs."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, field, cameras, width, height, renderer=None):
        renderer = renderer or for_pictures(field.field)
        renderer.check(field.field)
        resolved = resolve_cameras(cameras)
        with gradients():
            local = field.field.clone().to(comfy.model_management.get_torch_device())
            displacement, opacity = render_displacement(local, renderer, resolved, height, width, HostCallback(total=len(resolved)))
            moved = local.way * displacement
            jitter = normalisation(len(resolved), height, width) * float(displacement_tv(displacement))
            return io.NodeOutput(displacement_picture(moved, opacity), mean_motion(moved, opacity), jitter)


NODES = [Bloom4DDeformableField, Bloom4DDisplacementTV, Bloom4DRenderDisplacement]
