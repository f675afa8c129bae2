"""Densification: Gaussians are cloned and split where pictures pull at them, and removed where they show nothing.

The rules are those of 3D Gaussian Splatting in gsplat's units: the gradient of the loss of one picture with respect to a
Gaussian's 2D mean, in half pictures (a pixel is 2 / W of them), averaged over the pictures in which it was drawn.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..geometry.rotations import quaternion_to_matrix
from .activation import RAW, logit

SPLIT = 1.6  # a split Gaussian's halves are smaller by this factor


@dataclass(frozen=True)
class DensityConfig:
    """When a cloud grows and shrinks. Lengths are shares of the scene's extent. Defaults: 3DGS and gsplat.

    `threshold`: mean 2D gradient above which a Gaussian is cloned (standard deviations up to `small`) or split (larger).
    Pruned: opacities below `faint`, standard deviations above `large`, centres farther than `far` from the middle, anything
    not finite. At a reset every opacity falls to twice `faint`.
    """

    threshold: float = 2e-4
    small: float = 0.01
    faint: float = 0.005
    large: float = 0.5
    far: float = 2.0
    most: int = 100_000


class PullMeter:
    """How strongly pictures pulled at each of N Gaussians since the last densification."""

    def __init__(self, count: int, device=None):
        self.total = torch.zeros(count, device=device)
        self.seen = torch.zeros(count, device=device)

    @torch.no_grad()
    def observe(self, gradient: Tensor, radii: Tensor, height: int, width: int, pictures: int) -> None:
        """Add `gradient` (B, N, 2) of 2D means in pixels; `radii` (B, N) is 0 where a Gaussian was not drawn.

        `pictures`: how many the loss is a mean over, so that its share of each counts whole.
        """
        half = gradient.new_tensor([width / 2.0, height / 2.0])
        drawn = radii > 0
        pull = (gradient * half * pictures).norm(dim=-1)
        self.total += torch.where(drawn & pull.isfinite(), pull, 0.0).sum(dim=0)
        self.seen += drawn.sum(dim=0)

    def mean(self) -> Tensor:
        """Mean pull (N,) over the pictures in which a Gaussian was drawn."""
        return self.total / self.seen.clamp_min(1.0)


@dataclass(frozen=True)
class Replacement:
    """A new cloud: its raw parameters, the old Gaussian that each one comes from (M,), and which ones start without moments (M,)."""

    raw: dict[str, Tensor]
    source: Tensor
    fresh: Tensor


@torch.no_grad()
def densify(raw: dict[str, Tensor], pull: Tensor, config: DensityConfig, extent: float, draws: torch.Generator) -> Replacement:
    """Clone and split the Gaussians that `pull` (N,) names, the strongest first while there is room below `config.most`."""
    scales = raw["log_scales"].exp().amax(dim=-1)
    wanted = (pull > config.threshold).nonzero()[:, 0]
    strongest = pull[wanted].argsort(descending=True, stable=True)
    room = max(config.most - len(pull), 0)
    chosen = torch.zeros_like(pull, dtype=torch.bool)
    chosen[wanted[strongest[:room]]] = True
    small = scales <= config.small * extent
    stay, clones, halves = ~(chosen & ~small), chosen & small, chosen & ~small
    number = lambda mask: mask.nonzero()[:, 0]  # noqa: E731
    source = torch.cat([number(stay), number(clones), number(halves), number(halves)])
    parts = {name: value[source] for name, value in raw.items()}
    twins = 2 * int(halves.sum())
    if twins:
        _split(parts, twins, draws)
    fresh = torch.arange(len(source), device=source.device) >= int(stay.sum())
    return Replacement(parts, source, fresh)


def _split(parts: dict[str, Tensor], twins: int, draws: torch.Generator) -> None:
    """Place the last `twins` Gaussians at random within their parents, and shrink them."""
    tail = slice(len(parts["positions"]) - twins, None)
    offset = torch.randn(twins, 3, generator=draws).to(parts["positions"]) * parts["log_scales"][tail].exp()
    turn = quaternion_to_matrix(parts["quaternions"][tail][:, [1, 2, 3, 0]])
    parts["positions"][tail] += (turn @ offset[..., None])[..., 0]
    parts["log_scales"][tail] -= math.log(SPLIT)


@torch.no_grad()
def prune(raw: dict[str, Tensor], config: DensityConfig, extent: float, middle: Tensor) -> Replacement:
    """Without the Gaussians that show nothing or that exploded; none may be left."""
    finite = torch.stack([value.reshape(len(value), -1).isfinite().all(dim=1) for value in raw.values()]).all(dim=0)
    opaque = torch.sigmoid(raw["logits"]) >= config.faint
    sized = raw["log_scales"].exp().amax(dim=-1) <= config.large * extent
    near = (raw["positions"] - middle).norm(dim=-1) <= config.far * extent
    source = (finite & opaque & sized & near).nonzero()[:, 0]
    return Replacement({name: value[source] for name, value in raw.items()}, source, torch.zeros_like(source, dtype=torch.bool))


@torch.no_grad()
def reset_opacities(raw: dict[str, Tensor], config: DensityConfig) -> Replacement:
    """Every opacity at most twice the faintest: what pictures do not raise again is pruned later (floaters in front of cameras)."""
    everyone = torch.arange(len(raw["logits"]), device=raw["logits"].device)
    highest = logit(raw["logits"].new_tensor(2.0 * config.faint))
    return Replacement({**raw, "logits": raw["logits"].minimum(highest)}, everyone, torch.zeros_like(everyone, dtype=torch.bool))


@torch.no_grad()
def carry(adam: torch.optim.Optimizer, old: dict[str, Tensor], new: dict[str, Tensor], change: Replacement, forget: tuple[str, ...] = ()) -> None:
    """Hand the optimiser the parameters `new` for `old`, both by name, with their moments; fresh Gaussians, and whole parameters
    named in `forget`, have moments of 0."""
    swapped = {old[name]: new[name] for name in RAW}
    for group in adam.param_groups:
        group["params"] = [swapped.get(parameter, parameter) for parameter in group["params"]]
    for name in RAW:
        for key, value in adam.state.pop(old[name], {}).items():
            if value.ndim:
                value = value[change.source]
                value[change.fresh] = 0.0
                value = value * 0.0 if name in forget else value
            adam.state[new[name]][key] = value
