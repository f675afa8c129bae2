"""Checkpoints of random weights in the layouts of published multi-view models: every tensor's name, a fraction of the width.

Their text and image encoders are of true size, since the host builds these whatever a file holds; they are holes of a sparse
file but for the first layer. Their VAE is the host's tiny autoencoder. Import this module after the `comfy` fixture has run.
"""

import math
from pathlib import Path

import comfy.taesd.taesd
import comfy.utils
import torch
from synthetic import _text_tensors, _write_sparse, fill

from bloom4d.models.formats.model_files import camera_embedding, projection
from bloom4d.models.formats.unet_layout import UNetLayout

SMALL = UNetLayout(width=64)
"""Stable Diffusion 2.1 at a fifth of its width: all 686 tensors, 4 % of the weights."""
SMALLEST = UNetLayout(width=64, multiples=(1, 2), attention=(True, False), blocks=1)


def random_tensors(shapes: dict, seed: int) -> dict:
    """float16 tensors of these shapes; norms near the identity, matrices of unit gain."""
    generator = torch.Generator().manual_seed(seed)
    return {name: _random(name, shape, generator).half() for name, shape in shapes.items()}


def _random(name: str, shape: tuple, generator) -> torch.Tensor:
    noise = torch.randn(shape, generator=generator)
    if len(shape) > 1:
        return noise / math.sqrt(math.prod(shape[1:]))
    return 0.1 * noise + (1.0 if name.endswith("weight") else 0.0)


def mvdream_unet(layout: UNetLayout = SMALL, seed: int = 0) -> dict:
    """MVDream's UNet by ldm names."""
    return random_tensors(layout.shapes() | camera_embedding(layout), seed)


def in_diffusers(unet: dict, layout: UNetLayout) -> dict:
    """The same tensors under diffusers' names, by the host's own table; the camera embedding keeps its name."""
    depth = [int(attends) for attends in layout.attention for _ in range(layout.blocks)]
    up = [int(attends) for attends in layout.attention for _ in range(layout.blocks + 1)]
    config = dict(num_res_blocks=[layout.blocks] * len(layout.multiples), channel_mult=layout.multiples, transformer_depth=depth, transformer_depth_output=up, transformer_depth_middle=1)
    names = {ldm: name for name, ldm in comfy.utils.unet_to_diffusers(config).items()}
    return {names.get(name, name): value for name, value in unet.items()}


def tiny_vae(seed: int) -> dict:
    return {name: value.half() for name, value in fill(comfy.taesd.taesd.TAESD(), seed).state_dict().items()}


def under(prefix: str, tensors: dict) -> dict:
    return {prefix + name: value for name, value in tensors.items()}


def write(path: Path, tensors: dict) -> Path:
    """A safetensors file; a plain shape in the place of a tensor is float8 zeros that take no space on the disk."""
    real = {name: value for name, value in tensors.items() if isinstance(value, torch.Tensor)}
    _write_sparse(path, real, {name: value for name, value in tensors.items() if name not in real})
    return path


def write_mvdream_checkpoint(path: Path, seed: int = 0, layout: UNetLayout = SMALL) -> Path:
    """A checkpoint in the layout of sd-v2.1-base-4view: ldm names, UNet with camera embedding, OpenCLIP text encoder, VAE.

    About 140 MB on disk in 0.5 GB of addresses; give it 64 x 64 pictures.
    """
    text = under("cond_stage_model.model.", _text_tensors(seed + 2))
    return write(path, under("model.diffusion_model.", mvdream_unet(layout, seed)) | under("first_stage_model.", tiny_vae(seed + 1)) | text)


def write_controlnet(path: Path, layout: UNetLayout, strength: float = 0.05) -> Path:
    """A ControlNet in the layout of Stable Diffusion's: a copy of the way down, the stock hint encoder, output convolutions."""
    unet = random_tensors(layout.shapes(), seed=7)
    tensors = {name: value for name, value in unet.items() if name.startswith(("time_embed", "input_blocks", "middle_block"))}
    stem = (3, 16, 16, 32, 32, 96, 96, 256, layout.width)
    shapes = {f"input_hint_block.{2 * index}.weight": (out, into, 3, 3) for index, (into, out) in enumerate(zip(stem, stem[1:]))}
    widths = _skip_widths(layout)
    shapes |= {f"zero_convs.{index}.0.weight": (width, width, 1, 1) for index, width in enumerate(widths)}
    shapes["middle_block_out.0.weight"] = (widths[-1], widths[-1], 1, 1)
    added = {name: value * (strength if "hint" not in name else 1) for name, value in random_tensors(shapes, seed=8).items()}
    biases = {name.replace("weight", "bias"): torch.zeros(shape[0]).half() for name, shape in shapes.items()}
    return write(path, under("control_model.", tensors | added | biases))


def _skip_widths(layout: UNetLayout) -> list[int]:
    """Channels that every block on the way down hands to the way up."""
    widths = [layout.width]
    for level, multiple in enumerate(layout.multiples):
        widths += [multiple * layout.width] * (layout.blocks + (level < len(layout.multiples) - 1))
    return widths


def zero123_unet(layout: UNetLayout, seed: int = 0) -> dict:
    """Zero123's UNet by ldm names."""
    return random_tensors(layout.shapes(), seed)


def vision_tensors(seed: int) -> dict:
    """CLIP ViT-L/14's image tower in OpenAI's layout: the first layer random, the others zero."""
    width, layers, noise = 1024, 24, random_tensors
    top = {"class_embedding": (width,), "positional_embedding": (257, width), "proj": (width, 768), "conv1.weight": (width, 3, 14, 14)}
    block = {
        "attn.in_proj_weight": (3 * width, width), "attn.in_proj_bias": (3 * width,), "attn.out_proj.weight": (width, width), "attn.out_proj.bias": (width,),
        "mlp.c_fc.weight": (4 * width, width), "mlp.c_fc.bias": (4 * width,), "mlp.c_proj.weight": (width, 4 * width), "mlp.c_proj.bias": (width,),
    }  # fmt: skip
    norms = {f"{name}.{part}": (width,) for name in ("ln_pre", "ln_post") for part in ("weight", "bias")}
    inner = {f"{name}.{part}": (width,) for name in ("ln_1", "ln_2") for part in ("weight", "bias")}
    found = {name: value.to(torch.float8_e4m3fn) for name, value in noise(top | norms, seed).items()}
    for layer in range(layers):
        shapes = {f"transformer.resblocks.{layer}.{name}": shape for name, shape in (block | inner).items()}
        found |= {name: value.to(torch.float8_e4m3fn) for name, value in noise(shapes, seed + 1).items()} if layer == 0 else shapes
    return found


def write_zero123_checkpoint(path: Path, seed: int = 0, layout: UNetLayout = UNetLayout(width=64, inputs=8, context=768, linear=False)) -> Path:
    """A checkpoint in the layout of zero123-xl: ldm names, UNet of 8 input channels, projection of poses, image encoder, VAE.

    About 90 MB on disk in 0.4 GB of addresses. The host's own loader only knows it at the width of 320 (`HOSTS_ZERO123`).
    """
    vision = under("cond_stage_model.model.visual.", vision_tensors(seed + 2))
    ema = {"model_ema.decay": torch.ones(1).half(), "cond_stage_model.mean": torch.ones(3).half()}  # real files hold more than is used
    tensors = under("model.diffusion_model.", zero123_unet(layout, seed)) | random_tensors(projection(layout), seed + 3)
    return write(path, tensors | under("first_stage_model.", tiny_vae(seed + 1)) | vision | ema)


SD21 = UNetLayout(multiples=(1, 2, 1, 1))
"""Stable Diffusion 2.1's 686 tensors at the width of 320 by which the host knows it, three of its four levels as narrow as they go."""
TELLS_V = "output_blocks.11.1.transformer_blocks.0.norm1.bias"
"""The weight by which the host tells v prediction: it spreads by more than 0.09 in the file of 768 pixels (comfy.supported_models.SD20)."""
LARGE = 1_000_000  # numbers; larger matrices are zero, around which the residual connections go


def write_sd21(path: Path, v: bool = False, seed: int = 0) -> Path:
    """A checkpoint with every tensor name of v2-1_512-ema-pruned, or, with `v`, of v2-1_768-ema-pruned: UNet, AutoencoderKL, OpenCLIP.

    About 270 MB on disk in 0.8 GB of addresses. The VAE's encoder has its true width, which the host builds whatever a file holds.
    """
    shapes = SD21.shapes()
    unet = random_tensors({name: shape for name, shape in shapes.items() if math.prod(shape) <= LARGE}, seed)
    unet[TELLS_V] = (torch.randn(shapes[TELLS_V], generator=torch.Generator().manual_seed(seed)) * (0.3 if v else 0.03)).half()
    vae_shapes = kl_shapes()
    kept = {name: shape for name, shape in vae_shapes.items() if math.prod(shape) <= LARGE or "downsample" in name}
    text = under("cond_stage_model.model.", _text_tensors(seed + 2))
    prefixes = {"model.diffusion_model.": (unet, shapes), "first_stage_model.": (random_tensors(kept, seed + 1), vae_shapes)}
    real = {prefix + name: value for prefix, (tensors, _) in prefixes.items() for name, value in tensors.items()}
    holes = {prefix + name: shape for prefix, (tensors, every) in prefixes.items() for name, shape in every.items() if name not in tensors}
    real |= {name: value for name, value in text.items() if isinstance(value, torch.Tensor)}
    _write_sparse(path, real, {name: shape for name, shape in text.items() if name not in real}, holes)
    return path


def kl_shapes(decoder: int = 32) -> dict:
    """The 248 tensors of Stable Diffusion's VAE: the encoder at true width, the decoder at `decoder` of 128."""
    from comfy.ldm.models.autoencoder import AutoencoderKL

    true = dict(double_z=True, z_channels=4, resolution=256, in_channels=3, out_ch=3, ch=128, ch_mult=[1, 2, 4, 4], num_res_blocks=2, attn_resolutions=[], dropout=0.0)
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in AutoencoderKL(ddconfig=true, embed_dim=4, decoder_ddconfig=true | {"ch": decoder}).state_dict().items()}


def write_sd21_lora(path: Path, seed: int = 0, rank: int = 2) -> Path:
    """A random LoRA for such a checkpoint, on the queries of every attention, as the host's Save LoRA names them."""
    queries = {f"diffusion_model.{name.removesuffix('.weight')}": shape for name, shape in SD21.shapes().items() if name.endswith("to_q.weight")}
    shapes = {f"{module}.lora_up.weight": (rows, rank) for module, (rows, _) in queries.items()} | {f"{module}.lora_down.weight": (rank, columns) for module, (_, columns) in queries.items()}
    return write(path, {name: 0.1 * value for name, value in random_tensors(shapes, seed).items()})


HOSTS_ZERO123 = UNetLayout(inputs=8, context=768, linear=False, multiples=(1,), attention=(True,), blocks=1)
SMALLEST_ZERO123 = UNetLayout(width=64, multiples=(1, 2), attention=(True, False), blocks=1, inputs=8, context=768, linear=False)
