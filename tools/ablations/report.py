"""What an ablation found: means over seeds, directions seed by seed, a table in Markdown, JSON, and a sheet for every seed."""

import math
import statistics
from pathlib import Path

import judge_field
import judging
import sheets
from torch import Tensor

from .variants import AblationSet, Expected

Scores = dict[str, dict[int, dict[str, float]]]
"""Row -> seed -> score -> value; what has not run is not there."""

VIEWS = (0, judge_field.VIEWS // 2)  # on the sheets: from the front, from behind


def spread(values: list[float]) -> str:
    """Mean and sample standard deviation; NaN, a score that does not apply, is left out."""
    values = [value for value in values if not math.isnan(value)]
    if not values:
        return "-"
    return f"{statistics.mean(values):.2f}" + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "")


def differences(made: AblationSet, scores: Scores, entry: Expected) -> dict[int, float]:
    """Seed -> the row's score minus the reference's, where both have run."""
    rows, reference = scores.get(entry.row, {}), scores.get(made.reference, {})
    return {seed: rows[seed][entry.score] - reference[seed][entry.score] for seed in rows if seed in reference}


def held(entry: Expected, difference: float) -> bool:
    """Whether the sign is the expected one."""
    return difference > 0 if entry.direction == "up" else difference < 0


def verdicts(made: AblationSet, scores: Scores) -> list[dict]:
    """Every expectation with its differences and how many seeds agree."""
    found = []
    for entry in made.expected:
        by_seed = differences(made, scores, entry)
        agree = sum(held(entry, value) for value in by_seed.values())
        found.append({**vars(entry), "differences": {str(seed): value for seed, value in by_seed.items()}, "held": agree, "of": len(by_seed)})
    return found


def document(made: AblationSet, scores: Scores, run: dict) -> dict:
    """Everything as plain values for the JSON file; `run`: command, commit and whatever else tells how it was made."""
    means = {row: {name: [entry[name] for entry in seeds.values()] for name in made.columns} for row, seeds in scores.items()}
    table = {row: {name: spread(values) for name, values in columns.items()} for row, columns in means.items()}
    rows = {row: {"changes": made.rows[row], "scores": {str(seed): entry for seed, entry in seeds.items()}, "table": table[row]} for row, seeds in scores.items()}
    return {**run, "about": made.about, "workflow": made.workflow, "prompt": made.prompt, "base": made.base, "rows": rows, "directions": verdicts(made, scores)}


def markdown(made: AblationSet, content: dict, pictures: list[str]) -> str:
    """The page that people read."""
    done = {row: len(entry["scores"]) for row, entry in content["rows"].items()}
    asked, rows = content["seeds asked"], content["rows asked"]
    missing = {row: len(asked) - done.get(row, 0) for row in rows if done.get(row, 0) < len(asked)}
    parts = [f"# Ablation: {made.name}", made.about, f'Prompt "{made.prompt}", seeds {", ".join(map(str, asked))}, commit {content["commit"]}: `{content["command"]}`']
    if missing:
        parts.append(f"**Not finished: {sum(missing.values())} of {len(asked) * len(rows)} runs are missing** ({', '.join(f'{row}: {count}' for row, count in missing.items())}). The same command goes on where it stopped.")
    parts += ["Mean ± standard deviation over seeds.", score_table(made, content), "## Directions", "Difference to the first row at the same seed.", direction_table(content)]
    parts += ["## Rows", "\n".join(f"- **{row}**: {changes['about']}" for row, changes in made.rows.items() if row in rows)]
    if made.reading:
        parts += ["## Reading", *made.reading]
    parts += ["## Sheets", f"Front and back, {judge_field.TIMES} times each; a real object of that name beneath.", *(f"![{name}]({name})" for name in pictures)]
    return "\n\n".join(parts) + "\n"


def score_table(made: AblationSet, content: dict) -> str:
    head = ["row", *made.columns]
    return table(head, [[row, *(entry["table"][name] for name in made.columns)] for row, entry in content["rows"].items()])


def direction_table(content: dict) -> str:
    rows = []
    for entry in content["directions"]:
        by_seed = ", ".join(f"{value:+.2f}" for value in entry["differences"].values()) or "-"
        rows.append([entry["row"], entry["score"], f"{entry['direction']} ({entry['source']})", by_seed, f"{entry['held']} of {entry['of']}"])
    return table(["without", "score", "expected", "seed by seed", "held"], rows)


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def sheet(rows: dict[str, Tensor], real: Tensor, size: int):
    """Variants in rows; from the front at all times, a bar, from behind at all times."""
    lines = {**rows, "real": real}
    cells = [[*one[:, VIEWS[0]], None, *one[:, VIEWS[1]]] for one in lines.values()]
    times = [f"t {time / (judge_field.TIMES - 1):.1f}" for time in range(judge_field.TIMES)]
    return sheets.grid(cells, size, list(lines), [*(f"front {time}" for time in times), "", *(f"back {time}" for time in times)])


def write(made: AblationSet, scores: Scores, run: dict, sheets_by_seed: dict, out: Path) -> Path:
    """OUT/NAME.json, NAME.md and NAME_seedS.png; returns the page."""
    content = document(made, scores, run)
    judging.write_json(out / f"{made.name}.json", content)
    for name, image in sheets_by_seed.items():
        sheets.write(image, out / name)
    page = out / f"{made.name}.md"
    page.write_text(markdown(made, content, list(sheets_by_seed)), encoding="utf-8")
    return page
