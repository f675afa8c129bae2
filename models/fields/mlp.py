"""The small fully connected decoders of the fields."""

import itertools
import math

import torch
from torch import Tensor, nn


CPU_ROWS = 1 << 13  # whose hidden layer stays in a core's cache
MOST_HIDDEN, MOST_LAYERS = 4096, 16


def check_decoder(hidden: int, layers: int) -> None:
    """ValueError unless a decoder may have so many hidden layers of such a width."""
    if not 1 <= hidden <= MOST_HIDDEN or not 0 <= layers <= MOST_LAYERS:
        raise ValueError(f"A decoder has 0 to {MOST_LAYERS} hidden layers of 1 to {MOST_HIDDEN} numbers, not {layers} of {hidden}. Change its layers or width.")


class MLP(nn.Module):
    """Linear layers without biases and ReLU between them, linear output (threestudio's VanillaMLP); always float of the input.

    `widths` are input, hidden and output sizes. Weights start uniform in +-1 / sqrt(inputs), torch's default for a linear layer.
    """

    def __init__(self, widths: tuple[int, ...], generator: torch.Generator):
        super().__init__()
        self.weights = nn.ParameterList(_uniform(inputs, outputs, generator) for inputs, outputs in itertools.pairwise(widths))

    def forward(self, features: Tensor) -> Tensor:
        """(M, inputs) -> (M, outputs)."""
        if torch.is_grad_enabled() or features.device.type != "cpu":
            return self._decode(features)
        return torch.cat([self._decode(part) for part in features.split(CPU_ROWS)])  # an eighth of the time for many rows, the same bytes

    def _decode(self, features: Tensor) -> Tensor:
        *hidden, last = self.weights
        for weight in hidden:
            features = torch.relu_(features @ weight.t())
        return features @ last.t()


def _uniform(inputs: int, outputs: int, generator: torch.Generator) -> nn.Parameter:
    bound = 1.0 / math.sqrt(inputs)
    return nn.Parameter((torch.rand(outputs, inputs, generator=generator) * 2.0 - 1.0) * bound)
