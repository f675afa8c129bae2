"""Adam over dynamic Gaussians: a rate for every kind of parameter, and moments that follow a cloud whose size changes."""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..formats.tensors import mismatch
from ..gaussians.density import Replacement, carry
from ..gaussians.dynamic import DynamicGaussians

EPSILON = 1e-15  # 3DGS


@dataclass(frozen=True)
class CloudRates:
    """Peak learning rates. Positions are in shares of the scene's extent and fall to a hundredth, planes and networks to a
    tenth of their peak, exponentially over all steps (3DGS, 4DGS). `details`: the harmonics but the constant one."""

    positions: float = 1.6e-4
    colours: float = 2.5e-3
    details: float = 1.25e-4
    opacities: float = 0.05
    scales: float = 5e-3
    rotations: float = 1e-3
    planes: float = 1.6e-3
    networks: float = 1.6e-4

    def __post_init__(self):
        if not all(math.isfinite(getattr(self, field.name)) and getattr(self, field.name) >= 0 for field in fields(self)):
            raise ValueError("A learning rate is negative or not finite. Give ordinary numbers from 0 on.")


ATTRIBUTE = {"positions": "positions", "quaternions": "rotations", "log_scales": "scales", "logits": "opacities", "colours": "colours", "details": "details"}
FALL = {"positions": 0.01, "planes": 0.1, "networks": 0.1}  # of the peak, at the end


class CloudOptimiser:
    """Adam with one group per kind of parameter of `gaussians`, whose attributes may be replaced by clouds of another size."""

    def __init__(self, gaussians: DynamicGaussians, rates: CloudRates, extent: float):
        self.gaussians, self.rates, self.extent = gaussians, rates, extent
        groups = [{"params": [parameter], "kind": ATTRIBUTE[name]} for name, parameter in gaussians.raw().items()]
        roles = gaussians.roles()
        groups += [{"params": roles[role], "kind": kind} for role, kind in (("dynamic", "planes"), ("decoder", "networks")) if roles[role]]
        self.adam = torch.optim.Adam(groups, lr=0.0, eps=EPSILON, foreach=True)

    def clear(self) -> None:
        """Forget gradients."""
        self.adam.zero_grad(set_to_none=True)

    def update(self, share: float) -> bool:
        """Apply the gathered gradients at `share` of all steps and clear them; False, and nothing changed, when one is not finite."""
        gradients = [parameter.grad for group in self.adam.param_groups for parameter in group["params"] if parameter.grad is not None]
        finite = not gradients or bool(torch.isfinite(torch.stack(torch._foreach_norm(gradients))).all())
        if finite:
            for group in self.adam.param_groups:
                group["lr"] = self.rate(group["kind"], share)
            self.adam.step()
        self.clear()
        return finite

    def rate(self, kind: str, share: float) -> float:
        """The learning rate of a kind of parameter at `share` of all steps."""
        return getattr(self.rates, kind) * FALL.get(kind, 1.0) ** share * (self.extent if kind == "positions" else 1.0)

    def replace(self, change: Replacement, forget: tuple[str, ...] = ()) -> None:
        """Give the Gaussians the cloud of `change`; moments follow (see `density.carry`)."""
        old = self.gaussians.raw()
        self.gaussians.set_raw(change.raw)
        carry(self.adam, old, self.gaussians.raw(), change, forget)

    def tensors(self) -> dict[str, Tensor]:
        """Moments and update counts by parameter name."""
        names = {parameter: name for name, parameter in self.gaussians.named_parameters()}
        return {f"{key}.{names[parameter]}": value for parameter, state in self.adam.state.items() for key, value in state.items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `tensors`, for Gaussians that were loaded before; ValueError when the moments do not fit."""
        parameters = dict(self.gaussians.named_parameters())
        self.adam.state.clear()
        for group in self.adam.param_groups:  # the cloud may have another size than when the groups were made
            group["params"] = [parameters[name] for name in self._names(group["kind"])]
        wanted = {f"{key}.{name}": like for name, value in parameters.items() for key, like in (("step", torch.zeros(())), ("exp_avg", value), ("exp_avg_sq", value))}
        if tensors and (problem := mismatch(tensors, {name: wanted[name] for name in wanted if name in tensors})):
            raise ValueError(f"moments: {problem}")
        for name, value in tensors.items():
            key, _, parameter = name.partition(".")
            self.adam.state[parameters[parameter]][key] = value.to(parameters[parameter].device if value.ndim else "cpu", torch.float32, copy=True)

    def _names(self, kind: str) -> list[str]:
        attributes = [name for name, its in ATTRIBUTE.items() if its == kind]
        if attributes:
            return attributes
        names = [name for name, _ in self.gaussians.named_parameters() if name.startswith("deformation.")]
        return [name for name in names if name.startswith("deformation.planes.") == (kind == "planes")]
