"""A phi of an oracle's size: a frozen per-pixel network on the oracle's pictures, with low-rank additions and a camera branch."""

import torch
import torch.nn.functional as F
from torch import nn

from bloom4d.models.guidance.noise import guided, per_item
from bloom4d.models.guidance.variational import target_error
from bloom4d.models.networks.low_rank import CameraBranch, LowRank, camera_codes

WIDTH, CHANNELS, FREQUENCIES = 48, 4, 4


class TinyPhi:
    """Implements `Phi` beside an `OraclePrior` of variance exploding noise; its network's output is x0, and v is its target.

    `camera` False leaves the branch out.
    """

    def __init__(self, prior, rate: float = 1e-2, rank: int = 8, camera: bool = True, seed: int = 0):
        draws = torch.Generator().manual_seed(seed)
        self.prior, self.rate = prior, rate
        sizes = ((CHANNELS + 2 + 4 * FREQUENCIES, WIDTH), (WIDTH, WIDTH), (WIDTH, CHANNELS))
        self.base = [torch.randn(outputs, inputs, generator=draws) / inputs**0.5 for inputs, outputs in sizes]
        self.additions = [LowRank(inputs, outputs, rank, draws) for inputs, outputs in sizes]
        self.branch = CameraBranch(WIDTH, draws) if camera else None

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        parts = {f"layer.{index}": part for index, part in enumerate(self.additions)} | ({"camera": self.branch} if self.branch else {})
        return [(f"{name}.{inner}", value) for name, part in parts.items() for inner, value in part.named_parameters()]

    def sigma_at(self, percent):
        return self.prior.sigma_at(percent)

    def network(self, z, sigma, codes, trained: bool = True):
        """x0 (B, 4, h, w) of noisy pictures; with `trained` False of the frozen base."""
        batch, _, height, width = z.shape
        rows, columns = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        waves = [wave(3.0 * 2**k / 4 * axis) for k in range(FREQUENCIES) for axis in (rows, columns) for wave in (torch.sin, torch.cos)]
        places = torch.stack(waves).expand(batch, -1, -1, -1)
        shrunk = z / (1 + per_item(sigma, z) ** 2).sqrt()
        level = per_item(sigma.log() / 4, z).expand(batch, 1, height, width)
        x = torch.cat([shrunk, level, torch.ones_like(level), places.to(z)], 1).movedim(1, -1)
        for index, (weight, addition) in enumerate(zip(self.base, self.additions)):
            out = F.linear(x, weight)
            x = addition(x, out) if trained else out
            if index == 0 and self.branch is not None and trained:
                x = x + self.branch(codes)[:, None, None]
            x = x if index == 2 else F.silu(x)
        return x.movedim(-1, 1)

    @torch.no_grad()
    def denoise(self, z, sigma, cameras, scale):
        codes = camera_codes(cameras.camera_to_world)
        conditional = self.network(z, sigma, codes)
        return guided(conditional, None if scale == 1.0 else self.network(z, sigma, torch.zeros_like(codes)), scale)

    def error(self, x0, noise, sigma, cameras, hidden):
        codes = camera_codes(cameras.camera_to_world).masked_fill(hidden[:, None], 0.0)
        slope = (sigma / (1 + sigma**2).sqrt()).clamp_min(0.2)
        return target_error(x0, self.network(self.prior.add_noise(x0, noise, sigma), sigma, codes), slope)


class Judge:
    """An oracle prior that carries a phi."""

    def __init__(self, prior, phi):
        self.prior, self.learner = prior, phi

    def __getattr__(self, name):
        return getattr(self.prior, name)
