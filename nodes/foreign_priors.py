"""Loaders of models that the host does not know: Zeroscope and ModelScope (video), DeepFloyd IF (pixels)."""

from pathlib import Path, PurePosixPath

import folder_paths
from comfy_api.latest import io

from ..models.formats.foreign_unets import DEEPFLOYD, ZEROSCOPE, Wanted
from .host import foreign
from .prior import CATEGORY

FOLDER = "diffusion_models"
AUTO = "auto"
SIZES = {"576 x 320 (Zeroscope)": (320, 576), "256 x 256 (ModelScope)": (256, 256)}
NOT_UNETS = {"text_encoder", "text_encoder_2", "vae", "safety_checker", "image_encoder"}


def unets(marks: tuple[str, ...]) -> list[str]:
    """The files of the folder diffusion_models that may be UNets, those whose path has one of `marks` first."""
    names = [name for name in folder_paths.get_filename_list(FOLDER) if not NOT_UNETS & set(parts(name))]
    return sorted(names, key=lambda name: not any(mark in name.lower() for mark in marks))


def parts(name: str) -> tuple[str, ...]:
    """The folders and the file of a name in a list of the host's."""
    return PurePosixPath(name.replace("\\", "/")).parts


def path_of(folder: str, name: str) -> str:
    """The absolute path of a listed file; ValueError when it is gone."""
    if (path := folder_paths.get_full_path(folder, name)) is None:
        raise ValueError(f"The file {name} is not in ComfyUI's folder models/{folder} any more. Put it back and press R, or choose another.")
    return path


def missing(name: str, wanted: Wanted) -> str:
    """What to do about a model that a graph names and nobody has, in one line."""
    folder = " or ".join(folder_paths.get_folder_paths(wanted.folder))
    return f'There is no file "{name}" of {wanted.title}. Get {wanted.file} ({wanted.link}, licence {wanted.licence}), put it into {folder} and press R.'


def check_file(wanted: Wanted, name: str | None) -> bool | str:
    """validate_inputs of both loaders: the host's own check says neither where a model belongs nor what it is."""
    return name is None or name in folder_paths.get_filename_list(FOLDER) or missing(name, wanted)  # None: connected, known later


def stamp(folder: str, name: str | None) -> str:
    """What changes when a file does, for the host's cache."""
    path = None if name in (None, AUTO) else folder_paths.get_full_path(folder, name)
    if path is None:
        return str(name)
    status = Path(path).stat()
    return f"{name}:{status.st_mtime_ns}:{status.st_size}"


def chosen(folder: str, name: str, model_path: str, names: tuple[str, ...]) -> str | None:
    """The path behind a widget: a listed file, or for "auto" the one beside the model, None when there is none."""
    return foreign.beside(model_path, names) if name == AUTO else path_of(folder, name)


class Bloom4DZeroscopeLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DZeroscopeLoader",
            display_name="Zeroscope Loader",
            category=CATEGORY,
            description="Loads Zeroscope v2 or ModelScope's text-to-video model as a native video MODEL, with text encoder and VAE: 4D-fy's and Dream-in-4D's motion prior (CC-BY-NC-4.0; 1.4 billion weights, 2.8 GB in half precision).",
            search_aliases=["modelscope", "text to video", "video prior", "zeroscope v2"],
            inputs=[
                io.Combo.Input("model", options=unets(("zeroscope", "modelscope", "text2video", "text-to-video")), tooltip="The 3D UNet in the folder diffusion_models: unet/diffusion_pytorch_model of the model's diffusers folder, or text2video_pytorch_model.pth."),
                io.Combo.Input("text_encoder", options=[AUTO, *folder_paths.get_filename_list("text_encoders")], default=AUTO, tooltip="OpenCLIP ViT-H/14. auto: the text_encoder in the model's folder; without one the CLIP output is empty."),
                io.Combo.Input("vae", options=[AUTO, *folder_paths.get_filename_list("vae")], default=AUTO, tooltip="Stable Diffusion's VAE. auto: the vae in the model's folder; without one the VAE output is empty."),
                io.Combo.Input("trained_at", options=list(SIZES), default=next(iter(SIZES)), tooltip="The size that guidance gives the model its pictures in, unless its model_size says otherwise. The weights do not tell."),
            ],
            outputs=[
                io.Model.Output(tooltip="A native video MODEL with latents (batch, 4, frames, height/8, width/8). Its guidance default is 101: the 100 of the reference code."),
                io.Clip.Output(tooltip="Its text encoder, the one of Stable Diffusion 2.1."),
                io.Vae.Output(tooltip="Stable Diffusion's VAE; VAE Decode gives every frame of a clip."),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, model):
        return check_file(ZEROSCOPE, model)

    @classmethod
    def fingerprint_inputs(cls, model, text_encoder, vae, **others):
        return [stamp(FOLDER, model), stamp("text_encoders", text_encoder), stamp("vae", vae)]

    @classmethod
    def execute(cls, model, text_encoder, vae, trained_at):
        path = path_of(FOLDER, model)
        text = chosen("text_encoders", text_encoder, path, foreign.TEXT_FILES)
        pictures = chosen("vae", vae, path, foreign.VAE_FILES)
        return io.NodeOutput(
            foreign.load_zeroscope(path, SIZES[trained_at]), foreign.load_open_clip(text) if text else None, foreign.load_frame_vae(pictures) if pictures else None
        )


class Bloom4DDeepFloydLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DDeepFloydLoader",
            display_name="DeepFloyd Loader",
            category=CATEGORY,
            description="Loads stage I of DeepFloyd IF (M, L or XL) as a native MODEL on pixels of 64 x 64, with T5 text encoder: Dream-in-4D's picture prior for image to 4D.",
            search_aliases=["deepfloyd", "IF-I-XL", "pixel space", "t5"],
            inputs=[
                io.Combo.Input("model", options=unets(("if-i-", "if_i_", "deepfloyd")), tooltip="The UNet of stage I in the folder diffusion_models: unet/diffusion_pytorch_model of IF-I-XL-v1.0, IF-I-L-v1.0 or IF-I-M-v1.0."),
                io.Combo.Input("text_encoder", options=[AUTO, *folder_paths.get_filename_list("text_encoders")], default=AUTO, tooltip="T5-XXL, as other models use it too (t5xxl_fp16 or t5xxl_fp8). auto: the text_encoder in the model's folder; without one the CLIP output is empty."),
            ],
            outputs=[
                io.Model.Output(tooltip="A native MODEL whose latents are pixels in [-1, 1]. Its guidance default is 21: the 20 of the reference code."),
                io.Clip.Output(tooltip="T5-XXL with DeepFloyd's padding."),
                io.Vae.Output(tooltip="The host's pixel space VAE, which leaves pictures as they are."),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, model):
        return check_file(DEEPFLOYD, model)

    @classmethod
    def fingerprint_inputs(cls, model, text_encoder, **others):
        return [stamp(FOLDER, model), stamp("text_encoders", text_encoder)]

    @classmethod
    def execute(cls, model, text_encoder):
        path = path_of(FOLDER, model)
        text = chosen("text_encoders", text_encoder, path, foreign.TEXT_FILES[:4])
        return io.NodeOutput(foreign.load_deepfloyd(path), foreign.load_t5(text) if text else None, foreign.pixel_vae())


NODES = [Bloom4DZeroscopeLoader, Bloom4DDeepFloydLoader]
