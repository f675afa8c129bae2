"""Guidance terms: a prior, what it looks at, and how its opinion becomes a gradient."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from comfy_api.latest import io

from ..models.guidance.distillation import Distillation
from ..models.guidance.schedules import NoiseRange, Schedule
from ..models.optimize.stages import ROLES, STILL_ROLES, Term
from .cameras import number
from .guidance_inputs import EVERYTHING, SHARING_LABELS, TOLD, alone_input, batch_inputs, by_direction, direction_inputs, fine_inputs, level_inputs, model_inputs, option_inputs, prior_inputs, render_inputs, side_input, sizes_of, weight_inputs, weight_of
from .host.conditions import APART
from .host.drawing import DrawingPrior
from .host.identity import identify
from .host.loras import lora_notes
from .host.slots import check_slot, clip_frames, slot_notes, takes_clips
from .sockets import GUIDANCE_4D

CATEGORY = "4d/guidance"


class Source(Protocol):
    """Where a term's judge comes from: host objects or pictures, opened for the length of a run."""

    def open(self) -> AbstractContextManager:
        """A context manager around the judge that the term's objective asks."""

    def devices(self) -> tuple[torch.device, ...]:
        """Where it computes."""

    def place(self) -> str:
        """The same in words; empty for a judge that computes nothing of its own."""

    def notes(self) -> list[str]:
        """What there is to say to the user about it, each once."""

    def identity(self) -> str:
        """A fingerprint of everything that its opinion depends on."""


@dataclass(frozen=True)
class PriorSource:
    """Where a term's prior comes from: host objects, opened for the length of a run."""

    model: object
    vae: object
    positives: tuple[list, ...]  # in the order of `directions.DIRECTIONS`; one is enough
    negative: list
    one_at_a_time: bool = False
    size: int = 0  # side of the pictures that the model gets; 0: its own
    tells: tuple[str, ...] = TOLD[EVERYTHING]
    unconditional: list | None = None  # the empty prompt of Perp-Neg, beside which the negatives are prompts of their own
    directed_negatives: tuple[list, ...] = ()  # front, back, overhead and perhaps side
    frames: int = 0  # pictures of a clip for a video MODEL; 0: all of a call
    remarks: tuple[str, ...] = ()  # what there is to say about the MODEL in its place

    def open(self) -> DrawingPrior:
        """A context manager that gives the model back to the host."""
        return self.opened(DrawingPrior)

    def opened(self, kind: Callable) -> DrawingPrior:
        """A prior of `kind`, which takes what `DrawingPrior` takes."""
        size = (self.size, self.size) if self.size else None
        plain = self.unconditional is None
        empty, negatives = (self.negative, ()) if plain else (self.unconditional, (self.negative, *self.directed_negatives))
        return kind(self.model, self.vae, self.positives, empty, size, self.tells, self.one_at_a_time, negatives=negatives, frames=self.frames)

    def patchers(self) -> tuple:
        """The host's handles on the networks that it asks."""
        return self.model, self.vae.patcher

    def devices(self) -> tuple[torch.device, ...]:
        """Where the MODEL and its VAE compute: the host's choice, or that of its Select Device nodes."""
        return self.model.load_device, self.vae.device

    def place(self) -> str:
        """The same in words."""
        model, vae, *_ = self.devices()
        return f"{type(self.model.model).__name__} on {model}, its VAE on {vae}"

    def notes(self) -> list[str]:
        """What there is to say about the MODEL, and what the text encoder had to say about the prompts, each once."""
        return list(dict.fromkeys([*self.remarks, *(entry[1]["bloom4d_note"] for text in self.positives for entry in text if "bloom4d_note" in entry[1])]))

    def identity(self) -> str:
        """A fingerprint of weights, patches, prompts, picture size and of what the model is told."""
        texts = (self.positives, self.negative, self.unconditional, self.directed_negatives)
        clips = [self.frames] if takes_clips(self.model) else []
        return identify(self.model, self.vae.patcher, *texts, self.size, self.tells, *clips)


@dataclass(frozen=True)
class Guidance:
    """What travels on GUIDANCE_4D."""

    term: Term
    source: Source


def build(kind: str, values: dict, motion: float = 1.0) -> Guidance:
    """The term and its prior from a node's inputs."""
    moving = values.get("anneal_from", 0.0), values["anneal_until"]
    low = Schedule(values["t_min_start"], values["t_min_end"], *moving)
    high = Schedule(values["t_max_start"], values["t_max_end"], *moving)
    distillation = Distillation(
        weighting=values["weighting"],
        guidance=values["guidance_scale"],
        rescale=values["rescale"],
        levels=NoiseRange(low, high),
        level_per=SHARING_LABELS[values["noise_level"]],
        motion=motion,
        clip=values["clip"],
        decoded=values.get("decoded_weight", 0.0),
        denoising_steps=values.get("denoising_steps", 1),
        antithetic=values.get("antithetic", False),
        skip_azimuth=values.get("skip_azimuth", 180.0),
    )
    term = Term(
        name=values["name"].strip() or kind,
        cameras=values["cameras"],
        objective=distillation,
        **sizes_of(values),
        weight=weight_of(values),
        trains=ROLES if values["train_motion"] else STILL_ROLES,
    )
    return Guidance(term, prior_source(kind, values))


def prior_source(slot: str, values: dict) -> PriorSource:
    """The prior of a guidance node's inputs in its place (`host.slots`); ValueError without random cameras, or for a MODEL that does not belong there."""
    if not hasattr(values["cameras"], "sample"):
        raise ValueError("Guidance draws new cameras at every step: connect a Camera Sampler, not a Camera Path.")
    if values["negative"] is None or values["positive"] is None:
        raise ValueError('A prompt is missing: the positive or the negative conditioning is empty. Connect a CLIP Text Encode to each; an empty negative prompt ("") is enough.')
    positives = by_direction(values["positive"], values, "positive")
    model, cameras = values["model"], values["cameras"]
    check_slot(slot, model, cameras, max(values["scenes"], values.get("coarse_scenes", 0), values.get("half_scenes", 0)))
    place = {"frames": clip_frames(slot, cameras), "remarks": (*slot_notes(slot, model, cameras), *values.get("remarks", ()))}
    return PriorSource(model, values["vae"], positives, values["negative"], values.get("save_memory", False), values["model_size"], tells_of(values), **place)


def tells_of(values: dict) -> tuple[str, ...]:
    """What the model hears beside its pictures."""
    return TOLD[values.get("told", EVERYTHING)] + ((APART,) if values.get("each_alone") else ())


class Bloom4DSDSGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DSDSGuidance",
            display_name="SDS Guidance",
            category=CATEGORY,
            description="Score distillation from any image MODEL: every picture is judged for itself (4D-fy's image term).",
            search_aliases=["score distillation", "dreamfusion", "image guidance"],
            inputs=[*prior_inputs(), *level_inputs(0.98, 0.02, 1.0), *render_inputs(1, False), *fine_inputs("sds", "per picture", 0.0), *direction_inputs(), *model_inputs(), *option_inputs(True), alone_input(), *batch_inputs(), *weight_inputs(), side_input()],
            outputs=[GUIDANCE_4D.Output("guidance", tooltip="One term for a Stage.")],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, **values):
        return io.NodeOutput(build("image", values | {"remarks": lora_notes(cls.hidden, values["model"])}))


class Bloom4DMultiViewGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DMultiViewGuidance",
            display_name="Multi-View Guidance",
            category=CATEGORY,
            description="Distillation from a MODEL that denoises several views jointly, in reconstruction form with rescaling (MVDream, 4D-fy's 3D term).",
            search_aliases=["mvdream", "3D guidance", "joint views"],
            inputs=[*prior_inputs(), *level_inputs(0.5, 0.98, 0.8), *render_inputs(1, False), *fine_inputs("recon", "whole batch", 0.5), *model_inputs(), *option_inputs(), *batch_inputs(), *weight_inputs()],
            outputs=[GUIDANCE_4D.Output("guidance", tooltip="One term for a Stage.")],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, **values):
        return io.NodeOutput(build("multi-view", values | {"remarks": lora_notes(cls.hidden, values["model"])}))


class Bloom4DVideoSDSGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        amplification = number("motion_amplification", 1.0, 0, 100, 0.1, "Factor on each frame's deviation from the mean over frames; above 1 asks for more motion (30 with VideoCrafter2).")
        return io.Schema(
            node_id="Bloom4DVideoSDSGuidance",
            display_name="Video SDS Guidance",
            category=CATEGORY,
            description="Score distillation from a video MODEL: one noise level per video, and the term that teaches motion (4D-fy's video term).",
            search_aliases=["video guidance", "motion", "text to video"],
            inputs=[
                *prior_inputs(), amplification, *level_inputs(0.98, 0.02, 1.0), *render_inputs(1, True), *fine_inputs("sds", "per scene", 0.0), *direction_inputs(), *model_inputs(),
                *option_inputs(), *batch_inputs(), *weight_inputs(), side_input(),
            ],
            outputs=[GUIDANCE_4D.Output("guidance", tooltip="One term for a Stage.")],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def execute(cls, motion_amplification, **values):
        return io.NodeOutput(build("video", values | {"remarks": lora_notes(cls.hidden, values["model"])}, motion_amplification))


NODES = [Bloom4DSDSGuidance, Bloom4DMultiViewGuidance, Bloom4DVideoSDSGuidance]
