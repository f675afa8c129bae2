"""Files of Zeroscope, ModelScope and DeepFloyd IF with random weights: every tensor name of the real ones, at a tiny width.

The names come from diffusers' own modules, from which the real files were saved. What has no width of its own to shrink (OpenCLIP's
23 layers, DeepFloyd's text pooling) is zero and lies in holes of sparse files. Import after the `comfy` fixture has run.
"""

import json
from pathlib import Path

import comfy.taesd.taesd
import torch
from safetensors.torch import save_file
from synthetic import TEXT_WIDTH, VOCABULARY, _write_sparse, fill
from torch import Tensor, nn

TRUE_VIDEO = dict(block_out_channels=(320, 640, 1280, 1280), attention_head_dim=64)
TINY_VIDEO = dict(block_out_channels=(32, 64, 96, 96), attention_head_dim=8)
"""diffusers' defaults for everything else are those of Zeroscope's config.json: two layers, text of width 1024."""

STAGE_I = dict(
    sample_size=64, in_channels=3, out_channels=6, layers_per_block=3, encoder_hid_dim=4096, attention_head_dim=64, addition_embed_type="text",
    down_block_types=("ResnetDownsampleBlock2D", *["SimpleCrossAttnDownBlock2D"] * 3), up_block_types=(*["SimpleCrossAttnUpBlock2D"] * 3, "ResnetUpsampleBlock2D"),
    mid_block_type="UNetMidBlock2DSimpleCrossAttn", cross_attention_norm="group_norm", resnet_time_scale_shift="scale_shift", act_fn="gelu",
)  # fmt: skip
TRUE_PIXEL = dict(block_out_channels=(704, 1408, 2112, 2816), cross_attention_dim=2816, **STAGE_I)
TINY_PIXEL = dict(block_out_channels=(32, 64, 128, 192), cross_attention_dim=64, **STAGE_I)

ZEROSCOPE_NAME = "zeroscope_v2_576w/unet/diffusion_pytorch_model.safetensors"
DEEPFLOYD_NAME = "IF-I-XL-v1.0/unet/diffusion_pytorch_model.safetensors"


def video_unet(sizes: dict, device: str = "cpu") -> nn.Module:
    """diffusers' own 3D UNet."""
    from diffusers import UNet3DConditionModel

    with torch.device(device):
        return UNet3DConditionModel(**sizes).eval()


def pixel_unet(sizes: dict, device: str = "cpu") -> nn.Module:
    """diffusers' own UNet as DeepFloyd IF configures it."""
    from diffusers import UNet2DConditionModel

    with torch.device(device):
        return UNet2DConditionModel(**sizes).eval()


def write_zeroscope_files(models: Path, seed: int = 0, sizes: dict = TINY_VIDEO) -> str:
    """Write the folder zeroscope_v2_576w (UNet, text encoder, VAE) into `models`/diffusion_models; the loader's `model`.

    About 30 MB on disk. Give it pictures of 64 x 64 or more.
    """
    folder = models / "diffusion_models" / Path(ZEROSCOPE_NAME).parts[0]
    for part in ("unet", "text_encoder", "vae"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    unet = fill(video_unet(sizes), seed)
    save_file({name: value.half().contiguous() for name, value in unet.state_dict().items()}, folder / "unet" / "diffusion_pytorch_model.safetensors")
    (folder / "unet" / "config.json").write_text(json.dumps({"_class_name": "UNet3DConditionModel", "sample_size": 32, **sizes}))
    vae = fill(comfy.taesd.taesd.TAESD(), seed + 1).state_dict()
    save_file({name: value.half().contiguous() for name, value in vae.items()}, folder / "vae" / "diffusion_pytorch_model.safetensors")
    write_open_clip(folder / "text_encoder" / "model.safetensors", seed + 2)
    return ZEROSCOPE_NAME


def write_deepfloyd_files(models: Path, seed: int = 0, sizes: dict = TINY_PIXEL) -> str:
    """Write stage I's UNet into `models`/diffusion_models; the loader's `model`.

    Its text encoder T5-XXL is left out: the host builds 4.7 billion weights for any file of that kind.
    """
    path = models / "diffusion_models" / DEEPFLOYD_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    state = fill(pixel_unet(sizes), seed).state_dict()
    wide = {name: tuple(value.shape) for name, value in state.items() if name.startswith("add_embedding.pool.") and value.numel() > 1e6}
    _write_sparse(path, {name: value.half().contiguous() for name, value in state.items() if name not in wide}, wide)
    return DEEPFLOYD_NAME


def write_open_clip(path: Path, seed: int = 0) -> Path:
    """OpenCLIP ViT-H/14's text tower in transformers' layout, 23 layers as Stable Diffusion 2 and Zeroscope keep them.

    The first layer is random, the others are zero: the identity of a pre-norm residual layer.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = lambda *shape, scale: (torch.randn(shape, generator=generator) * scale).to(torch.float8_e4m3fn)  # noqa: E731
    tensors: dict[str, Tensor] = {
        "text_model.embeddings.token_embedding.weight": noise(4096, TEXT_WIDTH, scale=0.3).repeat(-(-VOCABULARY // 4096), 1)[:VOCABULARY],
        "text_model.embeddings.position_embedding.weight": noise(77, TEXT_WIDTH, scale=0.1),
        "text_model.final_layer_norm.weight": torch.ones(TEXT_WIDTH).to(torch.float8_e4m3fn),
    }
    zeros: dict[str, tuple] = {"text_model.final_layer_norm.bias": (TEXT_WIDTH,)}
    square, ones = (TEXT_WIDTH, TEXT_WIDTH), torch.ones(TEXT_WIDTH).to(torch.float8_e4m3fn)
    shapes = {f"self_attn.{name}_proj": square for name in "qkv"} | {"self_attn.out_proj": square, "mlp.fc1": (4 * TEXT_WIDTH, TEXT_WIDTH), "mlp.fc2": (TEXT_WIDTH, 4 * TEXT_WIDTH)}
    for layer in range(23):
        place = f"text_model.encoder.layers.{layer}"
        for name, shape in shapes.items():
            zeros[f"{place}.{name}.weight"], zeros[f"{place}.{name}.bias"] = shape, shape[:1]
        for name in ("layer_norm1", "layer_norm2"):
            zeros[f"{place}.{name}.weight"], zeros[f"{place}.{name}.bias"] = (TEXT_WIDTH,), (TEXT_WIDTH,)
    for name, shape in shapes.items():
        tensors[f"text_model.encoder.layers.0.{name}.weight"] = noise(*shape, scale=shape[1] ** -0.5)
    for name in ("layer_norm1", "layer_norm2"):
        tensors[f"text_model.encoder.layers.0.{name}.weight"] = ones
    _write_sparse(path, tensors, {name: shape for name, shape in zeros.items() if name not in tensors})
    return path


def original_names(sizes: dict = TRUE_VIDEO) -> dict[str, str]:
    """diffusers' names -> those of text2video_pytorch_model.pth, written down from the original's numbering.

    Four levels: input blocks 1 2 (3 downsampling), 4 5 (6), 7 8 (9), 10 11; middle 0 to 3; output blocks three to a level, the
    last of a level with its upsampling behind its other parts.
    """
    residual = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
    places = {"conv_in": "input_blocks.0.0", "transformer_in": "input_blocks.0.1", "conv_norm_out": "out.0", "conv_out": "out.2"}
    places |= {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2"}
    blocks = [(f"down_blocks.{level}", layer, f"input_blocks.{1 + 3 * level + layer}") for level in range(4) for layer in range(2)]
    blocks += [(f"up_blocks.{level}", layer, f"output_blocks.{3 * level + layer}") for level in range(4) for layer in range(3)]
    for new, layer, old in blocks:
        places |= {f"{new}.resnets.{layer}": f"{old}.0", f"{new}.temp_convs.{layer}": f"{old}.0.temopral_conv", f"{new}.attentions.{layer}": f"{old}.1", f"{new}.temp_attentions.{layer}": f"{old}.2"}
    places |= {f"down_blocks.{level}.downsamplers.0.conv": f"input_blocks.{3 + 3 * level}.op" for level in range(3)}
    places |= {f"up_blocks.{level}.upsamplers.0.conv": f"output_blocks.{2 + 3 * level}.{1 if level == 0 else 3}.conv" for level in range(3)}
    places |= {"mid_block.resnets.0": "middle_block.0", "mid_block.temp_convs.0": "middle_block.0.temopral_conv", "mid_block.attentions.0": "middle_block.1"}
    places |= {"mid_block.temp_attentions.0": "middle_block.2", "mid_block.resnets.1": "middle_block.3", "mid_block.temp_convs.1": "middle_block.3.temopral_conv"}
    found = {}
    for name in video_unet(sizes, "meta").state_dict():
        place = max((place for place in places if name.startswith(f"{place}.")), key=len)
        rest = name[len(place) + 1 :]
        if ".resnets." in f"{place}.":
            part, end = rest.rsplit(".", 1)
            rest = f"{residual[part]}.{end}"
        found[name] = f"{places[place]}.{rest}"
    return found


def write_modelscope_file(path: Path, seed: int = 0) -> Path:
    """The same UNet as one file in ModelScope's first layout (torch's format), temporal projections as convolutions of length 1."""
    state, names = fill(video_unet(TINY_VIDEO), seed).state_dict(), original_names(TINY_VIDEO)
    convolved = lambda name: ("temp_attentions" in name or name.startswith("transformer_in")) and name.endswith(("proj_in.weight", "proj_out.weight"))  # noqa: E731
    torch.save({names[name]: (value[:, :, None] if convolved(name) else value).half() for name, value in state.items()}, path)
    return path
