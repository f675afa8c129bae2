"""Checkpoints survive kills, damage, full disks and second processes; run ids name exactly one run."""

import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import dataclass, replace

import pytest
import torch

from bloom4d.models.geometry.cameras import CameraSampler
from bloom4d.models.guidance.distillation import Distillation
from bloom4d.models.optimize.checkpoint import CheckpointStore, read_checkpoint
from bloom4d.models.optimize.identity import fingerprint
from bloom4d.models.optimize.stages import Stage, Term

FIELD = {"grid": torch.arange(12.0).reshape(3, 4), "count": torch.tensor(7)}


def store_with(folder, *steps):
    store = CheckpointStore(folder)
    for step in steps:
        store.write(step, {"x": torch.full((4,), float(step))}, {"note": f"at {step}"})
    return store


def test_round_trip_and_two_kept(tmp_path):
    store = store_with(tmp_path / "run", 10, 20, 30)
    found = store.latest()
    assert found.step == 30 and found.values["note"] == "at 30" and torch.equal(found.tensors["x"], torch.full((4,), 30.0))
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "latest",
        *(f"step_000000{step}.{kind}" for step in (20, 30) for kind in ("json", "safetensors")),
    ]
    assert CheckpointStore(tmp_path / "empty").latest() is None


def test_same_content_same_bytes(tmp_path):
    bytes_of = [CheckpointStore(tmp_path / name).write(1, FIELD, {"b": 1, "a": [2.5, None]}) for name in ("one", "two")]
    assert bytes_of[0].read_bytes() == bytes_of[1].read_bytes()
    assert bytes_of[0].with_suffix(".json").read_bytes() == bytes_of[1].with_suffix(".json").read_bytes()


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no json", "foreign json", "foreign file"])
def test_damage_is_named_and_passed_over(tmp_path, damage):
    store = store_with(tmp_path, 10, 20)
    newest = tmp_path / "step_00000020.safetensors"
    sidecar, content = newest.with_suffix(".json"), newest.read_bytes()
    if damage == "truncated":
        newest.write_bytes(content[:-5])
    elif damage == "flipped":
        newest.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "no json":
        sidecar.unlink()
    elif damage == "foreign json":
        sidecar.write_text('{"format": "something"}')
    else:
        newest.write_bytes(b"PK\x03\x04 a zip of pickles")
    with pytest.raises(ValueError, match="step_00000020"):
        read_checkpoint(newest)
    assert store.latest().step == 10
    resumed = store.write(15, {"x": torch.zeros(4)}, {})  # the attempt goes on from 10: the damaged one is forgotten, 10 is not
    assert store.latest().path == resumed and not newest.exists() and (tmp_path / "step_00000010.safetensors").exists()


def test_a_hash_that_matches_garbage_is_still_refused(tmp_path):
    import hashlib

    path = store_with(tmp_path, 5).latest().path
    path.write_bytes(b"\x00" * 64)
    values = json.loads(path.with_suffix(".json").read_text())
    values["sha256"] = hashlib.sha256(b"\x00" * 64).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match="no readable safetensors"):
        read_checkpoint(path)
    with pytest.raises(ValueError, match="There is no checkpoint"):
        read_checkpoint(tmp_path / "missing.safetensors")


def test_full_disk_keeps_the_old_checkpoint(tmp_path):
    store = store_with(tmp_path, 10)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # the system itself refuses to write more
    try:
        with pytest.raises(OSError, match=r"step 20 could not be written .*Free some disk space and queue the same graph"):
            store.write(20, {"x": torch.zeros(100_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert store.latest().step == 10


@pytest.mark.parametrize("moment", ["save", "fsync", "replace"])
def test_interrupt_inside_a_write_leaves_the_old_one_whole(tmp_path, monkeypatch, moment):
    from bloom4d.models.formats import writing

    store = store_with(tmp_path, 10)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    target = writing if moment == "save" else writing.os
    original = getattr(target, moment)

    def interrupted(*args, **kwargs):
        if moment == "save":
            original(*args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(target, moment, interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.write(20, {"x": torch.zeros(10)}, {})
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_kill_between_the_two_files_leaves_the_previous_pair(tmp_path):
    store = store_with(tmp_path, 10, 20)
    (tmp_path / "step_00000030.safetensors").write_bytes((tmp_path / "step_00000020.safetensors").read_bytes())
    (tmp_path / "step_00000030.json.tmp").write_text('{"format": ')
    assert store.latest().step == 20
    with store.lock():
        assert not list(tmp_path.glob("*.tmp"))


def test_two_processes_do_not_share_a_run(tmp_path):
    program = f"""
import sys; sys.path.insert(0, {os.path.dirname(os.path.abspath(pack_file()))!r}); import pack; pack.load_pack()
from bloom4d.models.optimize.checkpoint import CheckpointStore
with CheckpointStore({str(tmp_path)!r}).lock(): print("held", flush=True); sys.stdin.read()
"""
    other = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match="Another process is working on this very run"), CheckpointStore(tmp_path).lock():
            pass
    finally:
        other.kill()
        other.wait()
    with CheckpointStore(tmp_path).lock():  # the kill released it
        pass


def pack_file():
    import pack

    return pack.__file__


@dataclass(frozen=True)
class Same:
    value: float = 1.0


@dataclass(frozen=True)
class Alike:
    value: float = 1.0


def test_run_ids_change_with_everything_resolved():
    stage = Stage((Term("image", CameraSampler(), Distillation()),))
    text = torch.zeros(1, 7, 4)
    base = dict(stage=stage, seed=3, steps=100, text=text, field=torch.nn.Linear(2, 2))

    def identity(**changes):
        return fingerprint({**base, **changes})

    assert identity() == identity() == identity(text=text.clone())
    term = stage.terms[0]
    other_text = text.clone()
    other_text[0, 3, 1] = 1e-7
    changed = [
        identity(seed=4),
        identity(steps=101),
        identity(text=other_text),
        identity(text=text.half()),
        identity(text=text.reshape(7, 1, 4)),
        identity(field=torch.nn.Linear(2, 2)),
        identity(stage=replace(stage, probabilities=(1.0,))),
        identity(stage=replace(stage, terms=(replace(term, scenes=2),))),
        identity(stage=replace(stage, terms=(replace(term, cameras=CameraSampler(views=1)),))),
        identity(stage=replace(stage, terms=(replace(term, objective=Distillation(guidance=2.0)),))),
        identity(seed="3"),
        identity(seed=True),
    ]
    assert len({identity(), *changed}) == len(changed) + 1


def test_run_ids_see_structure_and_refuse_objects():
    assert fingerprint(Same()) != fingerprint(Alike())
    assert fingerprint(["ab", "c"]) != fingerprint(["a", "bc"]) != fingerprint([["a"], "bc"])
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    with pytest.raises(TypeError, match="identified by a object"):
        fingerprint(object())
