"""The embedded prior's nodes: its loader, what it is told beside text, and its pictures with alpha."""

import comfy.model_management
import folder_paths
import torch
from comfy_api.latest import io

from ..models.geometry.cameras import CameraPath, Cameras, CameraSampler
from ..models.networks.patch_codec import key_white
from ..models.networks.prior_conditioning import thumbnail
from .host.content import content_of
from .host.paths import MODEL_FOLDER
from .host.prior import load_clip, load_model, load_vae
from .host.shipped import shipped_file
from .sockets import CAMERAS_4D

EMBEDDED = "embedded_prior.safetensors"
CATEGORY = "4d/prior"
TOLD = ["absolute", "relative", "none"]


def prior_files() -> list[str]:
    """The shipped prior and whatever lies in the host's `bloom4d` model folder."""
    own = folder_paths.get_filename_list(MODEL_FOLDER) if MODEL_FOLDER in folder_paths.folder_names_and_paths else []
    return [EMBEDDED, *(name for name in own if name != EMBEDDED)]


def prior_path(name: str) -> str:
    """Absolute path of a prior file; ValueError when it is gone."""
    if name == EMBEDDED:
        return str(shipped_file(EMBEDDED))
    if (path := folder_paths.get_full_path(MODEL_FOLDER, name)) is None:
        raise ValueError(unknown_prior(name))
    return path


def unknown_prior(name: str) -> str:
    """What to do about a prior that a graph names and nobody has, in one line."""
    folder = " or ".join(folder_paths.get_folder_paths(MODEL_FOLDER))
    return (f"There is no prior file {name}. Put it into {folder} and press R, or choose {EMBEDDED}. "
            "It is no file of Bloom4D: whoever made this graph knows its licence and where to get it.")


class Bloom4DEmbeddedPriorLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DEmbeddedPriorLoader",
            display_name="Embedded Prior Loader",
            category=CATEGORY,
            description="Loads the small prior that comes with Bloom4D: a demo that knows seven procedural phenomena at 64 x 64 in every role (image, four views, video, from a clean frame). Swap it for any host loader to use a real model.",
            search_aliases=["demo model", "joint prior", "load prior"],
            inputs=[
                io.Combo.Input("prior", options=prior_files(), default=EMBEDDED, tooltip="The shipped demo prior, or a file that `launch.py train prior` wrote, from the model folder bloom4d."),
            ],
            outputs=[
                io.Model.Output(tooltip="A native MODEL: KSampler, LoRA, ControlNet and every guidance node take it."),
                io.Clip.Output(tooltip="Its text encoder. Words outside the seven phenomena mean little to it."),
                io.Vae.Output(tooltip="Its patch codec: pictures over white; Decode RGBA gives the alpha."),
            ],
        )

    @classmethod
    def validate_inputs(cls, prior):
        """In the place of the host's check, which says neither where a file belongs nor what it is."""
        return True if prior is None or prior in prior_files() else unknown_prior(prior)  # None: connected, known later

    @classmethod
    def fingerprint_inputs(cls, prior, **kwargs):
        return content_of(prior_path(prior))

    @classmethod
    def execute(cls, prior):
        path = prior_path(prior)
        return io.NodeOutput(load_model(path), load_clip(path), load_vae(path))


def resolve_cameras(cameras) -> Cameras:
    """Concrete cameras of whatever travels on CAMERAS_4D: cameras, a path, or one fixed draw of a sampler."""
    if isinstance(cameras, CameraPath):
        return cameras.cameras()
    if isinstance(cameras, CameraSampler):
        return cameras.sample(torch.Generator().manual_seed(0))
    return cameras


def with_values(conditioning: list, values: dict) -> list:
    """The conditioning with `values` set on a copy of every entry."""
    return [[entry[0], {**entry[1], **values}] for entry in conditioning]


class Bloom4DCameraTimeCondition(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DCameraTimeCondition",
            display_name="Camera Time Condition",
            category=CATEGORY,
            description="Tells a camera- and time-aware prior where each picture of a batch is seen from and when. The pictures of a scene are denoised jointly.",
            search_aliases=["multi-view", "camera conditioning", "time conditioning"],
            inputs=[
                io.Conditioning.Input("positive", tooltip="The prompt's conditioning."),
                io.Conditioning.Input("negative", tooltip="The negative prompt's conditioning; it gets the same cameras and times."),
                CAMERAS_4D.Input("cameras", tooltip="A camera path, one camera per picture. The empty latent's batch size must be the number of cameras."),
                io.Int.Input("joint_frames", default=0, min=0, max=64, step=1, tooltip="Pictures per jointly denoised scene. 0: all cameras are one scene. 1: every picture for itself."),
                io.Combo.Input("camera", options=TOLD, default="absolute", tooltip="absolute: as seen from the object's front. relative: as differences to the clean frame (or the first). none: the prior chooses."),
                io.Combo.Input("time", options=TOLD, default="absolute", tooltip="absolute: the stage from 0 to 1. relative: as differences to the clean frame (or the first), so that the prior chooses the start. none: any stage."),
            ],
            outputs=[io.Conditioning.Output("positive_out", display_name="positive"), io.Conditioning.Output("negative_out", display_name="negative")],
        )

    @classmethod
    def execute(cls, positive, negative, cameras, joint_frames, camera, time):
        path = resolve_cameras(cameras)
        frames = joint_frames or len(path)
        if len(path) % frames:
            raise ValueError(f"{len(path)} cameras are no whole number of scenes of {frames} frames. Set joint_frames to a divisor of {len(path)}, or to 0.")
        values = {"bloom4d_frames": frames}
        if camera != "none":
            values |= {"bloom4d_camera": path.camera_to_world, "bloom4d_camera_frame": camera}
        if time != "none":
            values |= {"bloom4d_time": path.times, "bloom4d_time_frame": time}
        return io.NodeOutput(with_values(positive, values), with_values(negative, values))


class Bloom4DCleanFrameCondition(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DCleanFrameCondition",
            display_name="Clean Frame Condition",
            category=CATEGORY,
            description="Gives some frames of each scene as they are, without noise: image-to-view and image-to-video with the embedded prior. Connect Camera Time Condition too.",
            search_aliases=["image to view", "image to video", "reference image"],
            inputs=[
                io.Conditioning.Input("positive", tooltip="The prompt's conditioning; an empty prompt leaves all to the picture."),
                io.Conditioning.Input("negative", tooltip="The negative prompt's conditioning; it gets the same picture."),
                io.Vae.Input("vae", tooltip="The VAE of the Embedded Prior Loader."),
                io.Image.Input("image", tooltip="One picture per given frame; resized to 64 x 64. Without a mask its white background counts as empty."),
                io.Int.Input("first_frame", default=0, min=0, max=63, step=1, tooltip="Frame number, within its scene, of the first given picture; further pictures follow it."),
                io.Mask.Input("mask", optional=True, tooltip="What belongs to the object, one mask per picture."),
            ],
            outputs=[io.Conditioning.Output("positive_out", display_name="positive"), io.Conditioning.Output("negative_out", display_name="negative")],
        )

    @classmethod
    def execute(cls, positive, negative, vae, image, first_frame, mask=None):
        codec = rgba_codec(vae)
        pictures = premultiplied(image, mask, 64)
        index = list(range(first_frame, first_frame + len(pictures)))
        clean = {"latents": codec.encode(pictures), "index": index, "thumbnail": thumbnail(pictures[:1])}
        return io.NodeOutput(with_values(positive, {"bloom4d_clean": clean}), with_values(negative, {"bloom4d_clean": clean}))


def rgba_codec(vae):
    """The patch codec behind `vae`, loaded on its device; ValueError for any other VAE."""
    codec = vae.first_stage_model
    if not getattr(codec, "accepts_alpha", False):
        raise ValueError(f"This VAE ({type(codec).__name__}) has no alpha. Connect the VAE of the Embedded Prior Loader, or use VAE Decode.")
    comfy.model_management.load_models_gpu([vae.patcher])
    return codec


def premultiplied(image: torch.Tensor, mask: torch.Tensor | None, size: int) -> torch.Tensor:
    """IMAGE (B, H, W, C) and MASK (B, H, W) to premultiplied RGBA (B, 4, size, size)."""
    channels = image.movedim(-1, 1).float()
    if mask is not None:
        alpha = torch.nn.functional.interpolate(mask[:, None].float(), image.shape[1:3], mode="bilinear", align_corners=False)
        picture = torch.cat([channels[:, :3] * alpha, alpha.expand(len(image), -1, -1, -1)], dim=1)
    elif channels.shape[1] == 4:
        picture = torch.cat([channels[:, :3] * channels[:, 3:], channels[:, 3:]], dim=1)
    else:
        picture = key_white(channels)
    return torch.nn.functional.interpolate(picture, (size, size), mode="bilinear", align_corners=False, antialias=True)


class Bloom4DDecodeRGBA(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DDecodeRGBA",
            display_name="Decode RGBA",
            category=CATEGORY,
            description="Decodes latents of the embedded prior to a picture over a flat background and its alpha as a mask.",
            search_aliases=["alpha", "transparent", "VAE decode"],
            inputs=[
                io.Latent.Input("samples", tooltip="Latents of the embedded prior."),
                io.Vae.Input("vae", tooltip="The VAE of the Embedded Prior Loader."),
                io.Float.Input("background", default=1.0, min=0.0, max=1.0, step=0.01, tooltip="Grey level behind the object: 1 white, 0 black."),
            ],
            outputs=[io.Image.Output(tooltip="Over the background."), io.Mask.Output(tooltip="Alpha: 1 inside the object.")],
        )

    @classmethod
    def execute(cls, samples, vae, background):
        codec, latents = rgba_codec(vae), samples["samples"]
        if latents.ndim != 4 or latents.shape[1] != codec.config.channels:
            raise ValueError(f"The latents are {' x '.join(map(str, latents.shape))}, this VAE decodes batch x {codec.config.channels} x height x width. Connect latents of the Embedded Prior Loader's MODEL.")
        picture = codec.decode_rgba(latents.to(codec.mean))
        alpha = picture[:, 3]
        over = picture[:, :3] + (1 - alpha[:, None]) * background
        return io.NodeOutput(over.movedim(1, -1).cpu(), alpha.cpu())


NODES = [Bloom4DEmbeddedPriorLoader, Bloom4DCameraTimeCondition, Bloom4DCleanFrameCondition, Bloom4DDecodeRGBA]
