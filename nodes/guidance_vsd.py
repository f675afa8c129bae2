"""Variational score distillation: a term that learns, and what it learned as a LoRA."""

from dataclasses import dataclass, replace
from functools import partial

import torch
from comfy_api.latest import io

from ..models.guidance.variational import Variational
from ..models.networks.low_rank import lora_tensors
from .cameras import number
from .guidance import CATEGORY, Guidance, PriorSource, build
from .guidance_inputs import batch_inputs, direction_inputs, fine_inputs, level_inputs, model_inputs, option_inputs, prior_inputs, render_inputs, side_input, weight_inputs
from .host.bypass import attention_layers, embedding_width
from .host.identity import identify
from .host.loras import lora_notes
from .host.slots import IMAGE
from .host.variational import NETWORK, HostPhi, VariationalPrior
from .sockets import FIELD_4D, GUIDANCE_4D

LORA_MODEL = io.Custom("LORA_MODEL")
NOT_OF_VSD = ("decoded_weight", "denoising_steps")  # distances to the picture itself, which VSD does not measure


@dataclass(frozen=True)
class VariationalSource(PriorSource):
    """A prior and, on the same MODEL or on another one, the phi that learns the pictures."""

    phi_model: object = None
    phi_positive: list | None = None
    phi_negative: list | None = None
    rank: int = 4
    rate: float = 1e-4
    camera: bool = True

    def open(self) -> VariationalPrior:
        """See `Source`."""
        positive = self.positives[0] if self.phi_positive is None else self.phi_positive
        negative = (self.unconditional or self.negative) if self.phi_negative is None else self.phi_negative
        phi = HostPhi(self.phi_carrier, positive, negative, self.rank, self.rate, self.camera, self.tells, self.one_at_a_time)
        return self.opened(partial(VariationalPrior, phi))

    def patchers(self) -> tuple:
        """See `PriorSource`."""
        return super().patchers() if self.phi_model is None else (*super().patchers(), self.phi_model)

    def devices(self) -> tuple[torch.device, ...]:
        """See `Source`."""
        return super().devices() if self.phi_model is None else (*super().devices(), self.phi_model.load_device)

    def place(self) -> str:
        """See `Source`."""
        other = "" if self.phi_model is None else f", its phi {type(self.phi_model.model).__name__} on {self.phi_model.load_device}"
        return super().place() + other

    def notes(self) -> list[str]:
        """See `Source`."""
        heard = not self.camera or embedding_width(self.phi_carrier.model.diffusion_model)
        return super().notes() + ([] if heard else [f"{type(self.phi_carrier.model).__name__} takes no camera beside its time embedding: phi learns without the camera condition."])

    def identity(self) -> str:
        """See `Source`."""
        return identify(super().identity(), self.phi_model, self.phi_positive, self.phi_negative, self.rank, self.rate, self.camera)

    @property
    def phi_carrier(self):
        """The MODEL that phi rides on."""
        return self.model if self.phi_model is None else self.phi_model


def phi_inputs() -> list:
    return [
        io.Int.Input("lora_rank", default=4, min=1, max=128, step=1, tooltip="Rank of phi's LoRA, on query, key, value and output of every attention."),
        number("lora_rate", 1e-4, 0, 0.1, 1e-5, "Learning rate of phi, which learns the pictures in every step of this term. 0 leaves phi at the model itself: an ablation."),
        number("phi_guidance", 1.0, 0, 100, 0.1, "Phi's own guidance scale. 1: phi without guidance, as published."),
        io.Boolean.Input("camera_condition", default=True, tooltip="Let phi hear each picture's camera, by a small network beside the time embedding (UNet models)."),
        io.Int.Input("phi_samples", default=1, min=1, max=16, step=1, tooltip="Noise levels that phi learns from in every step.", advanced=True),
        io.Model.Input("phi_model", optional=True, tooltip="Another MODEL to carry phi, with the same latents: SD 2.1 (v-prediction) beside SD 2.1-base, as published. Without it phi rides on the one model, which stays as it is."),
        io.Conditioning.Input("phi_positive", optional=True, tooltip="The prompt for phi_model where it has another text encoder; otherwise phi hears the plain prompt."),
        io.Conditioning.Input("phi_negative", optional=True, tooltip="The negative prompt for phi_model where it has another text encoder."),
    ]  # fmt: skip


class Bloom4DVSDGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DVSDGuidance",
            display_name="VSD Guidance",
            category=CATEGORY,
            description="Variational score distillation from any image MODEL (ProlificDreamer, 4D-fy's image term): a LoRA learns what the pictures look like, and the field moves from there to what the model expects. Sharper and at lower guidance than SDS.",
            search_aliases=["variational score distillation", "prolificdreamer", "image guidance", "LoRA"],
            inputs=[
                *prior_inputs(), *level_inputs(0.98, 0.02, 1.0), *render_inputs(1, False), *fine_inputs("sds", "per picture", 0.0), *phi_inputs(), *direction_inputs(), *model_inputs(),
                *(option for option in option_inputs(True) if option.id not in NOT_OF_VSD), *batch_inputs(), *weight_inputs(), side_input(),
            ],
            outputs=[GUIDANCE_4D.Output("guidance", tooltip="One term for a Stage.")],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def execute(cls, lora_rank, lora_rate, phi_guidance, camera_condition, phi_samples, phi_model=None, phi_positive=None, phi_negative=None, **values):
        remarks = lora_notes(cls.hidden, values["model"]) + (() if phi_model is None else lora_notes(cls.hidden, phi_model, "phi_model"))
        plain = build(IMAGE, values | {"name": values["name"].strip() or "VSD", "remarks": remarks})
        source = VariationalSource(**vars(plain.source), phi_model=phi_model, phi_positive=phi_positive, phi_negative=phi_negative, rank=lora_rank, rate=lora_rate, camera=camera_condition)
        attention_layers(source.phi_carrier.model.diffusion_model, NETWORK)  # refuse here rather than when the stage begins
        objective = Variational(**vars(plain.term.objective), phi_guidance=phi_guidance, samples=phi_samples)
        return io.NodeOutput(Guidance(replace(plain.term, objective=objective), source))


class Bloom4DLearnedLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DLearnedLoRA",
            display_name="Learned LoRA",
            category=CATEGORY,
            description="What a VSD term learned about this field, as a LoRA for Save LoRA and Load LoRA Model. Its camera condition is no part of a LoRA and stays behind.",
            search_aliases=["export LoRA", "phi", "VSD"],
            inputs=[
                FIELD_4D.Input("field", tooltip="A field that a stage with VSD Guidance made."),
                io.String.Input("term", default="", tooltip="The name of the VSD term; empty where there is only one."),
            ],
            outputs=[
                LORA_MODEL.Output("lora", tooltip="For the MODEL that carried phi: Save LoRA, Load LoRA Model."),
                io.Int.Output("steps", tooltip="Steps that it learned in, for the file's name."),
            ],
        )

    @classmethod
    def execute(cls, field, term):
        name = learned_term(field, term.strip())
        steps = sum(history.columns["term"].count(float(history.terms.index(name))) for history in field.history if name in history.terms)
        return io.NodeOutput(lora_tensors(field.learned[name]), steps)


def learned_term(scene, wanted: str) -> str:
    """The term whose LoRA is meant; ValueError when there is none, or when it has to be named."""
    known = [name for name, values in scene.learned.items() if lora_tensors(values)]
    if wanted in known or (not wanted and len(known) == 1):
        return wanted or known[0]
    if not known:
        raise ValueError("This field has learned no LoRA. Connect a field that an optimiser made with VSD Guidance among its terms.")
    raise ValueError(f'Which term\'s LoRA is meant: {", ".join(known)}? Write one of these names into term{f"; {wanted!r} is none of them" if wanted else ""}.')


NODES = [Bloom4DVSDGuidance, Bloom4DLearnedLoRA]
