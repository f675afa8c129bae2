"""What every field offers, so that any field runs with any renderer, stage and prior."""

from typing import Protocol

from torch import Tensor, nn


def checked_numbers(state: Tensor, count: int) -> list[float]:
    """The scheduled values that a field stores beside its parameters; ValueError unless they are `count` finite numbers."""
    if tuple(state.shape) != (count,) or not bool(state.isfinite().all()):
        raise ValueError(f"the stored levels and blob radius are {tuple(state.shape)} numbers of which some may not be finite, {count} finite ones are needed")
    return state.tolist()


class Field(Protocol):
    """A scene: density and colour over space and time. Fields are `nn.Module`s with a frozen `config`; none inherits this.

    A field over a frozen canonical one also has `displacement` and `displaced`, see `deformed.Deformed`.
    """

    kind: str

    def __call__(self, positions: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """Density (M,) per unit length and sRGB colour (M, 3) at `positions` (M, 3) in [-1, 1]^3 and `times` (M,) in [0, 1]."""

    def density(self, positions: Tensor, times: Tensor) -> Tensor:
        """Density (M,) alone."""

    def is_static(self) -> bool:
        """Whether time changes nothing now, so that one instant stands for all."""

    def background(self, directions: Tensor) -> Tensor | None:
        """Colour (R, 3) infinitely far along unit directions (R, 3), or None."""

    def roles(self) -> dict[str, list[nn.Parameter]]:
        """Parameters under the names static, dynamic, decoder, material and background."""

    def levels(self) -> tuple[int, int]:
        """How many grid levels follow a stage's static schedule, and how many its dynamic one."""

    def set_levels(self, static_active: float, dynamic_active: float) -> None:
        """How many levels take part, for coarse-to-fine training."""

    def set_blob(self, radius: float) -> None:
        """Radius of the density blob of the start."""
