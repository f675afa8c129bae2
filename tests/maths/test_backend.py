"""The table of implementations: honest about what can run, and forced by one variable."""

import sys

import pytest
import torch
from bloom4d.models.render import backend


def test_the_reference_is_always_there_and_probing_imports_nothing():
    before = set(sys.modules)
    rows = backend.backends()
    assert {row.operation for row in rows if row.name == "torch" and row.usable} == set(backend.OPERATIONS)
    assert all(row.reason for row in rows) and not {"warp", "gsplat", "tinycudann"} & (set(sys.modules) - before)


@pytest.mark.parametrize("value", [None, "", "auto", "Torch"])
def test_torch_runs_by_default_and_by_name(monkeypatch, value):
    monkeypatch.delenv("BLOOM4D_BACKEND", raising=False)
    if value is not None:
        monkeypatch.setenv("BLOOM4D_BACKEND", value)
    assert backend.choose("hash grid").name == "torch"


@pytest.mark.parametrize("value", ["warp", "fortran"])
def test_what_can_not_run_is_refused_with_the_way_out(monkeypatch, value):
    monkeypatch.setenv("BLOOM4D_BACKEND", value)
    with pytest.raises(ValueError, match="Set it to auto or torch"):
        backend.choose("hash grid")


def test_denormals_are_flushed_inside_and_only_inside():
    tiny = torch.full((4,), 1e-39)
    with backend.flushed_denormals() as supported:
        inside = tiny * 0.5
    assert (tiny * 0.5).any()
    assert not inside.any() or not supported
