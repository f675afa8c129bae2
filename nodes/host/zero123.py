"""Zero123 as a host MODEL: the host's Stable Zero123 class, told the view of every picture by the keys on CONDITIONING.

Its conditioning is a picture's CLIP embedding and the relative pose in one token, and the picture's latent beside the noisy
one. `bloom4d_reference` carries where the picture was taken from, `bloom4d_camera` where each result is seen from.
"""

from __future__ import annotations

from pathlib import Path

import comfy.clip_vision
import comfy.model_base
import comfy.model_detection
import comfy.model_management as mm
import comfy.sd
import comfy.supported_models
import comfy.utils
import torch
from torch import Tensor

from ...models.formats.encoder_layouts import check_whole, vision_names
from ...models.formats.model_files import PROJECTION, ZERO123, check_unet, check_vision, foreign_kind, kind_of, projection, unet_names
from ...models.networks.zero123 import Reference, view_code
from .judges import read
from .mvdream import patched, set_dtype
from .weights import folder, part_of, sibling
from .whole_vae import whole_vae

DEFAULTS = {"guidance": 3.0, "size": 256, "backdrop": 1.0}
"""What travels with the model: guidance, the size that it was trained at, and that its objects stand on white."""
EMBEDDING = 768
VISION = "cond_stage_model.model.visual."


class Zero123Model(comfy.model_base.Stable_Zero123):
    """The host's class, whose poses come from the cameras of the batch, as Zero123 and Zero123-XL know them."""

    bloom4d_defaults = DEFAULTS
    stable = False

    def extra_conds(self, **kwargs):
        return super().extra_conds(**posed(kwargs, self.stable, kwargs["noise"].shape[0]))


class StableZero123Model(Zero123Model):
    """The same for Stable Zero123's poses; a class of its own, so that runs on one and the other are told apart."""

    stable = True


def posed(entry: dict, stable: bool, batch: int | None = None) -> dict:
    """A conditioning entry whose token says the poses of its `bloom4d_camera`, one row each; others come back as they are.

    Without cameras every picture is seen as the reference is. `batch`: rows to repeat to; None: one for every camera.
    """
    token, reference = entry.get("cross_attn"), entry.get("bloom4d_reference")
    if token is None or reference is None:
        return entry
    poses, reference = entry.get("bloom4d_camera"), Reference(*reference)
    codes = reference.code(stable) if poses is None else view_code(poses.float(), reference, stable)
    codes = comfy.utils.repeat_to_batch_size(codes, batch or len(codes)).to(token)
    embedding = token[:1, :, :EMBEDDING].expand(len(codes), -1, -1)
    return {**entry, "cross_attn": torch.cat([embedding, codes[:, None]], dim=-1)}


def is_hosts_own(model) -> bool:
    """Whether a MODEL's object is the host's Stable Zero123, which reads no keys of ours: its entries must be `posed` before."""
    return isinstance(model, comfy.model_base.Stable_Zero123) and not isinstance(model, Zero123Model)


def load(path: str, stable: bool) -> tuple:
    """(MODEL, CLIP_VISION or None, VAE or None) of a Zero123 checkpoint, which is read once; ValueError in one line for any other file."""
    tensors, unet = read_tensors(path)
    return _model(unet, tensors, path, stable), _vision(tensors, Path(path)), _vae(tensors, path)


def load_model(path: str, stable: bool, disable_dynamic: bool = False):
    """Its MODEL alone."""
    tensors, unet = read_tensors(path)
    return _model(unet, tensors, path, stable, disable_dynamic)


def load_vae_patcher(path: str, disable_dynamic: bool = False):
    """Its VAE's patcher alone, for copies on other devices."""
    return _vae(read_tensors(path)[0], path).patcher


def read_tensors(path: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(every tensor of the file with the projection of poses at its ldm name, its UNet by ldm names)."""
    file = Path(path)
    tensors, _ = read(file)
    tensors |= {f"cc_projection.{name.removeprefix('proj.')}": value for name, value in sibling(file, "clip_camera_projection").items()}
    if kind := foreign_kind(tensors, ZERO123):
        raise ValueError(f"{file.name} is {kind}. {ZERO123.wanted(folder())}")
    names = unet_names(tensors.keys())
    if not names:
        raise ValueError(f"{file.name} {kind_of(tensors)}. {ZERO123.wanted(folder())}")
    unet = {ldm: tensors[name] for name, ldm in names.items()}
    shapes = {name: tuple(value.shape) for name, value in (unet | {name: tensors[name] for name in PROJECTION if name in tensors}).items()}
    check_unet(file.name, shapes, ZERO123, projection, folder())
    return tensors, unet


def _model(unet: dict[str, Tensor], tensors: dict[str, Tensor], path: str, stable: bool, disable_dynamic: bool = False):
    config = comfy.supported_models.Stable_Zero123(comfy.model_detection.detect_unet_config(unet, ""))
    load_device, offload_device = set_dtype(config, unet), mm.unet_offload_device()
    weight, bias = (tensors[name] for name in PROJECTION)
    kind = StableZero123Model if stable else Zero123Model
    model = kind(config, device=offload_device, cc_projection_weight=weight, cc_projection_bias=bias)
    return patched(model, unet, load_device, offload_device, (load_model, (path, stable)), disable_dynamic)


def _vision(tensors: dict[str, Tensor], file: Path):
    """The image encoder: OpenAI's layout in a checkpoint, transformers' in a diffusers folder."""
    names = {name: value for name, value in tensors.items() if name.startswith(VISION)}
    if names:
        check_vision(file.name, [name.removeprefix(VISION) for name in names], ZERO123, folder())
        return comfy.clip_vision.load_clipvision_from_sd(names, VISION, True)
    beside = sibling(file, "image_encoder")
    if beside:
        check_whole("image_encoder", beside, vision_names(), "Zero123's image encoder", ZERO123.wanted(folder()))
    return comfy.clip_vision.load_clipvision_from_sd(dict(beside)) if beside else None


def _vae(tensors: dict[str, Tensor], path: str):
    weights, file = part_of(tensors, Path(path), "vae", "first_stage_model.", "vae.")
    if not weights:
        return None
    vae = whole_vae(weights, file, "Zero123's", ZERO123.wanted(folder()))
    vae.patcher.cached_patcher_init = (load_vae_patcher, (path,))
    return vae


def reference_token(clip_vision, vae, picture: Tensor) -> tuple[Tensor, Tensor]:
    """(embedding (1, 1, 768), latent (1, 4, h, w)) of a reference picture (size, size, 3) on white.

    The latent is the VAE's mode and not multiplied by the model's scale factor, as Zero123 was trained.
    """
    embedding = clip_vision.encode_image(picture[None]).image_embeds[:, None]
    if embedding.shape[-1] != EMBEDDING:
        raise ValueError(f"This CLIP_VISION makes {embedding.shape[-1]} numbers of a picture, and Zero123 needs {EMBEDDING}: CLIP ViT-L/14. Connect the one of Zero123 Loader.")
    latent = vae.encode(picture[None])
    if latent.ndim != 4 or latent.shape[1] != 4:
        raise ValueError(f"This VAE makes latents of {' x '.join(map(str, latent.shape))}, and Zero123 needs Stable Diffusion's, 1 x 4 x 32 x 32. Connect the one of Zero123 Loader.")
    return embedding.float(), latent
