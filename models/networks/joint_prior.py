"""The embedded prior: one small joint denoiser for images, views, videos and 4D grids.

The parameters have the names and shapes of the host's `UNetModel` (the SD 2.1 family with a class vector), so the trained
file loads there key for key and a stock ControlNet of the same layout fits it. This twin is what `launch.py train prior`
trains; a test holds both to the same output. Frames of one scene meet in self-attention (MVDream, section 3.2), with a
fixed bias that stands in for a positional code.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .prior_conditioning import CAMERA_SIZE, TIME_SIZE

TIMESTEPS = 1000
MOST_CHANNELS, MOST_BLOCKS = 1 << 15, 16
HEAD_CHANNELS = 64  # what the host's stock loaders assume
BIAS_SLOPES = (0.35, 0.03)  # steepest and flattest head: one looks near its own place, one over the whole picture
CODE_GAIN = 4.0  # of the first weights on camera and time: 21 numbers among hundreds, they would be learned last
CLEAN_BIAS = 1.5  # added to the logits of keys in clean frames


@dataclass(frozen=True)
class JointPriorConfig:
    """Shape of the denoiser. `blocks` residual blocks per resolution, `condition_size` the length of the class vector (see
    `prior_conditioning`), `passed` the share of a latent channel's variance for which the output passes its noisy input on."""

    latent_channels: int = 96
    latent_size: int = 8
    width: int = 128
    blocks: tuple[int, ...] = (1, 1)
    context_size: int = 64
    condition_size: int = 343
    passed: float = 0.05

    def __post_init__(self):
        sizes = (self.latent_channels, self.latent_size, self.context_size, self.condition_size)
        if not all(1 <= size <= MOST_CHANNELS for size in sizes) or not 0 < self.width <= MOST_CHANNELS or self.width % HEAD_CHANNELS:
            raise ValueError(f"a denoiser's width is a multiple of {HEAD_CHANNELS} and its sizes lie between 1 and {MOST_CHANNELS}, here width {self.width}, sizes {sizes}")
        if not 1 <= len(self.blocks) <= MOST_BLOCKS or not all(1 <= count <= MOST_BLOCKS for count in self.blocks):
            raise ValueError(f"a denoiser has 1 to {MOST_BLOCKS} resolutions of 1 to {MOST_BLOCKS} blocks each, here {len(self.blocks)} resolutions")
        if self.condition_size <= CAMERA_SIZE + TIME_SIZE:
            raise ValueError(f"a denoiser's condition has {self.condition_size} numbers, camera and time alone need {CAMERA_SIZE + TIME_SIZE}")

    @property
    def levels(self) -> int:
        return len(self.blocks)

    def host_config(self) -> dict:
        """The same network as keyword arguments of the host's `UNetModel`."""
        return dict(
            image_size=self.latent_size, in_channels=self.latent_channels, out_channels=self.latent_channels,
            model_channels=self.width, channel_mult=[1] * self.levels, num_res_blocks=list(self.blocks),
            transformer_depth=[1] * sum(self.blocks), transformer_depth_output=[1] * (sum(self.blocks) + self.levels),
            transformer_depth_middle=1, num_heads=-1, num_head_channels=HEAD_CHANNELS, use_spatial_transformer=True,
            use_linear_in_transformer=True, context_dim=self.context_size, num_classes="sequential",
            adm_in_channels=self.condition_size, legacy=False,
        )

    def as_dict(self) -> dict:
        return asdict(self)


def timestep_embedding(timesteps: Tensor, size: int) -> Tensor:
    """Sinusoids of the noise level, cosines first. timesteps (B,) in [0, 1000) -> (B, size)."""
    half = size // 2
    rates = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float32, device=timesteps.device) / half)
    phase = timesteps[:, None].float() * rates[None]
    return torch.cat([phase.cos(), phase.sin()], dim=-1)


def alpha_bar() -> Tensor:
    """Share of signal per timestep (1000,): SD's scaled-linear betas, rescaled to zero terminal SNR as the host does."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, TIMESTEPS, dtype=torch.float64) ** 2
    root = torch.cumprod(1 - betas, dim=0).sqrt()
    root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
    bar = root**2
    bar[-1] = 4.8973451890853435e-08  # the host's stand-in for zero
    return bar.float()


def preconditioning(variance: Tensor, signal: Tensor, passed: float) -> tuple[Tensor, Tensor]:
    """What the network's output is wrapped in: x0 = skip x_t + out F (after EDM, section 5, per latent channel).

    skip is the linear estimate of a channel from its noisy value that is best when only the share `passed` of its `variance` (C,)
    has to come through it, out the standard deviation of what that estimate leaves open. signal (B,) of `alpha_bar` -> two (B, C, 1, 1).
    With no skip a narrow network loses fine detail even at low noise; with the full variance it would have to cancel white
    noise in every channel at middle levels, which costs it more than drawing the picture.
    """
    signal = signal[:, None]
    noise = 1 - signal
    skip = passed * variance * signal.sqrt() / (passed * variance * signal + noise)
    out = (variance * (1 - skip * signal.sqrt()) ** 2 + noise * skip**2).sqrt()
    return skip[..., None, None], out[..., None, None]


def joint_attention_bias(heads: int, frames: int, height: int, width: int, full_size: int, clean: Tensor | None = None) -> Tensor:
    """Additive self-attention bias over the tokens of `frames` joint frames.

    Logits fall with the squared distance of the two places in their pictures, measured in tokens of the full latent, and
    keys of clean frames are raised. clean: (S, frames) bool or None. Returns (1 or S, heads, frames*h*w, frames*h*w).
    """
    device = None if clean is None else clean.device
    step = full_size / height
    rows = torch.arange(height, device=device).repeat_interleave(width) * step
    columns = torch.arange(width, device=device).repeat(height) * step
    squared = (rows[:, None] - rows[None]) ** 2 + (columns[:, None] - columns[None]) ** 2  # (h*w, h*w)
    slopes = torch.logspace(*(math.log10(slope) for slope in BIAS_SLOPES), heads, device=device)
    bias = (-slopes[:, None, None] * squared).repeat(1, frames, frames)[None]  # (1, heads, L, L)
    if clean is None:
        return bias
    keys = clean.float().repeat_interleave(height * width, dim=1) * CLEAN_BIAS  # (S, L)
    return bias + keys[:, None, None, :]


class ResidualBlock(nn.Module):
    def __init__(self, channels_in: int, channels: int, embedding: int):
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(32, channels_in), nn.SiLU(), nn.Conv2d(channels_in, channels, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, channels))
        self.out_layers = nn.Sequential(nn.GroupNorm(32, channels), nn.SiLU(), nn.Identity(), nn.Conv2d(channels, channels, 3, padding=1))
        self.skip_connection = nn.Identity() if channels_in == channels else nn.Conv2d(channels_in, channels, 1)
        _zero(self.out_layers[3])

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        hidden = self.in_layers(x) + self.emb_layers(embedding)[..., None, None]
        return self.skip_connection(x) + self.out_layers(hidden)


class Attention(nn.Module):
    def __init__(self, channels: int, context: int):
        super().__init__()
        self.heads = channels // HEAD_CHANNELS
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context, channels, bias=False)
        self.to_v = nn.Linear(context, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, x: Tensor, context: Tensor, bias: Tensor | None = None) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.to_q(x), self.to_k(context), self.to_v(context)))
        return self.to_out(_attend(q, k, v, bias).transpose(1, 2).flatten(-2))


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v. Written out for bfloat16 on the CPU, where torch's fused kernel takes 2 to 5 times as long."""
    bias = None if bias is None else bias.to(q.dtype)
    if q.dtype != torch.bfloat16 or q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    with torch.autocast("cpu", enabled=False):
        return (logits if bias is None else logits + bias).softmax(-1) @ v


class GatedLinear(nn.Module):
    def __init__(self, channels: int, inner: int):
        super().__init__()
        self.proj = nn.Linear(channels, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        x, gate = self.proj(x).chunk(2, dim=-1)
        return x * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.net = nn.Sequential(GatedLinear(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class JointTransformerBlock(nn.Module):
    """Self-attention over all frames of a scene, cross-attention to its text, feed-forward per token."""

    def __init__(self, channels: int, context: int):
        super().__init__()
        self.attn1 = Attention(channels, channels)
        self.attn2 = Attention(channels, context)
        self.ff = FeedForward(channels)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(channels), nn.LayerNorm(channels), nn.LayerNorm(channels)

    def forward(self, x: Tensor, context: Tensor, frames: int, bias: Tensor) -> Tensor:
        joint = self.norm1(x).unflatten(0, (-1, frames)).flatten(1, 2)  # (S, frames*h*w, C)
        x = x + self.attn1(joint, joint, bias).unflatten(1, (frames, -1)).flatten(0, 1)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class JointTransformer(nn.Module):
    def __init__(self, channels: int, context: int):
        super().__init__()
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([JointTransformerBlock(channels, context)])
        self.proj_out = nn.Linear(channels, channels)
        _zero(self.proj_out)

    def forward(self, x: Tensor, context: Tensor, frames: int, bias: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        tokens = self.proj_in(self.norm(x).flatten(2).transpose(1, 2))  # (B, h*w, C)
        tokens = self.proj_out(self.transformer_blocks[0](tokens, context, frames, bias))
        return x + tokens.transpose(1, 2).unflatten(2, (height, width))


class Downsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class JointPrior(nn.Module):
    """x0 prediction of all frames of S scenes at once; host layout (see the module's text). `variance` (C,) is the codec's.

    forward: latents (S*V, C, h, w), timesteps (S*V,) in [0, 1000), context (S*V, L, D), condition (S*V, Y), frames V,
    clean (S, V) bool or None -> (S*V, C, h, w).
    """

    def __init__(self, config: JointPriorConfig, variance: Tensor | None = None):
        super().__init__()
        self.config = config
        self.register_buffer("variance", torch.ones(config.latent_channels) if variance is None else variance.clone(), persistent=False)
        self.register_buffer("signal", alpha_bar(), persistent=False)
        width, embedding = config.width, 4 * config.width
        block = lambda channels_in: [ResidualBlock(channels_in, width, embedding), JointTransformer(width, config.context_size)]  # noqa: E731
        self.time_embed = nn.Sequential(nn.Linear(width, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.label_emb = nn.Sequential(nn.Sequential(nn.Linear(config.condition_size, embedding), nn.SiLU(), nn.Linear(embedding, embedding)))
        inputs = [nn.ModuleList([nn.Conv2d(config.latent_channels, width, 3, padding=1)])]
        for level in range(config.levels):
            inputs.extend(nn.ModuleList(block(width)) for _ in range(config.blocks[level]))
            if level < config.levels - 1:
                inputs.append(nn.ModuleList([Downsample(width)]))
        self.label_emb[0][0].weight.data[:, : CAMERA_SIZE + TIME_SIZE] *= CODE_GAIN
        self.input_blocks = nn.ModuleList(inputs)
        self.middle_block = nn.ModuleList([*block(width), ResidualBlock(width, width, embedding)])
        outputs = []
        for level in reversed(range(config.levels)):
            outputs.extend(nn.ModuleList(block(2 * width)) for _ in range(config.blocks[level]))
            outputs.append(nn.ModuleList(block(2 * width) + ([Upsample(width)] if level else [])))
        self.output_blocks = nn.ModuleList(outputs)
        self.out = nn.Sequential(nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, config.latent_channels, 3, padding=1))
        _zero(self.out[2])

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor, condition: Tensor, frames: int = 1, clean: Tensor | None = None) -> Tensor:
        assert x.shape[0] % frames == 0, f"{x.shape[0]} pictures are no whole number of {frames}-frame scenes"
        embedding = self.time_embed(timestep_embedding(timesteps, self.config.width)) + self.label_emb(condition)
        biases = self._biases(frames, clean, x.device)
        run = lambda layers, h: self._run(layers, h, embedding, context, frames, biases)  # noqa: E731
        skips, hidden = [], x
        for layers in self.input_blocks:
            hidden = run(layers, hidden)
            skips.append(hidden)
        hidden = run(self.middle_block, hidden)
        for layers in self.output_blocks:
            hidden = run(layers, torch.cat([hidden, skips.pop()], dim=1))
        skip, out = preconditioning(self.variance, self.signal[timesteps.long()], self.config.passed)
        return skip * x + out * self.out(hidden)

    def _biases(self, frames: int, clean: Tensor | None, device) -> dict[int, Tensor]:
        full = self.config.latent_size
        sizes = [full >> level for level in range(self.config.levels)]
        return {size: joint_attention_bias(self.config.width // HEAD_CHANNELS, frames, size, size, full, clean).to(device) for size in sizes}

    @staticmethod
    def _run(layers: nn.ModuleList, hidden: Tensor, embedding: Tensor, context: Tensor, frames: int, biases: dict[int, Tensor]) -> Tensor:
        for layer in layers:
            if isinstance(layer, ResidualBlock):
                hidden = layer(hidden, embedding)
            elif isinstance(layer, JointTransformer):
                hidden = layer(hidden, context, frames, biases[hidden.shape[-1]])
            else:
                hidden = layer(hidden)
        return hidden


def _zero(layer: nn.Module) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
