"""Whole pictures with exact deferred back-propagation: memory of one part of a picture, gradient of the whole."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


@dataclass
class RenderedViews:
    """Pictures of N cameras, differentiable with respect to the field's parameters."""

    rgb: Tensor  # (N, H, W, 3) sRGB, premultiplied
    opacity: Tensor  # (N, H, W)
    depth: Tensor  # (N, H, W) distance along the ray, weighted by opacity
    z_variance: Tensor  # (N, H, W)
    directions: Tensor  # (N, H, W, 3) unit, for the background
    samples: int
    displacement: Tensor | None = None  # (N, H, W, 3) weighted like colour; None for fields that displace nothing
    facing_away: Tensor | None = None  # (N, H, W) sum of sg(weight) max(0, normal . direction)^2; None where nobody asked

    def over(self, background: Tensor) -> Tensor:
        """Composite over colours that broadcast to (N, H, W, 3)."""
        return self.rgb + (1.0 - self.opacity[..., None]) * background


def render_in_parts(render: Callable, items: tuple[Tensor, ...], parts: int, parameters: list[nn.Parameter]) -> tuple[list[Tensor], int]:
    """Maps of all items, and how many samples they took (4D-fy's memory plan, specification 1.6).

    `render(*items)` returns a list of maps, a row per item, and a number; `items` are tensors with a common first axis. In more
    than one part nothing is kept: the backward pass renders each part again and feeds it its share of the maps' gradient, so the
    sum over the parts is the gradient of the whole, whatever their number. What `render` reads must not change in between.
    """
    if parts <= 1:
        return render(*items)
    *maps, samples = _InParts.apply(render, items, parts, *parameters)
    return maps, int(samples)


def trained(field: nn.Module) -> list[nn.Parameter]:
    """Every parameter that a field gives a role."""
    return [parameter for group in field.roles().values() for parameter in group]


class _InParts(torch.autograd.Function):
    """Renders without a graph; the backward pass renders part by part with one."""

    @staticmethod
    def forward(ctx, render, items, parts, *parameters):
        ctx.render, ctx.items, ctx.parts, ctx.parameters = render, items, parts, parameters
        rendered = [render(*part) for part in _parts(items, parts)]
        maps = [_joined(pieces, len(items[0])) for pieces in zip(*(maps for maps, _ in rendered))]
        samples = torch.tensor(sum(samples for _, samples in rendered))
        ctx.mark_non_differentiable(samples)
        return *maps, samples

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):
        wanted = [index for index in range(len(ctx.parameters)) if ctx.needs_input_grad[3 + index]]
        parameters = [ctx.parameters[index] for index in wanted]
        totals: list[Tensor | None] = [None] * len(ctx.parameters)
        for part, incoming in zip(_parts(ctx.items, ctx.parts), _parts(gradients[:-1], ctx.parts)):
            with torch.enable_grad():
                maps, _ = ctx.render(*part)
            for index, gradient in zip(wanted, torch.autograd.grad(maps, parameters, incoming, allow_unused=True)):
                if gradient is not None:
                    totals[index] = gradient if totals[index] is None else totals[index].add_(gradient)
        return None, None, None, *totals


def _parts(values: tuple[Tensor, ...], count: int) -> list[tuple[Tensor, ...]]:
    """Every count-th item, so that all parts see the object and need the same memory."""
    return [tuple(value[start::count] for value in values) for start in range(count)]


def _joined(pieces: tuple[Tensor, ...], items: int) -> Tensor:
    whole = pieces[0].new_empty(items, *pieces[0].shape[1:])
    for start, piece in enumerate(pieces):
        whole[start :: len(pieces)] = piece
    return whole
