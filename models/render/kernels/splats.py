"""Splat compositing: each pixel walks the splats of its tile from front to back, and back again for the gradient.

A pair is a splat and a tile that its box touches; pairs are sorted by tile and stay sorted by depth inside. Gradients are added
up per pair first, and per splat afterwards: no two CPU threads write to one place, and every sum there has one order.
"""

import warp as wp

MODULE = "bloom4d_splats"
wp.set_module_options({"enable_backward": False, "fuse_fp": False}, MODULE)
MARGIN = wp.constant(0.02)  # by which rounding may carry a pixel past a splat's reach


@wp.struct
class Screen:
    """The pictures and how they are composited."""

    views: int
    height: int
    width: int
    tile: int  # edge in pixels
    across: int  # tiles in a row
    down: int
    threshold: float
    max_alpha: float
    stop: float


@wp.struct
class Lists:
    """The splats of each tile: `splat` and `pair` (P,) from `first[tile]` to `first[tile + 1]`."""

    first: wp.array(dtype=wp.int32)
    pair: wp.array(dtype=wp.int32)
    splat: wp.array(dtype=wp.int32)


@wp.struct
class Hit:
    """A splat at a pixel: offset from its centre, exp(-sigma), alpha before the maximum; alpha 0 where it does not count."""

    dx: float
    dy: float
    fall: float
    alpha: float


@wp.func
def pixel_of(screen: Screen, tile: int, cell: int):
    """The pixel's number in the list of all pictures' pixels, -1 outside."""
    in_view = tile % (screen.across * screen.down)
    x = (in_view % screen.across) * screen.tile + cell % screen.tile
    y = (in_view // screen.across) * screen.tile + cell // screen.tile
    if x >= screen.width or y >= screen.height:
        return -1
    return ((tile // (screen.across * screen.down)) * screen.height + y) * screen.width + x


@wp.func
def hit_of(shape: wp.vec4, conic: wp.vec4, x: float, y: float, threshold: float):
    """shape: centre x, y, opacity, reach; conic: xx, xy, yy."""
    hit = Hit()
    hit.dx = x - shape[0]
    hit.dy = y - shape[1]
    sigma = 0.5 * (conic[0] * hit.dx * hit.dx + conic[2] * hit.dy * hit.dy) + conic[1] * hit.dx * hit.dy
    if sigma >= 0.0 and sigma <= shape[3] + MARGIN:
        hit.fall = wp.exp(-sigma)
        alpha = shape[2] * hit.fall
        if alpha >= threshold:
            hit.alpha = alpha
    return hit


@wp.kernel(module=MODULE)
def count_pairs(boxes: wp.array2d(dtype=wp.int32), screen: Screen, counts: wp.array(dtype=wp.int32), start: int, step: int):
    s = start + step * wp.tid()
    across = boxes[s, 1] // screen.tile - boxes[s, 0] // screen.tile + 1
    down = boxes[s, 3] // screen.tile - boxes[s, 2] // screen.tile + 1
    counts[s] = across * down


@wp.kernel(module=MODULE)
def list_pairs(
    boxes: wp.array2d(dtype=wp.int32), views: wp.array(dtype=wp.int32), ends: wp.array(dtype=wp.int32), screen: Screen,
    tiles: wp.array(dtype=wp.int32), owners: wp.array(dtype=wp.int32), start: int, step: int,
):  # fmt: skip
    """The tile and the splat of every pair, splat by splat; `ends` (M,) is one past each splat's last pair."""
    s = start + step * wp.tid()
    left = boxes[s, 0] // screen.tile
    right = boxes[s, 1] // screen.tile
    top = boxes[s, 2] // screen.tile
    bottom = boxes[s, 3] // screen.tile
    pair = ends[s] - (right - left + 1) * (bottom - top + 1)
    for row in range(top, bottom + 1):
        for column in range(left, right + 1):
            tiles[pair] = (views[s] * screen.down + row) * screen.across + column
            owners[pair] = s
            pair += 1


@wp.kernel(module=MODULE)
def sort_pairs(tiles: wp.array(dtype=wp.int32), next: wp.array(dtype=wp.int32), order: wp.array(dtype=wp.int32), start: int, step: int):
    """Put each pair behind those before it of its tile; one task, for a CPU. `next`: the first place of every tile."""
    for pair in range(tiles.shape[0]):
        place = next[tiles[pair]]
        order[place] = pair
        next[tiles[pair]] = place + 1


@wp.kernel(module=MODULE)
def composite(
    shapes: wp.array(dtype=wp.vec4), conics: wp.array(dtype=wp.vec4), features: wp.array2d(dtype=wp.vec4), lists: Lists, screen: Screen,
    sums: wp.array2d(dtype=wp.vec4), weights: wp.array(dtype=float), lights: wp.array(dtype=float), lasts: wp.array(dtype=wp.int32),
    start: int, step: int,
):  # fmt: skip
    """Sums of weight * feature, four at a time, and of the weights; what is left of the light, and one past the last pair that counts."""
    share, cell = wp.tid()
    tile = start + step * share
    pixel = pixel_of(screen, tile, cell)
    if pixel < 0:
        return
    x = float(pixel % screen.width) + 0.5
    y = float((pixel // screen.width) % screen.height) + 0.5
    light = float(1.0)
    weight_sum = float(0.0)
    sum = wp.vec4()
    last = int(0)
    for k in range(lists.first[tile], lists.first[tile + 1]):
        s = lists.splat[k]
        hit = hit_of(shapes[s], conics[s], x, y, screen.threshold)
        if hit.alpha > 0.0:
            alpha = wp.min(hit.alpha, screen.max_alpha)
            after = light * (1.0 - alpha)
            if after <= screen.stop:
                break
            weight = light * alpha
            weight_sum += weight
            sum += weight * features[s, 0]
            for group in range(1, features.shape[1]):
                sums[pixel, group] = sums[pixel, group] + weight * features[s, group]
            light = after
            last = k + 1
    sums[pixel, 0] = sum
    weights[pixel] = weight_sum
    lights[pixel] = light
    lasts[pixel] = last


@wp.kernel(module=MODULE)
def differentiate(
    shapes: wp.array(dtype=wp.vec4), conics: wp.array(dtype=wp.vec4), features: wp.array2d(dtype=wp.vec4), lists: Lists, screen: Screen,
    lights: wp.array(dtype=float), lasts: wp.array(dtype=wp.int32), by_sums: wp.array2d(dtype=wp.vec4), by_weights: wp.array(dtype=float),
    slots: wp.array2d(dtype=wp.vec4), start: int, step: int,
):  # fmt: skip
    """Gradients of every pair: slot 0 centre x, y, opacity; slot 1 conic; then the features, four at a time."""
    share, cell = wp.tid()
    tile = start + step * share
    pixel = pixel_of(screen, tile, cell)
    if pixel < 0:
        return
    x = float(pixel % screen.width) + 0.5
    y = float((pixel // screen.width) % screen.height) + 0.5
    light = lights[pixel]
    behind = float(0.0)  # what the splats behind add to the loss
    first = lists.first[tile]
    for back in range(lasts[pixel] - first):
        k = lasts[pixel] - 1 - back
        s = lists.splat[k]
        conic = conics[s]
        hit = hit_of(shapes[s], conic, x, y, screen.threshold)
        if hit.alpha > 0.0:
            pair = lists.pair[k]
            alpha = wp.min(hit.alpha, screen.max_alpha)
            before = light / (1.0 - alpha)
            weight = before * alpha
            by_weight = by_weights[pixel]
            for group in range(features.shape[1]):
                by_weight += wp.dot(by_sums[pixel, group], features[s, group])
                wp.atomic_add(slots, pair, 2 + group, weight * by_sums[pixel, group])
            if hit.alpha <= screen.max_alpha:
                by_alpha = before * by_weight - behind / (1.0 - alpha)
                by_sigma = -alpha * by_alpha
                by_x = -(conic[0] * hit.dx + conic[1] * hit.dy) * by_sigma
                by_y = -(conic[1] * hit.dx + conic[2] * hit.dy) * by_sigma
                wp.atomic_add(slots, pair, 0, wp.vec4(by_x, by_y, hit.fall * by_alpha, 0.0))
                half = 0.5 * by_sigma
                wp.atomic_add(slots, pair, 1, wp.vec4(hit.dx * hit.dx * half, hit.dx * hit.dy * by_sigma, hit.dy * hit.dy * half, 0.0))
            behind += weight * by_weight
            light = before


@wp.kernel(module=MODULE)
def sum_slots(slots: wp.array2d(dtype=wp.vec4), ends: wp.array(dtype=wp.int32), gradients: wp.array2d(dtype=wp.vec4), start: int, step: int):
    """Gradients (M, slots) of the splats, each from its own pairs, which lie behind each other."""
    share, slot = wp.tid()
    s = start + step * share
    first = int(0)
    if s > 0:
        first = ends[s - 1]
    sum = wp.vec4()
    for pair in range(first, ends[s]):
        sum += slots[pair, slot]
    gradients[s, slot] = sum
