"""Real multi-view priors as native models: MVDream from words, Zero123 from a picture, and what Zero123 is told."""

import torch
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..models.formats.model_files import MVDREAM, ZERO123
from ..models.networks.zero123 import Framing, Reference
from .cameras import number
from .host import mvdream, weights, zero123
from .host.content import ends_of

CATEGORY = "4d/prior"
NO_TEXT = (
    "{} holds no text encoder. Connect the CLIP of Stable Diffusion 2.1 in its place: the host's Load Checkpoint with v2-1_512-ema-pruned.safetensors, "
    "or Load CLIP (type stable_diffusion) with its text encoder. Or choose sd-v2.1-base-4view.pt, which has one."
)
NO_VAE = "{} holds no VAE. Connect Stable Diffusion's in its place: the host's Load VAE with vae-ft-mse-840000-ema-pruned.safetensors. Or choose sd-v2.1-base-4view.pt, which has one."
NO_VISION = "{} holds no image encoder. Connect CLIP ViT-L/14 in its place, by the host's Load CLIP Vision. Or choose zero123-xl.ckpt, which has one."
BY_NAME = "by the file's name"
VERSIONS = (BY_NAME, "Zero123-XL", "Stable Zero123")


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


class Bloom4DZero123Loader(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        text = "What the last number of a pose means to the weights, which no tensor tells: the change of distance (Zero123-XL and the first Zero123) or the elevation of the reference (Stable Zero123). By name: Stable Zero123 where the file's name says stable."
        return io.Schema(
            node_id="Bloom4DZero123Loader",
            display_name="Zero123 Loader",
            category=CATEGORY,
            description="Loads Zero123-XL or Stable Zero123 as a native MODEL: it draws an object that one picture shows from any other side. SDS Guidance with Zero123 Condition makes a 3D prior of it.",
            search_aliases=["zero-1-to-3", "stable zero123", "image to 3D", "novel view"],
            inputs=[
                checkpoint_input(ZERO123, "Stable Zero123: stable_zero123.ckpt, non-commercial, and stable_zero123_c.ckpt, Stability AI Community License."),
                io.Combo.Input("version", options=list(VERSIONS), default=BY_NAME, tooltip=text),
            ],
            outputs=[
                io.Model.Output(tooltip="Give it Zero123 Condition. Its guidance of 3, its size of 256 and its white background travel with it."),
                io.ClipVision.Output(tooltip="Its image encoder, CLIP ViT-L/14, for Zero123 Condition."),
                io.Vae.Output(tooltip="Its VAE, Stable Diffusion's."),
            ],
        )

    @classmethod
    def validate_inputs(cls, checkpoint):
        return weights.check_listed(checkpoint, ZERO123)

    @classmethod
    def fingerprint_inputs(cls, checkpoint, **kwargs):
        return ends_of(weights.checkpoint_path(checkpoint, ZERO123))

    @classmethod
    def execute(cls, checkpoint, version):
        stable = "stable" in checkpoint.lower() if version == BY_NAME else version == VERSIONS[2]
        model, vision, vae = zero123.load(str(weights.checkpoint_path(checkpoint, ZERO123)), stable)
        return io.NodeOutput(model, or_blocked(vision, NO_VISION, checkpoint), or_blocked(vae, NO_VAE, checkpoint))


class Bloom4DZero123Condition(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DZero123Condition",
            display_name="Zero123 Condition",
            category=CATEGORY,
            description="Shows Zero123 its reference picture, and tells from where it was taken. Guidance adds the pose of every random camera; for KSampler put Camera Time Condition behind it.",
            search_aliases=["image to 3D", "reference image", "novel view"],
            inputs=[
                io.ClipVision.Input("clip_vision", tooltip="The image encoder of the same loader (CLIP ViT-L/14)."),
                io.Vae.Input("vae", tooltip="The VAE of the same loader."),
                io.Image.Input("image", tooltip="One picture of the whole object, best square with the object in its middle. It is put on white and padded to a square of 256 x 256."),
                number("elevation", 0.0, -90, 90, 0.1, "How far above the horizon the reference was taken from, degrees."),
                number("azimuth", 0.0, -180, 180, 0.1, "From which side, degrees: 0 is the object's front, 90 its left side (+X)."),
                number("distance", 3.8, 0.1, 100, 0.01, "From how far, in the scene's units. Zero123-XL is told the change of distance; Stable Zero123 is not."),
                io.Mask.Input("mask", optional=True, tooltip="1 on the object; Load Image gives the inverse. Without it the picture's alpha is used, and a picture without alpha must stand on white."),
            ],
            outputs=[
                io.Conditioning.Output("positive_out", display_name="positive", tooltip="For a Zero123 MODEL only: it reads pictures, not words."),
                io.Conditioning.Output("negative_out", display_name="negative", tooltip="No picture at all, the other end of its guidance."),
            ],
        )

    @classmethod
    def execute(cls, clip_vision, vae, image, elevation, azimuth, distance, mask=None):
        if len(image) != 1 or mask is not None and len(mask) != 1:
            raise ValueError(f"Zero123 looks at one picture, and {len(image)} came with {0 if mask is None else len(mask)} masks. Pick one, for example with Image From Batch.")
        picture = Framing().composite(image[0], None if mask is None else mask[0])
        embedding, latent = zero123.reference_token(clip_vision, vae, picture)
        reference = Reference(elevation, azimuth, distance)
        seen = zero123.posed({"cross_attn": embedding, "bloom4d_reference": reference}, stable=True)["cross_attn"]  # as the host's own class reads it
        positive = [[seen, {"concat_latent_image": latent, "bloom4d_reference": tuple(reference)}]]
        negative = [[torch.zeros_like(embedding), {"concat_latent_image": torch.zeros_like(latent)}]]
        return io.NodeOutput(positive, negative)


NODES = [Bloom4DMVDreamLoader, Bloom4DZero123Loader, Bloom4DZero123Condition]
