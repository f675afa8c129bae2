"""What a fast twin must show before it is used on a device: a small forward and backward pass that agrees with the reference."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..fields.hash_grid import HashGridConfig

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


def agree(run: Callable, twin: Callable, reference: Callable, device: torch.device, names: tuple[str, ...]) -> None:
    """RuntimeError unless `run` gives on `device` with the twin what it gives on the CPU with the reference; the first of `names` is the value."""
    expected = run(reference, torch.device("cpu"))
    found = run(twin, device)
    for index, (name, value, right) in enumerate(zip(names, found, expected, strict=True)):
        error = float((value.detach().cpu() - right.detach()).abs().max() / right.detach().abs().max().clamp_min(1e-30))
        if not error <= (GRADIENTS if index else VALUES):
            raise RuntimeError(f"its {name} differ from the reference by {error:.1g} of the largest value")
