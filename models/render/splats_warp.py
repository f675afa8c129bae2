"""The warp twin of splat compositing: the same function as `splats_torch.composite`, by our kernels."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from . import splats_torch
from .splat_projection import Splats, SplatSettings

CPU_TILE, GPU_TILE = 8, 16  # pixels along an edge
PAIR_BYTES = 24  # besides the gradients


def composite(splats: Splats, views: int, height: int, width: int, settings: SplatSettings) -> tuple[Tensor, Tensor]:
    """`splats_torch.composite` in single precision, on the CPU and on CUDA; doubles and pictures of nothing go to the reference itself."""
    if splats.features.dtype != torch.float32 or not splats.index.numel():
        return splats_torch.composite(splats, views, height, width, settings)
    lists = _Lists.of(splats, views, height, width, settings)
    count = splats.features.shape[1]
    shapes = torch.cat([splats.centre, splats.opacity[:, None], splats.reach[:, None]], dim=1)
    conics = functional.pad(splats.conic, (0, 1))
    features = functional.pad(splats.features, (0, -count % 4)).contiguous()
    sums, weights = _Composite.apply(shapes, conics, features, lists)
    return sums[:, :count].view(views, height, width, count), weights.view(views, height, width)


@dataclass(frozen=True)
class _Lists:
    """The splats of each tile. ends (M,): one past each splat's last pair; first (tiles + 1,), pair (P,), splat (P,): sorted by tile; all int32."""

    views: int
    height: int
    width: int
    settings: SplatSettings
    tile: int
    ends: Tensor
    first: Tensor
    pair: Tensor
    splat: Tensor

    @classmethod
    def of(cls, splats: Splats, views: int, height: int, width: int, settings: SplatSettings) -> "_Lists":
        """With tiles as large as it takes to keep the pairs within the budget."""
        from .kernels import runtime

        device = splats.box.device
        boxes, view = splats.box.t().to(torch.int32).contiguous(), splats.view.to(torch.int32)
        tile = CPU_TILE if device.type == "cpu" else GPU_TILE
        most = settings.bytes_at_once // (PAIR_BYTES + 4 * (8 + splats.features.shape[1]))
        while True:
            screen = _screen(views, height, width, tile, settings)
            counts = view.new_empty(len(view))
            runtime.launch(_kernel("count_pairs"), (len(view),), 0, [runtime.numbers(boxes), screen, runtime.numbers(counts)], device)
            ends = counts.cumsum(0)
            pairs = int(ends[-1])
            if pairs <= max(most, len(view)) or tile >= max(height, width):
                break
            tile *= 2
        tiles, owners = view.new_empty(pairs), view.new_empty(pairs)
        ends = ends.to(torch.int32)
        arrays = [runtime.numbers(value) for value in (boxes, view, ends)]
        runtime.launch(_kernel("list_pairs"), (len(view),), 0, [*arrays, screen, runtime.numbers(tiles), runtime.numbers(owners)], device)
        first = torch.bincount(tiles, minlength=views * screen.across * screen.down).cumsum(0)
        first = functional.pad(first, (1, 0)).to(torch.int32)
        order = _sorted(tiles, first)
        return cls(views, height, width, settings, tile, ends, first, order, owners[order.long()])

    def screen(self):
        """The kernels' struct."""
        return _screen(self.views, self.height, self.width, self.tile, self.settings)

    def struct(self):
        """The kernels' struct of the lists."""
        from .kernels import runtime, splats as kernels

        made = kernels.Lists()
        made.first, made.pair, made.splat = (runtime.numbers(value) for value in (self.first, self.pair, self.splat))
        return made

    @property
    def dim(self) -> tuple[int, int]:
        """Tiles and pixels of a tile."""
        return self.first.shape[0] - 1, self.tile**2


def _kernel(name: str):
    from .kernels import splats as kernels

    return getattr(kernels, name)


def _screen(views: int, height: int, width: int, tile: int, settings: SplatSettings):
    made = _kernel("Screen")()
    made.views, made.height, made.width, made.tile = views, height, width, tile
    made.across, made.down = -(-width // tile), -(-height // tile)
    made.threshold, made.max_alpha, made.stop = settings.alpha_threshold, settings.max_alpha, settings.transmittance_stop
    return made


def _sorted(tiles: Tensor, first: Tensor) -> Tensor:
    """Numbers (P,) of the pairs sorted by tile, in their own order inside each."""
    from .kernels import runtime

    if tiles.device.type != "cpu":
        return torch.sort(tiles, stable=True)[1].to(torch.int32)
    order = torch.empty_like(tiles)
    runtime.launch(_kernel("sort_pairs"), (1,), 0, [runtime.numbers(value) for value in (tiles, first.clone(), order)], tiles.device)
    return order


class _Composite(torch.autograd.Function):
    """Keeps the splats, the light that each pixel has left, and where in its list it stopped."""

    @staticmethod
    def forward(ctx, shapes, conics, features, lists):
        from .kernels import runtime

        pixels, groups = lists.views * lists.height * lists.width, features.shape[1] // 4
        sums = features.new_zeros(pixels, groups, 4)
        weights, lights = features.new_empty(pixels), features.new_empty(pixels)
        lasts = lists.first.new_empty(pixels)
        arrays = [runtime.vectors(value) for value in (shapes, conics, features.view(-1, groups, 4))]
        out = [runtime.vectors(sums), *(runtime.numbers(value) for value in (weights, lights, lasts))]
        runtime.launch(_kernel("composite"), lists.dim, 0, [*arrays, lists.struct(), lists.screen(), *out], features.device)
        ctx.lists = lists
        ctx.save_for_backward(shapes, conics, features, lights, lasts)
        return sums.flatten(1), weights

    @staticmethod
    @once_differentiable
    def backward(ctx, by_sums, by_weights):
        from .kernels import runtime

        lists, (shapes, conics, features, lights, lasts) = ctx.lists, ctx.saved_tensors
        groups = features.shape[1] // 4
        slots = features.new_zeros(len(lists.pair), 2 + groups, 4)
        arrays = [runtime.vectors(value) for value in (shapes, conics, features.view(-1, groups, 4))]
        incoming = [runtime.vectors(by_sums.contiguous().view(-1, groups, 4)), runtime.numbers(by_weights.contiguous())]
        state = [lists.struct(), lists.screen(), runtime.numbers(lights), runtime.numbers(lasts)]
        runtime.launch(_kernel("differentiate"), lists.dim, 0, [*arrays, *state, *incoming, runtime.vectors(slots)], features.device)
        totals = features.new_empty(len(features), 2 + groups, 4)
        runtime.launch(_kernel("sum_slots"), (len(features), 2 + groups), 0, [runtime.vectors(slots), runtime.numbers(lists.ends), runtime.vectors(totals)], features.device)
        return totals[:, 0], totals[:, 1], totals[:, 2:].flatten(1), None
