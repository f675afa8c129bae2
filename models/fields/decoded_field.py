"""What every field made of grids shares: features decoded to density and colour, a blob to start from, a background."""

import copy
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from .background import Background
from .mlp import MLP


class DecodedField(nn.Module, ABC):
    """Two decoders over the features (M, width) of some grids; subclasses say what the features are.

    A subclass builds its grids and then calls `add_decoders`: the order in which one generator is drawn from is part of a
    field's seed. Colours are sRGB in [0, 1]; densities are per unit length.
    """

    def add_decoders(self, width: int, generator: torch.Generator) -> None:
        """Decoders from `width` features, the background and the blob, as `self.config` describes them."""
        hidden = [self.config.hidden] * self.config.layers
        self.density_decoder = MLP((width, *hidden, 1), generator)
        self.colour_decoder = MLP((width, *hidden, 3), generator)
        self.distant = Background(self.config.background, generator)
        self.blob_radius = self.config.blob.radius

    @abstractmethod
    def features(self, positions: Tensor, times: Tensor) -> Tensor:
        """Features (M, width) at `positions` (M, 3) in [-1, 1]^3 and `times` (M,) in [0, 1]."""

    def forward(self, positions: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """Density (M,) and colour (M, 3) at `positions` (M, 3) and `times` (M,)."""
        features = self.features(positions, times)
        return self._density(features, positions), torch.sigmoid(self.colour_decoder(features))

    def density(self, positions: Tensor, times: Tensor) -> Tensor:
        """Density (M,) alone: for occupancy, normals and surfaces."""
        return self._density(self.features(positions, times), positions)

    def _density(self, features: Tensor, positions: Tensor) -> Tensor:
        return self.config.blob.density(self.density_decoder(features)[:, 0], positions, self.blob_radius)

    def background(self, directions: Tensor) -> Tensor | None:
        """Colour (R, 3) infinitely far along unit `directions` (R, 3); None without a background."""
        return self.distant(directions)

    def roles(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by what they are for; stages train and freeze by these names. Subclasses add their grids."""
        return {
            "static": [],
            "dynamic": [],
            "decoder": [*self.density_decoder.parameters(), *self.colour_decoder.parameters()],
            "material": [],
            "background": list(self.distant.parameters()),
        }

    def set_blob(self, radius: float) -> None:
        """Set the radius of the density blob (4D-fy: .5 -> 5 over the last stage, so that parts may leave the centre)."""
        if not radius > 0:
            raise ValueError(f"A density blob's radius must be above 0, not {radius:g}.")
        self.blob_radius = float(radius)

    def clone(self) -> "DecodedField":
        """An independent copy with the same values; parameters are trainable, whatever the original's are."""
        return copy.deepcopy(self).requires_grad_(True)
