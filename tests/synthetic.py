"""Tiny models with random weights in the host's own formats: what score sessions, loaders and workflows are tested on.

The native models are built in memory through the host's classes, as its loaders do. `write_sd21_checkpoint` writes a file
that the stock CheckpointLoaderSimple takes for Stable Diffusion 2.1. Import this module after the `comfy` fixture has run.
"""

import json
import math
import struct
from pathlib import Path

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.ops
import comfy.sd
import comfy.supported_models
import comfy.supported_models_base
import comfy.taesd.taesd
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor, nn

CONTEXT = 32
KINDS = ("eps", "v", "x0", "flow", "edm")
_TYPES = {"eps": "EPS", "v": "V_PREDICTION", "x0": "EPS", "flow": "FLOW", "edm": "V_PREDICTION_EDM"}


class ThreeChannels(comfy.latent_formats.LatentFormat):
    """Pixel-like latents with a scale that a forgotten process_latent_in would betray."""

    latent_channels = 3
    scale_factor = 0.5
    spacial_downscale_ratio = 1
    latent_rgb_factors = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


class TinyConfig(comfy.supported_models_base.BASE):
    unet_config = {}
    unet_extra_config = {}
    latent_format = ThreeChannels
    sampling_settings = {}
    memory_usage_factor = 0.5


def unet_config(condition_size: int = 0) -> dict:
    """A UNet of about a million weights; with `condition_size` it takes a class vector `y` of that length."""
    config = dict(
        image_size=32, in_channels=3, out_channels=3, model_channels=32, num_res_blocks=[1, 1], channel_mult=(1, 2),
        transformer_depth=[1, 1], transformer_depth_output=[1, 1, 1, 1], transformer_depth_middle=1, context_dim=CONTEXT,
        use_spatial_transformer=True, use_linear_in_transformer=True, legacy=False, num_heads=-1, num_head_channels=16, dtype=torch.float32,
    )
    return config | (dict(num_classes="sequential", adm_in_channels=condition_size) if condition_size else {})


class CameraModel(comfy.model_base.BaseModel):
    """Reads the pack's condition keys the way every model of ours does: in its own extra_conds."""

    def encode_adm(self, **kwargs):
        if not self.adm_channels:
            return None
        batch = kwargs["noise"].shape[0]
        cameras, times = kwargs.get("bloom4d_camera"), kwargs.get("bloom4d_time")
        if cameras is None:
            return torch.zeros(batch, self.adm_channels, device=kwargs["device"])
        code = torch.cat([cameras.reshape(-1, 16), times.reshape(-1, 1)], dim=1)
        return code.to(kwargs["device"])


def fill(module: nn.Module, seed: int) -> nn.Module:
    """Give every parameter reproducible random values; norms stay near the identity."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            noise = torch.randn(weight.shape, generator=generator).to(weight)
            if weight.ndim > 1:
                weight.copy_(noise / math.sqrt(weight[0].numel()))
            else:
                weight.copy_(0.1 * noise + (1.0 if name.endswith("weight") else 0.0))
    return module


def patcher(model: nn.Module):
    """The model as the host's MODEL."""
    management = comfy.model_management
    return comfy.model_patcher.CoreModelPatcher(model, load_device=management.get_torch_device(), offload_device=management.unet_offload_device())


def image_model(kind: str = "eps", condition_size: int = 0, seed: int = 0):
    """A tiny UNet MODEL of one parametrisation: eps, v, x0, flow or edm (v prediction with a continuous sigma)."""
    model_type = getattr(comfy.model_base.ModelType, _TYPES[kind])
    model = CameraModel(TinyConfig(unet_config(condition_size)), model_type, device=torch.device("cpu"))
    if kind == "x0":
        model.model_sampling = x0_sampling()
    fill(model.diffusion_model, seed)
    return patcher(model)


def x0_sampling(zero_terminal: bool = True):
    """The noise schedule of a network that outputs x0: Stable Diffusion's betas, optionally ending in pure noise."""

    class Sampling(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.X0):
        pass

    return Sampling(zsnr=zero_terminal)


def video_model(seed: int = 0):
    """A tiny Wan 2.1 text-to-video MODEL: latents (B, 16, T, h, w), flow matching."""
    config = dict(image_model="wan2.1", model_type="t2v", dim=48, ffn_dim=64, num_heads=2, num_layers=1, text_dim=CONTEXT, text_len=8, freq_dim=32, dtype=torch.float32)
    model = comfy.model_base.WAN21(comfy.supported_models.WAN21_T2V(config), device=torch.device("cpu"))
    fill(model.diffusion_model, seed)
    return patcher(model)


def framewise_video_model(seed: int = 0):
    """The same with a latent for every frame, as Zeroscope has: what a picture VAE goes with."""

    class EveryFrame(comfy.latent_formats.Wan21):
        temporal_downscale_ratio = 1

    model = video_model(seed)
    model.model.latent_format = EveryFrame()
    return model


def conditioning(seed: int, tokens: int = 5, width: int = CONTEXT, batch: int = 1, **entries) -> list:
    """A CONDITIONING with random text features (batch, tokens, width)."""
    text = torch.randn(batch, tokens, width, generator=torch.Generator().manual_seed(seed))
    return [[text, {"pooled_output": text.mean(1), **entries}]]


def kl_vae(seed: int = 0):
    """A narrow AutoencoderKL as the host's VAE: 4 channels, 1/8 of the size."""
    shape = dict(double_z=True, z_channels=4, resolution=64, in_channels=3, out_ch=3, ch=32, ch_mult=[1, 1, 1, 1], num_res_blocks=1, attn_resolutions=[], dropout=0.0)
    config = {"params": {"ddconfig": shape, "embed_dim": 4}}
    vae = comfy.sd.VAE(sd={"unused": torch.zeros(1)}, config=config, dtype=torch.float32)
    fill(vae.first_stage_model, seed)
    return vae


def pixel_vae():
    """The host's pixel-space VAE: 3 channels, full size."""
    return comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)}, dtype=torch.float32)


def small_vae(seed: int = 0):
    """The host's tiny autoencoder (TAESD): 4 channels, 1/8 of the size."""
    weights = fill(comfy.taesd.taesd.TAESD(), seed).state_dict()
    return comfy.sd.VAE(sd={name: value.clone() for name, value in weights.items()}, dtype=torch.float32)


class Codec(nn.Module):
    """An encoder of premultiplied RGBA in [0, 1]: a fixed matrix in place of patches."""

    accepts_alpha = True

    def __init__(self):
        super().__init__()
        self.register_buffer("matrix", torch.randn(16, 16, generator=torch.Generator().manual_seed(3)))

    def encode(self, pictures: Tensor) -> Tensor:
        flat = torch.nn.functional.pixel_unshuffle(pictures, 2)
        return torch.einsum("oc,bchw->bohw", self.matrix, flat)

    def decode(self, latents: Tensor) -> Tensor:
        flat = torch.einsum("co,bohw->bchw", torch.linalg.inv(self.matrix), latents)
        picture = torch.nn.functional.pixel_shuffle(flat, 2)
        return picture[:, :3] + 1 - picture[:, 3:]


def rgba_vae(model: nn.Module | None = None, channels: int = 16, ratio: int = 2):
    """A VAE whose model takes RGBA and decodes to RGB over white (default: `Codec`)."""
    vae = pixel_vae()
    vae.first_stage_model = model or Codec()
    vae.patcher = comfy.model_patcher.ModelPatcher(vae.first_stage_model, load_device=vae.device, offload_device=vae.device)
    vae.latent_channels, vae.downscale_ratio, vae.upscale_ratio = channels, ratio, ratio
    vae.process_input = vae.process_output = lambda image: image
    return vae


# A checkpoint file. The stock loader recognises Stable Diffusion 2.1 by width 320, context 1024 and linear projections, so
# those stay; everything that detection reads from the file is as small as it goes. Its text encoder is not read from the
# file: the host always builds 24 layers of width 1024, so they are all there, the first random, the others zero (a
# pre-norm residual layer of zeros is the identity), in holes of a sparse file.

SD21_UNET = dict(
    image_size=32, in_channels=4, out_channels=4, model_channels=320, num_res_blocks=[1], channel_mult=[1], transformer_depth=[1],
    transformer_depth_output=[0, 0], transformer_depth_middle=-2, context_dim=1024, use_spatial_transformer=True,
    use_linear_in_transformer=True, legacy=False, num_heads=-1, num_head_channels=64, adm_in_channels=None,
)
TEXT_WIDTH, TEXT_LAYERS, VOCABULARY = 1024, 24, 49408


def write_sd21_checkpoint(path: Path, seed: int = 0) -> Path:
    """Write a random checkpoint in the layout of Stable Diffusion 2.1 (ldm keys, OpenCLIP text encoder, TAESD as VAE).

    About 85 MB on disk in 0.4 GB of addresses; give it 64 x 64 pictures.
    """
    unet = fill(UNetModel(**SD21_UNET, dtype=torch.float32, device="cpu", operations=comfy.ops.disable_weight_init), seed)
    vae = fill(comfy.taesd.taesd.TAESD(), seed + 1)
    tensors = {f"model.diffusion_model.{k}": v.half() for k, v in unet.state_dict().items()}
    tensors |= {f"first_stage_model.{k}": v.half() for k, v in vae.state_dict().items()}
    text = {f"cond_stage_model.model.{k}": v for k, v in _text_tensors(seed + 2).items()}
    _write_sparse(path, tensors | {k: v for k, v in text.items() if isinstance(v, Tensor)}, {k: v for k, v in text.items() if not isinstance(v, Tensor)})
    return path


def _text_tensors(seed: int) -> dict:
    """OpenCLIP's text tower: tensors, or plain shapes for what is all zero; float8, which the host reads as any other type."""
    generator = torch.Generator().manual_seed(seed)
    noise = lambda *shape, scale=0.3: (torch.randn(shape, generator=generator) * scale).to(torch.float8_e4m3fn)  # noqa: E731
    ones = torch.ones(TEXT_WIDTH).to(torch.float8_e4m3fn)
    tensors = {
        "positional_embedding": noise(77, TEXT_WIDTH, scale=0.1),
        "token_embedding.weight": noise(4096, TEXT_WIDTH).repeat(-(-VOCABULARY // 4096), 1)[:VOCABULARY],  # a few words share a row
        "ln_final.weight": ones,
        "ln_final.bias": (TEXT_WIDTH,),
        "text_projection": (TEXT_WIDTH, TEXT_WIDTH),
    }
    shapes = {
        "ln_1.weight": (TEXT_WIDTH,), "ln_1.bias": (TEXT_WIDTH,), "ln_2.weight": (TEXT_WIDTH,), "ln_2.bias": (TEXT_WIDTH,),
        "attn.in_proj_weight": (3 * TEXT_WIDTH, TEXT_WIDTH), "attn.in_proj_bias": (3 * TEXT_WIDTH,),
        "attn.out_proj.weight": (TEXT_WIDTH, TEXT_WIDTH), "attn.out_proj.bias": (TEXT_WIDTH,),
        "mlp.c_fc.weight": (4 * TEXT_WIDTH, TEXT_WIDTH), "mlp.c_fc.bias": (4 * TEXT_WIDTH,),
        "mlp.c_proj.weight": (TEXT_WIDTH, 4 * TEXT_WIDTH), "mlp.c_proj.bias": (TEXT_WIDTH,),
    }
    for layer in range(TEXT_LAYERS):
        for name, shape in shapes.items():
            random = layer == 0 and len(shape) == 2
            value = noise(*shape, scale=shape[1] ** -0.5) if random else ones if layer == 0 and name.startswith("ln") and name.endswith("weight") else shape
            tensors[f"transformer.resblocks.{layer}.{name}"] = value
    return tensors


def _write_sparse(path: Path, tensors: dict[str, Tensor], zeros: dict[str, tuple], half_zeros: dict[str, tuple] | None = None):
    """A safetensors file with `tensors`, and float8 and float16 zeros of the given shapes that take no space on the disk.

    The host computes a network in the number type that most of its weights have.
    """
    header, at = {}, 0
    for name, value in tensors.items():
        size = value.numel() * value.element_size()
        header[name] = dict(dtype={torch.float16: "F16", torch.float8_e4m3fn: "F8_E4M3"}[value.dtype], shape=list(value.shape), data_offsets=[at, at + size])
        at += size
    for name, shape, kind, width in (*((name, shape, "F8_E4M3", 1) for name, shape in zeros.items()), *((name, shape, "F16", 2) for name, shape in (half_zeros or {}).items())):
        header[name] = dict(dtype=kind, shape=list(shape), data_offsets=[at, at + width * math.prod(shape)])
        at += width * math.prod(shape)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for value in tensors.values():
            file.write(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        file.truncate(8 + len(text) + at)
