"""The CLIP text score (4D-fy's protocol): cosine of picture and prompt x 100, mean over the frames.

The network is transformers' CLIPModel, from a single file in Hugging Face's layout that the caller has read; nothing is
downloaded. Frames are resized and cropped by CLIP's own preprocessing, over the background that they came with.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

PUBLIC_FILE = "openai/clip-vit-base-patch32 (MIT)"
FRAMES_AT_ONCE = 16
HEADS = {1280: 16, 1664: 16}  # by width, where a head is not 64 wide: ViT-H and ViT-bigG
EXACT_GELU = {1280, 1408, 1664}  # widths of picture networks that only OpenCLIP trained, with GELU; OpenAI's have quick_gelu


@dataclass(frozen=True)
class ClipJudge:
    """A CLIPModel with what turns words and pictures into its inputs. activation: for the notes."""

    model: nn.Module
    tokenizer: object
    processor: object
    activation: str
    size: int  # pixels of a side that it sees


def infer_config(weights: dict[str, Tensor], metadata: dict[str, str] | None = None) -> dict:
    """CLIPConfig's arguments for a file: its metadata "config" (JSON), else read off the shapes. ValueError for another layout.

    Shapes do not say the activation: OpenAI's quick_gelu, but GELU for the widths that only OpenCLIP has. A LAION ViT-B or
    ViT-L (GELU too) must say so in its metadata.
    """
    missing = [name for name in ("text_model.embeddings.token_embedding.weight", "vision_model.embeddings.patch_embedding.weight",
                                 "text_projection.weight", "visual_projection.weight") if name not in weights]  # fmt: skip
    if missing:
        raise ValueError(f"The CLIP file has no {missing[0]}: the text score needs text and picture network in one file, as Hugging Face's CLIPModel saves them, such as {PUBLIC_FILE}.")
    if metadata and "config" in metadata:
        return json.loads(metadata["config"])
    vision = weights["vision_model.embeddings.patch_embedding.weight"]  # (width, 3, patch, patch)
    patch, positions = vision.shape[-1], weights["vision_model.embeddings.position_embedding.weight"].shape[0]
    tokens, places = (weights[f"text_model.embeddings.{name}_embedding.weight"] for name in ("token", "position"))
    activation = "gelu" if vision.shape[0] in EXACT_GELU else "quick_gelu"
    size = {"image_size": patch * math.isqrt(positions - 1), "patch_size": patch}
    words = {"vocab_size": tokens.shape[0], "max_position_embeddings": places.shape[0]}
    return {
        "projection_dim": weights["text_projection.weight"].shape[0],
        "text_config": {**_tower(weights, "text_model", activation), **words},
        "vision_config": {**_tower(weights, "vision_model", activation), **size},
    }


def _tower(weights: dict[str, Tensor], name: str, activation: str) -> dict:
    """Widths and depth of one of the two networks."""
    inner, width = weights[f"{name}.encoder.layers.0.mlp.fc1.weight"].shape
    layers = 1 + max(int(key.split(".")[3]) for key in weights if key.startswith(f"{name}.encoder.layers."))
    projection = weights["text_projection.weight"].shape[0]
    return {
        "hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers, "hidden_act": activation,
        "num_attention_heads": HEADS.get(width, max(width // 64, 1)), "projection_dim": projection,
    }  # fmt: skip


def load_clip(weights: dict[str, Tensor], metadata: dict[str, str] | None, tokenizer: str | Path) -> ClipJudge:
    """The judge of a file's tensors, float32 on the CPU; `tokenizer`: a folder with CLIP's vocabulary and merges."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

    config = CLIPConfig(**infer_config(weights, metadata))
    model = CLIPModel(config)
    expected = model.state_dict()
    wrong = [name for name in expected if name not in weights or weights[name].shape != expected[name].shape]
    wrong = [name for name in wrong if not name.endswith("position_ids")]
    if wrong:
        raise ValueError(f"The CLIP file has no fitting {wrong[0]} {tuple(expected[wrong[0]].shape)}. Use a whole CLIPModel file, such as {PUBLIC_FILE}.")
    model.load_state_dict({name: weights[name].float() for name in expected if name in weights}, strict=False)
    size = config.vision_config.image_size
    return ClipJudge(
        model=model.eval().requires_grad_(False),
        tokenizer=CLIPTokenizer.from_pretrained(str(tokenizer), local_files_only=True),
        processor=CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size}),
        activation=config.vision_config.hidden_act,
        size=size,
    )


@torch.no_grad()
def text_score(judge: ClipJudge, frames: Tensor, prompt: str) -> float:
    """Mean over frames (N, 3, H, W) in [0, 1] of 100 x cosine with the prompt; longer prompts are cut to the model's length."""
    device = next(judge.model.parameters()).device
    length = judge.model.config.text_config.max_position_embeddings
    words = judge.tokenizer(prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt").to(device)
    cosines = []
    for part in frames.split(FRAMES_AT_ONCE):
        pixels = (part.clamp(0, 1) * 255).round().to(torch.uint8)  # CLIP's preprocessing is defined on 8-bit pictures
        pixels = judge.processor(images=list(pixels), return_tensors="pt")["pixel_values"].to(device)
        seen = judge.model(input_ids=words["input_ids"], attention_mask=words["attention_mask"], pixel_values=pixels)
        cosines.append((seen.image_embeds @ seen.text_embeds.T)[:, 0].cpu())  # both are unit vectors
    return 100 * float(torch.cat(cosines).mean())


def cut(judge: ClipJudge, prompt: str) -> bool:
    """Whether the prompt is longer than the model reads."""
    return len(judge.tokenizer(prompt)["input_ids"]) > judge.model.config.text_config.max_position_embeddings
