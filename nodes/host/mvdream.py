"""MVDream as a host MODEL: the host's own Stable Diffusion UNet, four views attending to each other, and a camera embedding.

KSampler, LoRA, ControlNet, offloading and device selection work on it as on any model. Cameras arrive as keys on CONDITIONING
(`bloom4d_camera`, `bloom4d_frames`). Without them, and for scenes of one picture, it is the plain 2D model that it also is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import comfy.conds
import comfy.model_base
import comfy.model_detection
import comfy.model_management as mm
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import comfy.utils
import folder_paths
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor, nn

from ...models.formats.encoder_layouts import check_whole, text_names
from ...models.formats.model_files import CAMERA, MVDREAM, camera_embedding, check_unet, foreign_kind, kind_of, unet_names
from ...models.networks.mvdream import camera_code, joined, views_at_once
from .judges import read
from .prior import scene_length
from .weights import folder, part_of
from .whole_vae import whole_vae

DEFAULTS = {"guidance": 50.0, "size": 256}
"""What travels with the model: MVDream's guidance in distillation, and the size that it was trained at."""


class MultiViewUNet(UNetModel):
    """The host's UNet whose self-attention spans `bloom4d_views` consecutive pictures and that knows where they are seen from."""

    def __init__(self, *args, device=None, operations=None, **kwargs):
        super().__init__(*args, device=device, operations=operations, **kwargs)
        width = 4 * self.model_channels
        self.camera_embed = nn.Sequential(
            operations.Linear(CAMERA, width, dtype=self.dtype, device=device), nn.SiLU(), operations.Linear(width, width, dtype=self.dtype, device=device)
        )

    def forward(self, x, timesteps=None, context=None, y=None, control=None, transformer_options={}, bloom4d_views=1, bloom4d_camera=None, **kwargs):
        options = dict(transformer_options)
        if bloom4d_camera is not None:
            known = options.get("patches", {})
            options["patches"] = {**known, "emb_patch": [*known.get("emb_patch", []), self._camera_patch(bloom4d_camera)]}
        if bloom4d_views > 1:
            known = options.get("patches_replace", {})
            options["patches_replace"] = {**known, "attn1": self._joint_attention(bloom4d_views) | known.get("attn1", {})}  # a user's own patch of a block wins
        return super().forward(x, timesteps, context, y, control, options, **kwargs)

    def _camera_patch(self, camera: Tensor):
        return lambda embedding, channels, options: embedding + self.camera_embed(camera.to(embedding))

    def _joint_attention(self, views: int) -> dict:
        def attend(q, k, v, extra):
            whole = (joined(part, views) for part in (q, k, v))
            return optimized_attention(*whole, extra["n_heads"], attn_precision=extra.get("attn_precision"), transformer_options=extra).reshape(q.shape)

        stages = ("input", len(self.input_blocks)), ("middle", 1), ("output", len(self.output_blocks))
        return {(stage, index): attend for stage, blocks in stages for index in range(blocks)}


class MVDreamModel(comfy.model_base.BaseModel):
    """BaseModel that turns the keys on CONDITIONING into MVDream's camera codes and groups of views."""

    bloom4d_defaults = DEFAULTS

    def __init__(self, config, device=None):
        super().__init__(config, comfy.model_base.ModelType.EPS, device=device, unet_model=MultiViewUNet)

    def extra_conds(self, **kwargs):
        out = super().extra_conds(**kwargs)
        views = views_at_once(scene_length(kwargs), kwargs.get("bloom4d_time"))
        out["bloom4d_views"] = comfy.conds.CONDConstant(views)
        poses = kwargs.get("bloom4d_camera")
        if views > 1 and poses is not None:  # its 2D training had no cameras
            codes = comfy.utils.repeat_to_batch_size(camera_code(poses.float()), kwargs["noise"].shape[0])
            out["bloom4d_camera"] = comfy.conds.CONDRegular(codes.to(kwargs["device"]))
        return out


@dataclass(frozen=True)
class Parts:
    """What a checkpoint holds, as tensors: the UNet by ldm names, text encoder and VAE as the host's loaders take them; empty where it has none."""

    unet: dict[str, Tensor]
    text: dict[str, Tensor]
    vae: dict[str, Tensor]
    vae_file: str


def read_parts(path: str) -> Parts:
    """The parts of an MVDream checkpoint (ldm, diffusers, or a diffusers folder's UNet); ValueError in one line for any other file."""
    file = Path(path)
    tensors, _ = read(file)
    if kind := foreign_kind(tensors, MVDREAM):
        raise ValueError(f"{file.name} is {kind}. {MVDREAM.wanted(folder())}")
    names = unet_names(tensors.keys())
    if not names:
        raise ValueError(f"{file.name} {kind_of(tensors)}. {MVDREAM.wanted(folder())}")
    unet = {ldm: tensors[name] for name, ldm in names.items()}
    check_unet(file.name, {name: tuple(value.shape) for name, value in unet.items()}, MVDREAM, camera_embedding, folder())
    text, text_file = part_of(tensors, file, "text_encoder", "cond_stage_model.model.", "cond_stage_model.transformer.", "text_encoder.")
    if text:
        check_whole(text_file, text, text_names(text), "MVDream's text encoder", MVDREAM.wanted(folder()))
    return Parts(unet, text, *part_of(tensors, file, "vae", "first_stage_model.", "vae."))


def load(path: str) -> tuple:
    """(MODEL, CLIP or None, VAE or None) of the MVDream checkpoint at `path`, which is read once."""
    parts = read_parts(path)
    return _model(parts, path), _clip(parts, path), _vae(parts, path)


def load_model(path: str, disable_dynamic: bool = False):
    """Its MODEL alone."""
    return _model(read_parts(path), path, disable_dynamic)


def load_clip_patcher(path: str, disable_dynamic: bool = False):
    """Its CLIP's patcher alone, for copies on other devices."""
    return _clip(read_parts(path), path, disable_dynamic).patcher


def load_vae_patcher(path: str, disable_dynamic: bool = False):
    """Its VAE's patcher alone."""
    return _vae(read_parts(path), path).patcher


def _model(parts: Parts, path: str, disable_dynamic: bool = False):
    detected = comfy.model_detection.detect_unet_config(parts.unet, "")
    base = comfy.supported_models.SD20 if detected["use_linear_in_transformer"] else comfy.supported_models.SD15
    config = base(detected)
    load_device, offload_device = set_dtype(config, parts.unet), mm.unet_offload_device()
    model = MVDreamModel(config, device=offload_device)
    return patched(model, parts.unet, load_device, offload_device, (load_model, (path,)), disable_dynamic)


def set_dtype(config, weights: dict[str, Tensor]) -> torch.device:
    """Give `config` the number type that the host chooses for such weights, as its own loader does; returns the device to load to."""
    device, supported = mm.get_torch_device(), list(config.supported_inference_dtypes)
    dtype = mm.unet_dtype(model_params=comfy.utils.calculate_parameters(weights), supported_dtypes=supported, weight_dtype=comfy.utils.weight_dtype(weights))
    config.set_inference_dtype(dtype, mm.unet_manual_cast(dtype, device, supported), device=device)
    return device


def patched(model, weights: dict[str, Tensor], load_device, offload_device, again: tuple, disable_dynamic: bool):
    """`model` with its weights as the host's MODEL; `again` builds it anew."""
    kind = comfy.model_patcher.ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    patcher = kind(model, load_device=load_device, offload_device=offload_device)
    model.load_model_weights(dict(weights), "", assign=patcher.is_dynamic())
    patcher.cached_patcher_init = again
    return patcher


def _clip(parts: Parts, path: str, disable_dynamic: bool = False):
    if not parts.text:
        return None
    words = folder_paths.get_folder_paths("embeddings")
    clip = comfy.sd.load_text_encoder_state_dicts([dict(parts.text)], embedding_directory=words, disable_dynamic=disable_dynamic)
    clip.patcher.cached_patcher_init = (load_clip_patcher, (path,))
    return clip


def _vae(parts: Parts, path: str):
    if not parts.vae:
        return None
    vae = whole_vae(parts.vae, parts.vae_file, "MVDream's", MVDREAM.wanted(folder()))
    vae.patcher.cached_patcher_init = (load_vae_patcher, (path,))
    return vae
