"""AdamW over a field's parameter roles: peak rates and freezing by role, and no update from a gradient that is not finite."""

import torch
from torch import Tensor, nn

from ..formats.tensors import mismatch
from .stages import ROLES, LearningRates

BETAS, EPSILON = (0.9, 0.99), 1e-15  # threestudio's, for grids whose gradients are tiny and sparse


class RoleOptimiser:
    """AdamW with one group per role that the stage trains; frozen parameters are in no group and hold no moments."""

    def __init__(self, field: nn.Module, rates: LearningRates, weight_decay: float = 0.0):
        self.rates = rates
        self.names = {parameter: name for name, parameter in field.named_parameters()}
        roles = field.roles()
        peaks = rates.peaks()
        self.roles = {role: list(roles.get(role, ())) for role in ROLES if peaks[role] > 0 and roles.get(role)}
        if not self.roles:
            raise ValueError(
                f"The stage trains nothing: the field has the roles {', '.join(role for role in ROLES if roles.get(role))} and all of their "
                "learning rates are 0. Give one of them a learning rate."
            )
        field.requires_grad_(False)
        groups = [{"params": parameters, "lr": peaks[role]} for role, parameters in self.roles.items()]
        self.adam = torch.optim.AdamW(groups, betas=BETAS, eps=EPSILON, weight_decay=weight_decay, fused=True)

    def train_only(self, roles: tuple[str, ...]) -> None:
        """Let gradients reach the trained parameters of `roles` and no others."""
        for role, parameters in self.roles.items():
            for parameter in parameters:
                parameter.requires_grad_(role in roles)

    def clear(self) -> None:
        """Forget gradients."""
        self.adam.zero_grad(set_to_none=True)

    def update(self, step: int, steps: int) -> bool:
        """Apply the gathered gradients and clear them; False, and nothing changed, when one of them is not finite.

        A parameter without a gradient keeps its value and its moments.
        """
        gradients = [parameter.grad for parameters in self.roles.values() for parameter in parameters if parameter.grad is not None]
        finite = not gradients or bool(torch.isfinite(torch.stack(torch._foreach_norm(gradients))).all())
        if finite:
            factor = self.rates.factor(step, steps)
            for group, role in zip(self.adam.param_groups, self.roles):
                group["lr"] = getattr(self.rates, role) * factor
            self.adam.step()
        self.clear()
        return finite

    def tensors(self) -> dict[str, Tensor]:
        """Moments and update counts by parameter name."""
        found = {}
        for parameter, state in self.adam.state.items():
            for key, value in state.items():
                found[f"{key}.{self.names[parameter]}"] = value
        return found

    def load(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `tensors`; parameters that are not named start afresh. ValueError when the moments do not fit."""
        self.adam.state.clear()
        for parameters in self.roles.values():
            for parameter in parameters:
                name = self.names[parameter]
                wanted = {f"step.{name}": torch.zeros(()), f"exp_avg.{name}": parameter, f"exp_avg_sq.{name}": parameter}
                if not wanted.keys() & tensors.keys():
                    continue
                if problem := mismatch({key: tensors[key] for key in wanted if key in tensors}, wanted):
                    raise ValueError(f"moments: {problem}")
                self.adam.state[parameter] = {key.partition(".")[0]: tensors[key].to(parameter.device, like.dtype, copy=True) for key, like in wanted.items()}
