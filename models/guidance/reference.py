"""Reference View Loss: the render of a known camera against a picture and its mask (Dream-in-4D, image to 4D; specification 2.4)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from .objective import Outcome, Pictures


@dataclass(frozen=True)
class Reference:
    """One picture (H, W, 3) of the object in [0, 1], its own colours, and its mask (H, W): 1 on the object. The judge of a `ReferenceView`."""

    image: Tensor
    mask: Tensor

    def at(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Colours premultiplied by the mask (1, H, W, 3) and the mask (1, H, W) at a size, filtered before they are made smaller.

        Resized together, so that no colour from behind the object gets into its edge.
        """
        picture = torch.cat([self.image * self.mask[..., None], self.mask[..., None]], dim=-1).movedim(-1, 0)[None]
        if tuple(picture.shape[-2:]) != (height, width):
            picture = functional.interpolate(picture, (height, width), mode="bilinear", align_corners=False, antialias=True)
        return picture[:, :3].movedim(1, -1), picture[:, 3]


@dataclass(frozen=True)
class ReferenceView:
    """rgb MSE(render, image mask + background (1 - mask)) + mask MSE(opacity, mask), both over all pixels.

    The background is the render's own and learns nothing from this term. Weights: Dream-in-4D's code.
    """

    rgb: float = 500.0
    mask: float = 50.0
    known_view: ClassVar[bool] = True  # penalties leave its pictures alone

    def evaluate(self, pictures: Pictures, judge: Reference, step: int, steps: int, keys: tuple) -> Outcome:
        """See `Objective`; it draws nothing."""
        opacity, behind = pictures.views.opacity, pictures.behind.detach()
        colours, mask = (value.to(opacity) for value in judge.at(*opacity.shape[1:]))
        target = colours + (1.0 - mask)[..., None] * behind
        squared = (pictures.views.over(behind) - target).square().mean()
        return Outcome(self.rgb * squared + self.mask * (opacity - mask).square().mean())
