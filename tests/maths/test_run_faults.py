"""What goes wrong in the middle of a run: numbers that are not finite, too little memory, spoiled folders."""

import json
import math
import os
import shutil

import pytest
import torch
from test_refine import CONFIG, drawing_prior
from toy_scenes import ball_prior, term, tiny_renderer, tiny_scene

from bloom4d.models.optimize import checkpoint
from bloom4d.models.optimize.checkpoint import KEPT, CheckpointStore, drop_finished
from bloom4d.models.optimize.loop import Distiller
from bloom4d.models.optimize.refine import Refiner
from bloom4d.models.optimize.runs import Pace, run
from bloom4d.models.optimize.stages import LearningRates, Stage
from bloom4d.models.optimize.workpiece import MOST_SKIPPED
from bloom4d.models.render.volume import VolumeRenderer

RATES = LearningRates(static=1e-2, dynamic=1e-2, decoder=1e-3)


class NotFinite:
    """A prior whose estimate is NaN in chosen calls."""

    def __init__(self, prior, bad_calls):
        self.prior, self.bad_calls, self.calls = prior, bad_calls, 0

    def __getattr__(self, name):
        return getattr(self.prior, name)

    def denoise(self, *arguments, **options):
        self.calls += 1
        estimates = self.prior.denoise(*arguments, **options)
        if self.calls - 1 in self.bad_calls:
            return tuple(None if estimate is None else estimate * math.nan for estimate in estimates)
        return estimates


def distiller(bad_calls=(), steps=30) -> Distiller:
    return Distiller(tiny_scene(), Stage((term("image", 1),), rates=RATES), [NotFinite(ball_prior(), bad_calls)], tiny_renderer(), steps, seed=4)


def refiner(bad_calls=(), steps=12) -> Refiner:
    return Refiner(tiny_scene(), NotFinite(drawing_prior(), bad_calls), tiny_renderer(), CONFIG, steps, seed=2)


def content(tensors) -> dict:
    return {name: value.clone() for name, value in tensors.items()}


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_prior_that_answers_nan_skips_the_step():
    job = distiller({1, 2})
    job.advance()
    before = content(job.work.field.state_dict()), content(job.work.optimiser.tensors())
    job.advance(), job.advance()
    assert same(content(job.work.field.state_dict()), before[0]) and same(content(job.work.optimiser.tensors()), before[1])
    assert job.work.history.skipped == [1, 2] and job.stalled and job.step == 3
    job.advance()
    assert not job.stalled and not same(content(job.work.field.state_dict()), before[0])


def checkpoint_every_step(job, folder, first=0) -> CheckpointStore:
    time = iter(range(10**6))
    store = CheckpointStore(folder)
    with pytest.raises(RuntimeError, match=f"{MOST_SKIPPED} steps in a row .* queueing the same graph tries them again"):
        run(job, store, pace=Pace(checkpoint=1, clock=lambda: next(time)))
    return store


def test_a_prior_that_only_answers_nan_stops_the_run_and_the_last_good_checkpoint_stays(tmp_path):
    store = checkpoint_every_step(distiller(set(range(3, 99))), tmp_path)
    assert store.latest().step == 3
    calm, again = distiller(), distiller()
    again.restore(store.latest())
    run(calm), run(again)
    assert same(content(calm.work.field.state_dict()), content(again.work.field.state_dict()))


def test_without_any_good_step_there_is_nothing_to_resume(tmp_path):
    assert checkpoint_every_step(distiller(set(range(99))), tmp_path).latest() is None


def test_pictures_that_are_not_finite_never_enter_the_pool():
    drawings = CONFIG.denoising_steps
    job = refiner({0, drawings})  # one call of the first drawing, one of the second
    job.advance(), job.advance()
    assert job.work.history.skipped == [0, 1] and len(job.pool.times) == 0 and job.stalled
    job.advance()
    assert len(job.pool.times) == 4 and torch.isfinite(job.pool.pictures).all() and not job.stalled
    assert math.isnan(job.work.history.columns["loss"][1]) and job.work.history.columns["non_finite"][1] > 0


def test_a_spoiled_round_is_drawn_again_by_a_resumed_run(tmp_path):
    whole, half = refiner({0}), refiner({0})
    whole.advance(), half.advance()
    store = CheckpointStore(tmp_path)
    store.write(half.step, *half.snapshot())
    resumed = refiner()
    resumed.restore(store.latest())
    run(whole), run(resumed)
    assert same(content(whole.work.field.state_dict()), content(resumed.work.field.state_dict()))


def test_refinement_out_of_memory_halves_the_chunk_and_repeats_the_step(monkeypatch):
    reference, job = refiner(steps=1), refiner(steps=1)
    reference.advance()
    original, chunks = VolumeRenderer.render_views, []

    def scarce(renderer, field, state, cameras, height, width, seed, chunk):
        chunks.append(chunk)
        if not 0 < chunk <= 512:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(renderer, field, state, cameras, height, width, seed, chunk)

    monkeypatch.setattr(VolumeRenderer, "render_views", scarce)
    job.advance()
    assert chunks[:2] == [0, 512] and job.step == 1
    assert torch.allclose(job.pool.pictures, reference.pool.pictures, atol=1e-5)
    assert torch.equal(job.pool.camera_to_world, reference.pool.camera_to_world)  # the same randomness

    def hopeless(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(VolumeRenderer, "render_views", hopeless)
    with pytest.raises(torch.OutOfMemoryError, match="^CUDA out of memory$"):
        refiner().advance()


def written(folder, *steps, of=99) -> CheckpointStore:
    store = CheckpointStore(folder)
    for step in steps:
        store.write(step, {"x": torch.full((4,), float(step))}, {"steps": of})
    return store


@pytest.mark.parametrize("content", [b"step_00000077.safetensors", b"\xff\xfe\x00", b"", b"../../elsewhere"])
def test_a_pointer_that_names_nothing_is_passed_over(tmp_path, content):
    store = written(tmp_path, 10, 20)
    (tmp_path / "latest").write_bytes(content)
    assert store.latest().step == 20


def test_damaged_checkpoints_do_not_count_among_those_kept(tmp_path):
    store = written(tmp_path, 10, 20)
    (tmp_path / "step_00000020.safetensors").write_bytes(b"half")
    assert store.recover().step == 10
    written(tmp_path, 30)
    assert sorted(path.stem for path in tmp_path.glob("*.safetensors")) == ["step_00000010", "step_00000030"]
    (tmp_path / "step_00000030.safetensors").write_bytes(b"half")
    assert store.latest().step == 10 and KEPT == 2


def test_a_run_whose_folder_is_deleted_writes_it_again(tmp_path):
    store = written(tmp_path / "run", 10)
    with store.lock():
        shutil.rmtree(tmp_path / "run")
        assert store.latest() is None
        written(tmp_path / "run", 20)
    assert store.latest().step == 20


def test_a_folder_that_is_deleted_inside_a_write_is_made_again(tmp_path, monkeypatch):
    fsync, seen = os.fsync, []

    def deleting(descriptor):
        fsync(descriptor)
        seen.append(descriptor)
        if len(seen) == 2:  # the description; the tensors are there already
            shutil.rmtree(tmp_path / "run")

    monkeypatch.setattr(checkpoint.os, "fsync", deleting)
    assert written(tmp_path / "run", 10).latest().step == 10 and len(seen) == 5


def test_a_folder_that_takes_nothing_is_named(tmp_path):
    (tmp_path / "run").write_text("a file where the folder should be")
    with pytest.raises(OSError, match=r"folder .*/run cannot be written to \(.*\)\. Make the output folder writable"), CheckpointStore(tmp_path / "run").lock():
        pass


def test_files_are_readable_as_any_other(tmp_path):
    path = written(tmp_path, 1).latest().path
    plain = tmp_path / "plain"
    plain.touch()
    assert path.stat().st_mode == path.with_suffix(".json").stat().st_mode == plain.stat().st_mode


def test_only_the_newest_finished_runs_stay(tmp_path):
    for number in range(5):
        latest = written(tmp_path / "rose" / f"run{number}", 9, 10, of=10).folder / "latest"
        os.utime(latest, (number, number))
    written(tmp_path / "tulip" / "unfinished", 9, of=10)
    garbled = written(tmp_path / "garbled", 10, of=10).latest().path.with_suffix(".json")
    garbled.write_text(json.dumps([1, 2]))
    with CheckpointStore(tmp_path / "rose" / "run1").lock():
        drop_finished(tmp_path, kept=2)
    assert sorted(path.name for path in (tmp_path / "rose").iterdir()) == ["run1", "run3", "run4"]
    assert CheckpointStore(tmp_path / "tulip" / "unfinished").latest().step == 9 and garbled.exists()
    drop_finished(tmp_path / "nothing here")
