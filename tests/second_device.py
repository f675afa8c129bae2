"""A second device to test with where there is only one: CPU tensors with a label, and torch's rule that labels must not mix.

`with SecondDevice():` makes `.to("cpu:1")` a move: the result says so in `.device`, what is computed from it says so too, and an
operation on tensors of two devices raises. Tensors that were never moved (weights, noise schedules) go with any.
"""

import torch
from torch.overrides import TorchFunctionMode

FIRST, SECOND = torch.device("cpu", 0), torch.device("cpu", 1)


def tensors_in(values):
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors_in(value)


def label(value: torch.Tensor, device: torch.device) -> torch.Tensor:
    value.place = device
    return value


def place_of(value) -> torch.device | None:
    return getattr(value, "place", None)


def target_of(values) -> torch.device | None:
    """The device that the arguments of `.to` or of a factory name, by itself or by another tensor's."""
    for value in values:
        if isinstance(value, torch.device) and value.index is not None:
            return value
        if isinstance(value, torch.Tensor):
            return place_of(value)
    return None


class SecondDevice(TorchFunctionMode):
    """See the module; `moves` lists (from, to) of every move."""

    def __init__(self):
        super().__init__()
        self.moves = []

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        keywords = keywords or {}
        if function == torch.Tensor.device.__get__:  # a new wrapper at every look
            return place_of(arguments[0]) or function(*arguments)
        if getattr(function, "__name__", "") in ("__get__", "__set__", "register_hook", "requires_grad_"):
            return function(*arguments, **keywords)
        given = [value for value in tensors_in((*arguments, *keywords.values()))]
        places = {place_of(value) for value in given} - {None}
        result = function(*arguments, **keywords)
        if function is torch.Tensor.to:
            return self._moved(arguments, keywords, result)
        large = {place_of(value) for value in given if value.ndim} - {None}  # torch lets single numbers of the CPU mix
        assert len(large) < 2, f"{function} got tensors of {large}"
        target = target_of(keywords.values()) or next(iter(large or places), None)
        for value in tensors_in([result]):
            if target is not None and place_of(value) is None:
                label(value, target)
        return result

    def _moved(self, arguments, keywords, result):
        source, target = place_of(arguments[0]), target_of((*arguments[1:], *keywords.values()))
        if target in (None, source):
            return label(result, source) if source is not None else result
        self.moves.append((source, target))
        return label(result.clone(), target)  # a move within the CPU gives the same object, which must keep its label
