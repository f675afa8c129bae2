"""Stable Diffusion's VAE from a file's tensors, and only all of it: what the host would fill with arbitrary numbers is found out before."""

import comfy.diffusers_convert
import comfy.sd
import comfy.taesd.taesd
import torch
from torch import Tensor

from ...models.formats.encoder_layouts import check_whole, vae_names

TINY, TEMPORAL = "taesd_", "mix_factor"
CHANNELS = 4


def whole_vae(tensors: dict[str, Tensor], file: str, whose: str, wanted: str, kind: type = comfy.sd.VAE, metadata: dict | None = None) -> comfy.sd.VAE:
    """The VAE in `tensors` (original or diffusers' names, or the host's tiny one) as the host's `kind`.

    `whose`: what has it, for messages; `wanted`: which file is meant and where it is, as a sentence. ValueError in one line when
    tensors are missing, naming them, or when it is no VAE of Stable Diffusion 1 or 2.
    """
    tensors = original_names(tensors)
    stem = tensors.get("decoder.conv_in.weight")
    if stem is None or stem.ndim == 4 and stem.shape[1] == CHANNELS:
        check_whole(file, tensors.keys(), expected_names(tensors), f"{whose} VAE", wanted)
    vae = kind(sd=dict(tensors), metadata=metadata)
    if vae.first_stage_model is None or (vae.latent_channels, vae.latent_dim) != (CHANNELS, 2):
        raise ValueError(f"{file} holds no VAE of Stable Diffusion 1 or 2 ({CHANNELS} channels), which {whose} is. {wanted}")
    return vae


def original_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under the original layout's names; of files in diffusers' layout also when they are not whole, which the host's test needs."""
    of_diffusers = any(".resnets." in name or ".attentions." in name for name in tensors) and not any(".block." in name for name in tensors)
    renamed = comfy.diffusers_convert.convert_vae_state_dict(tensors) if of_diffusers else tensors
    moved = {"decoder.post_quant_conv.": "post_quant_conv.", "encoder.quant_conv.": "quant_conv."}
    return {next((new + name[len(old) :] for old, new in moved.items() if name.startswith(old)), name): value for name, value in renamed.items()}


def expected_names(names) -> list[str]:
    """What a VAE with these names must hold; nothing for other kinds, such as the video decoders that the host knows."""
    if any(name.startswith(TINY) for name in names):
        with torch.device("meta"):
            return list(comfy.taesd.taesd.TAESD().state_dict())
    known = vae_names()
    ours = len(set(known) & set(names))
    return known if 2 * ours > len(names) and not any(TEMPORAL in name for name in names) else []
