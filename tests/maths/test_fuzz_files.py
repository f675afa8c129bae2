"""Damaged files and wrong names, by the hundred: read, or refused in one line that stands alone. `tools/fuzz.py` runs more of them."""

import time

import pytest
from fuzzing import engine, plan
from fuzzing.values import changed, odd_values
from hypothesis import strategies as st

SEED = 3


@pytest.mark.parametrize("share", plan.of_room("files"), ids=lambda share: share.make.__name__)
def test_damage_is_refused_in_one_line(share, tmp_path):
    ends = engine.fuzz(share.make(tmp_path), share.cases, SEED)
    assert sum(ends.values()) >= share.cases
    assert plan.tested_something(ends), ends


def test_the_shares_are_all_cases():
    assert sum(share.cases for share in plan.PLAN) == plan.WHOLE
    assert sum(share.of(10_000) for share in plan.PLAN) == 10_000


# ---- a reader that breaks a rule is found


def raises(error):
    raise error


@pytest.mark.parametrize(("read", "told"), [
    (lambda case: {}["name"], "raised KeyError"),
    (lambda case: raises(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")), "which is no refusal"),
    (lambda case: raises(ValueError("no")), "says nothing"),
    (lambda case: raises(ValueError("x" * 400)), "400 characters"),
    (lambda case: raises(ValueError("file.safetensors: invalid literal for int() with base 10: 'a'")), "raw Python"),
    (lambda case: raises(ValueError("Another file is damaged. Save it again.")), "does not name file.safetensors"),
    (lambda case: bytearray(4 << 30), "raised MemoryError"),
])
def test_a_broken_rule_is_found(read, told):
    reader = engine.Reader("control", st.integers(), read, names=lambda case: ("file.safetensors",))
    with pytest.raises(engine.Broken, match=told):
        engine.fuzz(reader, 3, SEED)


def test_an_endless_loop_is_found(monkeypatch):
    monkeypatch.setattr(engine, "HANGS_AFTER", 0.2)

    def read(case):
        end = time.monotonic() + 20
        while time.monotonic() < end:
            pass

    with pytest.raises(engine.Broken, match="no end after"):
        engine.end_of(engine.Reader("control", st.none(), read), None)


def test_the_same_seed_gives_the_same_cases():
    seen = {}
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        cases = seen.setdefault(name, [])
        engine.fuzz(engine.Reader("control", odd_values(), lambda case: cases.append(repr(case)) or "read"), 50, seed)
    assert seen["one"] == seen["again"] != seen["other"]


def test_a_document_without_changes_is_itself():
    document = {"a": [1, {"b": None}], "c": "x"}
    assert changed(document, []) == document
