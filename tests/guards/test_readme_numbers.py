"""What README says of the demos' time and memory is what was measured and committed."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECIPES = ("text_to_4d_4dfy", "dream_in_4d", "image_to_4d", "personalised_4d", "reanimate")


def read(name: str) -> dict:
    return json.loads((ROOT / "docs" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_row_of_a_demo(recipe):
    measured, memory = read(recipe), read("recipe_memory")[recipe]
    row, = (line for line in README.splitlines() if line.startswith(f"| `{measured['workflow']}` | none"))
    spans = {name: [entry[name] for entry in measured["objects"].values()] for name in ("seconds", "CPU seconds")}
    wall, computed = (f"{min(values)} to {max(values)} s" for values in spans.values())
    assert memory["workflow"] == measured["workflow"]
    for part in (f"| {memory['peak GB']:.1f} GB |", f"{computed} of one core", f"{wall} by the clock"):
        assert part in row, f"README says otherwise of {measured['workflow']}; docs/ says: {part}"
