"""Whole pictures with exact deferred back-propagation: memory of one chunk of rays, gradient of the whole picture."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..fields.field import Field
from ..geometry.cameras import Cameras
from .occupancy import OccupancyState
from .volume import Rendered, VolumeRenderer


@dataclass
class RenderedViews:
    """Pictures of N cameras, differentiable with respect to the field's parameters."""

    rgb: Tensor  # (N, H, W, 3) sRGB, premultiplied
    opacity: Tensor  # (N, H, W)
    depth: Tensor  # (N, H, W) distance along the ray, weighted by opacity
    z_variance: Tensor  # (N, H, W)
    directions: Tensor  # (N, H, W, 3) unit, for the background
    samples: int

    def over(self, background: Tensor) -> Tensor:
        """Composite over colours that broadcast to (N, H, W, 3)."""
        return self.rgb + (1.0 - self.opacity[..., None]) * background


def render_views(
    renderer: VolumeRenderer,
    field: Field,
    state: OccupancyState,
    cameras: Cameras,
    height: int,
    width: int,
    seed: int | None = None,
    chunk: int = 0,
) -> RenderedViews:
    """Render all `cameras` (4D-fy's memory plan, specification 1.6).

    `seed` places the samples at random within their steps (training); None puts them in the middle. `chunk` rays at a time;
    0 or at least all of them keeps the graph of a single render. In chunks, nothing is kept: the backward pass renders each
    chunk again with the same samples and feeds it its share of the pictures' gradient, so the sum is the gradient of the
    whole, whatever the chunk. The field and `state` must not change between the two passes.
    """
    origins, directions, times = cameras.rays(height, width)
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    rays = (origins, directions, times, renderer.jitter(origins, generator))
    if 0 < chunk < origins.shape[0]:
        parameters = [parameter for group in field.roles().values() for parameter in group]
        *maps, samples = _DeferredRender.apply(renderer, field, state, rays, chunk, *parameters)
        samples = int(samples)
    else:
        rendered = renderer.render_jittered(field, state, *rays)
        maps, samples = _maps(rendered), rendered.samples
    shape = (len(cameras), height, width)
    rgb, opacity, depth, z_variance = maps
    return RenderedViews(
        rgb.reshape(*shape, 3), opacity.view(shape), depth.view(shape), z_variance.view(shape), directions.view(*shape, 3), samples
    )


def _maps(rendered: Rendered) -> list[Tensor]:
    return [rendered.rgb, rendered.opacity, rendered.depth, rendered.z_variance]


class _DeferredRender(torch.autograd.Function):
    """Renders without a graph; the backward pass renders part by part with one."""

    @staticmethod
    def forward(ctx, renderer, field, state, rays, chunk, *parameters):
        ctx.scene, ctx.rays, ctx.parameters = (renderer, field, state), rays, parameters
        ctx.parts = -(-len(rays[0]) // chunk)
        rendered = [renderer.render_jittered(field, state, *part) for part in _parts(rays, ctx.parts)]
        maps = [_joined(pieces, len(rays[0])) for pieces in zip(*map(_maps, rendered))]
        samples = torch.tensor(sum(part.samples for part in rendered))
        ctx.mark_non_differentiable(samples)
        return *maps, samples

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):
        renderer, field, state = ctx.scene
        wanted = [index for index, parameter in enumerate(ctx.parameters) if ctx.needs_input_grad[5 + index]]
        trained = [ctx.parameters[index] for index in wanted]
        totals: list[Tensor | None] = [None] * len(ctx.parameters)
        for part, incoming in zip(_parts(ctx.rays, ctx.parts), _parts(gradients[:4], ctx.parts)):
            with torch.enable_grad():
                maps = _maps(renderer.render_jittered(field, state, *part))
            for index, gradient in zip(wanted, torch.autograd.grad(maps, trained, incoming, allow_unused=True)):
                if gradient is not None:
                    totals[index] = gradient if totals[index] is None else totals[index].add_(gradient)
        return None, None, None, None, None, *totals


def _parts(values: tuple[Tensor, ...], count: int) -> list[tuple[Tensor, ...]]:
    """Every count-th ray, so that all parts see the object and need the same memory."""
    return [tuple(value[start::count] for value in values) for start in range(count)]


def _joined(pieces: tuple[Tensor, ...], rays: int) -> Tensor:
    whole = pieces[0].new_empty(rays, *pieces[0].shape[1:])
    for start, piece in enumerate(pieces):
        whole[start :: len(pieces)] = piece
    return whole
