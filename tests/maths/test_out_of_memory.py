"""Memory that runs out in one of several unequal terms: that render shrinks and no other, its graph is gone before room is made, and
the step is the one that would have been taken."""

import gc
import weakref

import pytest
import torch
from toy_scenes import ball_prior, term, tiny_renderer, tiny_scene

from bloom4d.models.guidance.regularisers import Regularisers
from bloom4d.models.guidance.schedules import constant
from bloom4d.models.optimize.checkpoint import CheckpointStore
from bloom4d.models.optimize.loop import Distiller
from bloom4d.models.optimize.stages import Backdrop, LearningRates, Stage
from bloom4d.models.render.volume import VolumeRenderer

SMALL, LARGE = 1024, 4096
CHUNKS = {"small": [0, 512, 256], "large": [0, 2048, 1024]}


class Mark:
    """What hangs on a graph."""


class Scarce(VolumeRenderer):
    """Notes the rays and chunk of every render, and runs out of memory in the first `failures` renders of `rays` rays."""

    def __init__(self, rays: int = 0, failures: int = 0):
        super().__init__(tiny_renderer().config)
        self.rays, self.failures, self.asked, self.seen = rays, failures, [], []

    def render_views(self, field, state, cameras, height, width, seed=None, chunk=0, **wanted):
        rays = len(cameras) * height * width
        if seed is None:  # a probe or a look
            return super().render_views(field, state, cameras, height, width, seed, chunk, **wanted)
        self.asked.append((rays, chunk))
        views = super().render_views(field, state, cameras, height, width, seed, chunk, **wanted)
        graph = views.rgb.grad_fn.metadata["mark"] = Mark()  # lives as long as the graph does
        self.seen += [weakref.ref(graph), weakref.ref(views.rgb)]
        if rays == self.rays and self.failures:
            self.failures -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return views


class Room:
    """A device with plenty of memory; which renders were still alive whenever room was asked for."""

    def __init__(self, renderer: Scarce):
        self.renderer, self.alive = renderer, []

    def free(self, wanted):
        return 1e15

    def make(self, required):
        self.alive.append(sum(seen() is not None for seen in self.renderer.seen))

    def plannable(self, device):
        return 1e15


class Narrow:
    """The ball's prior; the first `failures` pictures of `where` run out of memory."""

    singly = False

    def __init__(self, failures: int = 0, where: str = "encode"):
        self.prior, self.failures, self.where, self.told = ball_prior(), failures, where, []

    def __getattr__(self, name):
        return getattr(self.prior, name)

    def heavy(self, pictures, room):
        return False

    def encode(self, rgb, alpha):
        self.told.append(self.singly)
        if self.where == "encode":
            self._fail()
        if self.where == "backward":
            rgb.register_hook(lambda gradient: self._fail())
        return self.prior.encode(rgb, alpha)

    def denoise(self, *values, **named):
        if self.where == "denoise":
            self._fail()
        return self.prior.denoise(*values, **named)

    def _fail(self):
        if self.failures:
            self.failures -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")


def job(renderer: Scarce, first=None, steps: int = 4, roomy: bool = True, **stage) -> Distiller:
    """A term of 1,024 rays beside one of 4,096, both in every step."""
    terms = term("small", 4, size=16), term("large", 1, size=64, motion=True)
    settings = {"rates": LearningRates(1e-2, 1e-2, 1e-3), "backdrop": Backdrop(0.0), **stage}
    return Distiller(tiny_scene(), Stage(terms, **settings), [first or Narrow(), Narrow()], renderer, steps, seed=5, room=Room(renderer) if roomy else None)


def chunks(work: Distiller) -> dict[str, int]:
    return {key.split()[0]: share.chunk for key, share in work.memory.shares.items()}


@pytest.mark.parametrize("roomy", [True, False])
@pytest.mark.parametrize(("name", "rays"), [("small", SMALL), ("large", LARGE)])
def test_the_render_that_failed_shrinks_at_every_failure_and_no_other(name, rays, roomy):
    renderer = Scarce(rays, 2)
    work = job(renderer, roomy=roomy)
    assert "memory ran out 2 x" in work.advance()
    other = LARGE if rays == SMALL else SMALL
    assert [chunk for size, chunk in renderer.asked if size == rays] == CHUNKS[name]
    assert {chunk for size, chunk in renderer.asked if size == other} == {0}
    assert chunks(work)[name] == CHUNKS[name][-1] and work.memory.halved == 2 and work.step == 1
    work.advance()
    assert renderer.asked[-2:] == [(SMALL, chunks(work).get("small", 0)), (LARGE, chunks(work).get("large", 0))], "it stays so"


def test_a_render_that_can_not_shrink_any_more_fails_as_it_is():
    renderer = Scarce(SMALL, 3)
    with pytest.raises(torch.OutOfMemoryError, match="^CUDA out of memory$"):
        job(renderer).advance()
    assert renderer.asked == [(SMALL, chunk) for chunk in CHUNKS["small"]]


@pytest.mark.parametrize("where", ["encode", "denoise", "backward"])
def test_a_judge_that_needs_too_much_is_asked_with_less_and_so_is_its_render(where):
    renderer, prior = Scarce(), Narrow(1, where)
    work = job(renderer, prior)
    work.advance()
    assert prior.told == [False, True] and not work.judges[1].singly
    assert renderer.asked == [(SMALL, 0), (SMALL, 512), (LARGE, 0)], "a render in parts keeps no graph while its judge is asked"


@pytest.mark.parametrize("where", ["render", "encode", "denoise", "backward"])
def test_nothing_of_the_failed_step_is_alive_when_room_is_made(where):
    """Otherwise the host evicts the run's own models to make it. No collector runs: a graph may not wait for one."""
    renderer = Scarce(SMALL, 2 if where == "render" else 0)
    work = job(renderer, Narrow(0 if where == "render" else 2, where))
    gc.collect()
    gc.disable()
    try:
        work.advance()
    finally:
        gc.enable()
    made = work.memory.room.alive
    assert work.memory.halved == 2 and len(made) >= 6 and made == [0] * len(made)


def gradients(work: Distiller) -> dict:
    """Of the first step that succeeds."""
    while (rows := work._tried()) is None:
        pass
    assert [row["term"] for row in rows] == [0, 1]
    return {name: value.grad.double() for name, value in work.work.field.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("where", ["render", "encode", "backward"])
def test_the_repeated_step_has_the_gradients_of_one_that_nothing_happened_to(where):
    penalties = Regularisers(opaque=constant(0.1), orientation=constant(1.0))
    calm = gradients(job(Scarce(), regularisers=penalties))
    failing = job(Scarce(SMALL, 2 if where == "render" else 0), Narrow(0 if where == "render" else 2, where), regularisers=penalties)
    found = gradients(failing)
    assert failing.memory.halved == 2 and found.keys() == calm.keys() and len(calm) > 3
    for name, value in calm.items():
        assert value.any() and float((found[name] - value).norm()) <= 1e-5 * float(value.norm()), name


def test_a_resumed_run_keeps_each_renders_chunk(tmp_path):
    whole, store = job(Scarce(SMALL, 1)), CheckpointStore(tmp_path)
    whole.advance(), whole.advance()
    store.write(whole.step, *whole.snapshot())
    renderer = Scarce()
    resumed = job(renderer)
    resumed.restore(store.latest())
    whole.advance(), resumed.advance()
    assert renderer.asked == [(SMALL, 512), (LARGE, 0)]
    for (name, value), (_, other) in zip(whole.work.field.state_dict().items(), resumed.work.field.state_dict().items()):
        assert torch.equal(value, other), name
