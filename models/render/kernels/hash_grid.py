"""Hash-grid encoding: layout, indexing and rounding of `fields/hash_grid.py`, without its arrays of corners.

A task is a block of points and one level. Tasks that add to the table are shared out by levels and all others by blocks, so no
two threads write to one place, and on a CPU every sum has one order, whatever the number of threads. Products and sums are
rounded one by one as torch does (no fused multiply-add): a point lies in the same cell by both.
"""

import warp as wp

MODULE = "bloom4d_hash_grid"  # the name of its files in the cache; Python's own may be a path, as hosts name their packs
wp.set_module_options({"enable_backward": False, "fuse_fp": False}, MODULE)


@wp.struct
class Levels:
    """The levels of a grid, coarse to fine; rows (L, 4) of which three dimensions use three."""

    scales: wp.array(dtype=wp.vec4)
    shifts: wp.array(dtype=wp.vec4)
    strides: wp.array2d(dtype=wp.uint32)
    offsets: wp.array(dtype=wp.int32)
    entries: wp.array(dtype=wp.uint32)
    dense: int
    last_fade: float


@wp.struct
class Cell:
    """The cell of one point at one level: parts of its corners' rows along each axis, and where in the cell the point lies."""

    x0: wp.uint32
    x1: wp.uint32
    y0: wp.uint32
    y1: wp.uint32
    z0: wp.uint32
    z1: wp.uint32
    fx: float
    fy: float
    fz: float


@wp.struct
class Place:
    """Where one level keeps its features."""

    offset: int
    entries: wp.uint32
    dense: int


@wp.func
def place_of(levels: Levels, level: int):
    place = Place()
    place.offset = levels.offsets[level]
    place.entries = levels.entries[level]
    place.dense = wp.where(level < levels.dense, 1, 0)
    return place


@wp.func
def cell_of(x: float, y: float, z: float, sx: wp.uint32, sy: wp.uint32, sz: wp.uint32):
    cell = Cell()
    nx = int(x)  # positions are not negative: truncation is the floor
    ny = int(y)
    nz = int(z)
    cell.x0 = wp.uint32(nx) * sx
    cell.y0 = wp.uint32(ny) * sy
    cell.z0 = wp.uint32(nz) * sz
    cell.x1 = cell.x0 + sx
    cell.y1 = cell.y0 + sy
    cell.z1 = cell.z0 + sz
    cell.fx = x - float(nx)
    cell.fy = y - float(ny)
    cell.fz = z - float(nz)
    return cell


@wp.func
def row_of(x: wp.uint32, y: wp.uint32, z: wp.uint32, w: wp.uint32, place: Place):
    """The table's row of a corner; `w` is 0 in three dimensions. Never outside the level, whatever the position."""
    if place.dense == 0:
        return place.offset + int((x ^ y ^ z ^ w) & (place.entries - wp.uint32(1)))
    row = x + y + z + w
    if row >= place.entries:  # a position within half a cell of the upper border wraps around, as in tiny-cuda-nn
        row = wp.min(row - place.entries, place.entries - wp.uint32(1))
    return place.offset + int(row)


@wp.func
def interpolate(table: wp.array(dtype=wp.vec2), c: Cell, w: wp.uint32, place: Place):
    a = table[row_of(c.x0, c.y0, c.z0, w, place)]
    b = table[row_of(c.x0, c.y1, c.z0, w, place)]
    e = table[row_of(c.x0, c.y0, c.z1, w, place)]
    f = table[row_of(c.x0, c.y1, c.z1, w, place)]
    a += c.fx * (table[row_of(c.x1, c.y0, c.z0, w, place)] - a)
    b += c.fx * (table[row_of(c.x1, c.y1, c.z0, w, place)] - b)
    e += c.fx * (table[row_of(c.x1, c.y0, c.z1, w, place)] - e)
    f += c.fx * (table[row_of(c.x1, c.y1, c.z1, w, place)] - f)
    a += c.fy * (b - a)
    e += c.fy * (f - e)
    return a + c.fz * (e - a)


@wp.func
def scatter(table: wp.array(dtype=wp.vec2), c: Cell, w: wp.uint32, place: Place, incoming: wp.vec2):
    z1 = c.fz * incoming
    z0 = incoming - z1
    z0y1 = c.fy * z0
    z0y0 = z0 - z0y1
    z1y1 = c.fy * z1
    z1y0 = z1 - z1y1
    wp.atomic_add(table, row_of(c.x0, c.y0, c.z0, w, place), (1.0 - c.fx) * z0y0)
    wp.atomic_add(table, row_of(c.x1, c.y0, c.z0, w, place), c.fx * z0y0)
    wp.atomic_add(table, row_of(c.x0, c.y1, c.z0, w, place), (1.0 - c.fx) * z0y1)
    wp.atomic_add(table, row_of(c.x1, c.y1, c.z0, w, place), c.fx * z0y1)
    wp.atomic_add(table, row_of(c.x0, c.y0, c.z1, w, place), (1.0 - c.fx) * z1y0)
    wp.atomic_add(table, row_of(c.x1, c.y0, c.z1, w, place), c.fx * z1y0)
    wp.atomic_add(table, row_of(c.x0, c.y1, c.z1, w, place), (1.0 - c.fx) * z1y1)
    wp.atomic_add(table, row_of(c.x1, c.y1, c.z1, w, place), c.fx * z1y1)


@wp.func
def slopes(table: wp.array(dtype=wp.vec2), c: Cell, w: wp.uint32, place: Place, incoming: wp.vec2):
    """Derivatives of <features, incoming> with respect to the place in the cell, per axis; the value itself as fourth."""
    a0 = wp.dot(table[row_of(c.x0, c.y0, c.z0, w, place)], incoming)
    a1 = wp.dot(table[row_of(c.x1, c.y0, c.z0, w, place)], incoming) - a0
    b0 = wp.dot(table[row_of(c.x0, c.y1, c.z0, w, place)], incoming)
    b1 = wp.dot(table[row_of(c.x1, c.y1, c.z0, w, place)], incoming) - b0
    e0 = wp.dot(table[row_of(c.x0, c.y0, c.z1, w, place)], incoming)
    e1 = wp.dot(table[row_of(c.x1, c.y0, c.z1, w, place)], incoming) - e0
    f0 = wp.dot(table[row_of(c.x0, c.y1, c.z1, w, place)], incoming)
    f1 = wp.dot(table[row_of(c.x1, c.y1, c.z1, w, place)], incoming) - f0
    low = a0 + c.fx * a1
    high = e0 + c.fx * e1
    low_y = b0 + c.fx * b1 - low
    high_y = f0 + c.fx * f1 - high
    low_x = a1 + c.fy * (b1 - a1)
    high_x = e1 + c.fy * (f1 - e1)
    low += c.fy * low_y
    high += c.fy * high_y
    return wp.vec4(low_x + c.fz * (high_x - low_x), low_y + c.fz * (high_y - low_y), high - low, low + c.fz * (high - low))


@wp.func
def cell_at(levels: Levels, level: int, position: wp.vec3):
    scale = levels.scales[level]
    shift = levels.shifts[level]
    x = position[0] * scale[0] + shift[0]
    y = position[1] * scale[1] + shift[1]
    z = position[2] * scale[2] + shift[2]
    return cell_of(x, y, z, levels.strides[level, 0], levels.strides[level, 1], levels.strides[level, 2])


@wp.func
def fade_of(levels: Levels, level: int):
    return wp.where(level == levels.offsets.shape[0] - 1, levels.last_fade, 1.0)


# Kernels: `block` points a task; of the parts or levels, this launch takes every `step`-th from `start` on.


@wp.kernel(module=MODULE)
def encode3(
    positions: wp.array(dtype=wp.vec3), table: wp.array(dtype=wp.vec2), levels: Levels, block: int, features: wp.array2d(dtype=wp.vec2), start: int, step: int,
):  # fmt: skip
    share, level = wp.tid()
    part = start + step * share
    place = place_of(levels, level)
    fade = fade_of(levels, level)
    for i in range(part * block, wp.min((part + 1) * block, positions.shape[0])):
        cell = cell_at(levels, level, positions[i])
        features[i, level] = fade * interpolate(table, cell, wp.uint32(0), place)


@wp.kernel(module=MODULE)
def encode4(
    positions: wp.array(dtype=wp.vec4), table: wp.array(dtype=wp.vec2), levels: Levels, block: int, features: wp.array2d(dtype=wp.vec2), start: int, step: int,
):  # fmt: skip
    share, level = wp.tid()
    part = start + step * share
    place = place_of(levels, level)
    fade = fade_of(levels, level)
    scale = levels.scales[level][3]
    shift = levels.shifts[level][3]
    stride = levels.strides[level, 3]
    for i in range(part * block, wp.min((part + 1) * block, positions.shape[0])):
        p = positions[i]
        cell = cell_at(levels, level, wp.vec3(p[0], p[1], p[2]))
        w = p[3] * scale + shift
        nw = int(w)
        first = interpolate(table, cell, wp.uint32(nw) * stride, place)
        second = interpolate(table, cell, (wp.uint32(nw) + wp.uint32(1)) * stride, place)
        features[i, level] = fade * (first + (w - float(nw)) * (second - first))


@wp.kernel(module=MODULE)
def scatter3(
    positions: wp.array(dtype=wp.vec3), incoming: wp.array2d(dtype=wp.vec2), levels: Levels, block: int, to_table: wp.array(dtype=wp.vec2), start: int, step: int,
):  # fmt: skip
    part, share = wp.tid()
    level = start + step * share
    place = place_of(levels, level)
    fade = fade_of(levels, level)
    for i in range(part * block, wp.min((part + 1) * block, positions.shape[0])):
        scatter(to_table, cell_at(levels, level, positions[i]), wp.uint32(0), place, fade * incoming[i, level])


@wp.kernel(module=MODULE)
def scatter4(
    positions: wp.array(dtype=wp.vec4), incoming: wp.array2d(dtype=wp.vec2), levels: Levels, block: int, to_table: wp.array(dtype=wp.vec2), start: int, step: int,
):  # fmt: skip
    part, share = wp.tid()
    level = start + step * share
    place = place_of(levels, level)
    fade = fade_of(levels, level)
    scale = levels.scales[level][3]
    shift = levels.shifts[level][3]
    stride = levels.strides[level, 3]
    for i in range(part * block, wp.min((part + 1) * block, positions.shape[0])):
        p = positions[i]
        cell = cell_at(levels, level, wp.vec3(p[0], p[1], p[2]))
        w = p[3] * scale + shift
        nw = int(w)
        second = (w - float(nw)) * fade * incoming[i, level]
        scatter(to_table, cell, wp.uint32(nw) * stride, place, fade * incoming[i, level] - second)
        scatter(to_table, cell, (wp.uint32(nw) + wp.uint32(1)) * stride, place, second)


@wp.kernel(module=MODULE)
def slope3(
    positions: wp.array(dtype=wp.vec3), table: wp.array(dtype=wp.vec2), incoming: wp.array2d(dtype=wp.vec2), levels: Levels, block: int,
    to_positions: wp.array(dtype=wp.vec3), start: int, step: int,
):  # fmt: skip
    share, level = wp.tid()
    part = start + step * share
    place = place_of(levels, level)
    fade = fade_of(levels, level)
    scale = levels.scales[level]
    for i in range(part * block, wp.min((part + 1) * block, positions.shape[0])):
        slope = slopes(table, cell_at(levels, level, positions[i]), wp.uint32(0), place, fade * incoming[i, level])
        wp.atomic_add(to_positions, i, wp.vec3(slope[0] * scale[0], slope[1] * scale[1], slope[2] * scale[2]))


@wp.kernel(module=MODULE)
def slope4(
    positions: wp.array(dtype=wp.vec4), table: wp.array(dtype=wp.vec2), incoming: wp.array2d(dtype=wp.vec2), levels: Levels, block: int,
    to_positions: wp.array(dtype=wp.vec4), start: int, step: int,
):  # fmt: skip
    share, level = wp.tid()
    part = start + step * share
    place = place_of(levels, level)
    fade = fade_of(levels, level)
    scale = levels.scales[level]
    shift = levels.shifts[level][3]
    stride = levels.strides[level, 3]
    for i in range(part * block, wp.min((part + 1) * block, positions.shape[0])):
        p = positions[i]
        cell = cell_at(levels, level, wp.vec3(p[0], p[1], p[2]))
        w = p[3] * scale[3] + shift
        nw = int(w)
        gradient = fade * incoming[i, level]
        first = slopes(table, cell, wp.uint32(nw) * stride, place, gradient)
        second = slopes(table, cell, (wp.uint32(nw) + wp.uint32(1)) * stride, place, gradient)
        mixed = first + (w - float(nw)) * (second - first)
        wp.atomic_add(to_positions, i, wp.vec4(mixed[0] * scale[0], mixed[1] * scale[1], mixed[2] * scale[2], (second[3] - first[3]) * scale[3]))
