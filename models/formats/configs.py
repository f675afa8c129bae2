"""Configurations out of files: what JSON holds, checked against the dataclass that it describes."""

import json
import math
from dataclasses import MISSING, fields, is_dataclass
from typing import get_args, get_origin, get_type_hints

LARGEST = 2**63  # whole numbers below it fit into a tensor


def read_json(text: str):
    """JSON as Python values; ValueError when it is none or nested without end."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("its description is no readable JSON") from None


def read_config(kind: type, values, place: str = "the description"):
    """A dataclass `kind` from a dictionary as `dataclasses.asdict` and JSON make it: nested ones too, tuples from lists.

    ValueError names the first entry that is missing, unknown or of another type; its text is a clause for a message.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{place} is {shown(values)}, a group of named values is needed")
    known = {field.name: field for field in fields(kind)}
    for name in values:
        if name not in known:
            raise ValueError(f"{place} has an unknown entry {shown(name)}")
    for name, field in known.items():
        if name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{place} has no {name}")
    types = get_type_hints(kind)
    return kind(**{name: read_value(types[name], value, name if place == "the description" else f"{place}.{name}") for name, value in values.items()})


def read_value(kind, value, place: str):
    """One value as the type `kind`: bool, int, float, str, a tuple, a dataclass, or one of these or None."""
    if is_dataclass(kind):
        return read_config(kind, value, place)
    if get_origin(kind) is tuple:
        return _tuple(get_args(kind), value, place)
    if type(None) in get_args(kind):
        inner, = (part for part in get_args(kind) if part is not type(None))
        return None if value is None else read_value(inner, value, place)
    if not _fits(kind, value):
        words = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a text"}
        raise ValueError(f"{place} is {shown(value)}, {words[kind]} is needed")
    return value


def _tuple(kinds: tuple, value, place: str) -> tuple:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{place} is {shown(value)}, a list is needed")
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise ValueError(f"{place} has {len(value)} entries, {len(kinds)} are needed")
    return tuple(read_value(kind, item, f"{place}.{index}") for index, (kind, item) in enumerate(zip(kinds, value)))


def _fits(kind: type, value) -> bool:
    if isinstance(value, bool) or kind in (bool, str):
        return type(value) is kind
    whole = isinstance(value, int) and -LARGEST <= value < LARGEST
    return whole or (kind is float and isinstance(value, float) and math.isfinite(value))


def shown(value) -> str:
    """A value for a message, cut where it is long."""
    text = repr(value) if len(str(value)) < 40 else repr(str(value)[:36] + "...")
    return text.replace("'", '"')
