"""What terms learn beside the field: updated with it, skipped with it, checkpointed with it, handed to the next stage."""

import pytest
import torch
from bloom4d.models.optimize.learners import Learners, learners
from torch import nn


class Line:
    """y = a x: one number to learn."""

    rate = 0.1

    def __init__(self, start: float = 0.0):
        self.slope = nn.Parameter(torch.tensor([start]))

    def named_parameters(self):
        return [("slope", self.slope)]


def step(line: Line, held: Learners) -> float:
    (line.slope - 1.0).square().sum().backward()
    held.update()
    return line.slope.item()


def test_a_learner_moves_and_a_gradient_that_is_not_finite_does_not_move_it():
    line = Line()
    held = Learners({"phi": line})
    assert step(line, held) > 0
    before = float(line.slope)
    line.slope.grad = torch.tensor([float("nan")])
    held.update()
    assert float(line.slope) == before and line.slope.grad is None


def test_a_restored_learner_goes_on_to_the_same_value():
    line = Line()
    held = Learners({"a.b": line})
    step(line, held)
    stored = {name: value.clone() for name, value in held.tensors().items()}
    expected = [step(line, held) for _ in range(3)]
    other = Line(5.0)
    resumed = Learners({"a.b": other})
    resumed.load(stored)
    assert [step(other, resumed) for _ in range(3)] == expected
    fresh = Line(float(stored["value.a.b.slope"]))  # control: without the moments it goes elsewhere
    assert [step(fresh, Learners({"a.b": fresh})) for _ in range(3)] != expected


def test_another_learner_is_refused_and_the_next_stage_begins_where_the_last_one_ended():
    held = Learners({"phi": Line(3.0)})
    with pytest.raises(ValueError, match="learners: the tensor other.slope is missing"):
        Learners({"other": Line()}).load(held.tensors())
    later = Line()
    Learners({"phi": later}).begin(held.learned())
    assert float(later.slope) == 3.0


def test_only_judges_that_carry_one_are_learners():
    judge = type("Judge", (), {"learner": Line()})()
    assert tuple(learners(("one", "two"), (judge, object())).values) == ("one",)
