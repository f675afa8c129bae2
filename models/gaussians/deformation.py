"""ST-HexPlane: how Gaussians move, turn and stretch over time, out of six feature planes and transferred priors (Orster, eqs 7-9)."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from .hexplane import HexPlane, HexPlaneConfig

MARGIN = 0.1  # of the canonical cloud's extent, on every side of the planes' box


@dataclass(frozen=True)
class PriorConfig:
    """Token sets O_s and O_t that the features attend to. `mode` "transfer": given with `set_priors` and kept; "learned":
    parameters. `tokens` of `width` numbers each; `heads` of the attention divide the attention's width of `attention`."""

    mode: str = "learned"
    tokens: int = 256
    width: int = 64
    attention: int = 64
    heads: int = 4

    def __post_init__(self):
        if self.mode not in ("transfer", "learned"):
            raise ValueError(f'Priors of mode "{self.mode}" are unknown. Choose "transfer" or "learned".')
        if not (1 <= self.tokens <= 65536 and 1 <= self.width <= 4096 and 1 <= self.heads <= 64 and 2 <= self.attention <= 4096):
            raise ValueError("Priors need 1 to 65536 tokens of 1 to 4096 numbers, 1 to 64 heads and 2 to 4096 numbers of attention.")
        if self.attention % (2 * self.heads):
            raise ValueError(f"An attention of {self.attention} numbers does not divide into {self.heads} heads of an even width. Change either.")


@dataclass(frozen=True)
class DeformationConfig:
    """ST-HexPlane: its planes, the width of the hidden layer, and the priors; without them it is 4DGS's HexPlane."""

    planes: HexPlaneConfig = field(default_factory=HexPlaneConfig)
    hidden: int = 64
    priors: PriorConfig | None = None

    def __post_init__(self):
        if not 1 <= self.hidden <= 4096:
            raise ValueError(f"A deformation's hidden layer has 1 to 4096 numbers, not {self.hidden}.")


class Affine(nn.Module):
    """A linear layer with a bias; drawn from `generator` within torch's default bounds, or all zero without one."""

    def __init__(self, inputs: int, outputs: int, generator: torch.Generator | None = None):
        super().__init__()
        draw = lambda *shape: torch.zeros(shape) if generator is None else (2.0 * torch.rand(shape, generator=generator) - 1.0) / math.sqrt(inputs)  # noqa: E731
        self.weight, self.bias = nn.Parameter(draw(outputs, inputs)), nn.Parameter(draw(outputs))

    def forward(self, values: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        return functional.linear(values, self.weight, self.bias)


class Priors(nn.Module):
    """V_s and V_t (eq. 8): attention of the features D to the spatial and to the temporal tokens.

    A temporal token carries its instant, and so does the question (a sinusoidal code added to key and query): at the start
    the features know no time, and a token of the right frame could not be found otherwise.
    """

    def __init__(self, config: PriorConfig, width: int, generator: torch.Generator):
        super().__init__()
        self.config = config
        tokens = 0.02 * torch.randn(2, config.tokens, config.width, generator=generator)
        if config.mode == "learned":
            self.spatial, self.temporal = nn.Parameter(tokens[0]), nn.Parameter(tokens[1])
        else:
            self.register_buffer("spatial", tokens[0])
            self.register_buffer("temporal", tokens[1])
        self.register_buffer("times", torch.linspace(0.0, 1.0, config.tokens))
        makes = lambda inputs: Affine(inputs, config.attention, generator)  # noqa: E731
        self.queries = nn.ModuleList(makes(width) for _ in range(2))
        self.keys = nn.ModuleList(makes(config.width) for _ in range(2))
        self.values = nn.ModuleList(makes(config.width) for _ in range(2))

    def set(self, spatial: Tensor, temporal: Tensor, times: Tensor) -> None:
        """Take over tokens (M, width) each and the instants (M,) of the temporal ones; ValueError when they do not fit."""
        wanted = (self.config.tokens, self.config.width)
        for name, value, shape in (("spatial", spatial, wanted), ("temporal", temporal, wanted), ("times of the", times, wanted[:1])):
            if tuple(value.shape) != shape:
                raise ValueError(f"The {name} prior tokens are {tuple(value.shape)}, {shape} are needed. Merge them to that size, or set the priors' tokens and width.")
        with torch.no_grad():
            self.spatial.copy_(spatial)
            self.temporal.copy_(temporal)
            self.times.copy_(times)

    def forward(self, features: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """V_s and V_t, each (M, N, attention), of features D (M, N, width) at `times` (M,)."""
        still = self._attend(0, features, self.spatial, 0.0, 0.0)
        code = self._code(times)[:, None]
        return still, self._attend(1, features, self.temporal, code, self._code(self.times))

    def _attend(self, which: int, features: Tensor, tokens: Tensor, asked: Tensor | float, said: Tensor | float) -> Tensor:
        query = self.queries[which](features) + asked  # (M, N, A)
        key, value = self.keys[which](tokens) + said, self.values[which](tokens)  # (tokens, A)
        heads = [part.unflatten(-1, (self.config.heads, -1)) for part in (query.flatten(0, 1), key, value)]
        found = functional.scaled_dot_product_attention(*(part.transpose(0, 1) for part in heads))  # (heads, M N, A / heads)
        return found.transpose(0, 1).reshape(query.shape)

    def _code(self, times: Tensor) -> Tensor:
        """Sines and cosines (M, attention) of `times`, the same for each head; products of codes peak at equal times."""
        count = self.config.attention // (2 * self.config.heads)
        angles = times[:, None] * math.pi * torch.arange(1, count + 1, device=times.device)
        return torch.cat([angles.sin(), angles.cos()], dim=-1).repeat(1, self.config.heads)


class Deformation(nn.Module):
    """Steps (M, N, 3), turns (M, N, 4) and stretches (M, N, 3) of N canonical points at M times.

    The heads start at zero, so an untrained deformation moves nothing, exactly.
    """

    def __init__(self, config: DeformationConfig, generator: torch.Generator):
        super().__init__()
        self.config = config
        self.planes = HexPlane(config.planes, generator)
        self.register_buffer("low", -torch.ones(3))
        self.register_buffer("high", torch.ones(3))
        width = config.planes.width
        self.priors = None if config.priors is None else Priors(config.priors, width, generator)
        seen = width + (0 if config.priors is None else 2 * config.priors.attention)
        self.trunk = Affine(seen, config.hidden, generator)
        self.heads = Affine(config.hidden, 10)

    @torch.no_grad()
    def set_bounds(self, positions: Tensor) -> None:
        """Fix the planes' box around canonical `positions` (N, 3), with a margin; points that leave it later read its border."""
        low, high = positions.amin(dim=0), positions.amax(dim=0)
        room = (high - low).clamp_min(1e-3) * MARGIN
        self.low.copy_(low - room)
        self.high.copy_(high + room)

    def forward(self, positions: Tensor, times: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`positions` (N, 3) canonical, `times` (M,) in [0, 1]."""
        points = 2.0 * (positions - self.low) / (self.high - self.low) - 1.0
        still, moving = self.planes(points, times)
        features = still * moving  # (M, N, width)
        known = [features] if self.priors is None else [features, *self.priors(features, times)]
        changes = self.heads(torch.relu(self.trunk(torch.cat(known, dim=-1))))
        return changes.split((3, 4, 3), dim=-1)

    def decoders(self) -> list[nn.Parameter]:
        """The parameters beside the planes."""
        return [parameter for name, parameter in self.named_parameters() if not name.startswith("planes.")]
