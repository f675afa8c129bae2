"""The table of implementations: honest about what can run, proved before use, and forced by one variable."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from bloom4d.models.fields.hash_grid import encode
from bloom4d.models.render import backend
from rooms import ROOT

CPU = torch.device("cpu")
LAZY = """
import sys; sys.path.insert(0, {tools!r}); import pack; pack.load_pack()
from bloom4d.models.render import backend
found = backend.installed()
print(sorted({{"warp", "gsplat", "tinycudann", "nvdiffrast"}} & set(sys.modules)), "warp" in found)
"""


@pytest.fixture
def table(monkeypatch):
    """Set the table's only twin of the hash grid, unproved."""

    def put(**changes):
        twin = backend.Twin("hash grid", "fake", "math", "a_fake", "encode", "a fake")
        monkeypatch.setattr(backend, "TWINS", (replace(twin, **changes),))
        monkeypatch.setattr(backend, "_proved", {})

    monkeypatch.delenv("BLOOM4D_BACKEND", raising=False)
    return put


@pytest.fixture
def fake(monkeypatch):
    """Put a function in the place of every twin's."""
    return lambda function: monkeypatch.setattr(backend, "_function", lambda twin: function)


def test_the_reference_is_always_there_and_every_row_has_a_reason():
    rows = backend.backends()
    assert {row.operation for row in rows if row.name == "torch" and row.usable} == set(backend.OPERATIONS)
    assert all(row.reason for row in rows) and [row.name for row in backend.rows("volume rendering")] == ["torch"]


def test_looking_for_packages_imports_none():
    answer = subprocess.run([sys.executable, "-c", LAZY.format(tools=str(ROOT / "tools"))], capture_output=True, text=True)
    assert answer.stdout.startswith("[] "), answer.stderr[-2000:]


@pytest.mark.parametrize("value", ["torch", "Torch ", "TORCH"])
def test_a_backend_is_forced_by_name(monkeypatch, value):
    monkeypatch.setenv("BLOOM4D_BACKEND", value)
    assert {backend.choose(operation).name for operation in backend.OPERATIONS} == {"torch"}
    assert backend.implementation("hash grid") is encode


def test_a_name_that_no_operation_has_is_refused(monkeypatch):
    monkeypatch.setenv("BLOOM4D_BACKEND", "fortran")
    with pytest.raises(ValueError, match="BLOOM4D_BACKEND=fortran names no backend. Set it to auto, torch"):
        backend.choose("hash grid")


def test_a_twin_that_agrees_is_chosen_and_an_operation_without_it_chooses_freely(table, fake, monkeypatch):
    table()
    fake(encode)
    assert backend.choose("hash grid").name == "fake" and backend.implementation("hash grid") is encode
    monkeypatch.setenv("BLOOM4D_BACKEND", "fake")
    assert backend.choose("hash grid").name == "fake" and backend.choose("volume rendering").name == "torch"


def wrong_value(positions, grid, *rest):
    return encode(positions, grid, *rest) * 1.001


def wrong_gradient(positions, grid, *rest):
    return encode(positions.detach(), grid, *rest) + 0.0 * positions.sum()


def broken(*_):
    raise OSError("/home/me/libfast.so: cannot open shared object file\nand more")


def missing(*_):
    raise ImportError("no compiled module")


@pytest.mark.parametrize(("function", "reason"), [
    (wrong_value, "features differ from the reference by 0.001"), (wrong_gradient, "gradient to positions differ"),
    (broken, "OSError: ... cannot open shared object file"), (missing, "ImportError: no compiled module"),
], ids=["values", "gradients", "OSError", "ImportError"])  # fmt: skip
def test_a_twin_that_is_wrong_or_breaks_is_not_used_and_says_why(table, fake, monkeypatch, function, reason):
    table()
    fake(function)
    row = backend.rows("hash grid")[0]
    assert not row.usable and reason in row.reason and "\n" not in row.reason
    assert backend.choose("hash grid").name == "torch"
    monkeypatch.setenv("BLOOM4D_BACKEND", "fake")
    with pytest.raises(ValueError, match="The backend fake can't run the hash grid on cpu: .* Set BLOOM4D_BACKEND to auto or torch"):
        backend.choose("hash grid")


def test_a_missing_package_is_named_and_a_proof_runs_once(table, fake):
    table(package="no_such_package_anywhere")
    assert backend.rows("hash grid")[0].reason == "not installed"
    calls = []
    table()
    fake(lambda *values: calls.append(1) or encode(*values))
    for _ in range(3):
        backend.choose("hash grid")
    assert len(calls) == 2  # three and four dimensions


def test_a_twin_to_opt_in_waits_to_be_named(table, fake, monkeypatch):
    table(opt_in=True)
    fake(encode)
    row = backend.rows("hash grid")[0]
    assert not row.usable and row.reason == "only with BLOOM4D_BACKEND=fake; a fake" and backend.choose("hash grid").name == "torch"
    monkeypatch.setenv("BLOOM4D_BACKEND", "fake")
    assert backend.choose("hash grid").name == "fake"


def test_lack_of_memory_is_no_verdict(table, fake):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    table()
    fake(full)
    with pytest.raises(torch.OutOfMemoryError):
        backend.choose("hash grid")
    fake(encode)
    assert backend.choose("hash grid").name == "fake"


def test_the_choice_is_logged_once_and_recorded(table, fake, monkeypatch, caplog):
    table()
    fake(encode)
    monkeypatch.setattr(backend, "_announced", set())
    with caplog.at_level("INFO"), torch.inference_mode():
        for _ in range(2):
            backend.choose("hash grid")
    assert [record.getMessage() for record in caplog.records] == ["Bloom4D: hash grid on cpu by fake"]
    assert backend.summary().startswith("hash grid by fake, splats by ")


def test_denormals_are_flushed_inside_and_only_inside():
    tiny = torch.full((4,), 1e-39)
    with backend.flushed_denormals() as supported:
        inside = tiny * 0.5
    assert (tiny * 0.5).any()
    assert not inside.any() or not supported
