"""A run that was stopped anywhere and goes on gives the bytes of one that was not (issue, "Must show" 3)."""

import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from toy_scenes import ball_prior, hybrid_stage, term, tiny_renderer, tiny_scene

from bloom4d.models.fields.hash_field import HashField
from bloom4d.models.optimize import checkpoint
from bloom4d.models.optimize.checkpoint import CheckpointStore, read_checkpoint
from bloom4d.models.optimize.loop import Distiller
from bloom4d.models.optimize.runs import Pace, run
from bloom4d.models.optimize.scene import Scene
from bloom4d.models.optimize.stages import LearningRates, Stage

STEPS = 18
RATES = LearningRates(static=1e-2, dynamic=1e-2, decoder=1e-3)


def job(steps=STEPS, scene=None, seed=2) -> Distiller:
    stage = hybrid_stage(rates=RATES)
    return Distiller(scene or tiny_scene(), stage, [ball_prior()] * 3, tiny_renderer(), steps, seed)


def clock(seconds_per_call: float = 1.0):
    """A clock that moves by itself, so that intervals depend on calls and not on the machine."""
    time = [0.0]

    def read():
        time[0] += seconds_per_call
        return time[0]

    return read


def final_bytes(folder: Path) -> tuple[bytes, bytes]:
    path = folder / f"step_{STEPS:08d}.safetensors"
    return path.read_bytes(), path.with_suffix(".json").read_bytes()


def resumed(folder, **settings) -> Distiller:
    store, fresh = CheckpointStore(folder), job(**settings)
    if found := store.latest():
        fresh.restore(found)
    assert run(fresh, store, pace=Pace(clock=clock(), checkpoint=8))
    return fresh


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The uninterrupted run's last checkpoint."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(job(), CheckpointStore(folder), pace=Pace(clock=clock(), checkpoint=0))
    return final_bytes(folder)


class Stop(BaseException):
    """What the host raises on an interrupt: not an Exception."""


@pytest.mark.parametrize("stop_at", [1, 7, 17])
def test_interrupt_and_resume_give_the_same_bytes(tmp_path, reference, stop_at):
    def watch(done, text, preview):
        if done == stop_at:
            raise Stop

    with pytest.raises(Stop):
        run(job(), CheckpointStore(tmp_path), watch, Pace(clock=clock()))
    assert CheckpointStore(tmp_path).latest().step == stop_at  # nothing is lost
    resumed(tmp_path)
    assert final_bytes(tmp_path) == reference


def test_several_interrupts_and_a_lost_newest_checkpoint(tmp_path, reference):
    for stop_at in (3, 9, 13):
        def watch(done, text, preview, stop_at=stop_at):
            if done == stop_at:
                raise Stop

        fresh, store = job(), CheckpointStore(tmp_path)
        if found := store.latest():
            fresh.restore(found)
        with pytest.raises(Stop):
            run(fresh, store, watch, Pace(clock=clock()))
    newest = tmp_path / "step_00000013.safetensors"
    newest.write_bytes(newest.read_bytes()[:100])  # truncated by a crash of the machine: fall back to step 9
    resumed(tmp_path)
    assert final_bytes(tmp_path) == reference


def test_interrupt_inside_a_checkpoint_write(tmp_path, reference, monkeypatch):
    real, calls = checkpoint.os.replace, []

    def interrupted(source, target):
        calls.append(target)
        if len(calls) == 5:  # the second checkpoint's .json: its tensors are on the disk already
            raise Stop
        return real(source, target)

    monkeypatch.setattr(checkpoint.os, "replace", interrupted)
    with pytest.raises(Stop):
        run(job(), CheckpointStore(tmp_path), pace=Pace(clock=clock(), checkpoint=8))
    monkeypatch.undo()
    assert len(calls) > 5  # the interrupted write was repeated on the way out
    resumed(tmp_path)
    assert final_bytes(tmp_path) == reference


KILLED = """
import os, signal, sys
sys.path[:0] = {paths!r}
import pack; pack.load_pack()
from bloom4d.models.optimize import checkpoint
from bloom4d.models.optimize.checkpoint import CheckpointStore
from bloom4d.models.optimize.runs import Pace, run
import test_resume as here
import torch; torch.set_num_threads({threads})
real, calls = checkpoint.os.replace, []
def kill_self(*arguments):
    calls.append(arguments)
    if len(calls) == {kill_at}:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)
checkpoint.os.replace = kill_self
run(here.job(), CheckpointStore({folder!r}), pace=Pace(clock=here.clock(), checkpoint=8))
"""


@pytest.mark.parametrize("kill_at", [4, 5, 6])
def test_a_killed_process_is_resumed_by_another(tmp_path, reference, kill_at):
    """SIGKILL before the tensors, between the tensors and the description, and before the pointer of the second checkpoint."""
    here = Path(__file__).resolve().parent
    paths = [str(here.parent.parent / "tools"), str(here.parent), str(here)]
    program = KILLED.format(paths=paths, kill_at=kill_at, folder=str(tmp_path), threads=torch.get_num_threads())
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert list(tmp_path.glob("*.tmp"))  # the kill came inside a write
    with CheckpointStore(tmp_path).lock():
        resumed(tmp_path)
    assert final_bytes(tmp_path) == reference and not list(tmp_path.glob("*.tmp"))


def test_another_seed_gives_other_bytes(tmp_path, reference):
    resumed(tmp_path, seed=3)
    assert final_bytes(tmp_path)[0] != reference[0]


def test_losing_the_moments_is_noticed(tmp_path, reference):
    """Negative control: a resume without Adam's moments is another run."""
    half = job()
    for _ in range(9):
        half.advance()
    half.work.optimiser.adam.state.clear()
    while half.step < STEPS:
        half.advance()
    CheckpointStore(tmp_path).write(STEPS, *half.snapshot())
    assert final_bytes(tmp_path)[0] != reference[0]


def test_time_budget_stops_and_previews_come_early(tmp_path):
    drawn = []
    fresh = job()
    pace = Pace(preview=15, checkpoint=30, budget=30, clock=clock())
    finished = run(fresh, CheckpointStore(tmp_path), lambda done, text, preview: drawn.append(done) if preview else None, pace)
    assert not finished and 0 < fresh.step < STEPS and drawn[0] == 1
    assert CheckpointStore(tmp_path).latest().step == fresh.step
    resumed(tmp_path)


def test_checkpoint_of_another_field_is_refused_with_the_difference(tmp_path):
    store = CheckpointStore(tmp_path)
    store.write(3, *job().snapshot())
    other = HashField(tiny_scene().field.config.__class__(static=tiny_scene().field.config.static, dynamic=tiny_scene().field.config.dynamic, hidden=8))
    with pytest.raises(ValueError, match="made with another field: its .* here it is"):
        job(scene=Scene(other)).restore(store.latest())
    with pytest.raises(ValueError, match="belongs to a stage with the terms"):
        stage = Stage((term("other", 1),), rates=RATES)
        Distiller(tiny_scene(), stage, [ball_prior()], tiny_renderer(), STEPS).restore(store.latest())
    with pytest.raises(ValueError, match="is at step 3, this stage ends at 2"):
        job(steps=2).restore(store.latest())


def test_full_disk_ends_the_run_with_the_old_checkpoint_intact(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path)
    fresh = job()
    fresh.advance()
    store.write(1, *fresh.snapshot())
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match="could not be written .* Free some disk space and queue the same graph"):
        run(fresh, store, pace=Pace(clock=clock(), checkpoint=3))
    monkeypatch.undo()
    assert store.latest().step == 1 and torch.equal(read_checkpoint(store.latest().path).tensors["adam.step.static.table"], torch.tensor(1.0))
