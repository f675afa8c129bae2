"""Values of the wrong kind, and JSON documents with a few places changed."""

import copy
import json
from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

DEEP = 100_000  # far beyond what a recursive reader survives
ODD_NUMBERS = (0, -1, 1, 2, 3, 7, 255, 2**31, 2**32, 2**53 + 1, 2**60, 2**63, 2**64, -(2**63), 10**30, 10**400, 0.5, -0.0, 1e-300, 1e300, float("inf"), float("-inf"), float("nan"))
ODD_TEXTS = ("", " ", "\n", "0", "1", "-1", "nan", "null", "\x00", "a\x00b", "..", "../../secret", "/etc/passwd", "C:\\x", "CON", "~", "%s{0}", "blüte 🌹", "\ud800", "\u202e", "x" * 5000, "9" * 5000)
ODD_OTHERS = (None, True, False, [], {}, [[]], [None], [0], ["a", "b"], [1, 2, 3, 4], {"a": 1}, {"__proto__": {}}, {"": ""})


def one_of(values: tuple) -> SearchStrategy:
    """One of some values, which may be long (Hypothesis would print them all in its own descriptions)."""
    return st.integers(0, len(values) - 1).map(lambda index: values[index])


def weighted(*choices: tuple[int, SearchStrategy]) -> SearchStrategy:
    """One of several strategies by (weight, strategy)."""
    slots = [strategy for weight, strategy in choices for _ in range(weight)]
    return st.integers(0, len(slots) - 1).flatmap(lambda index: slots[index])


def odd_values() -> SearchStrategy:
    """Anything JSON can hold, mostly what somebody forgot."""
    plain = one_of((*ODD_NUMBERS, *ODD_TEXTS, *ODD_OTHERS))
    drawn = st.integers() | st.floats() | st.text(max_size=12)
    nested = st.recursive(plain | drawn, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=6)
    return plain | drawn | nested


@dataclass(frozen=True)
class Change:
    """One place of a JSON document and what happens to it: set, delete, rename, scale or repeat."""

    path: tuple
    action: str
    value: object = None

    def __str__(self):
        return f"{self.action} {'.'.join(map(str, self.path)) or 'all'} {str(self.value)[:80]!r}"


def places(document, path: tuple = ()) -> list[tuple]:
    """The path of every value of a document, its own first."""
    items = document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    return [path, *(place for key, value in items for place in places(value, (*path, key)))]


def changes(document, most: int = 3) -> SearchStrategy:
    """Up to `most` changes of a document."""
    where = one_of(places(document))
    one = (
        st.builds(Change, where, st.just("set"), odd_values())
        | st.builds(Change, where, st.sampled_from(["delete", "repeat", "wrap"]))
        | st.builds(Change, where, st.just("rename"), one_of(ODD_TEXTS))
        | st.builds(Change, where, st.just("scale"), st.sampled_from([-1, 0, 0.5, 2, 1000, 10**12, float("nan")]))
    )
    return st.lists(one, min_size=1, max_size=most)


def changed(document, steps: list[Change]):
    """A copy of a document with the changes made; places that are gone by then are passed over."""
    document = {"": copy.deepcopy(document)}
    for step in steps:
        parent, key = document, ""
        for part in step.path:
            parent, key = parent[key], part
            if not _has(parent, key):
                break
        else:
            _apply(parent, key, step)
    return document.get("")


def _has(parent, key) -> bool:
    return key in parent if isinstance(parent, dict) else isinstance(parent, list) and isinstance(key, int) and key < len(parent)


def _apply(parent, key, step: Change) -> None:
    if step.action == "set":
        parent[key] = copy.deepcopy(step.value)
    elif step.action == "delete" and key != "":
        del parent[key]
    elif step.action == "rename" and isinstance(parent, dict) and key != "":
        parent[step.value] = parent.pop(key)
    elif step.action == "wrap":
        parent[key] = [parent[key]]
    elif step.action == "repeat" and isinstance(parent[key], list):
        parent[key] = parent[key] * 3
    elif step.action == "scale" and isinstance(parent[key], (int, float)) and not isinstance(parent[key], bool):
        parent[key] = parent[key] * step.value


def texts_of(document) -> SearchStrategy:
    """A document as text: changed in its places, in its characters, nested without end, twice the same key, or something else."""
    whole = json.dumps(document)
    cut = st.integers(0, len(whole))
    return weighted(
        (6, changes(document).map(lambda steps: json.dumps(changed(document, steps)))),
        (1, cut.map(lambda place: whole[:place])),
        (1, st.tuples(cut, st.text(max_size=6)).map(lambda drawn: whole[: drawn[0]] + drawn[1] + whole[drawn[0] :])),
        (1, one_of(("[" * DEEP, '{"a":' * DEEP, "", "null", "[]", "{}", '"x"', "1e999", "NaN", whole + whole, "\ufeff" + whole, whole[:-1] + "," + whole[1:]))),
        (1, st.text(max_size=40)),
    )
