"""Gaussians from Orbit Video: 4D construction in two phases, of pictures whose cameras and times are known."""

import torch
from comfy_api.latest import io
from torch import Tensor

from ..models.gaussians.deformation import DeformationConfig, PriorConfig
from ..models.gaussians.density import DensityConfig
from ..models.gaussians.dynamic import DynamicGaussiansConfig
from ..models.gaussians.hexplane import HexPlaneConfig
from ..models.geometry.cameras import Cameras
from ..models.optimize.cloud_optimiser import CloudRates
from ..models.optimize.construct import ConstructConfig
from ..models.optimize.construct_losses import LossWeights
from ..models.optimize.footage import Footage, footage
from .cameras import number
from .construct_run import Constructed, Order, construct
from .field import option_of, whole
from .host import judges
from .metrics import LPIPS_FILE
from .optimize import plan_of, run_inputs, unfinished_stamp
from .prior import resolve_cameras
from .sockets import CAMERAS_4D, FIELD_4D, GAUSSIANS_4D

SIZES = {"demo": HexPlaneConfig(16, 16, (1, 2), 12), "4DGS": HexPlaneConfig()}
SIZE_NAMES = (*SIZES, "custom")
PRIORS = {"none": None, "learned": PriorConfig("learned")}
STARTS = ("carve", "random")
RATES = {"positions": 1.6e-4, "colours": 2.5e-3, "opacities": 0.05, "scales": 5e-3, "rotations": 1e-3, "planes": 1.6e-3, "networks": 1.6e-4}


def weight(name: str, default: float, what: str, advanced: bool = False) -> io.Float.Input:
    return io.Float.Input(f"weight_{name}", default=default, min=0.0, max=1000.0, step=1e-5, tooltip=f"Weight of {what}; 0 turns it off.", advanced=advanced)


def planes_input() -> io.DynamicCombo.Input:
    custom = [
        whole("channels", 16, 1, 256, "Features of a level."),
        whole("resolution", 16, 2, 1024, "Nodes per axis of the coarsest level."),
        whole("levels", 2, 1, 5, "Levels; each has twice the nodes per axis of the one before."),
        whole("time_nodes", 12, 2, 512, "Nodes along time; about half as many as the video has frames."),
    ]
    return io.DynamicCombo.Input(
        "planes",
        options=[io.DynamicCombo.Option(name, custom if name == "custom" else []) for name in SIZE_NAMES],
        tooltip="Size of ST-HexPlane, which moves the Gaussians. demo: 16 channels, 16 and 32 nodes, 12 times. 4DGS: 32 channels, 64 and 128 nodes, 12 times. custom: your own.",
    )


def fitting_inputs() -> list:
    """How any construction fits, whatever its footage."""
    return [
        io.Int.Input("coarse", default=6000, min=0, max=1000000, step=1, tooltip="Steps of the first phase, in which the cloud grows; still and moving pictures take turns. A demo: 1000."),
        io.Int.Input("fine", default=3000, min=0, max=1000000, step=1, tooltip="Steps of the second phase on the moving pictures; the cloud grows no more in its second half. A demo: 600."),
        io.Int.Input("initial_gaussians", default=5000, min=1, max=2000000, step=1, tooltip="Most Gaussians to begin with."),
        io.Int.Input("max_gaussians", default=100000, min=1, max=2000000, step=1, tooltip="Most Gaussians that the cloud may grow to."),
        io.Combo.Input("start", options=list(STARTS), default="carve", tooltip="carve: on the surface that all silhouettes share. random: in a ball."),
        io.Int.Input("degree", default=0, min=0, max=3, step=1, tooltip="Degree of the spherical harmonics: 0 for colours that are the same from every side, 3 for the strongest gloss."),
        planes_input(),
        io.Combo.Input("prior_mode", options=list(PRIORS), default="none", tooltip="none: the planes alone. learned: the planes' features attend to learned spatial and temporal tokens (ST-HexPlane)."),
        io.Int.Input("pictures", default=4, min=1, max=64, step=1, tooltip="Pictures of a step; all are drawn in one call."),
        number("still_share", 0.0, 0, 0.9, 0.01, "Share of still pictures in the fine phase; 0 uses the moving ones only (Orster)."),
        weight("l1", 1.0, "the absolute error of colours and opacities"),
        weight("perceptual", 0.2, "the perceptual loss: LPIPS with the file below, else Sobel gradients at three scales"),
        weight("depth", 0.05, "the smoothness of depth, on small patches from random sides"),
        weight("hex", 1.0, "the squared error against the driving video at its reference camera"),
        weight("variation", 1e-4, "the smoothness of the spatial planes", advanced=True),
        weight("roughness", 1e-2, "the smoothness of motion", advanced=True),
        weight("restlessness", 1e-4, "the pull towards no motion", advanced=True),
        io.Combo.Input("lpips", options=judges.LPIPS.options(), default=judges.NONE, tooltip=f"The network of LPIPS from the model folder bloom4d: {LPIPS_FILE}. It needs the package lpips and pictures of 48 pixels. none: Sobel gradients."),
        *(number(f"rate_{name}", value, 0, 1, 1e-6, f"Learning rate of the {name}.", advanced=True) for name, value in RATES.items()),
        io.Int.Input("densify_from", default=500, min=1, max=1000000, step=1, advanced=True, tooltip="Step from which the cloud grows and is pruned."),
        io.Int.Input("densify_every", default=100, min=1, max=1000000, step=1, advanced=True, tooltip="Steps between growing and pruning."),
        number("densify_threshold", 2e-4, 0, 1, 1e-6, "Mean gradient of a Gaussian's place on the picture above which it is cloned or split, in half pictures.", advanced=True),
        number("reset_at", 0.5, 0, 1, 0.01, "Part of the coarse phase at which all opacities are lowered, which removes what no picture needs; 0: never.", advanced=True),
        io.Int.Input("early_stop", default=0, min=0, max=100000, step=1, tooltip="Steps of the fine phase without a gain of 0.02 dB after which it ends; 0: never.", advanced=True),
        io.Int.Input("frames_out", default=16, min=1, max=512, step=1, tooltip="Times of the Gaussians that come out; the field gives any other."),
        *(asked for asked in run_inputs(1) if asked.id not in ("steps", "renderer")),  # two phases, one kind of renderer
    ]  # fmt: skip


def fitting_outputs() -> list:
    return [
        GAUSSIANS_4D.Output("gaussians", tooltip="The Gaussians at evenly spaced times, each with its index for all of them."),
        FIELD_4D.Output("field", tooltip="The same Gaussians at any time, with their history: for Splat Renderer and Render Field, Save Field, or further stages."),
        io.Custom("LOSS_MAP").Output("loss_map", tooltip="The loss of every step, for the host's Plot Loss Graph."),
        io.Image.Output("preview", tooltip="Rows: the video, the Gaussians in its place, the Gaussians from the opposite side."),
        io.String.Output("report", tooltip="What the cameras see, what the losses used, PSNR of every frame and view, count and time."),
    ]


def order_of(
    coarse, fine, initial_gaussians, max_gaussians, start, degree, prior_mode, pictures, still_share, lpips, densify_from, densify_every,
    densify_threshold, reset_at, early_stop, frames_out, seed, planes=None, **values,
) -> Order:  # fmt: skip
    """What the widgets of `fitting_inputs` ask for."""
    chosen = option_of("planes", planes, SIZE_NAMES)
    size = SIZES.get(chosen["planes"]) or HexPlaneConfig(chosen["channels"], chosen["resolution"], tuple(1 << level for level in range(chosen["levels"])), chosen["time_nodes"])
    taken = lambda head: {key.removeprefix(head): value for key, value in values.items() if key.startswith(head)}  # noqa: E731
    rates = taken("rate_")
    config = ConstructConfig(
        coarse=coarse,
        fine=fine,
        pictures=pictures,
        still_fine=still_share,
        densify_from=densify_from,
        densify_every=densify_every,
        reset_at=reset_at,
        patience=early_stop,
        weights=LossWeights(**taken("weight_")),
        rates=CloudRates(details=rates["colours"] / 20.0, **rates),
        density=DensityConfig(threshold=densify_threshold, most=max_gaussians),
    )
    shape = DynamicGaussiansConfig(degree, DeformationConfig(size, priors=PRIORS[prior_mode]))
    return Order(shape, initial_gaussians, start == "carve", config, seed, frames_out, lpips)


def plan_values(values: dict) -> tuple[dict, dict]:
    """Widgets apart: (those of the run's plan, all others)."""
    names = ("resume", "checkpoint", "filename_prefix", "preview_interval", "checkpoint_interval", "time_budget", "step_budget")
    return {name: values[name] for name in names if name in values}, {name: value for name, value in values.items() if name not in names}


def put_out(made: Constructed) -> io.NodeOutput:
    return io.NodeOutput(made.gaussians, made.scene, {"loss": made.losses}, made.sheet, made.report, ui={"text": (made.notes,)})


def static_footage(images: Tensor | None, mask: Tensor | None, cameras, video: Cameras) -> list[Footage]:
    """The static orbit, if there is one; without cameras of its own it was taken with the video's."""
    if images is None:
        return refuse_lonely("static_images", static_mask=mask, static_cameras=cameras)
    shots = video if cameras is None else resolve_cameras(cameras)
    return [footage("static orbit", images, mask, shots, static=True)]


def driving_footage(images: Tensor | None, mask: Tensor | None, cameras, video: Cameras) -> Footage | None:
    """The driving video, if there is one; without cameras of its own it was taken with the video's first one, over the same times."""
    if images is None:
        refuse_lonely("driving_images", driving_mask=mask, reference_cameras=cameras)
        return None
    if cameras is not None:
        return footage("driving video", images, mask, resolve_cameras(cameras))
    count = len(images)
    low, high = video.times.min(), video.times.max()
    times = low + (high - low) * torch.arange(count) / max(count - 1, 1)
    first = Cameras(video.camera_to_world[:1].expand(count, -1, -1), video.fov_y[:1].expand(count), times)
    return footage("driving video", images, mask, first)


def refuse_lonely(wanted: str, **given) -> list:
    """ValueError when a mask or cameras are connected without the pictures that they belong to."""
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{name} is connected and {wanted} is not. Connect the pictures that it belongs to, or neither.")
    return []


def video_footage(images: Tensor, mask: Tensor | None, cameras: Cameras) -> Footage:
    if len(images) < 2:
        raise ValueError("The video has one picture, which shows one time from one side. Connect at least two pictures with their cameras; 24 to 48 make an object.")
    return footage("video", images, mask, cameras)


class Bloom4DGaussiansFromOrbitVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DGaussiansFromOrbitVideo",
            display_name="Gaussians from Orbit Video",
            category="4d/gaussians",
            description="Constructs dynamic Gaussians from a video whose camera turns while the object moves (Orster's 4D construction): a cloud that grows, moved by ST-HexPlane. A static orbit and a driving video make it well-posed.",
            search_aliases=["4D reconstruction", "4DGS", "hexplane construct", "video to 4D", "gaussian splatting", "SV3D", "SV4D"],
            inputs=[
                io.Image.Input("images", tooltip="The video: picture i shows time i from camera i. Views x times of any other layout do as well."),
                CAMERAS_4D.Input("cameras", tooltip="One camera with its time per picture, such as the Camera Path that the video was made with."),
                *fitting_inputs(),
                io.Mask.Input("mask", optional=True, tooltip="1 where the object is, one per picture. Load Image gives the opposite: invert it. Without it a white background is assumed."),
                io.Image.Input("static_images", optional=True, tooltip="The object at time 0 from all around, standing still: it settles the shape that the video shows from one side at a time."),
                io.Mask.Input("static_mask", optional=True, tooltip="1 where the object is, one per picture of the static orbit."),
                CAMERAS_4D.Input("static_cameras", optional=True, tooltip="One camera per picture of the static orbit; without it those of the video."),
                io.Image.Input("driving_images", optional=True, tooltip="The object in motion from one fixed camera, all times evenly."),
                io.Mask.Input("driving_mask", optional=True, tooltip="1 where the object is, one per picture of the driving video."),
                CAMERAS_4D.Input("reference_cameras", optional=True, tooltip="The driving video's camera with its times, one per picture; without it the first camera of the video."),
            ],
            outputs=fitting_outputs(),
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, time_budget, step_budget=0, lpips=None, **values):
        return unfinished_stamp(time_budget, step_budget, judges.LPIPS.stamp(lpips))

    @classmethod
    def execute(
        cls, images, cameras, mask=None, static_images=None, static_mask=None, static_cameras=None, driving_images=None, driving_mask=None,
        reference_cameras=None, **values,
    ):  # fmt: skip
        shots = resolve_cameras(cameras)
        plan, rest = plan_values(values)
        footages = [video_footage(images, mask, shots), *static_footage(static_images, static_mask, static_cameras, shots)]
        driving = driving_footage(driving_images, driving_mask, reference_cameras, shots)
        return put_out(construct(footages, driving, order_of(**rest), plan_of(**plan)))


NODES = [Bloom4DGaussiansFromOrbitVideo]
