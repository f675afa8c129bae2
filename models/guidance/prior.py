"""What guidance needs from a diffusion model, whatever its kind."""

from typing import Protocol

from torch import Tensor

from ..geometry.cameras import Cameras


class Prior(Protocol):
    """A frozen diffusion model with its encoder and texts; only `encode` carries gradients.

    Latents are (B, C, h, w), or (1, C, B, h, w) where the model takes a video's frames as one sample. Noise levels are in the
    model's own units `sigma`, one per latent sample.
    """

    native_size: tuple[int, int]  # height, width of the pictures that `encode` takes
    default_guidance: float
    accepts_alpha: bool  # the encoder reads alpha; otherwise pictures are composited before it
    backdrop: float | None  # grey level that it was trained to see behind objects (1 white); None or left out: any
    singly: bool  # set by the loop, see `heavy`

    def encode(self, rgb: Tensor, alpha: Tensor) -> Tensor:
        """Latents of premultiplied rgb (B, H, W, 3) and alpha (B, H, W), both in [0, 1], resized bilinearly to the native size."""

    def heavy(self, pictures: int, room) -> bool:
        """Whether the graphs of so many encoded pictures do not fit together in what the run may plan with, which is asked of its
        `room` (`optimize/memory.py`). Then the loop sets `singly`, and `encode` recomputes them one by one in the backward pass:
        the same gradients."""

    def sigma_at(self, percent: Tensor) -> Tensor:
        """Noise levels at fractions of the schedule, 0 the noisiest and 1 clean; finite everywhere."""

    def coefficients(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(a, b) of z = a x0 + b eps."""

    def add_noise(self, x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """z = a x0 + b noise."""

    def denoise(
        self, z: Tensor, sigma: Tensor, cameras: Cameras, text: list[int] | None = None, unconditional: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """Denoised estimates with and without the text; `text` chooses a view direction's prompt for every picture."""


class DecodingPrior(Prior, Protocol):
    """A prior that can also show its latents."""

    def decode(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Premultiplied rgb (B, H, W, 3) and alpha (B, H, W) in [0, 1]; alpha is 1 where the model knows none."""


class NegatingPrior(Prior, Protocol):
    """A prior with negative prompts beside an empty one: what Perp-Neg asks."""

    def denoise_apart(self, z: Tensor, sigma: Tensor, cameras: Cameras, text: list[int] | None = None) -> tuple[Tensor, Tensor, list[tuple[Tensor | float, Tensor]]]:
        """Estimates with the prompt, with the empty one, and with every negative prompt beside its weight, one number or (B,)."""
