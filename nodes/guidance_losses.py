"""Guidance beyond score distillation: a reference picture, redrawn videos, and Perp-Neg behind a term."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace

import torch
from comfy_api.latest import io
from torch import Tensor
from torch.nn import functional

from ..models.geometry.cameras import FixedCameras, Viewpoint
from ..models.guidance.reference import Reference, ReferenceView
from ..models.guidance.schedules import NoiseRange, constant
from ..models.guidance.video_refinement import VideoRefinement
from ..models.optimize.identity import fingerprint
from ..models.optimize.stages import ROLES, STILL_ROLES, Resolution, Term
from .cameras import number
from .guidance import CATEGORY, Guidance, PriorSource, prior_source
from .guidance_inputs import by_direction, direction_inputs, model_inputs, prior_inputs, render_inputs, side_input, weight_inputs, weight_of
from .host.loras import lora_notes
from .sockets import GUIDANCE_4D

EMPTY = 0.01  # of a mask
INVERTED = 0.6  # mean of a mask along the picture's border
MASKS = "Make a mask with the host's Remove Background, or with Flat Background Mask where the background has one colour, and connect it."


def negative_inputs() -> list:
    text = "Negative prompt of pictures seen from {}, in the place of the guidance's own. Its strength (Conditioning (Set Area Strength)) is its weight there."
    places = (("front", "the front"), ("back", "the back, such as a prompt of its face"), ("overhead", "above"), ("side", "the side"))
    return [io.Conditioning.Input(f"negative_{name}", optional=True, tooltip=text.format(place)) for name, place in places]


class Bloom4DPerpNeg(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DPerpNeg",
            display_name="Perp-Neg",
            category=CATEGORY,
            description="Makes the negative prompts of a guidance term push across its prompt, never against it (Perp-Neg). Against several faces and against what a prompt drags along.",
            search_aliases=["negative prompt", "perpendicular", "janus", "several faces"],
            inputs=[
                GUIDANCE_4D.Input("guidance", tooltip="An SDS, VSD, Multi-View or Video SDS Guidance. Each entry of its negative (Conditioning Combine makes several) becomes a prompt of its own, weighted by its strength."),
                io.Conditioning.Input("unconditional", tooltip="The empty prompt, encoded with the model's CLIP: what guidance is measured from, now that the negative is not."),
                number("strength", 1.0, 0, 20, 0.05, "How much of the negative prompts is taken away, beside the whole of the prompt. 0 only exchanges the negative for the empty prompt."),
                *negative_inputs(),
            ],
            outputs=[GUIDANCE_4D.Output("guidance_out", display_name="guidance", tooltip="The same term with Perp-Neg, for a Stage. Bypass this node to go without.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, guidance, unconditional, strength, **directed):
        source, objective = guidance.source, guidance.term.objective
        if not isinstance(source, PriorSource) or "perp_neg" not in {field.name for field in fields(objective)}:
            raise ValueError(f'Perp-Neg needs a term with prompts, and "{guidance.term.name}" has none that it could use. Connect an SDS, VSD, Multi-View or Video SDS Guidance.')
        changed = replace(source, unconditional=unconditional, directed_negatives=by_direction(source.negative, directed, "negative")[1:])
        return io.NodeOutput(Guidance(replace(guidance.term, objective=replace(objective, perp_neg=strength)), changed))


@dataclass(frozen=True)
class ReferenceSource:
    """A picture and its mask, as they came over the sockets."""

    image: Tensor  # (H, W, 3)
    mask: Tensor  # (H, W)

    def open(self) -> AbstractContextManager:
        """The judge of a `ReferenceView`, outside the host's inference mode."""
        return nullcontext(Reference(self.image.detach().float().clone(), self.mask.detach().float().clone()))

    def devices(self) -> tuple:
        """None: it computes nothing."""
        return ()

    def place(self) -> str:
        """Nowhere."""
        return ""

    def notes(self) -> list[str]:
        """A mask that looks inverted."""
        border = torch.cat([self.mask[0], self.mask[-1], self.mask[:, 0], self.mask[:, -1]])
        inverted = float(border.mean()) > INVERTED and float(self.mask.mean()) < float(border.mean())
        return ["The reference's mask is white along the picture's border: if that is the background, put an Invert Mask before it (Load Image's mask needs one)."] if inverted else []

    def identity(self) -> str:
        """A fingerprint of both."""
        return fingerprint(self.image, self.mask)


def reference_source(image: Tensor, mask: Tensor | None) -> ReferenceSource:
    """One picture with its mask, both of one size; ValueError that says where a mask comes from."""
    if image.shape[0] != 1:
        raise ValueError(f"The reference is {image.shape[0]} pictures, and a camera sees one. Pick one with Get Image from Batch, or add a Reference View Loss for each.")
    if mask is None and image.shape[-1] < 4:
        raise ValueError("The reference picture has no alpha and no mask, so nothing tells the object from its background. " + MASKS)
    mask = image[..., 3] if mask is None else mask.reshape(-1, *mask.shape[-2:])[:1]
    if float(mask.max()) < EMPTY:
        raise ValueError("The reference's mask is black: it holds no object. " + MASKS)
    if float(mask.min()) > 1.0 - EMPTY:
        raise ValueError("The reference's mask is white all over: it tells no background from the object. " + MASKS)
    height, width = image.shape[1:3]
    if abs(mask.shape[-1] * height - mask.shape[-2] * width) > 0.02 * mask.shape[-2] * width:
        raise ValueError(f"The reference's mask is {mask.shape[-1]} x {mask.shape[-2]} and its picture {width} x {height}: they are of different shapes. Make the mask from this picture. " + MASKS)
    if tuple(mask.shape[-2:]) != (height, width):
        mask = functional.interpolate(mask[None], (height, width), mode="bilinear", align_corners=False, antialias=True)[0]
    return ReferenceSource(image[0, ..., :3].clamp(0, 1), mask[0].clamp(0, 1))


class Bloom4DReferenceViewLoss(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DReferenceViewLoss",
            display_name="Reference View Loss",
            category=CATEGORY,
            description="Holds the field to a picture: the render of the reference camera against the picture's colours and mask (Dream-in-4D, image to 4D).",
            search_aliases=["image to 4D", "photometric loss", "mask loss", "reconstruction"],
            inputs=[
                io.Image.Input("image", tooltip="One picture of the object, which looks at the picture's centre. It may be of any size and shape; a fourth channel counts as its mask."),
                number("azimuth", 0, -360, 360, 0.5, "Azimuth of the picture's camera in degrees; 0 is the object's front."),
                number("elevation", 15, -89, 89, 0.5, "Elevation of the picture's camera in degrees (Dream-in-4D: 0)."),
                number("distance", 2.9, 0.1, 20, 0.01, "Distance of the picture's camera (Dream-in-4D: 3.8)."),
                number("fov", 42, 5, 120, 0.5, "Field of view over the picture's height in degrees (Dream-in-4D: 20)."),
                number("time", 0, 0, 1, 0.01, "The time that the picture shows."),
                number("rgb_weight", 500, 0, 1e5, 0.1, "Weight of the mean squared difference of colours."),
                number("mask_weight", 50, 0, 1e5, 0.1, "Weight of the mean squared difference between opacity and mask."),
                io.Int.Input("height", default=128, min=8, max=2048, step=8, tooltip="Height of the renders at the stage's end (Dream-in-4D: 512); the width follows from the picture's shape."),
                number("quarter_until", 0.0, 0, 1, 0.01, "Part of the stage that renders at a quarter of that (Dream-in-4D: 200 of 2000 steps, 0.1)."),
                number("half_until", 0.0, 0, 1, 0.01, "Part of the stage after which renders are no longer at half of it (Dream-in-4D: 300 of 2000 steps, 0.15)."),
                io.String.Input("name", default="", tooltip="A name for this term's curves; empty names it reference."),
                io.Boolean.Input("train_motion", default=False, tooltip="Let this term change the dynamic part of the field. On where a stage of motion shall keep the picture at its time."),
                io.Mask.Input("mask", optional=True, tooltip="White on the object: of Remove Background or Flat Background Mask. Load Image's mask is the other way round: put an Invert Mask between."),
            ],
            outputs=[GUIDANCE_4D.Output("guidance", tooltip="One term for a Stage.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, image, azimuth, elevation, distance, fov, time, rgb_weight, mask_weight, height, quarter_until, half_until, name, train_motion, mask=None):
        source = reference_source(image, mask)
        width = max(round(height * source.mask.shape[1] / source.mask.shape[0]), 1)
        term = Term(
            name=name.strip() or "reference",
            cameras=FixedCameras(Viewpoint(azimuth, elevation, distance, fov, time)),
            objective=ReferenceView(rgb_weight, mask_weight),
            resolution=Resolution(height, width, 0.25, quarter_until, 0.5, half_until),
            trains=ROLES if train_motion else STILL_ROLES,
        )
        return io.NodeOutput(Guidance(term, source))


class Bloom4DVideoRefinementLoss(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DVideoRefinementLoss",
            display_name="Video Refinement Loss",
            category=CATEGORY,
            description="Now and then a rendered video is noised half-way and drawn anew by a video MODEL, and the field is pulled to what it drew: less flicker, smoother motion.",
            search_aliases=["video guidance", "flicker", "temporal smoothing", "image to image", "redraw"],
            inputs=[
                *(item for item in prior_inputs() if item.id != "weight"),
                number("weight", 1000, 0, 1e7, 0.001, "Factor on the mean squared difference of all pixels, which is small beside the sums of distillation terms: 1000 to 100000 is usual where both are in one stage."),
                number("t_min", 0.3, 0.01, 0.99, 0.01, "Lowest noise level from which the video is drawn anew."),
                number("t_max", 0.5, 0.01, 0.99, 0.01, "Highest. Higher changes more, also what was right."),
                io.Int.Input("denoising_steps", default=15, min=1, max=100, step=1, tooltip="Model calls for each video, 10 to 20."),
                io.Int.Input("every", default=10, min=1, max=10000, step=1, tooltip="Takes part in every so many steps."),
                number("begin", 0.3, 0, 1, 0.01, "Part of the stage before its first step."),
                *render_inputs(1, True),
                *direction_inputs(),
                *model_inputs(),
                *weight_inputs(1e7),
                side_input(),
            ],
            outputs=[GUIDANCE_4D.Output("guidance", tooltip="One term for a Stage.")],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, t_min, t_max, denoising_steps, every, begin, **values):
        if t_min > t_max:
            raise ValueError(f"The noise levels go from {t_min:g} to {t_max:g}. Swap them: t_min comes first.")
        term = Term(
            name=values["name"].strip() or "video refinement",
            cameras=values["cameras"],
            objective=VideoRefinement(NoiseRange(constant(t_min), constant(t_max)), denoising_steps, values["guidance_scale"]),
            scenes=values["scenes"],
            resolution=Resolution(values["height"], values["width"], values["coarse_factor"], values["coarse_until"]),
            weight=weight_of(values),
            trains=ROLES if values["train_motion"] else STILL_ROLES,
            every=every,
            begin=begin,
        )
        return io.NodeOutput(Guidance(term, prior_source("video", values | {"remarks": lora_notes(cls.hidden, values["model"])})))


NODES = [Bloom4DPerpNeg, Bloom4DReferenceViewLoss, Bloom4DVideoRefinementLoss]
