"""The small fully connected decoders of the fields."""

import itertools
import math

import torch
from torch import Tensor, nn


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
        *hidden, last = self.weights
        for weight in hidden:
            features = torch.relu(features @ weight.t())
        return features @ last.t()


def _uniform(inputs: int, outputs: int, generator: torch.Generator) -> nn.Parameter:
    bound = 1.0 / math.sqrt(inputs)
    return nn.Parameter((torch.rand(outputs, inputs, generator=generator) * 2.0 - 1.0) * bound)
