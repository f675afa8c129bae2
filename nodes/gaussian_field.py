"""A new scene of Gaussians, for everything that optimises fields."""

import torch
from comfy_api.latest import io

from ..models.gaussians.activation import raw_of
from ..models.gaussians.checks import check
from ..models.gaussians.deformation import DeformationConfig
from ..models.gaussians.dynamic import DEMO_GAUSSIANS, DynamicGaussians, DynamicGaussiansConfig
from ..models.gaussians.gaussians import Gaussians4D
from ..models.gaussians.hexplane import HexPlaneConfig
from ..models.gaussians.tools import pick_time
from ..models.optimize.scene import Scene
from .cameras import number
from .field import CATEGORY, option_of, whole
from .host.inference import gradients
from .sockets import FIELD_4D, GAUSSIANS_4D

MOTIONS = ("demo", "4DGS", "custom", "none")
UNIT_CUBE = ((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))


class Bloom4DGaussianField(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        custom = [
            whole("channels", 16, 1, 256, "Features of a plane."),
            whole("resolution", 16, 2, 512, "Nodes along space; a second level has twice as many."),
            whole("time_nodes", 8, 2, 512, "Nodes along time."),
            whole("hidden", 64, 1, 512, "Width of the network that turns features into motion."),
        ]
        return io.Schema(
            node_id="Bloom4DGaussianField",
            display_name="Gaussian Field",
            category=CATEGORY,
            description="A new 4D scene of 3D Gaussians, moved by an ST-HexPlane that starts at rest. Swap it for a Hash Field, with a Splat Renderer.",
            search_aliases=["gaussian splatting", "3dgs", "dreamgaussian", "new scene", "hexplane"],
            inputs=[
                whole("count", 5000, 1, 2000000, "Gaussians of the start, evenly in a ball. Not read when gaussians are connected."),
                number("radius", 0.5, 0.01, 1, 0.01, "The ball's radius; the object lives in the unit ball. Not read when gaussians are connected."),
                whole("degree", 0, 0, 3, "Degree of the colours' spherical harmonics; 0 has one colour from all sides. Not read when gaussians are connected."),
                io.DynamicCombo.Input(
                    "motion",
                    options=[io.DynamicCombo.Option(name, custom if name == "custom" else []) for name in MOTIONS],
                    tooltip="Planes of the deformation. demo: 16 channels, 16 and 32 nodes. 4DGS: 32 channels, 64 and 128 nodes. none: a static scene.",
                ),
                io.Int.Input("seed", default=0, min=0, max=2**63 - 1, step=1, tooltip="Places of the Gaussians, initial values of planes and network."),
                number("time", 0, 0, 1, 0.01, "The instant of the connected gaussians that is taken; only read when gaussians are connected.", advanced=True),
                GAUSSIANS_4D.Input("gaussians", optional=True, tooltip="Gaussians to start from instead of a ball, as they are at one instant."),
            ],
            outputs=[FIELD_4D.Output("field", tooltip="A new field, for an optimiser or Render Field; both take a Splat Renderer for it by themselves.")],
        )

    @classmethod
    def execute(cls, count, radius, degree, seed, time, motion=None, gaussians=None):
        deformation = deformation_of(option_of("motion", motion, MOTIONS))
        draws = torch.Generator().manual_seed(seed)
        with gradients():
            if gaussians is None:
                field = DynamicGaussians(DynamicGaussiansConfig(degree, deformation), draws, count, radius)
            else:
                field = field_of(gaussians, time, deformation, draws)
            if field.deformation is not None:  # the object may grow to the scene's whole cube
                field.deformation.set_bounds(torch.cat([field.positions.detach(), torch.tensor(UNIT_CUBE)]))
        return io.NodeOutput(Scene(field.requires_grad_(False)))


def deformation_of(motion: dict) -> DeformationConfig | None:
    """The deformation's shape that was chosen."""
    if motion["motion"] == "custom":
        return DeformationConfig(HexPlaneConfig(motion["channels"], motion["resolution"], (1, 2), motion["time_nodes"]), motion["hidden"])
    return {"demo": DEMO_GAUSSIANS.deformation, "4DGS": DeformationConfig(), "none": None}[motion["motion"]]


def field_of(gaussians: Gaussians4D, time: float, deformation: DeformationConfig | None, draws: torch.Generator) -> DynamicGaussians:
    """A field that is these Gaussians at one instant."""
    check(gaussians)
    instant = pick_time(gaussians, time)
    field = DynamicGaussians(DynamicGaussiansConfig(gaussians.degree, deformation), draws, gaussians.count)
    field.restart(raw_of({name: value[0].clone() for name, value in instant.attributes().items()}))
    return field


NODES = [Bloom4DGaussianField]
