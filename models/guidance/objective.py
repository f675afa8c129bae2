"""What every guidance term is: pictures and a judge in, a loss whose gradient teaches the field out."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from ..geometry.cameras import Cameras
from ..render.deferred import RenderedViews


@dataclass(frozen=True)
class Pictures:
    """What a term's cameras see. Colours and opacities carry gradients."""

    views: RenderedViews
    cameras: Cameras
    behind: Tensor  # colours behind the object, broadcasting to (B, H, W, 3): for a judge that sees no alpha

    @property
    def composited(self) -> Tensor:
        """(B, H, W, 3) over `behind`."""
        return self.views.over(self.behind)

    def for_prior(self, prior) -> tuple[Tensor, Tensor]:
        """rgb (B, H, W, 3) and alpha (B, H, W) as the prior's encoder takes them: premultiplied, or composited and opaque."""
        if prior.accepts_alpha:
            return self.views.rgb, self.views.opacity
        backdrop = getattr(prior, "backdrop", None)  # a model trained on white alone says so
        rgb = self.composited if backdrop is None else self.views.over(torch.full_like(self.views.rgb[:1, :1, :1], backdrop))
        return rgb, self.views.opacity.new_ones(self.views.opacity.shape)


@contextmanager
def shared(pictures: Pictures, terms: int) -> Iterator[Pictures]:
    """The same pictures for several terms, each of which goes backward by itself.

    Their gradients gather in the pictures, and the renderer goes backward once, when the context is left: no two judges'
    graphs are alive together. A single term gets the pictures as they are.
    """
    if terms == 1:
        yield pictures
        return
    made = {name: value for name, value in (vars(pictures.views) | {"behind": pictures.behind}).items() if isinstance(value, Tensor) and value.requires_grad}
    leaves = {name: value.detach().requires_grad_() for name, value in made.items()}
    behind = leaves.get("behind", pictures.behind)
    yield replace(pictures, views=replace(pictures.views, **{name: leaf for name, leaf in leaves.items() if name != "behind"}), behind=behind)
    touched = [name for name, leaf in leaves.items() if leaf.grad is not None]
    if touched:
        torch.autograd.backward([made[name] for name in touched], [leaves[name].grad for name in touched])


@dataclass(frozen=True)
class Outcome:
    """The outcome of one term: a loss whose gradient is exact, and what is worth plotting."""

    loss: Tensor  # scalar with a graph back to the pictures
    level: float = float("nan")  # mean noise level t, where there is one
    gradient_norm: float = float("nan")  # of the latent gradient, over the whole batch
    non_finite: int = 0  # entries of the gradient that were set to 0, or all of them
    denoised: Tensor | None = None  # the prior's estimate in its own space, no gradient
    latents: Tensor | None = None  # the pictures in that space, no gradient
    learning: Tensor | None = None  # scalar: loss of the judge's own learner, with a graph to its parameters alone


class Learner(Protocol):
    """Something that a term trains beside the field, such as VSD's phi. Its judge carries it as `learner`."""

    rate: float  # learning rate of its own AdamW

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Every trained parameter under a name that is the same in each run."""


class Objective(Protocol):
    """How one term turns pictures into a loss; a frozen dataclass, so that runs can be told apart by it.

    `judge` is what the term's source opened: a `Prior`, or whatever this kind of objective asks (a reference picture).
    One whose pictures have a target of their own says so by a `known_view` that is true; without it they pay the penalties.
    Random numbers come from `generator(*keys, purpose)` alone (`seeds.py`), so that a repeated step draws them again.
    """

    def evaluate(self, pictures: Pictures, judge, step: int, steps: int, keys: tuple) -> Outcome:
        """The term's loss on these pictures at `step` of a stage of `steps`."""
