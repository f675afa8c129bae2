"""The embedded prior's text encoder: a CLIP text model of tiny width behind the host's token ids.

The host's tokenizer knows 49,408 tokens; a table of that length would be most of the file. Each id is hashed twice into a
small table and the two rows are added, so that two words share both rows once in millions. The rest is CLIP's text
transformer under CLIP's names, which the host's own class runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGEST, MOST_LAYERS = 1 << 17, 64
END_TOKEN = 49407
MULTIPLIERS = (2654435761, 805459861)


@dataclass(frozen=True)
class TextEncoderConfig:
    """Shape of the text transformer; `table` rows hold the hashed token embeddings."""

    width: int = 64
    layers: int = 2
    heads: int = 2
    length: int = 77
    table: int = 2048

    def __post_init__(self):
        if not all(1 <= size <= LARGEST for size in (self.width, self.length, self.table)) or not 1 <= self.layers <= MOST_LAYERS:
            raise ValueError(f"a text encoder's sizes lie between 1 and {LARGEST} and it has 1 to {MOST_LAYERS} layers")
        if self.heads < 1 or self.width % self.heads:
            raise ValueError(f"a text encoder of width {self.width} cannot have {self.heads} heads, a divisor is needed")

    def host_config(self) -> dict:
        """The same model as the host's text-model configuration."""
        return dict(
            num_hidden_layers=self.layers, hidden_size=self.width, num_attention_heads=self.heads, intermediate_size=4 * self.width,
            hidden_act="quick_gelu", max_position_embeddings=self.length, eos_token_id=END_TOKEN,
        )


def hash_tokens(tokens: Tensor, table: int) -> tuple[Tensor, Tensor]:
    """Two table rows per token id (any shape, int)."""
    ids = tokens.long() + 1
    first, second = (((ids * multiplier) % 4294967296) // 65536 % table for multiplier in MULTIPLIERS)
    return first, second


class Embeddings(nn.Module):
    def __init__(self, config: TextEncoderConfig):
        super().__init__()
        self.token_embedding = nn.Embedding(config.table, config.width)
        self.position_embedding = nn.Embedding(config.length, config.width)
        nn.init.normal_(self.token_embedding.weight, std=0.7)
        nn.init.normal_(self.position_embedding.weight, std=0.1)

    def forward(self, tokens: Tensor) -> Tensor:
        first, second = hash_tokens(tokens, self.token_embedding.num_embeddings)
        return self.token_embedding(first) + self.token_embedding(second) + self.position_embedding.weight[: tokens.shape[1]]


class SelfAttention(nn.Module):
    def __init__(self, config: TextEncoderConfig):
        super().__init__()
        self.heads = config.heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(config.width, config.width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(-2))


class QuickGELUFeedForward(nn.Module):
    def __init__(self, config: TextEncoderConfig):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(config.width, 4 * config.width), nn.Linear(4 * config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.fc1(x)
        return self.fc2(hidden * torch.sigmoid(1.702 * hidden))


class EncoderLayer(nn.Module):
    def __init__(self, config: TextEncoderConfig):
        super().__init__()
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.self_attn, self.mlp = SelfAttention(config), QuickGELUFeedForward(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Encoder(nn.Module):
    def __init__(self, config: TextEncoderConfig):
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))


class TextEncoder(nn.Module):
    """Token ids (S, 77) to (hidden states (S, 77, D), pooled (S, D)); names as in CLIP's `text_model`."""

    def __init__(self, config: TextEncoderConfig = TextEncoderConfig()):
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)
        self.final_layer_norm = nn.LayerNorm(config.width)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.embeddings(tokens)
        for layer in self.encoder.layers:
            hidden = layer(hidden)
        hidden = self.final_layer_norm(hidden)
        end = (tokens == END_TOKEN).int().argmax(dim=-1)
        return hidden, hidden[torch.arange(len(tokens), device=tokens.device), end]
