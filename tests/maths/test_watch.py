"""Looks from all sides and what they advise: closed forms, no influence on the run, the same rows after a resume."""

import math
from dataclasses import replace

import pytest
import torch
from toy_scenes import ball_prior, hybrid_stage, term, tiny_renderer, tiny_scene

from bloom4d.models.optimize import watch, workpiece
from bloom4d.models.optimize.advice import advise, in_words
from bloom4d.models.optimize.checkpoint import CheckpointStore
from bloom4d.models.optimize.history import StageHistory
from bloom4d.models.optimize.loop import Distiller
from bloom4d.models.optimize.runs import Pace, run
from bloom4d.models.optimize.stages import LearningRates, Stage
from bloom4d.models.optimize.watch import KEPT, TIMES, VIEWS, WATCHED, colours, due, filled, in_time, interval, look, nothing_yet

RATES = LearningRates(static=1e-2, dynamic=1e-2, decoder=1e-3)
STEPS = 22


def pictures(rgb, alpha: float, size: int = 24) -> torch.Tensor:
    """One colour and opacity everywhere: (T, V, 4, H, W), premultiplied; `rgb` three numbers, or one triple per time."""
    colour = torch.tensor(rgb, dtype=torch.float32).reshape(-1, 1, 3).expand(TIMES, VIEWS, 3) * alpha
    return torch.cat([colour, torch.full((TIMES, VIEWS, 1), alpha)], dim=2)[..., None, None].repeat(1, 1, 1, size, size)


def test_filled_is_the_mean_opacity_where_the_unit_ball_is():
    assert filled(pictures((1, 0, 0), 1.0)) == 1.0 and filled(pictures((1, 0, 0), 0.25)) == 0.25 and filled(pictures((1, 0, 0), 0.0)) == 0.0
    corner = pictures((1, 0, 0), 0.0)
    corner[..., 3, 0, 0] = 1.0  # a ray that misses the ball
    assert filled(corner) == 0.0
    middle = pictures((1, 0, 0), 0.0)
    middle[..., 3, 12, 12] = 1.0
    assert filled(middle) > 0.0


def test_motion_and_flicker_of_colours_that_change_evenly_and_to_and_fro():
    even = in_time(pictures([(0.1 * time,) * 3 for time in range(TIMES)], 1.0))
    assert even["motion"] == pytest.approx(0.1) and even["flicker"] == pytest.approx(0.0, abs=1e-6)
    shaking = in_time(pictures([(0.1 * (time % 2),) * 3 for time in range(TIMES)], 1.0))
    assert shaking["motion"] == pytest.approx(0.1) and shaking["flicker"] == pytest.approx(0.2)


def test_spread_and_burnt_share_of_the_visible_colours():
    halves = pictures((0.2, 0.5, 0.5), 1.0)
    halves[..., 0, :12, :] = 0.6  # standard deviation 0.2 in one of three channels
    assert colours(halves) == pytest.approx({"spread": 0.2 / 3, "burnt": 0.0}, abs=1e-6)
    assert colours(pictures((1.0, 0.0, 0.3), 0.8)) == pytest.approx({"spread": 0.0, "burnt": 1.0}, abs=1e-6)
    assert all(math.isnan(value) for value in colours(pictures((1, 1, 1), 0.1)).values())


def test_looks_come_at_intervals_and_at_the_end():
    assert [interval(steps) for steps in (3, 250, 1000, 100_000)] == [10, 10, 40, 100]
    assert [step for step in range(1, 33) if due(step, 32)] == [10, 20, 30, 32]


def distiller(steps=STEPS, **changes) -> Distiller:
    stage = hybrid_stage(rates=RATES, **changes)
    return Distiller(tiny_scene(), stage, [ball_prior()] * 3, tiny_renderer(), steps, seed=2)


@pytest.fixture(scope="module")
def whole() -> Distiller:
    job = distiller()
    run(job)
    return job


def test_a_run_has_a_row_per_look_with_every_number(whole):
    history = whole.work.history
    assert history.watched["step"] == [10.0, 20.0, 22.0] and set(history.watched) == set(WATCHED)
    for name in ("filled", "motion", "flicker", "faces", "spread", "burnt"):
        assert all(map(math.isfinite, history.watched[name])), name
    assert 0.05 < history.watched["filled"][-1] < 0.9
    assert math.isnan(history.watched["change"][0]) and history.watched["change"][1] > 0


def test_change_is_against_the_last_look_and_drift_against_five_before():
    scene, renderer = tiny_scene(), tiny_renderer()
    state, recent = renderer.new_state(scene.field), nothing_yet()
    rows = []
    for level in range(KEPT):
        with torch.no_grad():
            scene.field.static.table.fill_(0.02 * level)  # goes one way
        row, recent = look(scene.field, renderer, state, recent)
        rows.append(row)
    assert [math.isnan(row["drift"]) for row in rows] == [True] * (KEPT - 1) + [False]
    assert recent.shape[0] == KEPT and rows[-1]["drift"] > 3 * rows[-1]["change"] > 0


def test_looking_changes_nothing_that_is_optimised(whole, monkeypatch):
    monkeypatch.setattr(workpiece, "due", lambda step, steps: False)
    blind = distiller()
    run(blind)
    assert not blind.work.history.watched["step"]
    assert all(torch.equal(value, whole.work.field.state_dict()[name]) for name, value in blind.work.field.state_dict().items())


def test_a_resumed_run_has_the_same_rows(whole, tmp_path):
    half, again = distiller(), distiller()
    for _ in range(13):
        half.advance()
    store = CheckpointStore(tmp_path)
    store.write(half.step, *half.snapshot())
    again.restore(store.latest())
    run(again)
    for one, other in zip(whole.snapshot()[0].items(), again.snapshot()[0].items()):
        assert one[0] == other[0] and torch.equal(one[1].nan_to_num(-1.0), other[1].nan_to_num(-1.0)), one[0]


def test_a_look_that_finds_no_memory_costs_its_row_only(monkeypatch):
    job = distiller()

    def scarce(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(type(job.work.renderer), "render_views", scarce)
    row, recent = look(job.work.field, job.work.renderer, job.work.state, nothing_yet())
    assert row == {} and len(recent) == 0


def test_a_step_budget_ends_early_and_the_rest_has_the_same_bytes(whole, tmp_path):
    store, stops = CheckpointStore(tmp_path), []
    while True:
        job = distiller()
        if (found := store.recover()) is not None:
            job.restore(found)
        done = run(job, store, pace=Pace(steps=9))
        stops.append(job.step)
        if done:
            break
    assert stops == [9, 18, 22]
    assert all(torch.equal(value, whole.work.field.state_dict()[name]) for name, value in job.work.field.state_dict().items())


HEALTHY = {"filled": 0.3, "motion": 0.02, "flicker": 0.01, "faces": 0.2, "spread": 0.2, "burnt": 0.0, "change": 0.02, "drift": 0.09}


def seen(*rows: dict, steps: int = 100, roles=("static", "dynamic")) -> StageHistory:
    """A stage whose looks are these, spread evenly over its steps."""
    history = StageHistory("stage", ("video",), steps, 0, RATES, roles)
    for index, row in enumerate(rows):
        history.see(step=steps * (index + 1) / len(rows), **{**HEALTHY, **row})
    return history


def names(history: StageHistory) -> list[str]:
    return [advice.name for advice in advise(history)]


def test_a_healthy_run_gets_no_advice():
    assert names(seen({}, {}, {})) == [] and names(StageHistory("stage", ("video",), 9, 0, RATES, ())) == []
    assert in_words(seen({})) == ["filled 30%", "motion 0.020", "flicker 0.010", "faces 0.20"]


@pytest.mark.parametrize(("row", "name"), [
    ({"filled": 0.001}, "nearly empty"), ({"filled": 0.97}, "fog"), ({"spread": 0.005}, "one colour"), ({"burnt": 0.8}, "burnt colours"),
    ({"faces": 0.99}, "many faces"), ({"motion": 0.0005}, "no motion"),
])
def test_collapses_are_named_with_what_to_do(row, name):
    history = seen({}, row)
    advice, = advise(history)
    assert advice.name == name and len(advice.text.split(". ")) > 1 and in_words(history)[-1] == f"advice: {name}"
    assert names(seen(row, {})) == [], "what is over is not advised against"


def test_motion_is_only_missed_where_it_is_trained_and_time_has_passed():
    still = {"motion": 0.0}
    assert names(seen(still, still, roles=("static", "decoder"))) == []
    early = seen(still, still, steps=100)
    early.steps = 1000
    assert names(early) == []


def walk(drift_per_look: float, noise: float, looks: int = 20) -> StageHistory:
    """Looks at pictures of which one number goes steadily and trembles around that."""
    draws = torch.Generator().manual_seed(0)
    places = [index * drift_per_look + noise * float(torch.randn((), generator=draws)) for index in range(looks)]
    rows = []
    for index, place in enumerate(places):
        change = abs(place - places[index - 1]) if index else math.nan
        rows.append({"change": change, "drift": abs(place - places[index - 5]) if index >= 5 else math.nan})
    return seen(*rows)


def test_a_plateau_is_where_pictures_tremble_and_go_nowhere():
    still = seen(*[{"change": 1e-5, "drift": 1e-5}] * 20)
    trembling = seen(*[{"change": 0.02, "drift": 0.021}] * 20)
    assert names(still) == names(trembling) == ["plateau"]
    assert names(walk(0.02, 0.002)) == [], "steady progress is none"
    assert names(seen(*[{"change": 0.02, "drift": 0.021}] * 6)) == [], "too early to tell"
    unknown = seen(*[{"change": math.nan, "drift": math.nan}] * 20)
    assert names(unknown) == []


def test_looks_survive_a_file_and_files_without_them_are_read():
    history = seen({}, {"faces": math.nan})
    again = StageHistory.restore(history.describe(), history.tensors())
    assert again.watched["filled"] == [pytest.approx(0.3)] * 2 and math.isnan(again.watched["faces"][1])
    older = {name: value for name, value in history.tensors().items() if not name.startswith("watched.")}
    assert not StageHistory.restore(history.describe(), older).watched["step"]
    with pytest.raises(ValueError, match="columns that are missing or not of one length"):
        StageHistory.restore(history.describe(), {**history.tensors(), "watched.faces": torch.zeros(5)})


def test_the_progress_line_tells_what_was_seen(monkeypatch):
    monkeypatch.setattr(watch, "RAREST", 1)
    job = Distiller(tiny_scene(), Stage((replace(term("video", 1, 4, motion=True)),), rates=RATES), [ball_prior()], tiny_renderer(), 4, seed=1)
    job.advance()
    assert "faces" in job.advance() and job.work.history.watched["step"] == [1.0, 2.0]
