"""Schedules, draws and view directions of the guidance (specification 1.8: A6)."""

import math

import pytest
import torch

from bloom4d.models.geometry.cameras import Cameras, orbit
from bloom4d.models.guidance.directions import DIRECTIONS, ViewDirections
from bloom4d.models.guidance.distillation import multi_view
from bloom4d.models.guidance.mixing import draw_term, parse_probabilities
from bloom4d.models.guidance.regularisers import Regularisers
from bloom4d.models.guidance.schedules import NoiseRange, Schedule, constant
from bloom4d.models.guidance.seeds import derive, generator

STAGE_THREE = (0.5, 0.25, 0.25)


def draws(seed: int, first: int, last: int) -> list[int]:
    return [draw_term(STAGE_THREE, generator(seed, 3, step, "type")) for step in range(first, last)]


def test_a6_stage_three_frequencies():
    count = 20_000
    sequence = draws(11, 0, count)
    for index, probability in enumerate(STAGE_THREE):
        bound = 3 * math.sqrt(probability * (1 - probability) / count)
        assert abs(sequence.count(index) / count - probability) < bound
    assert abs(sequence.count(1) / count - 0.125) > bound  # the paper's product formula would be elsewhere


def test_a6_same_seed_same_sequence_and_identical_remainder():
    assert draws(5, 0, 300) == draws(5, 0, 300) and draws(5, 200, 300) == draws(5, 0, 300)[200:]
    assert draws(5, 0, 300) != draws(6, 0, 300)


def test_a6_noise_range_follows_the_four_numbers():
    levels = multi_view().levels
    expected = {0: (0.98, 0.98), 4000: (0.5, 0.74), 8000: (0.02, 0.5), 20_000: (0.02, 0.5)}
    for step, pair in expected.items():
        assert levels.at(step, 10_000) == pytest.approx(pair, abs=1e-12)
    drawn = levels.draw(4000, 10_000, 50_000, torch.Generator().manual_seed(0))
    assert drawn.min() >= 0.5 and drawn.max() <= 0.74 and abs(float(drawn.mean()) - 0.62) < 1e-3


def test_schedule_counts_inside_the_stage_or_as_its_fraction():
    steps = Schedule(1.0, 3.0, 10, 20, of_stage=False)
    assert [steps.at(k, 50) for k in (0, 10, 15, 20, 99)] == [1.0, 1.0, 2.0, 3.0, 3.0]
    part = Schedule(0.0, 1.0, 0.25, 0.75)
    assert [part.at(k, 100) for k in (0, 25, 50, 75)] == [0.0, 0.0, 0.5, 1.0]
    assert [part.at(k, 8) for k in (2, 4, 6)] == [0.0, 0.5, 1.0]
    assert Schedule(0.98, 0.5, 5000, 5000, of_stage=False).at(4999, 1) == 0.98  # 4D-fy's image term: a step
    assert Schedule(0.98, 0.5, 5000, 5000, of_stage=False).at(5000, 1) == 0.5
    assert constant(0.3).at(7, 9) == 0.3
    assert NoiseRange(constant(0.9), constant(0.4)).at(0, 1) == (0.4, 0.4)


def test_seeds_do_not_collide_by_concatenation_and_are_fixed_forever():
    assert derive(1, 23) != derive(12, 3) and derive("1") != derive(1)
    assert derive(7, 1, 2, "noise") == 0x75BEAD5DC2E390A3  # another value would break the resume of every unfinished run
    assert torch.equal(torch.rand(3, generator=generator(7, "a")), torch.rand(3, generator=generator(7, "a")))
    assert len({derive(seed, step, name) for seed in range(20) for step in range(50) for name in ("x", "y")}) == 2000


def test_probabilities_are_read_or_refused_with_the_remedy():
    assert parse_probabilities("0.5, 0.25,0.25", 3) == STAGE_THREE
    assert parse_probabilities("  ", 3) is None
    assert parse_probabilities("0.3333, 0.3333, 0.3333", 3) == (0.3333,) * 3  # within 1e-3
    with pytest.raises(ValueError, match=r'sums to 1\.5\. Normalised they are "0\.6667, 0\.3333"'):
        parse_probabilities("1, 0.5", 2)
    for text, terms in (("0.5, 0.5", 3), ("half, half", 2), ("-1, 2", 2), ("0, 0", 2), ("nan, 1", 2)):
        with pytest.raises(ValueError):
            parse_probabilities(text, terms)


def test_a_term_of_probability_zero_is_never_drawn():
    assert {draw_term((0.0, 1.0, 0.0), generator(0, step)) for step in range(200)} == {1}


def test_view_directions():
    def at(azimuth, elevation):
        pose = orbit(*(torch.tensor([math.radians(v)]) for v in (azimuth, elevation)), torch.tensor([2.9]))
        return DIRECTIONS[ViewDirections().pick(Cameras(pose, torch.tensor([0.7]), torch.zeros(1)))[0]]

    assert [at(a, 10) for a in (0, 29, 31, 149, 151, -151, -40)] == ["front", "front", "side", "side", "back", "back", "side"]
    assert at(0, 61) == "overhead" and at(180, 59) == "back" and DIRECTIONS[0] == "plain", "no camera has the plain prompt by itself"


def test_regulariser_weights_ramp_and_leave_out_zeros():
    terms = Regularisers(opaque=Schedule(0.0, 0.2, 0.0, 0.5), sparsity=constant(0.01))
    assert terms.weights(0, 100) == {"sparsity": 0.01}
    assert terms.weights(25, 100) == pytest.approx({"opaque": 0.1, "sparsity": 0.01})
