"""Zeroscope, ModelScope and DeepFloyd IF as native MODEL, CLIP and VAE: diffusers' networks on the host's layers.

So KSampler, LoRA, offloading and device selection work on them as on any model, and nothing is loaded behind the host's back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import comfy.latent_formats
import comfy.model_base
import comfy.model_management as mm
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import comfy.text_encoders.sd3_clip
import comfy.utils
import folder_paths
import torch
from torch import Tensor, nn

from ...models.formats import modelscope
from ...models.formats.encoder_layouts import check_whole, t5_names, text_names
from ...models.formats.foreign_unets import DEEPFLOYD, ZEROSCOPE, Wanted, check_tensors, deepfloyd_config, recognise, zeroscope_config
from ...models.networks.deepfloyd import build_deepfloyd, deepfloyd_skeleton
from ...models.networks.zeroscope import build_zeroscope, zeroscope_skeleton
from .judges import read
from .whole_vae import whole_vae

DTYPES = [torch.float16, torch.bfloat16, torch.float32]
VIDEO_GUIDANCE, PIXEL_GUIDANCE = 101.0, 21.0
"""What the references write as 100 and 20: they add c - u to c and not to u (4D-fy, Dream-in-4D)."""


class VideoLatents(comfy.latent_formats.SD15):
    """Stable Diffusion's latents of every frame: (B, 4, F, h, w), no compression in time."""

    latent_dimensions = 3


class Pixels(comfy.latent_formats.LatentFormat):
    """Pictures in [-1, 1] as they are."""

    latent_channels = 3
    spacial_downscale_ratio = 1
    latent_rgb_factors = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


class ZeroscopeModel(comfy.model_base.BaseModel):
    """The 3D UNet of Zeroscope and ModelScope."""

    bloom4d_views = False


class DeepFloydModel(comfy.model_base.BaseModel):
    """The pixel UNet of DeepFloyd IF, stage I."""

    bloom4d_views = False


@dataclass(frozen=True)
class Family:
    """What a kind of foreign model is made of, and what the host must know of it.

    `config` reads the network's arguments off a file's tensors; `skeleton` and `build` make it. `memory`: what a forward takes per
    latent pixel, in the host's unit (that of Stable Diffusion 1.5): live tensors at true size need 1.02, the rest is for kernels.
    """

    wanted: Wanted
    model: type
    config: Callable[[dict, str], dict]
    skeleton: Callable[[dict], nn.Module]
    build: Callable[..., nn.Module]
    latents: type
    sampling: dict
    memory: float
    text: str  # the argument that says how wide its text is


VIDEO = Family(ZEROSCOPE, ZeroscopeModel, zeroscope_config, zeroscope_skeleton, build_zeroscope, VideoLatents, {}, 1.5, "cross_attention_dim")
PIXEL = Family(DEEPFLOYD, DeepFloydModel, deepfloyd_config, deepfloyd_skeleton, build_deepfloyd, Pixels, {"beta_schedule": "cosine"}, 1.5, "encoder_hid_dim")


def load_zeroscope(path: str, size: tuple[int, int], disable_dynamic: bool = False):
    """The 3D UNet in the file at `path` as a host MODEL; `size`: height and width that it was trained at."""
    patcher = _load(VIDEO, path, {"guidance": VIDEO_GUIDANCE, "size": size}, disable_dynamic)
    patcher.cached_patcher_init = (load_zeroscope, (path, size))
    return patcher


def load_deepfloyd(path: str, disable_dynamic: bool = False):
    """Stage I in the file at `path` as a host MODEL on pixels of 64 x 64."""
    patcher = _load(PIXEL, path, {"guidance": PIXEL_GUIDANCE, "size": 64}, disable_dynamic)
    patcher.cached_patcher_init = (load_deepfloyd, (path,))
    return patcher


def _load(family: Family, path: str, defaults: dict, disable_dynamic: bool):
    file = Path(path).name
    tensors, _ = read(Path(path))
    if modelscope.is_original(tensors):
        tensors = modelscope.to_diffusers(tensors)
    arguments = family.config(tensors, file)
    check_tensors(tensors, family.skeleton(arguments).state_dict(), family.wanted, file)
    load_device, offload_device = mm.get_torch_device(), mm.unet_offload_device()
    model = family.model(_host_config(family, arguments, tensors, load_device), device=offload_device, unet_model=_network(family))
    model.bloom4d_defaults = defaults
    patcher_class = comfy.model_patcher.ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    patcher = patcher_class(model, load_device=load_device, offload_device=offload_device)
    model.load_model_weights(tensors, "", assign=patcher.is_dynamic())
    return patcher


def _host_config(family: Family, arguments: dict, tensors: dict[str, Tensor], device: torch.device):
    """The host's description of the model, with the dtypes that it would choose itself."""

    class Config(comfy.supported_models_base.BASE):
        unet_config = {"network": arguments, "context_dim": arguments[family.text]}
        unet_extra_config = {}
        latent_format = family.latents
        sampling_settings = family.sampling
        memory_usage_factor = family.memory
        supported_inference_dtypes = DTYPES

    config = Config(Config.unet_config)
    dtype = mm.unet_dtype(model_params=comfy.utils.calculate_parameters(tensors), supported_dtypes=DTYPES, weight_dtype=comfy.utils.weight_dtype(tensors))
    config.set_inference_dtype(dtype, mm.unet_manual_cast(dtype, device, DTYPES))
    return config


def _network(family: Family):
    """`build` under the argument names with which the host makes a network."""
    return lambda network, context_dim, dtype, device, operations: family.build(network, operations, device, dtype)


# The files beside a UNet: a folder in diffusers' layout, or the two files of ModelScope's first layout.
TEXT_FILES = ("text_encoder/model.safetensors", "text_encoder/model.fp16.safetensors", "text_encoder/pytorch_model.bin", "text_encoder/pytorch_model.fp16.bin", "open_clip_pytorch_model.bin")
VAE_FILES = ("vae/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.fp16.safetensors", "vae/diffusion_pytorch_model.bin", "vae/diffusion_pytorch_model.fp16.bin", "VQGAN_autoencoder.pth")

TEXT_ADVICE = f"Choose text_encoder/model.safetensors of the folder zeroscope_v2_576w ({ZEROSCOPE.link}, licence {ZEROSCOPE.licence}), or the text encoder of Stable Diffusion 2.1."
VAE_ADVICE = f"Choose vae/diffusion_pytorch_model.safetensors of the folder zeroscope_v2_576w ({ZEROSCOPE.link}, licence {ZEROSCOPE.licence}), or Stable Diffusion's VAE."
T5_ADVICE = "Put t5xxl_fp16.safetensors or t5xxl_fp8_e4m3fn.safetensors (Apache-2.0, https://huggingface.co/comfyanonymous/flux_text_encoders) into models/text_encoders and choose it."


def beside(path: str, names: tuple[str, ...]) -> str | None:
    """The first of these files in the model's folder; of `.../unet/file` that is the folder above. None when there is none."""
    folder = Path(path).parent
    folder = folder.parent if folder.name == "unet" else folder
    return next((str(folder / name) for name in names if (folder / name).is_file()), None)


def load_open_clip(path: str) -> comfy.sd.CLIP:
    """The text encoder of Stable Diffusion 2, Zeroscope and ModelScope (OpenCLIP ViT-H/14) as a host CLIP."""
    tensors, _ = read(Path(path))
    if not {"text_model.encoder.layers.22.mlp.fc1.weight", "transformer.resblocks.22.mlp.c_fc.weight"} & set(tensors):
        raise ValueError(f"{Path(path).name} is {recognise(tensors)} and not OpenCLIP ViT-H/14, which Zeroscope reads its prompts with. {TEXT_ADVICE}")
    check_whole(Path(path).name, tensors, text_names(tensors), "OpenCLIP ViT-H/14's text encoder", TEXT_ADVICE)
    places, kind = folder_paths.get_folder_paths("embeddings"), comfy.sd.CLIPType.STABLE_DIFFUSION
    clip = comfy.sd.load_text_encoder_state_dicts([tensors], places, kind)
    clip.patcher.cached_patcher_init = (comfy.sd.load_clip_model_patcher, ([path], places, kind, {}))
    return clip


class FrameVAE(comfy.sd.VAE):
    """A picture VAE whose decoder also takes the latents of a clip, frame by frame; the host's own keeps only the first one."""

    def decode(self, samples_in, vae_options={}):
        return super().decode(frames_of(samples_in), vae_options)

    def decode_tiled(self, samples, **options):
        return super().decode_tiled(frames_of(samples), **options)


def frames_of(latents: Tensor) -> Tensor:
    """Latents (B, C, F, h, w) of clips as those of their pictures (B * F, C, h, w); others as they are."""
    return latents.movedim(2, 1).flatten(0, 1) if latents.ndim == 5 else latents


def load_frame_vae(path: str) -> FrameVAE:
    """Stable Diffusion's VAE in the file at `path`, for pictures and clips."""
    tensors, metadata = read(Path(path))
    bare = comfy.utils.state_dict_prefix_replace(tensors, {"first_stage_model.": ""}, filter_keys=True) or tensors
    vae = whole_vae(bare, f"{Path(path).name} ({recognise(bare)})", "Zeroscope's", VAE_ADVICE, FrameVAE, metadata)
    vae.patcher.cached_patcher_init = (_frame_vae_patcher, (path,))
    return vae


def _frame_vae_patcher(path: str, disable_dynamic: bool = False):
    return load_frame_vae(path).patcher


def pixel_vae() -> comfy.sd.VAE:
    """The host's VAE that leaves pictures as they are."""
    return comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)}, dtype=torch.float32)


class _T5(comfy.text_encoders.sd3_clip.T5XXLModel):
    """T5 whose attention passes over the padding, as DeepFloyd IF was trained."""

    def __init__(self, **options):
        super().__init__(**{**options, "attention_mask": True})


class _T5Tokenizer(comfy.sd1_clip.SD1Tokenizer):
    """Prompts padded to 77 tokens."""

    def __init__(self, embedding_directory=None, tokenizer_data={}):
        super().__init__(embedding_directory, tokenizer_data, clip_name="t5xxl", tokenizer=comfy.text_encoders.sd3_clip.T5XXLTokenizer)


def load_t5(path: str) -> comfy.sd.CLIP:
    """T5-XXL (encoder, 4096 wide) as a host CLIP that encodes as DeepFloyd IF expects: 77 tokens, padding masked, no pooling."""
    tensors, _ = read(Path(path))
    found = comfy.text_encoders.sd3_clip.t5_xxl_detect(tensors)
    if not found:
        raise ValueError(f"{Path(path).name} is {recognise(tensors)} and not T5-XXL, which DeepFloyd IF reads its prompts with. {T5_ADVICE}")

    check_whole(Path(path).name, tensors, t5_names(), "T5-XXL's encoder", T5_ADVICE)

    class Encoder(comfy.sd1_clip.SD1ClipModel):
        def __init__(self, device="cpu", dtype=None, model_options={}):
            super().__init__(device=device, dtype=found.get("dtype_t5", dtype), model_options=model_options, name="t5xxl", clip_model=_T5)

    class Target:
        params = {}
        clip = Encoder
        tokenizer = _T5Tokenizer

    return comfy.sd.CLIP(Target, folder_paths.get_folder_paths("embeddings"), parameters=comfy.utils.calculate_parameters(tensors), state_dict=[tensors])
