"""Loaders of real multi-view priors as native models: MVDream."""

from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..models.formats.model_files import MVDREAM
from .host import mvdream, weights
from .host.content import ends_of

CATEGORY = "4d/prior"
NO_TEXT = (
    "{} holds no text encoder. Connect the CLIP of Stable Diffusion 2.1 in its place: the host's Load Checkpoint with v2-1_512-ema-pruned.safetensors, "
    "or Load CLIP (type stable_diffusion) with its text encoder. Or choose sd-v2.1-base-4view.pt, which has one."
)
NO_VAE = "{} holds no VAE. Connect Stable Diffusion's in its place: the host's Load VAE with vae-ft-mse-840000-ema-pruned.safetensors. Or choose sd-v2.1-base-4view.pt, which has one."


def checkpoint_input(known, more: str) -> io.Combo.Input:
    text = f"A file from checkpoints (or a single UNet from diffusion_models, or unet/ of a folder in diffusers). {known.title} is {known.file}, licence {known.licence}. {more}"
    return io.Combo.Input("checkpoint", options=weights.options(known), tooltip=text)


def or_blocked(part, message: str, name: str):
    """`part`, or what stops a node that it is connected to with a message that says what to connect."""
    return ExecutionBlocker(message.format(name)) if part is None else part


class Bloom4DMVDreamLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DMVDreamLoader",
            display_name="MVDream Loader",
            category=CATEGORY,
            description="Loads MVDream as a native MODEL: Stable Diffusion 2.1 that draws four views of one object together. KSampler, LoRA, ControlNet and every guidance node take it; Multi-View Guidance is what it is for.",
            search_aliases=["multi-view diffusion", "sd-v2.1-base-4view", "load mvdream", "3D prior"],
            inputs=[checkpoint_input(MVDREAM, "Read in the original layout and in that of diffusers.")],
            outputs=[
                io.Model.Output(tooltip="Batches are groups of four views: connect Camera Time Condition in front of KSampler, or a Camera Sampler with 4 views to Multi-View Guidance."),
                io.Clip.Output(tooltip="Its text encoder (OpenCLIP-H, that of Stable Diffusion 2.1)."),
                io.Vae.Output(tooltip="Its VAE, Stable Diffusion's."),
            ],
        )

    @classmethod
    def validate_inputs(cls, checkpoint):
        return weights.check_listed(checkpoint, MVDREAM)

    @classmethod
    def fingerprint_inputs(cls, checkpoint, **kwargs):
        return ends_of(weights.checkpoint_path(checkpoint, MVDREAM))

    @classmethod
    def execute(cls, checkpoint):
        model, clip, vae = mvdream.load(str(weights.checkpoint_path(checkpoint, MVDREAM)))
        return io.NodeOutput(model, or_blocked(clip, NO_TEXT, checkpoint), or_blocked(vae, NO_VAE, checkpoint))


NODES = [Bloom4DMVDreamLoader]
