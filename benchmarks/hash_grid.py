"""P1: hash-grid encoding, forward and backward, against naive torch: `python benchmarks/hash_grid.py`.

65,536 random points, the worst case for the cache. Ratios above 1 say how much faster (or smaller) ours is.
"""

import torch
from measure import alternate, finish, kept_bytes, relative_error, report
from naive import encode

from bloom4d.models.fields.hash_field import DEMO_FIELD
from bloom4d.models.fields.hash_grid import HashGrid, HashGridConfig

POINTS = 65536
CASES = {
    "3D 16 levels 2^15": HashGridConfig(dimensions=3, log2_table=15),
    "3D 16 levels 2^19": HashGridConfig(dimensions=3, log2_table=19),
    "4D 12 levels 2^15": HashGridConfig(dimensions=4, levels=12, base_resolution=4, growth=1.5, log2_table=15),
    "4D 12 levels 2^19": HashGridConfig(dimensions=4, levels=12, base_resolution=4, growth=1.5, log2_table=19),
    "demo static": DEMO_FIELD.static,
    "demo dynamic": DEMO_FIELD.dynamic,
}


def compare(name: str, config: HashGridConfig) -> None:
    generator = torch.Generator().manual_seed(0)
    grid = HashGrid(config, generator)
    positions = torch.rand(POINTS, config.dimensions, generator=generator)
    weights = torch.randn(POINTS, 2 * config.levels, generator=generator)
    forwards = {"naive": lambda: encode(positions, grid.table, config), "ours": lambda: grid(positions)}
    results = {key: _gradient(forward, grid.table, weights) for key, forward in forwards.items()}
    error = max(relative_error(*pair) for pair in zip(results["ours"], results["naive"]))
    times = alternate({key: (lambda forward=forward: _gradient(forward, grid.table, weights)) for key, forward in forwards.items()}, rounds=4)
    kept = {key: kept_bytes(forward, [grid.table, positions]) / POINTS for key, forward in forwards.items()}
    kept["ours"] += positions.element_size() * config.dimensions  # it keeps the positions, which the caller may drop
    report(
        f"hash grid {name}",
        error,
        2e-4,  # single precision of positions times a resolution of thousands
        ns_per_point_naive=times["naive"] * 1e6 / POINTS,
        ns_per_point_ours=times["ours"] * 1e6 / POINTS,
        speed_ratio=times["naive"] / times["ours"],
        bytes_per_point_naive=kept["naive"],
        bytes_per_point_ours=kept["ours"],
        memory_ratio=kept["naive"] / kept["ours"],
    )


def _gradient(forward, table, weights):
    table.grad = None
    features = forward()
    features.backward(weights)
    return features.detach(), table.grad


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, config in CASES.items():
        compare(name, config)
    finish()
