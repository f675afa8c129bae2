"""The CLIP text score (4D-fy's protocol): cosine of picture and prompt x 100, mean over the frames.

The network is transformers' CLIPModel, from a single file in Hugging Face's layout that the caller has read; nothing is
downloaded. Frames are resized and cropped by CLIP's own preprocessing, over the background that they came with.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

PUBLIC_FILE = "openai/clip-vit-base-patch32 (MIT)"
FRAMES_AT_ONCE = 16
HEADS = {1280: 16, 1664: 16}  # by width, where a head is not 64 wide: ViT-H and ViT-bigG
EXACT_GELU = {1280, 1408, 1664}  # widths of picture networks that only OpenCLIP trained, with GELU; OpenAI's have quick_gelu
UNSEEN = {"hidden_act": str, "num_attention_heads": int, "layer_norm_eps": float}  # what shapes do not say
TEXT, VISION = "text_model.embeddings", "vision_model.embeddings"
NEEDED = {
    f"{TEXT}.token_embedding.weight": 2, f"{TEXT}.position_embedding.weight": 2, "text_model.encoder.layers.0.mlp.fc1.weight": 2,
    f"{VISION}.patch_embedding.weight": 4, f"{VISION}.position_embedding.weight": 2, "vision_model.encoder.layers.0.mlp.fc1.weight": 2,
    "text_projection.weight": 2, "visual_projection.weight": 2,
}  # fmt: skip
"""Tensors that tell a whole CLIPModel from other files, and their axes."""


@dataclass(frozen=True)
class ClipJudge:
    """A CLIPModel with what turns words and pictures into its inputs. activation: for the notes."""

    model: nn.Module
    tokenizer: object
    processor: object
    activation: str
    size: int  # pixels of a side that it sees


def infer_config(weights: dict[str, Tensor], metadata: dict[str, str] | None = None) -> dict:
    """CLIPConfig's arguments, read off the shapes; ValueError for another layout.

    Shapes do not say the activation and the number of heads. These come from the metadata "config" (config.json as it is
    published), else they are OpenAI's: heads of 64, quick_gelu, but GELU for the widths that only OpenCLIP has.
    """
    for name, axes in NEEDED.items():
        if name not in weights or weights[name].dim() != axes or 0 in weights[name].shape:
            raise ValueError(f"The CLIP file has no fitting {name}: the text score needs text and picture network in one file, as Hugging Face's CLIPModel saves them, such as {PUBLIC_FILE}.")
    vision, positions = weights[f"{VISION}.patch_embedding.weight"], weights[f"{VISION}.position_embedding.weight"]  # (width, 3, patch, patch)
    tokens, places = weights[f"{TEXT}.token_embedding.weight"], weights[f"{TEXT}.position_embedding.weight"]
    activation, patch = "gelu" if vision.shape[0] in EXACT_GELU else "quick_gelu", vision.shape[-1]
    size = {"image_size": patch * math.isqrt(positions.shape[0] - 1), "patch_size": patch}
    words = {"vocab_size": tokens.shape[0], "max_position_embeddings": places.shape[0]}
    text = {**_tower(weights, "text_model", activation), **_told("text_config", metadata), **words}
    picture = {**_tower(weights, "vision_model", activation), **_told("vision_config", metadata), **size}
    for tower in (text, picture):
        if tower["hidden_act"] not in ("gelu", "quick_gelu") or tower["num_attention_heads"] < 1 or tower["hidden_size"] % tower["num_attention_heads"]:
            raise ValueError(f'A network of {tower["num_attention_heads"]} heads, {tower["hidden_size"]} wide, with {tower["hidden_act"]}, is no CLIPModel. Correct the metadata "config" of the CLIP file.')
    return {"projection_dim": weights["text_projection.weight"].shape[0], "text_config": text, "vision_config": picture}


def _told(name: str, metadata: dict[str, str] | None) -> dict:
    """What a file's config.json says of one network beyond its shapes."""
    try:
        config = json.loads((metadata or {}).get("config", "{}"))
        return {key: kind(config[name][key]) for key, kind in UNSEEN.items() if key in config.get(name, {})}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f'The metadata "config" of the CLIP file is no config.json of a CLIPModel ({error}). Leave it out or take the published one.') from error


def _tower(weights: dict[str, Tensor], name: str, activation: str) -> dict:
    """Widths and depth of one of the two networks."""
    inner, width = weights[f"{name}.encoder.layers.0.mlp.fc1.weight"].shape
    layers = len({key.split(".")[3] for key in weights if key.startswith(f"{name}.encoder.layers.")})
    return {
        "hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers, "hidden_act": activation,
        "num_attention_heads": HEADS.get(width, max(width // 64, 1)), "projection_dim": weights["text_projection.weight"].shape[0],
    }  # fmt: skip


def load_clip(weights: dict[str, Tensor], metadata: dict[str, str] | None, tokenizer: str | Path) -> ClipJudge:
    """The judge of a file's tensors, float32 on the CPU; `tokenizer`: a folder with CLIP's vocabulary and merges."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

    config = CLIPConfig(**infer_config(weights, metadata))
    with torch.device("meta"):  # nothing is allocated before every tensor of the file fits
        expected = {name: value.shape for name, value in CLIPModel(config).state_dict().items()}
    for name, shape in expected.items():
        if name not in weights or weights[name].shape != shape:
            raise ValueError(f"The CLIP file has no fitting {name} {tuple(shape)}. Use a whole CLIPModel file, such as {PUBLIC_FILE}.")
    model = CLIPModel(config)
    model.load_state_dict({name: weights[name].float() for name in expected})
    size = config.vision_config.image_size
    return ClipJudge(
        model=model.eval().requires_grad_(False),
        tokenizer=CLIPTokenizer.from_pretrained(str(tokenizer), local_files_only=True),
        processor=CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size}),
        activation=config.vision_config.hidden_act,
        size=size,
    )


@torch.no_grad()
def text_score(judge: ClipJudge, frames: Tensor, prompt: str, watch: Callable[[], None] = lambda: None) -> float:
    """Mean over frames (N, 3, H, W) in [0, 1] of 100 x cosine with the prompt; longer prompts are cut to the model's length.

    `watch` is called before every few frames and may raise.
    """
    device = next(judge.model.parameters()).device
    length = judge.model.config.text_config.max_position_embeddings
    words = judge.tokenizer(prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt").to(device)
    cosines = []
    for part in frames.split(FRAMES_AT_ONCE):
        watch()
        pixels = (part.clamp(0, 1) * 255).round().to(torch.uint8)  # CLIP's preprocessing is defined on 8-bit pictures
        pixels = judge.processor(images=list(pixels), return_tensors="pt")["pixel_values"].to(device)
        seen = judge.model(input_ids=words["input_ids"], attention_mask=words["attention_mask"], pixel_values=pixels)
        cosines.append((seen.image_embeds @ seen.text_embeds.T)[:, 0].cpu())  # both are unit vectors
    return 100 * float(torch.cat(cosines).mean())


def cut(judge: ClipJudge, prompt: str) -> bool:
    """Whether the prompt is longer than the model reads."""
    return len(judge.tokenizer(prompt)["input_ids"]) > judge.model.config.text_config.max_position_embeddings
