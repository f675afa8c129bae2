"""Hash grids against independent, slow re-derivations of tiny-cuda-nn's encoding, and finite differences (A8)."""

import itertools
import math

import numpy as np
import pytest
import torch
from bloom4d.models.fields.hash_grid import HashGrid, HashGridConfig

SMALL_3D = HashGridConfig(dimensions=3, levels=4, base_resolution=4, growth=1.7, log2_table=9)  # two dense, two hashed levels
SMALL_4D = HashGridConfig(dimensions=4, levels=3, base_resolution=3, growth=1.8, log2_table=10)
CAPPED = HashGridConfig(dimensions=4, levels=3, base_resolution=4, growth=1.5, log2_table=11, time_ratio=0.5, time_cap=3)
PRIMES = np.array([1, 2654435761, 805459861, 3674653429], dtype=np.uint32)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_grid(config, dtype=torch.float64):
    grid = HashGrid(config, seeded()).to(dtype)
    with torch.no_grad():
        grid.table.copy_(torch.randn(grid.table.shape, generator=seeded(1)))
    return grid


def by_hand(config, table, point):
    """The specification, corner by corner in plain Python: level-major table, x fastest, wrapping like unsigned integers."""
    features, offset = [], 0
    for level in range(config.levels):
        size = config.base_resolution * config.growth**level
        scale = size - 1
        scales, shifts, nodes = [scale] * 3, [0.5] * 3, [math.ceil(scale - 1e-9) + 1] * 3
        if config.dimensions == 4:
            instants = max(2, min(math.ceil(size * config.time_ratio), config.time_cap)) if config.time_cap else nodes[0]
            scales.append(instants - 1 if config.time_cap else scale)
            shifts.append(0.0 if config.time_cap else 0.5)
            nodes.append(instants)
        dense = math.prod(nodes) <= 2**config.log2_table
        entries = math.ceil(math.prod(nodes) / 8) * 8 if dense else 2**config.log2_table
        place = [x * s + h for x, s, h in zip(point, scales, shifts)]
        total = np.zeros(2)
        for corner in itertools.product((0, 1), repeat=config.dimensions):
            index = [math.floor(p) + c for p, c in zip(place, corner)]
            weight = math.prod((p - math.floor(p)) if c else 1 - (p - math.floor(p)) for p, c in zip(place, corner))
            if dense:
                row = sum(i * math.prod(nodes[:axis]) for axis, i in enumerate(index)) % entries
            else:
                row = int(np.bitwise_xor.reduce(np.array(index, dtype=np.uint32) * PRIMES[: len(index)])) % entries
            total += weight * table[offset + row]
        features.extend(total)
        offset += entries
    assert offset == len(table)
    return features


@pytest.mark.parametrize("config", [SMALL_3D, SMALL_4D, CAPPED], ids=["3D", "4D", "4D capped in time"])
def test_encoding_equals_the_specification(config):
    grid = random_grid(config)
    points = torch.rand(40, config.dimensions, generator=seeded(2), dtype=torch.float64)
    points[:3] = torch.tensor([[0.0] * config.dimensions, [1.0] * config.dimensions, [0.99, 0.02, 0.97, 1.0][: config.dimensions]])  # borders wrap
    expected = [by_hand(config, grid.table.detach().numpy(), point) for point in points.tolist()]
    assert torch.allclose(grid(points), torch.tensor(expected, dtype=torch.float64), atol=1e-9)
    single = random_grid(config, torch.float32)(points.float())
    assert torch.allclose(single.double(), torch.tensor(expected), atol=2e-4)


def test_published_resolutions():
    """Specification 0.6: 4D-fy and Dream-in-4D."""
    paper = [level.nodes[0] for level in HashGridConfig().layout]
    assert paper == [16, 24, 34, 49, 71, 102, 148, 213, 308, 446, 646, 934, 1352, 1956, 2831, 4096]
    deformation = HashGridConfig(dimensions=4, levels=12, base_resolution=4)
    assert [level.nodes[3] for level in deformation.layout] == [4, 6, 9, 13, 18, 26, 37, 54, 77, 112, 162, 234]


def test_capped_time_has_its_nodes_at_the_ends_and_does_not_wrap():
    grid = random_grid(CAPPED)
    ends = torch.tensor([[0.4, 0.5, 0.6, 0.0], [0.4, 0.5, 0.6, 1.0]], dtype=torch.float64)
    first, last = grid(ends)
    with torch.no_grad():
        level = CAPPED.layout[0]
        assert level.dense and level.nodes[3] == 2
        grid.table[: level.entries // 2] = 7.0  # every node of the first instant
    assert torch.allclose(grid(ends)[0, :2], torch.full((2,), 7.0, dtype=torch.float64)) and torch.equal(grid(ends)[1, :2], last[:2])
    assert not torch.allclose(first, last)


@pytest.mark.parametrize("config", [SMALL_3D, SMALL_4D, CAPPED], ids=["3D", "4D", "4D capped in time"])
def test_gradients_equal_central_differences(config):
    grid = random_grid(config)
    points = torch.rand(12, config.dimensions, generator=seeded(3), dtype=torch.float64) * 0.9
    for level in config.layout:  # keep away from cell borders, where the slope jumps
        place = points * torch.tensor(level.scales) + torch.tensor(level.shifts)
        points = torch.where((place - place.round()).abs() < 1e-3, points + 2e-3, points)
    points.requires_grad_(True)
    weights = torch.randn(12, 2 * config.levels, generator=seeded(4), dtype=torch.float64)

    def loss(where):
        return float((grid(where) * weights).sum())

    (grid(points) * weights).sum().backward()
    step = 1e-6
    for axis in range(config.dimensions):
        shift = torch.zeros(config.dimensions, dtype=torch.float64)
        shift[axis] = step
        with torch.no_grad():
            expected = ((grid(points + shift) - grid(points - shift)) * weights).sum(dim=1) / (2 * step)
        assert torch.allclose(points.grad[:, axis], expected, rtol=1e-6, atol=1e-6)
    touched = grid.table.grad.abs().sum(dim=1).nonzero()[:, 0]
    untouched = (grid.table.grad.abs().sum(dim=1) == 0).nonzero()[0]
    for row in (*touched[:: max(1, len(touched) // 8)], *untouched):
        with torch.no_grad():
            grid.table[row, 1] += step
            above = loss(points)
            grid.table[row, 1] -= 2 * step
            below = loss(points)
            grid.table[row, 1] += step
        assert grid.table.grad[row, 1].item() == pytest.approx((above - below) / (2 * step), abs=1e-6)


def test_many_chunks_give_the_same_as_one_point_at_a_time():
    grid = random_grid(SMALL_3D)
    points = torch.rand(40000, 3, generator=seeded(5), dtype=torch.float64)  # several chunks
    some = slice(32000, 40000, 2000)
    assert torch.equal(grid(points)[some], torch.cat([grid(point[None]) for point in points[some]]))
    assert grid(points[:0]).shape == (0, 8)


def test_strided_positions_are_read_right():
    grid = random_grid(SMALL_3D)
    points = torch.rand(3, 50, generator=seeded(6), dtype=torch.float64).t()
    assert not points.is_contiguous() and torch.equal(grid(points), grid(points.contiguous()))


def test_progressive_levels_are_zero_until_they_fade_in():
    grid = random_grid(SMALL_3D)
    points = torch.rand(30, 3, generator=seeded(7), dtype=torch.float64)
    full, half = grid(points), grid(points, active=2.25)
    assert torch.equal(half[:, :4], full[:, :4]) and torch.allclose(half[:, 4:6], 0.25 * full[:, 4:6])
    assert torch.equal(half[:, 6:], torch.zeros(30, 2, dtype=torch.float64)) and torch.equal(grid(points, active=9), full)
    half.sum().backward()
    offsets = [level.offset for level in SMALL_3D.layout]
    gradient = grid.table.grad.clone()
    assert gradient[: offsets[2]].any() and not gradient[offsets[3] :].any()
    grid.table.grad = None
    grid(points).sum().backward()
    assert torch.allclose(gradient[offsets[2] : offsets[3]], 0.25 * grid.table.grad[offsets[2] : offsets[3]])
    assert torch.equal(grid(points, active=0), torch.zeros_like(full))


def test_padding_is_zero():
    padded = random_grid(SMALL_3D)(torch.rand(5, 3, dtype=torch.float64), width=14)
    assert padded.shape == (5, 14) and not padded[:, 8:].any()


def test_only_the_positions_are_kept_for_the_backward_pass():
    grid, points = random_grid(SMALL_3D, torch.float32), torch.rand(1000, 3)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        grid(points)
    assert sum(tensor.nbytes for tensor in kept if tensor.data_ptr() != grid.table.data_ptr()) == 12 * 1000


def test_gradient_bytes_do_not_vary():
    def gradient():
        grid = random_grid(SMALL_4D, torch.float32)
        grid(torch.rand(5000, 4, generator=seeded(8))).square().sum().backward()
        return grid.table.grad

    assert torch.equal(gradient(), gradient())


def test_tables_start_small_and_come_from_the_generator():
    table = HashGrid(SMALL_3D, seeded(1)).table
    assert table.abs().max() <= 1e-4 and table.abs().max() > 0.9e-4 and table.mean().abs() < 1e-5
    assert torch.equal(table, HashGrid(SMALL_3D, seeded(1)).table) and not torch.equal(table, HashGrid(SMALL_3D, seeded(2)).table)


def test_bad_shapes_say_what_to_change():
    with pytest.raises(ValueError, match="3 or 4 dimensions"):
        HashGridConfig(dimensions=2)
    with pytest.raises(ValueError, match="log2_table"):
        HashGridConfig(log2_table=40)
