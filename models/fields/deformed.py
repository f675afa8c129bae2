"""What every animated scene shares: a frozen canonical scene, a displacement that learns, perhaps a background of its own."""

import copy
import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..formats.configs import read_config
from .background import Background, BackgroundConfig
from .displacement import PAPER_DISPLACEMENT, Displacement, DisplacementConfig
from .field import checked_numbers

LARGEST_SCALE = 100.0
RELEARNED_BACKGROUND = BackgroundConfig("network", hidden=64, layers=3)  # of Dream-in-4D


@dataclass(frozen=True)
class DeformableConfig:
    """What is added to a canonical scene; the defaults are Dream-in-4D's.

    `scale` shows the canonical scene so many times larger (1.5 to 2 for small assets out of one image). `time` is the instant
    at which a canonical scene that moves by itself is frozen. `background` None keeps the canonical one.
    """

    displacement: DisplacementConfig = PAPER_DISPLACEMENT
    scale: float = 1.0
    time: float = 0.0
    background: BackgroundConfig | None = RELEARNED_BACKGROUND

    def __post_init__(self):
        if not 1.0 / LARGEST_SCALE <= self.scale <= LARGEST_SCALE:
            raise ValueError(f"A canonical scene is shown at 1/{LARGEST_SCALE:g} to {LARGEST_SCALE:g} times its size, not at {self.scale:g}. Change deformation_scale.")
        if not 0.0 <= self.time <= 1.0:
            raise ValueError(f"A canonical scene is frozen at a time from 0 to 1, not at {self.time:g}. Change time.")

    @classmethod
    def from_dict(cls, values: dict) -> "DeformableConfig":
        """The inverse of `dataclasses.asdict`, for files; ValueError that names what is wrong."""
        return read_config(cls, values)


class Deformed(nn.Module):
    """A canonical scene that nothing changes, and the displacement that moves it.

    `canonical` is this field's own from here on. Its parameters have no role, so no optimiser holds them, and no gradient
    reaches them; `canonical_hash` proves that they stay as they are. Times a displacement, `way` is how a point has moved from
    its place in the canonical scene, in the scene's own coordinates.
    """

    way: float

    def __init__(self, config: DeformableConfig, generator: torch.Generator, canonical: nn.Module):
        super().__init__()
        self.config = config
        self.canonical = canonical.requires_grad_(False)
        self.moving = Displacement(config.displacement, generator)
        self.distant = None if config.background is None else Background(config.background, generator)

    def displacement(self, positions: Tensor, times: Tensor) -> Tensor:
        """Displacements (M, 3) at `positions` (M, 3) in [-1, 1]^3 and `times` (M,) in [0, 1], in units of the cube's side (2)."""
        return self.moving(positions * 0.5 + 0.5, times)

    def is_static(self) -> bool:
        """Whether time changes nothing now."""
        return self.moving.is_still()

    def background(self, directions: Tensor) -> Tensor | None:
        """Colour (R, 3) infinitely far along unit `directions` (R, 3): the canonical scene's, or one that is learned anew."""
        return self.canonical.background(directions) if self.distant is None else self.distant(directions)

    def roles(self) -> dict[str, list[nn.Parameter]]:
        """The displacement's grid is dynamic and its network a decoder; the canonical scene has no role."""
        return {
            "static": [],
            "dynamic": [] if self.moving.grid is None else [self.moving.grid.table],
            "decoder": list(self.moving.decoder.parameters()),
            "material": [],
            "background": [] if self.distant is None else list(self.distant.parameters()),
        }

    def levels(self) -> tuple[int, int]:
        """Levels of the displacement's grid follow the dynamic schedule."""
        return 0, self.moving.levels

    def set_levels(self, static_active: float, dynamic_active: float) -> None:
        """Coarse to fine for the displacement; the canonical scene keeps its levels."""
        self.moving.set_levels(dynamic_active)

    def set_blob(self, radius: float) -> None:
        """Nothing to set: the canonical scene keeps its ball."""

    def requires_grad_(self, requires_grad: bool = True) -> "Deformed":
        """As of every module, except that the canonical scene never takes gradients."""
        super().requires_grad_(requires_grad)
        self.canonical.requires_grad_(False)
        return self

    def clone(self) -> "Deformed":
        """An independent copy with the same values; all but the canonical scene is trainable."""
        return copy.deepcopy(self).requires_grad_(True)

    def canonical_hash(self) -> str:
        """SHA-256 over every tensor of the canonical scene, with its name, kind of number and shape."""
        digest = hashlib.sha256()
        for name, value in sorted(self.canonical.state_dict().items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(memoryview(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()))
        return digest.hexdigest()

    def get_extra_state(self) -> Tensor:
        """How many levels take part, so that a saved field renders as it did."""
        return torch.tensor([self.moving.active], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        self.moving.set_levels(*checked_numbers(state, 1))
