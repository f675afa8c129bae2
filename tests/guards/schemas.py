"""Promises of the node schemas: frozen names and orders, tooltips, limits, values that the browser does not round away.

`python tests/guards/write_schema_snapshot.py` renews the snapshot after an intended change.
"""

import json
import math
from pathlib import Path

from node_infos import inputs_of

SNAPSHOT = Path(__file__).with_name("schema_snapshot.json")
KEPT = ("default", "min", "max", "step", "multiline", "forceInput", "control_after_generate")


def describe(info: dict) -> dict:
    """What saved workflows depend on: inputs in order with type, limits and choices; outputs in order."""
    inputs = [[name, kind, {key: options[key] for key in KEPT if key in options} | choices(options)]
              for name, kind, options in inputs_of(info)]
    return {"inputs": inputs, "outputs": [list(pair) for pair in zip(info["output"], info["output_name"])]}


def choices(options: dict) -> dict:
    """The fixed choices of a combo; lists of files, which may hold none, differ between machines and are left out."""
    names = [choice["key"] if isinstance(choice, dict) else choice for choice in options.get("options") or []]
    return {} if names in ([], ["none"], ["auto"]) or any("." in str(name) for name in names) else {"options": names}


def describe_all(infos: dict) -> dict:
    return {name: describe(info) for name, info in sorted(infos.items())}


def breaks(old: dict, new: dict) -> list[str]:
    """How `new` would break a workflow that was saved with `old`; nodes, inputs and outputs may only be appended."""
    found = [f"{name} is gone" for name in old if name not in new]
    for name in old.keys() & new.keys():
        for part in ("inputs", "outputs"):
            before, now = old[name][part], new[name][part]
            if now[: len(before)] != before:
                changed = next((index for index, entry in enumerate(before) if index >= len(now) or now[index] != entry))
                found.append(f"{name}: {part[:-1]} {before[changed]} changed or moved")
    return found


def read_snapshot() -> dict:
    return json.loads(SNAPSHOT.read_text(encoding="utf-8"))


def write_snapshot(infos: dict):
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in describe_all(infos).items())
    SNAPSHOT.write_text("{\n" + lines + "\n}\n", encoding="utf-8")


def input_problems(node: str, info: dict) -> list[str]:
    """Inputs without a tooltip, numbers without limits or step, limits and defaults that the browser would round."""
    found = []
    for name, kind, options in inputs_of(info):
        where = f"{node}.{name}"
        if not (options.get("tooltip") or kind == "COMFY_AUTOGROW_V3"):
            found.append(f"{where} has no tooltip")
        numbers = {"FLOAT", "INT"} & set(kind.split(","))
        if numbers and not options.get("forceInput"):
            found += [f"{where} has no {key}" for key in ("min", "max", "step") if options.get(key) is None]
            found += [f"{where}: the browser rounds {key} {options[key]} to {rounded(options[key], options)}"
                      for key in ("default", "min") if options.get(key) is not None and not survives(options[key], options, kind)]
    return found


def rounded(value: float, options: dict) -> float:
    """A FLOAT after the browser: rounded to `round`, or else to 10^floor(log10 step), with step .5 where none is given."""
    unit = options.get("round") or 10.0 ** math.floor(math.log10(options.get("step") or 0.5))
    return round(value / unit) * unit


def survives(value: float, options: dict, kind: str = "FLOAT") -> bool:
    """Whether the browser keeps a widget's value: within its limits and unchanged by rounding."""
    low, high = options.get("min", 0), options.get("max", 2048)
    return low <= value <= high and ("FLOAT" not in kind or math.isclose(rounded(value, options), value, rel_tol=1e-9, abs_tol=1e-12))
