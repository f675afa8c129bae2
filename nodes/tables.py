"""Several results as one table: rows with a label, scores and pictures; as JSON, as Markdown, and as text in cells."""

import json
import math
from dataclasses import dataclass

from torch import Tensor

from ..models.metrics.scores import HIGH, LOW, MEANINGS, ONE, Scores, best_of, ordered

ABSENT = "\N{EN DASH}"
HIGHER, LOWER, NEAR_ONE = "higher", "lower", "near 1"


@dataclass(frozen=True)
class Row:
    """One result. scores: None where only pictures were given; pictures (N, H, W, 3) in [0, 1], or None."""

    label: str
    scores: Scores | None = None
    pictures: Tensor | None = None


def gather(scores: dict[int, Scores], pictures: dict[int, Tensor], labels: str) -> list[Row]:
    """Rows of what is connected at each number; a line of `labels` names each row, an empty one keeps its scores' label.

    ValueError when nothing is connected, or when a row has pictures only and no label.
    """
    numbers = sorted({*scores, *pictures})
    if not numbers:
        raise ValueError("The table is empty. Connect the scores of a 4D Metrics node, pictures, or both.")
    lines = [line.strip() for line in labels.splitlines()]
    if len([line for line in lines if line]) > len(numbers):
        raise ValueError(f"There are {len(lines)} labels for {len(numbers)} rows. Give one line per row.")
    rows = []
    for place, number in enumerate(numbers):
        said = lines[place] if place < len(lines) else ""
        label = said or (scores[number].label if number in scores else "")
        if not label:
            raise ValueError(f"Row {place + 1} has pictures and no name. Write one label per line, or connect its scores too.")
        rows.append(Row(label, scores.get(number), pictures.get(number)))
    return rows


def columns(rows: list[Row]) -> list[str]:
    """Every score that any row has."""
    return ordered(name for row in rows if row.scores is not None for name in row.scores.values)


def value(row: Row, name: str) -> float | None:
    """None when it was not measured or does not apply."""
    found = None if row.scores is None else row.scores.values.get(name)
    return None if found is None or not math.isfinite(found) else found


def winners(rows: list[Row]) -> dict[str, set[int]]:
    """Score -> the rows that have its best value."""
    return {name: best_of(name, [value(row, name) for row in rows]) for name in columns(rows)}


def text(number: float | None) -> str:
    return ABSENT if number is None else f"{number:.3g}" if abs(number) < 1000 else f"{number:.0f}"


def direction(name: str) -> str:
    """What is better, in a word; empty where nothing is."""
    best = MEANINGS[name].best if name in MEANINGS else None
    return {HIGH: HIGHER, LOW: LOWER, ONE: NEAR_ONE}.get(best, "")


def to_json(rows: list[Row]) -> str:
    """Rows with all values and notes, what each score means, and which rows are best in it."""
    best = {name: [rows[place].label for place in sorted(places)] for name, places in winners(rows).items() if places}
    known = {name: {"best": direction(name), "text": MEANINGS[name].text} for name in columns(rows) if name in MEANINGS}
    reports = [{**(Scores("", {}) if row.scores is None else row.scores).report(), "label": row.label} for row in rows]
    return json.dumps({"rows": reports, "best": best, "scores": known}, indent=1, ensure_ascii=False)


def to_markdown(rows: list[Row]) -> str:
    """A table with the best value of each column in bold."""
    names, best = columns(rows), winners(rows)
    cell = lambda name, place: f"**{text(value(rows[place], name))}**" if place in best[name] else text(value(rows[place], name))  # noqa: E731
    heads = [f"{name} ({direction(name)})" if direction(name) else name for name in names]
    lines = [_line(["result", *heads]), _line(["---"] * (len(names) + 1))]
    lines += [_line([row.label, *(cell(name, place) for name in names)]) for place, row in enumerate(rows)]
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
