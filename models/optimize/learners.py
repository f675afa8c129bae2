"""What terms train beside the field, such as VSD's phi: one AdamW each, checkpointed with the field."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..formats.tensors import mismatch
from ..guidance.objective import Learner

MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Learners:
    """The learners of a stage by the names of their terms. Empty where no term learns."""

    def __init__(self, by_term: Mapping[str, Learner]):
        self.values = {term: dict(learner.named_parameters()) for term, learner in by_term.items()}
        self.adams = {term: torch.optim.AdamW(self.values[term].values(), lr=learner.rate) for term, learner in by_term.items()}

    def begin(self, learned: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Go on from what an earlier stage's term of the same name learned; a learner of another shape starts afresh."""
        for term, values in self.values.items():
            if term in learned and not mismatch(dict(learned[term]), values):
                for name, value in values.items():
                    value.data.copy_(learned[term][name])

    def update(self) -> None:
        """Apply the gathered gradients and clear them; a learner with one that is not finite changes nothing."""
        for term, adam in self.adams.items():
            gradients = [value.grad for value in self.values[term].values() if value.grad is not None]
            if all(bool(gradient.isfinite().all()) for gradient in gradients):
                adam.step()
        self.clear()

    def clear(self) -> None:
        """Forget gradients."""
        for adam in self.adams.values():
            adam.zero_grad(set_to_none=True)

    def learned(self) -> dict[str, dict[str, Tensor]]:
        """Copies of all values on the CPU, by term."""
        return {term: {name: value.detach().cpu().clone() for name, value in values.items()} for term, values in self.values.items()}

    def tensors(self) -> dict[str, Tensor]:
        """Values and moments for a checkpoint."""
        found = {}
        for term, name, value in self._all():
            found[f"value.{term}.{name}"] = value.detach()
            found |= {f"{key}.{term}.{name}": moment for key, moment in self.adams[term].state.get(value, {}).items()}
        return found

    def load(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `tensors`; ValueError in a clause when they do not fit."""
        values = {name.removeprefix("value."): value for name, value in tensors.items() if name.startswith("value.")}
        if problem := mismatch(values, {f"{term}.{name}": value for term, name, value in self._all()}):
            raise ValueError(f"learners: {problem}")
        for term, name, value in self._all():
            value.data.copy_(values[f"{term}.{name}"])
            moments = {key: tensors[f"{key}.{term}.{name}"] for key in MOMENTS if f"{key}.{term}.{name}" in tensors}
            self.adams[term].state.pop(value, None)
            if moments:
                self.adams[term].state[value] = {key: moment.to(value.device, copy=True) for key, moment in moments.items()}

    def _all(self):
        return ((term, name, value) for term, values in self.values.items() for name, value in values.items())


def learners(terms: Sequence[str], judges: Sequence) -> Learners:
    """The learners of all judges that carry one."""
    return Learners({name: judge.learner for name, judge in zip(terms, judges) if getattr(judge, "learner", None) is not None})
