"""The tensors of the encoders beside a UNet: which names make Stable Diffusion's VAE, OpenCLIP ViT-H/14, CLIP ViT-L/14 and T5-XXL whole.

The host fills whatever a file lacks with arbitrary numbers and only logs it, so that half a file would pass for a model.
"""

from collections.abc import Collection, Iterable

SHOWN = 3
OPEN_CLIP_LAYERS = 23
"""Those that Stable Diffusion 2 reads; files of transformers end there, the original's has one more."""
VISION_LAYERS = 24
T5_LAYERS = 24
BOTH = ("weight", "bias")


def check_whole(file: str, names: Collection[str], expected: Iterable[str], part: str, wanted: str):
    """ValueError in one line unless all `expected` tensors are among `names`.

    `part`: what they are, as in "its VAE"; `wanted`: which file is meant and where it is, as a sentence.
    """
    expected, names = list(expected), set(names)
    if missing := [name for name in expected if name not in names]:
        shown = ", ".join(missing[:SHOWN]) + (f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else "")
        verb = "is" if len(missing) == 1 else "are"
        raise ValueError(f"{file} is not whole: of the {len(expected)} tensors of {part} {len(missing)} ({shown}) {verb} missing. Copy or download it again. {wanted}")


def _below(place: str, parts: Iterable[str], ends: Iterable[str] = BOTH) -> list[str]:
    return [f"{place}.{part}.{end}" for part in parts for end in ends]


def vae_names() -> list[str]:
    """Stable Diffusion's VAE (AutoencoderKL) in the original layout, 248 tensors; every width has the same names."""
    encoder = ["conv_in", *_levels("down", 2, widened=(1, 2)), *(f"down.{level}.downsample.conv" for level in range(3)), *_middle(), "norm_out", "conv_out"]
    decoder = ["conv_in", *_levels("up", 3, widened=(0, 1)), *(f"up.{level}.upsample.conv" for level in (1, 2, 3)), *_middle(), "norm_out", "conv_out"]
    return [*_below("encoder", encoder), *_below("decoder", decoder), *(f"{name}.{end}" for name in ("quant_conv", "post_quant_conv") for end in BOTH)]


def _levels(way: str, blocks: int, widened: tuple[int, ...]) -> list[str]:
    """Residual blocks of the four levels; the first one of a level that changes the width has a shortcut."""
    places = [(f"{way}.{level}.block.{block}", level in widened and block == 0) for level in range(4) for block in range(blocks)]
    return [f"{place}.{part}" for place, wide in places for part in ("norm1", "conv1", "norm2", "conv2", *(("nin_shortcut",) if wide else ()))]


def _middle() -> list[str]:
    blocks = [f"mid.block_{number}.{part}" for number in (1, 2) for part in ("norm1", "conv1", "norm2", "conv2")]
    return blocks + [f"mid.attn_1.{part}" for part in ("norm", "q", "k", "v", "proj_out")]


def text_names(names: Collection[str]) -> list[str]:
    """What a file of OpenCLIP ViT-H/14's text tower with these names must hold, in its own layout: OpenCLIP's, or transformers'.

    Layers beyond the ones that are read must be whole where a file begins them.
    """
    original = any(name.startswith("transformer.resblocks.") for name in names)
    stem = "transformer.resblocks" if original else "text_model.encoder.layers"
    begun = [int(number) for name in names if name.startswith(f"{stem}.") and (number := name[len(stem) + 1 :].split(".")[0]).isdigit()]
    layers = range(max([OPEN_CLIP_LAYERS, *(number + 1 for number in begun)]))
    if original:
        ends = ("token_embedding.weight", "positional_embedding", "ln_final.weight", "ln_final.bias")
        return [*ends, *(name for layer in layers for name in _open_clip_block(f"{stem}.{layer}"))]
    ends = ("embeddings.token_embedding.weight", "embeddings.position_embedding.weight", "final_layer_norm.weight", "final_layer_norm.bias")
    return [*(f"text_model.{name}" for name in ends), *(name for layer in layers for name in _transformers_block(f"{stem}.{layer}"))]


def _open_clip_block(place: str) -> list[str]:
    return [f"{place}.attn.in_proj_weight", f"{place}.attn.in_proj_bias", *_below(place, ("attn.out_proj", "ln_1", "ln_2", "mlp.c_fc", "mlp.c_proj"))]


def _transformers_block(place: str) -> list[str]:
    return _below(place, (*(f"self_attn.{part}_proj" for part in ("q", "k", "v", "out")), "layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2"))


def vision_names() -> list[str]:
    """CLIP ViT-L/14's image tower in transformers' layout."""
    stem = "vision_model"
    ends = (f"{stem}.embeddings.class_embedding", f"{stem}.embeddings.patch_embedding.weight", f"{stem}.embeddings.position_embedding.weight", "visual_projection.weight")
    return [*ends, *_below(stem, ("pre_layrnorm", "post_layernorm")), *(name for layer in range(VISION_LAYERS) for name in _transformers_block(f"{stem}.encoder.layers.{layer}"))]


def t5_names(layers: int = T5_LAYERS) -> list[str]:
    """T5-XXL's encoder in transformers' layout; only its first layer knows places."""
    first = ["shared.weight", "encoder.final_layer_norm.weight", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
    parts = (*(f"layer.0.SelfAttention.{part}" for part in "qkvo"), "layer.0.layer_norm", *(f"layer.1.DenseReluDense.{part}" for part in ("wi_0", "wi_1", "wo")), "layer.1.layer_norm")
    return [*first, *(name for layer in range(layers) for name in _below(f"encoder.block.{layer}", parts, ("weight",)))]
