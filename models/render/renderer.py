"""What every renderer offers, so that any optimiser works with any of them, and the one that a field gets by default."""

from typing import Protocol

import torch
from torch import Tensor

from ..fields.field import Field
from ..geometry.cameras import Cameras
from .deferred import RenderedViews
from .splat_renderer import SplatRenderer, is_cloud
from .volume import VolumeRenderer


class RendererState(Protocol):
    """What a renderer learns about a scene while it changes; `type(state)(**state.tensors())` is a copy."""

    def tensors(self) -> dict[str, Tensor]:
        """The state for a checkpoint."""


class Renderer(Protocol):
    """Turns a field into pictures. Holds a frozen `config` and no tensor; none inherits this."""

    kind: str
    search_bytes: int  # per ray, beside what a render keeps for its backward pass

    def check(self, field: Field) -> None:
        """ValueError, in one line with a remedy, for a field that it can not render."""

    def new_state(self, field: Field, generator: torch.Generator | None = None) -> RendererState:
        """What is known of a scene before the first render; checks the field."""

    def update(self, field: Field, state: RendererState, step: int, generator: torch.Generator, progress: float = 0.0) -> None:
        """Refresh `state` in place after a step; `progress` in [0, 1] is the finished fraction of the stage."""

    def render_views(
        self, field: Field, state: RendererState, cameras: Cameras, height: int, width: int, seed: int | None = None, chunk: int = 0,
        displacement: bool = False,
    ) -> RenderedViews:  # fmt: skip
        """Differentiable pictures of all cameras, each at its time; about `chunk` pixels' graph at a time, 0 for all. With
        `displacement`, which only fields over a canonical one have, it is rendered too; renderers of densities also take
        `facing_away`."""

    def render_pixels(self, field: Field, state: RendererState, cameras: Cameras, height: int, width: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """About `count` random pixels of these pictures, as many as the renderer finds cheap: flat number, colour, opacity."""

    def normal_views(self, field: Field, state: RendererState, cameras: Cameras, height: int, width: int) -> Tensor:
        """Unit normals (N, H, W, 3) in the world, for pictures."""


def default_renderer(field: Field) -> Renderer:
    """Splats for Gaussians, volumes for every other field."""
    return SplatRenderer() if is_cloud(field) else VolumeRenderer()
