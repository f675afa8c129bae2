"""Terms of a weighted sum that look alike see the same pictures, rendered once; the gradients are those of separate renders."""

from dataclasses import replace

import pytest
import torch
from toy_scenes import RIG, ball_prior, term, tiny_renderer, tiny_scene

from bloom4d.models.geometry.cameras import CameraSampler
from bloom4d.models.guidance.objective import Outcome
from bloom4d.models.guidance.regularisers import Regularisers
from bloom4d.models.guidance.schedules import constant
from bloom4d.models.optimize.loop import Distiller
from bloom4d.models.optimize.stages import ROLES, LearningRates, Resolution, Stage
from bloom4d.models.render.volume import VolumeRenderer

RATES = LearningRates(static=1e-2, dynamic=1e-2, decoder=1e-3)


class Counting(VolumeRenderer):
    """Counts the renders of a step."""

    renders = 0

    def render_views(self, *values, **named):
        type(self).renders += 1
        return super().render_views(*values, **named)


def gradients(stage: Stage, priors: list, chunk: int = 0) -> tuple[dict, int, list]:
    """Every parameter's gradient of the first step, how many renders it took, and its rows."""
    Counting.renders = 0
    job = Distiller(tiny_scene(), stage, priors, Counting(tiny_renderer().config), 20, seed=1, chunk=chunk)
    rows = job._gather()
    return {name: value.grad.double() for name, value in job.work.field.named_parameters() if value.grad is not None}, Counting.renders, rows


def pair(name_of_second: str = "second", **changes) -> tuple:
    """Two terms that look alike, of different forms and weights."""
    first = term("first", 4, weight=constant(2.0))
    second = replace(first, name=name_of_second, weight=constant(0.7), objective=replace(first.objective, weighting="sds", level_per="picture"))
    return first, replace(second, **changes)


class Named:
    """An objective under another term's name, so that apart from the pictures it draws the same noise."""

    def __init__(self, objective, name):
        self.objective, self.name = objective, name

    def evaluate(self, pictures, judge, step, steps, keys) -> Outcome:
        return self.objective.evaluate(pictures, judge, step, steps, (*keys[:-1], self.name))


@pytest.mark.parametrize("alpha", [True, False])
@pytest.mark.parametrize("chunk", [0, 256])
def test_gradients_equal_rendering_each_separately_with_the_same_cameras(alpha, chunk):
    priors = [ball_prior(accepts_alpha=alpha), ball_prior(accepts_alpha=alpha)]
    first, second = pair()
    together, renders, rows = gradients(Stage((first, second), rates=RATES), priors, chunk)
    assert renders == 1 and [row["term"] for row in rows] == [0, 1]
    # one stage for each, under the first one's name and so with its cameras, jitter and backdrop, but with its own noise
    alone = gradients(Stage((first,), rates=RATES), priors[:1], chunk)[0]
    other = gradients(Stage((replace(second, name="first", objective=Named(second.objective, "second")),), rates=RATES), priors[1:], chunk)[0]
    assert together.keys() == alone.keys() == other.keys() and len(together) > 2
    for name, value in together.items():
        assert (value - alone[name] - other[name]).norm() <= 1e-5 * value.norm(), name
        assert (value - alone[name]).norm() > 1e-2 * value.norm()  # both terms count


def test_penalties_charge_shared_pictures_once():
    penalties = Regularisers(opaque=constant(3.0), orientation=constant(2.0), z_variance=constant(1.0))
    first, second = pair()
    silent = replace(second, weight=constant(0.0))
    both = gradients(Stage((first, silent), rates=RATES, regularisers=penalties), [ball_prior()] * 2)[0]
    one = gradients(Stage((first,), rates=RATES, regularisers=penalties), [ball_prior()])[0]
    free = gradients(Stage((first,), rates=RATES), [ball_prior()])[0]
    for name, value in one.items():
        assert torch.allclose(both[name], value, rtol=1e-4, atol=1e-8), name
    assert any((free[name] - value).norm() > 1e-3 * value.norm() for name, value in one.items())


@pytest.mark.parametrize(
    "change",
    [{"cameras": CameraSampler(views=4, **{**RIG, "elevation_degrees": (20.0, 20.0)})}, {"scenes": 2}, {"resolution": Resolution(8, 8)}, {"trains": ROLES}],
    ids=["cameras", "scenes", "resolution", "trains"],
)
def test_terms_that_look_differently_are_rendered_apart_as_ever(change):
    first, second = pair(**change)
    both, renders, _ = gradients(Stage((first, second), rates=RATES), [ball_prior()] * 2)
    alone = [gradients(Stage((item,), rates=RATES), [ball_prior()])[0] for item in (first, second)]
    assert renders == 2
    for name, value in both.items():
        assert torch.allclose(value, sum(part.get(name, torch.zeros(())) for part in alone), rtol=1e-5, atol=1e-9), name


def test_a_stage_with_probabilities_still_renders_for_one_term():
    stage = Stage(pair(), probabilities=(0.5, 0.5), rates=RATES)
    _, renders, rows = gradients(stage, [ball_prior()] * 2)
    assert renders == len(rows) == 1


def test_terms_take_part_in_every_nth_step_from_their_beginning_on():
    first, second = pair(every=3, begin=0.5)
    job = Distiller(tiny_scene(), Stage((first, second), rates=RATES), [ball_prior()] * 2, tiny_renderer(), 10, seed=1)
    told = [job.advance() for _ in range(10)]
    steps = [int(step) for step, owner in zip(job.work.history.columns["step"], job.work.history.columns["term"]) if owner == 1]
    assert steps == [5, 8] and "second" in told[5] and "second" not in told[6]
    drawn = Distiller(tiny_scene(), Stage((first, second), (0.0, 1.0), rates=RATES), [ball_prior()] * 2, tiny_renderer(), 10, seed=1)
    before = {name: value.clone() for name, value in drawn.work.field.state_dict().items()}
    assert drawn.advance() == "no term is due"  # nothing to draw: the step passes and changes nothing
    assert all(torch.equal(value, drawn.work.field.state_dict()[name]) for name, value in before.items()) and drawn.step == 1 and not drawn.stalled


def test_resolutions_grow_in_two_steps():
    resolution = Resolution(512, 256, 0.25, 0.1, 0.5, 0.15)
    assert [resolution.at(step, 2000) for step in (0, 199, 200, 299, 300, 1999)] == [(128, 64)] * 2 + [(256, 128)] * 2 + [(512, 256)] * 2
