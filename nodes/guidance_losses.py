"""Guidance beyond score distillation, and what changes a guidance term from behind."""

from dataclasses import fields, replace

from comfy_api.latest import io

from .cameras import number
from .guidance import CATEGORY, Guidance, PriorSource
from .sockets import GUIDANCE_4D


def negative_inputs() -> list:
    text = "Negative prompt of pictures seen from {}, in the place of the guidance's own."
    places = (("front", "the front"), ("back", "the back, such as a prompt of its face"), ("overhead", "above"))
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
                GUIDANCE_4D.Input("guidance", tooltip="An SDS, Multi-View or Video SDS Guidance. Each entry of its negative (Conditioning Combine makes several) becomes a prompt of its own, weighted by its strength."),
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
            raise ValueError(f'Perp-Neg needs a term with prompts, and "{guidance.term.name}" has none that it could use. Connect an SDS, Multi-View or Video SDS Guidance.')
        given = [directed.get(f"negative_{name}") for name in ("front", "back", "overhead")]
        negatives = tuple(source.negative if text is None else text for text in given) if any(text is not None for text in given) else ()
        changed = replace(source, unconditional=unconditional, directed_negatives=negatives)
        return io.NodeOutput(Guidance(replace(guidance.term, objective=replace(objective, perp_neg=strength)), changed))


NODES = [Bloom4DPerpNeg]
