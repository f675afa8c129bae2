"""What a fast twin must show before it is used on a device: a small forward and backward pass that agrees with the reference."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..fields.hash_grid import HashGridConfig
from .splat_projection import Splats, SplatSettings, project

VALUES, GRADIENTS = 1e-5, 1e-4  # of the largest expected value: what a twin may differ by


def hash_grid(twin: Callable, reference: Callable, device: torch.device) -> None:
    """Dense and hashed levels in three and four dimensions, one of them fading in. RuntimeError says what differs."""
    generator = torch.Generator().manual_seed(0)
    for dimensions in (3, 4):
        config = HashGridConfig(dimensions=dimensions, levels=4, base_resolution=4, growth=1.7, log2_table=9)
        positions = torch.rand(64, dimensions, generator=generator)
        table = torch.randn(config.entries, 2, generator=generator)
        weights = torch.randn(64, 10, generator=generator)

        def run(encode: Callable, where: torch.device, positions=positions, table=table, config=config, weights=weights) -> list[Tensor]:
            inputs = [value.to(where).requires_grad_(True) for value in (positions, table)]
            features = encode(*inputs, config, 3.5, 10)
            return [features, *torch.autograd.grad((features * weights.to(where)).sum(), inputs)]

        agree(run, twin, reference, device, ("features", "gradient to positions", "gradient to the table"))


def splats(twin: Callable, reference: Callable, device: torch.device) -> None:
    """Two pictures of twenty Gaussians each, of odd size, with three channels and depth. RuntimeError says what differs."""
    generator = torch.Generator().manual_seed(0)
    height, width, settings = 17, 21, SplatSettings()
    cloud = [torch.randn(2, 20, size, generator=generator) for size in (3, 4, 3, 3)]
    scales, opacities = torch.exp(0.3 * cloud[2]) * 0.15, torch.rand(2, 20, generator=generator)
    pose = torch.eye(4).repeat(2, 1, 1)
    pose[:, 2, 3] = 3.0
    seen = project(0.4 * cloud[0], cloud[1], scales, opacities, cloud[3], pose, torch.full((2,), 0.7), height, width, settings).splats
    weights = torch.randn(2, height, width, 5, generator=generator)

    def run(composite: Callable, where: torch.device) -> list[Tensor]:
        moved = Splats(*(value.to(where) for value in vars(seen).values()))
        inputs = [getattr(moved, name).requires_grad_(True) for name in ("centre", "conic", "opacity", "features")]
        sums, alpha = composite(moved, 2, height, width, settings)
        maps = torch.cat([sums, alpha[..., None]], dim=-1)
        return [maps, *torch.autograd.grad((maps * weights.to(where)).sum(), inputs)]

    agree(run, twin, reference, device, ("pictures", "gradient to centres", "gradient to shapes", "gradient to opacities", "gradient to colours"))


def agree(run: Callable, twin: Callable, reference: Callable, device: torch.device, names: tuple[str, ...]) -> None:
    """RuntimeError unless `run` gives on `device` with the twin what it gives on the CPU with the reference; the first of `names` is the value."""
    expected = run(reference, torch.device("cpu"))
    found = run(twin, device)
    for index, (name, value, right) in enumerate(zip(names, found, expected, strict=True)):
        error = float((value.detach().cpu() - right.detach()).abs().max() / right.detach().abs().max().clamp_min(1e-30))
        if not error <= (GRADIENTS if index else VALUES):
            raise RuntimeError(f"its {name} differ from the reference by {error:.1g} of the largest value")
