"""The reference twin of splat compositing: plain torch, exact, any device.

Every splat is expanded into the pixels whose alpha reaches the threshold, the pairs are sorted by pixel and stay sorted by depth
inside each, and one cumulative sum of log(1 - alpha) in double over all pairs gives every transmittance as a difference. The
gradient is written out, so a pair keeps few numbers; pictures too large for the budget are drawn, and drawn again for their
gradient, in bands of rows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from .splat_projection import Splats, SplatSettings

PAIR_BYTES = 160  # at the most crowded moment of a band, in single precision


def composite(splats: Splats, views: int, height: int, width: int, settings: SplatSettings) -> tuple[Tensor, Tensor]:
    """Front to back: sums (B, H, W, F) of weight * feature, and the sums of the weights (B, H, W). Differentiable in the splats'
    centre, conic, opacity and features."""
    picture = _Picture(views, height, width)
    bands = _bands(splats, picture, settings)
    if not splats.index.numel():
        nothing = splats.features.sum() + splats.centre.sum() + splats.conic.sum() + splats.opacity.sum()  # zero, with a gradient path
        sums = splats.features.new_zeros(views, height, width, splats.features.shape[1]) + nothing
        return sums, sums.new_zeros(views, height, width) + nothing
    sums = _Composite.apply(splats.centre, splats.conic, splats.opacity, splats.features, splats, picture, bands, settings)
    sums = sums.view(views, height, width, -1)
    return sums[..., :-1], sums[..., -1]


@dataclass(frozen=True)
class _Picture:
    """B pictures below each other: line b H + y."""

    views: int
    height: int
    width: int

    @property
    def lines(self) -> int:
        return self.views * self.height


@dataclass(frozen=True)
class _Pairs:
    """P pairs of a splat and a pixel that it reaches, sorted by pixel and then by depth."""

    owner: Tensor  # (P,) int64, of the band's splats
    pixel: Tensor  # (P,) int64, of the band's pixels
    values: Tensor  # (4, P) pixel - centre in x and y, exp(-sigma), and the alpha before its maximum

    @property
    def alpha(self) -> Tensor:
        return self.values[3]


def _lines(splats: Splats, picture: _Picture) -> tuple[Tensor, Tensor]:
    """First and last line of every splat."""
    base = splats.view * picture.height
    return base + splats.box[2], base + splats.box[3]


def _bands(splats: Splats, picture: _Picture, settings: SplatSettings) -> list[tuple[int, int]]:
    """Ranges of lines whose pairs fit into the budget together; a line is never divided."""
    first, last = _lines(splats, picture)
    columns = splats.box[1] - splats.box[0] + 1
    steps = columns.new_zeros(picture.lines + 1).index_add(0, first, columns).index_add(0, last + 1, -columns)
    total = steps[:-1].cumsum(0).cumsum(0)  # pairs up to and including each line
    most = max(settings.bytes_at_once // (PAIR_BYTES * splats.features.element_size() // 4), 1)
    part = total // most
    ends = (torch.nonzero(part[1:] != part[:-1])[:, 0] + 1).tolist()
    return list(zip([0, *ends], [*ends, picture.lines]))


class _Band:
    """The splats that reach a range of lines, and their pairs."""

    def __init__(self, splats: Splats, tensors: tuple[Tensor, ...], picture: _Picture, lines: tuple[int, int], settings: SplatSettings):
        self.start, self.stop = lines
        self.width, self.settings = picture.width, settings
        first, last = _lines(splats, picture)
        self.members = ((last >= self.start) & (first < self.stop)).nonzero()[:, 0]
        self.first = first[self.members].clamp(min=self.start)
        self.last = last[self.members].clamp(max=self.stop - 1)
        self.left, right = splats.box[0][self.members], splats.box[1][self.members]
        self.columns = right - self.left + 1
        centre, conic, opacity, features = (value.detach().index_select(0, self.members) for value in tensors)
        self.top = splats.view[self.members] * picture.height
        self.table = torch.cat([(centre - 0.5).t(), conic.t(), opacity[None]])  # (6, M)
        self.features = torch.cat([features, torch.ones_like(opacity)[:, None]], dim=1)  # (M, F + 1)

    @property
    def pixels(self) -> int:
        return (self.stop - self.start) * self.width

    def pairs(self) -> _Pairs:
        """All pairs with an alpha of at least the threshold."""
        line, owner = _expanded(self.first, self.last - self.first + 1)
        x, y, xx, xy, yy, opacity = self.table.index_select(1, owner)
        dy = line - self.top.index_select(0, owner) - y
        column, row = _expanded(self.left.index_select(0, owner), self.columns.index_select(0, owner))
        x, dy, half, slope, base, opacity = torch.stack([x, dy, 0.5 * xx, xy * dy, 0.5 * yy * dy * dy, opacity]).index_select(1, row)
        dx = column - x
        sigma = (half * dx + slope) * dx + base
        fall = torch.exp(-sigma)
        alpha = opacity * fall
        kept = ((sigma >= 0) & (alpha >= self.settings.alpha_threshold)).nonzero()[:, 0]
        place = (column + (line - self.start)[row] * self.width).index_select(0, kept)
        pixel, order = torch.sort(place.int(), stable=True)  # half as many digits to sort by
        kept = kept.index_select(0, order)
        return _Pairs(owner.index_select(0, row.index_select(0, kept)), pixel.long(), torch.stack([dx, dy, fall, alpha]).index_select(1, kept))


def _expanded(start: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """start, start + 1, ... for each row as one list, and the row of every entry."""
    row = torch.repeat_interleave(torch.arange(count.numel(), device=count.device), count)
    shift = start - (count.cumsum(0) - count)
    return shift.index_select(0, row) + torch.arange(row.numel(), device=count.device), row


@dataclass(frozen=True)
class _Light:
    """What compositing finds for P pairs: transmittance in front of each, and its weight (0 behind the stop)."""

    before: Tensor
    weight: Tensor


def _light(pairs: _Pairs, pixels: int, settings: SplatSettings) -> _Light:
    alpha = pairs.alpha.clamp(max=settings.max_alpha)
    through = torch.cat([alpha.new_zeros(1, dtype=torch.float64), torch.log1p(-alpha.double()).cumsum(0)])
    base = through.index_select(0, _starts(pairs.pixel, pixels)).index_select(0, pairs.pixel)
    before, after = torch.exp(through[:-1] - base), torch.exp(through[1:] - base)
    weight = torch.where(after > settings.transmittance_stop, before, 0.0) * alpha
    return _Light(before.to(alpha.dtype), weight.to(alpha.dtype))


def _starts(pixel: Tensor, pixels: int) -> Tensor:
    """The first pair of every pixel."""
    counts = torch.bincount(pixel, minlength=pixels)
    return counts.cumsum(0) - counts


class _Composite(torch.autograd.Function):
    """Bands one after the other; the pairs of a single band are kept for the backward pass, those of several are found again."""

    @staticmethod
    def forward(ctx, centre, conic, opacity, features, splats, picture, bands, settings):
        ctx.scene = splats, picture, bands, settings
        sums, kept = [], []
        for lines in bands:
            band = _Band(splats, (centre, conic, opacity, features), picture, lines, settings)
            pairs = band.pairs()
            light = _light(pairs, band.pixels, settings)
            starts = _starts(pairs.pixel, band.pixels)
            sums.append(functional.embedding_bag(pairs.owner, band.features, starts, mode="sum", per_sample_weights=light.weight))
            kept = [*vars(pairs).values(), *vars(light).values()] if len(bands) == 1 else []
        ctx.save_for_backward(centre, conic, opacity, features, *kept)
        return torch.cat(sums)

    @staticmethod
    @once_differentiable
    def backward(ctx, incoming):
        splats, picture, bands, settings = ctx.scene
        inputs, kept = ctx.saved_tensors[:4], ctx.saved_tensors[4:]
        totals = [torch.zeros_like(value) for value in inputs]
        for lines in bands:
            band = _Band(splats, inputs, picture, lines, settings)
            pairs = _Pairs(*kept[:3]) if kept else band.pairs()
            light = _Light(*kept[3:]) if kept else _light(pairs, band.pixels, settings)
            part = incoming[band.start * picture.width : band.stop * picture.width]
            for total, gradient in zip(totals, _gradients(band, pairs, light, part, settings)):
                total.index_add_(0, band.members, gradient)
        return *totals, None, None, None, None


def _gradients(band: _Band, pairs: _Pairs, light: _Light, incoming: Tensor, settings: SplatSettings) -> tuple[Tensor, ...]:
    """Gradients of a band's centres, conics, opacities and features from those of its pixels (Q, F + 1)."""
    seen = incoming.t().contiguous().index_select(1, pairs.pixel)  # (F + 1, P)
    by_weight = (seen * band.features.t().contiguous().index_select(1, pairs.owner)).sum(0)
    shaded = torch.cat([by_weight.new_zeros(1, dtype=torch.float64), (light.weight * by_weight).double().cumsum(0)])
    ends = torch.bincount(pairs.pixel, minlength=band.pixels).cumsum(0)
    behind = (shaded.index_select(0, ends).index_select(0, pairs.pixel) - shaded[1:]).to(seen.dtype)  # what this pair dims
    dx, dy, fall, alpha = pairs.values
    free = (alpha <= settings.max_alpha) & (light.weight > 0)
    by_alpha = torch.where(free, light.before * by_weight - behind / (1.0 - alpha.clamp(max=settings.max_alpha)), 0.0)
    by_sigma = -alpha * by_alpha
    along, down = dx * by_sigma, dy * by_sigma
    columns = torch.stack([along, down, dx * along, dx * down, dy * down, fall * by_alpha])
    x, y, xx, xy, yy, opacity = _per_splat(columns, pairs.owner, len(band.members))
    _, _, conic_xx, conic_xy, conic_yy, _ = band.table
    centre = torch.stack([-(conic_xx * x + conic_xy * y), -(conic_xy * x + conic_yy * y)], dim=1)
    features = _per_splat(seen[:-1] * light.weight, pairs.owner, len(band.members))
    return centre, torch.stack([0.5 * xx, xy, 0.5 * yy], dim=1), opacity, features.t()


def _per_splat(values: Tensor, owner: Tensor, count: int) -> Tensor:
    """Sums (C, M) of values (C, P) over the pairs of each splat."""
    return values.new_zeros(values.shape[0], count).scatter_add_(1, owner.expand_as(values), values)
