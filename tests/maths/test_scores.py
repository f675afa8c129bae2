"""Scores as values: what is best in a column, and what goes into JSON."""

import json
import math

import pytest

from bloom4d.models.metrics.scores import MEANINGS, Scores, best_of, ordered


def test_the_best_value_follows_the_direction_of_its_score():
    assert best_of("CLIP", [30.0, 34.0, 32.0]) == {1}
    assert best_of("LPIPS", [0.3, 0.1, 0.2]) == {1}
    assert best_of("motion", [0.2, 1.1, 0.85]) == {1}, "a ratio is best near 1"
    assert best_of("CLIP", [34.0, 30.0, 34.0]) == {0, 2}


@pytest.mark.parametrize("values", [[None, None], [1.0, None], [math.nan, 0.5], [0.5, 0.5]])
def test_nothing_is_best_without_a_comparison(values):
    assert best_of("CLIP", values) == set()


def test_nothing_is_best_without_a_direction():
    assert best_of("absolute motion", [0.1, 0.2]) == set() and best_of("somebody's own score", [0.1, 0.2]) == set()


def test_missing_and_undefined_values_never_win():
    assert best_of("LPIPS", [math.nan, 0.3, None, 0.4]) == {1}


def test_a_report_keeps_what_does_not_apply_as_null():
    scores = Scores("mine", {"CLIP": 30.0, "flicker": math.nan}, ("by hand",))
    assert json.loads(json.dumps(scores.report(), allow_nan=False)) == {"label": "mine", "values": {"CLIP": 30.0, "flicker": None}, "notes": ["by hand"]}
    assert scores.finite() == {"CLIP": 30.0}


def test_tables_have_one_order_of_names():
    assert ordered(["haze", "own", "CLIP", "haze"]) == ["CLIP", "haze", "own"]
    assert set(ordered(MEANINGS)) == set(MEANINGS)
