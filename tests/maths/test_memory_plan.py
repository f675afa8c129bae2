"""Chunks follow free memory, larger pictures are foreseen, and a resumed run rounds as the one that was stopped."""

import gc
import weakref
from dataclasses import replace

import pytest
import torch
from toy_scenes import ball_prior, term, tiny_renderer, tiny_scene

from bloom4d.models.geometry.cameras import view_time_grid
from bloom4d.models.optimize.checkpoint import CheckpointStore
from bloom4d.models.optimize.loop import Distiller
from bloom4d.models.optimize.memory import SHARE, SMALLEST_CHUNK, Attempt, MemoryPlan
from bloom4d.models.optimize.runs import run
from bloom4d.models.optimize.stages import LearningRates, Resolution, Stage
from bloom4d.models.render.graph_memory import BACKWARD, LEAST, bytes_per_ray, kept_bytes

SMALL, LARGE = 16, 24


class Memory:
    """A device with so many bytes free; what was asked of it."""

    def __init__(self, free: float):
        self.bytes, self.wanted, self.required = free, [], []

    def free(self, wanted):
        self.wanted.append(wanted)
        return self.bytes

    def make(self, required):
        self.required.append(required)


def plan(free: float, chunk: int = 0) -> MemoryPlan:
    return MemoryPlan(chunk, room=Memory(free))


def asked(held: MemoryPlan, rays: int, ray_bytes: float = 10.0, key: str = "a 8 x 8", singly: bool = False) -> int:
    return held.prepare(key, rays, lambda: ray_bytes, lambda: singly)


@pytest.mark.parametrize(("free", "rays", "chunk"), [
    (10_000 / SHARE, 1000, 0),  # all of it fits, to the byte
    (9_999 / SHARE, 1000, 512),
    (5_119 / SHARE, 1000, 256),
    (1.0, 1000, SMALLEST_CHUNK),
])
def test_the_chunk_is_the_largest_power_of_two_that_fits(free, rays, chunk):
    assert asked(plan(free), rays) == chunk


def test_a_given_chunk_only_shrinks():
    assert asked(plan(1e9, chunk=300), 1000) == 300
    held = plan(4_000 / SHARE, chunk=512)
    assert asked(held, 1000) == 256 and asked(held, 200) == 0, "a smaller picture keeps its graph whole"


def test_larger_pictures_are_foreseen():
    """Memory is asked for, and made, for the chunk that will be rendered: before it is rendered."""
    held = plan(1e9)
    assert asked(held, 100) == 0 and held.room.wanted == [1000 / SHARE] and held.room.required == [1000]
    assert asked(held, 100) == 0 and len(held.room.wanted) == 1 and held.room.required == [1000, 1000], "each size is planned once"
    held.room.bytes = 10_240 / SHARE
    assert asked(held, 6400, key="a 64 x 64") == 1024 and held.room.required[-1] == 10_240


def test_memory_that_runs_out_halves_the_chunk_and_encodes_one_at_a_time():
    held = plan(1e9)
    asked(held, 4000)
    assert not held.singly("a 8 x 8")
    failed = Attempt("a 8 x 8", 4000, seen=True)
    held.shrink(torch.OutOfMemoryError("out"), failed)
    assert held.room.required == [40_000], "room is made by a call of its own, when the graph is gone"
    held.make_room(failed)
    assert held.room.required[-1] == 20_000 and held.singly("a 8 x 8") and asked(held, 4000) == 2000
    for other in (RuntimeError("shape mismatch"), torch.OutOfMemoryError("nothing was being rendered")):
        with pytest.raises(RuntimeError, match=str(other)):
            held.shrink(other, failed if "shape" in str(other) else None)


def test_only_what_failed_shrinks():
    held = plan(1e12)
    asked(held, 1024, key="small"), asked(held, 16_384, key="large")
    out = torch.OutOfMemoryError("out")
    for chunk in (512, 256):
        held.shrink(out, Attempt("small", 1024))
        assert asked(held, 1024, key="small") == chunk and asked(held, 16_384, key="large") == 0
    with pytest.raises(torch.OutOfMemoryError):
        held.shrink(out, Attempt("small", 1024))
    assert not held.singly("small"), "its pictures were never there"
    held.shrink(out, Attempt("small", 1024, seen=True))  # but once they are, their judge can still be asked with less
    assert held.singly("small") and not held.singly("large") and held.halved == 3
    with pytest.raises(torch.OutOfMemoryError):
        held.shrink(out, Attempt("small", 1024, seen=True))


def test_what_is_planned_with_little_memory_leaves_others_alone():
    held = plan(1e12)
    assert asked(held, 16_384, key="first") == 0
    held.room.bytes = 5_120 / SHARE
    assert asked(held, 4096, key="second") == 512 and asked(held, 16_384, key="first") == 0


def test_a_checkpoint_from_before_each_render_had_its_own_chunk_goes_on_with_the_common_one():
    held = MemoryPlan()
    held.restore({"chunk": 512, "halved": 1, "shares": [["a 8 x 8", {"ray_bytes": 10.0, "singly": True}]]})
    held.room = Memory(1e12)
    assert asked(held, 4000) == 512 and held.singly("a 8 x 8") and held.room.wanted == []


def test_decisions_survive_a_checkpoint_and_are_not_asked_for_again():
    held = plan(9_999 / SHARE)
    asked(held, 1000, singly=True)
    rich = plan(1e9)
    rich.restore(held.describe())
    assert asked(rich, 1000, ray_bytes=1e9) == 512 and rich.singly("a 8 x 8") and rich.room.wanted == []


@pytest.mark.parametrize("values", [None, {}, {"chunk": -1, "halved": 0, "shares": []}, {"chunk": 1, "halved": 0, "shares": [["a"]]}, {"chunk": 1, "halved": 0, "shares": [["a", {"ray_bytes": "x", "singly": True}]]}, {"chunk": 1, "halved": 0, "shares": [["a", {"chunk": -1}]]}])
def test_damaged_decisions_are_refused(values):
    with pytest.raises(ValueError, match="memory"):
        MemoryPlan().restore(values)


def test_bytes_per_ray_are_those_that_autograd_keeps():
    """On a picture that the probe renders whole, it is that picture's own graph; an empty field costs rays alone."""
    scene, renderer = tiny_scene(), tiny_renderer()
    state, cameras = renderer.new_state(scene.field), view_time_grid(1, 2)
    whole = kept_bytes(lambda: renderer.render_views(scene.field, state, cameras, 12, 12), scene.field.parameters())
    found = bytes_per_ray(scene.field, renderer.render_views, state, cameras, 12, 12)
    assert found == pytest.approx(BACKWARD * whole / (2 * 12 * 12)) and whole > 0
    empty = scene.field.clone().requires_grad_(False)
    assert bytes_per_ray(empty, renderer.render_views, state, cameras, 12, 12) == LEAST


def test_counting_leaves_nothing_alive():
    """An operation that saves its own output, as exp does, would otherwise hold itself where no collector sees it."""
    weights, seen = torch.ones(1000, requires_grad=True), []

    def forward():
        made = weights.exp()
        seen.append(weakref.ref(made))
        return made

    assert kept_bytes(forward, [weights]) == 4000
    gc.collect()
    assert seen[0]() is None


def growing_stage() -> Stage:
    """Small renders, then larger ones, as at 4D-fy's switch from 64 to 256."""
    resolution = Resolution(LARGE, LARGE, SMALL / LARGE, 0.5)
    return Stage((replace(term("views", 4, motion=True), resolution=resolution),), rates=LearningRates(1e-2, 1e-2, 1e-3))


def job(free: float | None, steps: int = 8) -> Distiller:
    return Distiller(tiny_scene(), growing_stage(), [ball_prior()], tiny_renderer(), steps, seed=3, room=None if free is None else Memory(free))


def parameters(job: Distiller) -> dict:
    return {name: value.clone() for name, value in job.work.field.state_dict().items()}


def finished(job: Distiller) -> dict:
    run(job)
    return parameters(job)


def same(one: dict, other: dict) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def scarce() -> float:
    """So few bytes that the small pictures are rendered whole and the large ones in chunks."""
    probe = job(1e12)
    probe.advance()
    share, = probe.memory.shares.values()
    return 1.05 * share.ray_bytes * 4 * SMALL * SMALL / SHARE


def test_the_switch_of_resolution_is_planned_before_it_happens():
    held = job(scarce())
    for _ in range(4):
        held.advance()
    assert {key: share.chunk for key, share in held.memory.shares.items()} == {"views 16 x 16": 0}
    held.advance()
    assert held.memory.shares["views 16 x 16"].chunk == 0 < held.memory.shares["views 24 x 24"].chunk < 4 * LARGE * LARGE


def test_a_resumed_run_with_other_memory_gives_the_same_bytes(tmp_path):
    whole = finished(job(scarce()))
    half = job(scarce())
    for _ in range(5):
        half.advance()
    store = CheckpointStore(tmp_path)
    store.write(half.step, *half.snapshot())
    resumed, forgetful = job(1e12), job(1e12)
    resumed.restore(store.latest()), forgetful.work.restore(store.latest())
    assert same(finished(resumed), whole)
    assert not same(finished(forgetful), whole), "the control: another chunk rounds differently"


def test_memory_changes_nothing_but_rounding():
    whole, chunked = job(None), job(scarce())
    for held in (whole, chunked):
        for _ in range(5):
            held.advance()
    for name, value in whole.work.history.columns.items():
        assert torch.allclose(torch.tensor(chunked.work.history.columns[name]), torch.tensor(value), rtol=1e-3, atol=1e-5, equal_nan=True), name


class Encoding:
    """A prior that says whether its encoder needs much, and hears how to encode."""

    singly = False

    def __init__(self, heavy: bool):
        self.prior, self.answer, self.asked = ball_prior(), heavy, []

    def __getattr__(self, name):
        return getattr(self.prior, name)

    def heavy(self, pictures, room):
        assert isinstance(room, Memory)
        self.asked.append(pictures)
        return self.answer


@pytest.mark.parametrize("heavy", [False, True])
def test_encoders_are_told_to_take_pictures_one_at_a_time_where_memory_demands_it(heavy):
    prior = Encoding(heavy)
    held = Distiller(tiny_scene(), growing_stage(), [prior], tiny_renderer(), 8, room=Memory(1e12))
    held.advance(), held.advance()
    assert prior.singly == heavy and prior.asked == [4]
