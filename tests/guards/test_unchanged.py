"""The watch over node inputs sees every kind of change and nothing else."""

from dataclasses import dataclass

import pytest
import torch
from unchanged import digest, watched_execute


@dataclass
class Scene:
    grid: torch.nn.Module
    history: list


def scene():
    return Scene(torch.nn.Linear(2, 2), [{"loss": [1.0]}])


@pytest.mark.parametrize("change", [
    lambda value: value.grid.weight.data.add_(1),
    lambda value: value.history.append({}),
    lambda value: value.history[0]["loss"].append(2.0),
    lambda value: setattr(value, "history", []),
])
def test_a_change_is_found(change):
    with pytest.raises(AssertionError, match="changed its input"):
        watched_execute(change)(scene())


def test_a_change_is_found_when_the_node_raises():
    def fails(latent):
        latent["samples"].zero_()
        raise ValueError("too late")

    with pytest.raises(AssertionError, match=r"changed its input \['latent'\]"):
        watched_execute(fails)(latent={"samples": torch.ones(2)})


def test_reading_changes_nothing():
    value = scene()
    assert watched_execute(lambda one, two: (one.grid(torch.ones(2)), two["samples"] + 1))(value, {"samples": torch.ones(3)})
    assert digest(value) == digest(value) != digest(scene())
