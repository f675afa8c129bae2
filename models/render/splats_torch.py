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
    sums, weights = _Composite.apply(splats.centre, splats.conic, splats.opacity, splats.features, splats, picture, bands, settings)
    return sums.view(views, height, width, -1), weights.view(views, height, width)


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
    offset: Tensor  # (P, 2) pixel - centre
    fall: Tensor  # (P,) exp(-sigma)
    alpha: Tensor  # (P,) before the maximum


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

    def __init__(self, splats: Splats, tensors, picture: _Picture, band: tuple[int, int], settings: SplatSettings):
        self.start, self.stop = band
        self.width, self.settings = picture.width, settings
        first, last = _lines(splats, picture)
        self.rows = ((last >= self.start) & (first < self.stop)).nonzero()[:, 0]
        self.first = first[self.rows].clamp(min=self.start)
        self.last = last[self.rows].clamp(max=self.stop - 1)
        self.top = splats.view[self.rows] * picture.height
        self.reach, self.box = splats.reach[self.rows], splats.box[:, self.rows]
        self.centre, self.conic, self.opacity, self.features = (value[self.rows] for value in tensors)

    @property
    def pixels(self) -> int:
        return (self.stop - self.start) * self.width

    def pairs(self) -> _Pairs:
        """All pairs with an alpha of at least the threshold."""
        line, owner = _expanded(self.first, self.last - self.first + 1)
        left, right = self._span(owner, line)
        column, row = _expanded(left, (right - left + 1).clamp(min=0))
        owner = owner[row]
        line = line[row]
        centre, conic = self.centre[owner], self.conic[owner]
        dx = (column.to(centre.dtype) + 0.5) - centre[:, 0]
        dy = ((line - self.top[owner]).to(centre.dtype) + 0.5) - centre[:, 1]
        sigma = 0.5 * (conic[:, 0] * dx * dx + conic[:, 2] * dy * dy) + conic[:, 1] * dx * dy
        fall = torch.exp(-sigma)
        alpha = self.opacity[owner] * fall
        kept = ((sigma >= 0) & (alpha >= self.settings.alpha_threshold)).nonzero()[:, 0]
        pixel, order = torch.sort(((line - self.start) * self.width + column)[kept], stable=True)
        kept = kept[order]
        return _Pairs(owner[kept], pixel, torch.stack([dx[kept], dy[kept]], dim=1), fall[kept], alpha[kept])

    def _span(self, owner: Tensor, line: Tensor) -> tuple[Tensor, Tensor]:
        """First and last column that each splat may reach in each of its lines, found in double with a margin for rounding."""
        centre, conic = self.centre[owner].double(), self.conic[owner].double()
        dy = (line - self.top[owner]) + 0.5 - centre[:, 1]
        xx, xy, yy = conic.unbind(1)
        room = (2.0 * self.reach[owner].double() + 0.02) * xx - dy * dy * (xx * yy - xy * xy)
        half = room.clamp(min=0.0).sqrt() / xx
        middle = centre[:, 0] - xy * dy / xx - 0.5
        left = torch.maximum((middle - half).ceil().long(), self.box[0][owner])
        right = torch.minimum((middle + half).floor().long(), self.box[1][owner])
        return left, torch.where(room < 0, left - 1, right)


def _expanded(start: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """start, start + 1, ... for each row as one list, and the row of every entry."""
    row = torch.repeat_interleave(torch.arange(count.numel(), device=count.device), count)
    place = torch.arange(row.numel(), device=count.device) - (count.cumsum(0) - count)[row]
    return start[row] + place, row


@dataclass(frozen=True)
class _Light:
    """What compositing finds for P pairs: transmittance in front of each, and its weight (0 behind the stop)."""

    before: Tensor
    weight: Tensor


def _light(pairs: _Pairs, pixels: int, settings: SplatSettings) -> _Light:
    alpha = pairs.alpha.clamp(max=settings.max_alpha)
    through = torch.log1p(-alpha.double()).cumsum(0)
    start = _starts(pairs.pixel, pixels)[pairs.pixel]
    base = torch.where(start > 0, through[(start - 1).clamp(min=0)], through.new_zeros(()))
    after = torch.exp(through - base)
    before = after / (1.0 - alpha.double())
    weight = torch.where(after > settings.transmittance_stop, before * alpha, torch.zeros_like(before))
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
        pixels = picture.lines * picture.width
        sums, weights = features.new_empty(pixels, features.shape[1]), features.new_empty(pixels)
        kept = []
        for lines in bands:
            band = _Band(splats, (centre, conic, opacity, features), picture, lines, settings)
            pairs = band.pairs()
            light = _light(pairs, band.pixels, settings)
            part = slice(band.start * picture.width, band.stop * picture.width)
            sums[part] = features.new_zeros(band.pixels, features.shape[1]).index_add_(0, pairs.pixel, light.weight[:, None] * band.features[pairs.owner])
            weights[part] = features.new_zeros(band.pixels).index_add_(0, pairs.pixel, light.weight)
            kept = [*vars(pairs).values(), *vars(light).values()] if len(bands) == 1 else []
        ctx.save_for_backward(centre, conic, opacity, features, *kept)
        return sums, weights

    @staticmethod
    @once_differentiable
    def backward(ctx, by_sums, by_weights):
        splats, picture, bands, settings = ctx.scene
        *inputs, = ctx.saved_tensors[:4]
        kept = ctx.saved_tensors[4:]
        totals = [torch.zeros_like(value) for value in inputs]
        for lines in bands:
            band = _Band(splats, inputs, picture, lines, settings)
            pairs = _Pairs(*kept[:5]) if kept else band.pairs()
            light = _Light(*kept[5:]) if kept else _light(pairs, band.pixels, settings)
            part = slice(band.start * picture.width, band.stop * picture.width)
            for total, gradient in zip(totals, _gradients(band, pairs, light, by_sums[part], by_weights[part], settings)):
                total.index_add_(0, band.rows, gradient)
        return *totals, None, None, None, None


def _gradients(band: _Band, pairs: _Pairs, light: _Light, by_sums: Tensor, by_weights: Tensor, settings: SplatSettings) -> tuple[Tensor, ...]:
    """Gradients of a band's centres, conics, opacities and features from those of its pixels (Q, F) and (Q,)."""
    seen = by_sums[pairs.pixel]
    by_weight = (seen * band.features[pairs.owner]).sum(1) + by_weights[pairs.pixel]
    shaded = (light.weight * by_weight).double().cumsum(0)
    ends = torch.bincount(pairs.pixel, minlength=band.pixels).cumsum(0)
    behind = (shaded[(ends - 1).clamp(min=0)][pairs.pixel] - shaded).to(seen.dtype)  # what this pair dims
    by_alpha = light.before * by_weight * (light.weight > 0) - behind / (1.0 - pairs.alpha.clamp(max=settings.max_alpha))
    by_alpha = torch.where((pairs.alpha <= settings.max_alpha) & (light.weight > 0), by_alpha, torch.zeros_like(by_alpha))
    by_sigma = -pairs.alpha * by_alpha
    dx, dy = pairs.offset.unbind(1)
    conic = band.conic[pairs.owner]
    columns = [
        -(conic[:, 0] * dx + conic[:, 1] * dy) * by_sigma,
        -(conic[:, 1] * dx + conic[:, 2] * dy) * by_sigma,
        0.5 * dx * dx * by_sigma,
        dx * dy * by_sigma,
        0.5 * dy * dy * by_sigma,
        pairs.fall * by_alpha,
    ]
    wide = torch.cat([torch.stack(columns, dim=1), light.weight[:, None] * seen], dim=1)
    total = wide.new_zeros(band.rows.numel(), wide.shape[1]).index_add_(0, pairs.owner, wide)
    return total[:, :2], total[:, 2:5], total[:, 5], total[:, 6:]
