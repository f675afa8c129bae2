"""View-dependent prompts of a score session, put together per picture.

Where the prompts of a batch differ in tensors alone, one entry holds a row of each for every picture. Where they differ in
anything else (ControlNets, areas, Flux's guidance), each becomes an entry of its own that counts for its pictures only, by a
strength per picture; the host then asks the model once per prompt.
"""

import math
from collections.abc import Sequence

import comfy.sampler_helpers
import torch
from torch import Tensor

from .conditions import own_controls

PICTURES = "bloom4d_pictures"
"""Which pictures of the batch an entry is for, a tuple of bool; `for_pictures` makes a strength of it."""

NOT_OF_A_PROMPT = {"uuid", "model_conds", "bloom4d_note"}
ON_BOTH_SIDES = "control_apply_to_uncond"


class Texts:
    """A prompt and its variants by view direction.

    The first conditioning is the plain prompt. What a variant has of its own (text, strength, ControlNet, area, guidance, ...)
    takes the place of the plain prompt's, for its pictures; what it does not have, but a strength, it takes from the plain prompt.

    `apart`: each part is estimated by itself, and its strength is a weight on that estimate (`strengths`).
    """

    def __init__(self, conditionings: Sequence[list], copies: dict, apart: bool = False):
        converted = [own_controls(comfy.sampler_helpers.convert_cond(conditioning), copies) for conditioning in conditionings]
        if len({len(entries) for entries in converted}) != 1:
            raise ValueError("The view-dependent prompts have different numbers of parts. Combine and mask all of them in the same way.")
        self.plain = converted[0]
        self._own = [[_own(plain, entry) for plain, entry in zip(self.plain, entries)] for entries in converted]
        self._alone = apart or len(self.plain) == 1  # of one entry the host's strength cancels
        self._weights = [[float((plain | own).get("strength", 1.0)) for plain, own in zip(self.plain, owns)] for owns in self._own]
        if apart:
            self.plain, self._own = [_without_strength(entry) for entry in self.plain], [[_without_strength(own) for own in owns] for owns in self._own]
        else:
            _check_controls(self.plain, self._own)

    def choose(self, indices: Sequence[int] | None) -> list[list[dict]]:
        """The entries of every part for pictures with the prompts `indices` (B,) into the conditionings; None takes the plain one for all."""
        chosen = sorted(set(indices or (0,)))
        if len(chosen) == 1:
            return [[plain | own] for plain, own in zip(self.plain, self._own[chosen[0]])]
        return [self._mixed(position, indices, chosen) for position in range(len(self.plain))]

    def strengths(self, indices: Sequence[int] | None) -> list[Tensor]:
        """Of every part its strength by picture, (B,), or (1,) for all."""
        return [torch.tensor([self._weights[index][position] for index in indices or (0,)]) for position in range(len(self.plain))]

    def every(self) -> list[dict]:
        """The plain entries and those of all variants that bring more than tensors, which the host must know when a session opens."""
        others = [plain | own for owns in self._own for plain, own in zip(self.plain, owns) if not all(isinstance(value, Tensor) for value in own.values())]
        return [*self.plain, *others]

    def _mixed(self, position: int, indices: Sequence[int], chosen: list[int]) -> list[dict]:
        entries = {index: self.plain[position] | self._own[index][position] for index in chosen}
        names = {name for index in chosen for name in self._own[index][position] if not (self._alone and name == "strength")}
        columns = {name: [entries[index].get(name) for index in chosen] for name in names}
        if all(_stackable(values, name) for name, values in columns.items()):
            return [self.plain[position] | {name: _rows([entries[index][name] for index in indices], name) for name in names}]
        return [entry | {PICTURES: tuple(index == other for other in indices)} for index, entry in entries.items()]


def for_pictures(entries: list[dict], shape: Sequence[int], device: torch.device) -> list[dict]:
    """Entries for latents of `shape` whose `PICTURES` became a strength by picture, which the host multiplies its weights with."""
    return [_for_pictures(entry, shape, device) if PICTURES in entry else entry for entry in entries]


def _for_pictures(entry: dict, shape: Sequence[int], device: torch.device) -> dict:
    rows = torch.tensor(entry[PICTURES], dtype=torch.float32, device=device)
    assert len(rows) == shape[0]
    kept = {name: value for name, value in entry.items() if name != PICTURES}
    return kept | {"strength": float(entry.get("strength", 1.0)) * rows.view(-1, *[1] * (len(shape) - 1))}


def _own(plain: dict, entry: dict) -> dict:
    entry = {"strength": 1.0} | entry if "strength" in plain else entry  # the host's default, nothing that could be inherited
    return {name: value for name, value in entry.items() if name not in NOT_OF_A_PROMPT and not (name in plain and _same(plain[name], value))}


def _same(one, other) -> bool:
    """Whether two values of conditioning mean the same, as far as that can be told."""
    if one is other:
        return True
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return isinstance(one, Tensor) and isinstance(other, Tensor) and torch.equal(one, other)
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(value, other[name]) for name, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other) if isinstance(one, (bool, int, float, str)) else False


def _without_strength(entry: dict) -> dict:
    return {name: value for name, value in entry.items() if name != "strength"}


def _stackable(values: list, name: str) -> bool:
    """Whether values of several prompts can be the rows of one tensor; texts of different length can."""
    if not all(isinstance(value, Tensor) and value.ndim and value.shape[0] == 1 for value in values):
        return False
    first = 2 if name == "cross_attn" else 1
    return len({value.shape[first:] for value in values}) == 1


def _rows(values: list[Tensor], name: str) -> Tensor:
    """One row per picture. Texts of different length are repeated to a common one, which leaves cross-attention unchanged."""
    if name == "cross_attn" and len({value.shape[1] for value in values}) > 1:
        length = math.lcm(*(value.shape[1] for value in values))
        values = [value.repeat(1, length // value.shape[1], 1) for value in values]
    return torch.cat(values)


def _check_controls(plain: list[dict], owns: list[list[dict]]):
    """ValueError where the host would have to choose which prompt's ControlNet steers the negative, too."""
    for entry, own in ((entry, own) for variant in owns for entry, own in zip(plain, variant) if "control" in own):
        if (entry | own).get(ON_BOTH_SIDES):
            raise ValueError(
                "A view-dependent prompt has another ControlNet than the plain prompt, put on by Apply ControlNet (OLD), which also steers the negative prompt: it cannot follow the view. "
                "Use Apply ControlNet on the prompts and on the negative."
            )
