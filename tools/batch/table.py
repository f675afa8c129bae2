"""Scores over the grid of a batch: means and spreads over seeds, from the manifest. Standard library only."""

import csv
import io
import json
import shutil
import statistics
from dataclasses import dataclass
from pathlib import Path

import workflow

from .manifest import NAME, Manifest
from .rows import SEED
from .summary import aligned

SECONDS, MEGABYTES = "seconds", "MB"
WIDEST = 40  # characters of a value in the printed table


class TableError(ValueError):
    """There is nothing to make a table of."""


@dataclass(frozen=True)
class Number:
    """Mean of a quantity over the runs of a point; spread: their standard deviation (n - 1), None of a single run."""

    mean: float
    spread: float | None
    count: int

    def __str__(self):
        return f"{self.mean:.4g}" + ("" if self.spread is None else f" ± {self.spread:.2g}")


@dataclass(frozen=True)
class Point:
    """One combination of values. at: column -> value. runs, failed: how many rows. numbers: quantity -> Number."""

    at: dict
    runs: int
    failed: int
    numbers: dict


@dataclass(frozen=True)
class Table:
    """columns: what varies, seeds aside. axes: those that are independent of one another (value lists, numbers sorted).

    quantities: scores in order of appearance, then seconds and megabytes. points: in the order of their first row.
    """

    columns: list
    axes: dict
    quantities: list
    points: list


def table_of(out: Path) -> Table:
    """The table of a batch folder; TableError when it holds no manifest with rows."""
    lines = sorted((line for line in Manifest(Path(out) / NAME).lines if not line.get("same_as")), key=lambda line: line["row"])
    if not lines:
        raise TableError(f"{out} has no {NAME} with rows: give the --out folder of `launch.py run --prompts FILE`.")
    columns = varying(lines)
    groups = {}
    for line in lines:
        groups.setdefault(key_of(line, columns), []).append(line)
    measured = [quantities_of(line, one_label(lines)) for line in lines]
    names = list(dict.fromkeys(name for values in measured for name in values))
    names = [name for name in names if name not in (SECONDS, MEGABYTES)] + [SECONDS, MEGABYTES]
    points = [point_of(group, columns, names, one_label(lines)) for group in groups.values()]
    return Table(columns, axes_of(points, columns), names, points)


def is_seed(column: str) -> bool:
    return column == SEED or column.rpartition(".")[2] in workflow.SEEDS


def varying(lines: list[dict]) -> list[str]:
    """Columns with more than one value, in the file's order; seeds are what means are taken over."""
    columns = dict.fromkeys(name for line in lines for name in line["inputs"] if not is_seed(name))
    return [name for name in columns if len({json.dumps(line["inputs"].get(name)) for line in lines}) > 1]


def key_of(line: dict, columns: list[str]) -> str:
    return json.dumps([line["inputs"].get(name) for name in columns])


def one_label(lines: list[dict]) -> bool:
    """Whether every row has scores of one label only, which may then be left away."""
    return all(len(line.get("scores", {})) <= 1 for line in lines)


def quantities_of(line: dict, plain: bool) -> dict:
    """{quantity: value} of a row that ended well; nothing of another."""
    if line["status"] != "success":
        return {}
    scores = {name if plain else f"{label}: {name}": value for label, values in line.get("scores", {}).items() for name, value in values.items()}
    measured = {**scores, SECONDS: line.get("seconds"), MEGABYTES: line.get("bytes", 0) / 1e6}
    return {name: value for name, value in measured.items() if isinstance(value, (int, float))}


def point_of(lines: list[dict], columns: list[str], names: list[str], plain: bool) -> Point:
    measured = [quantities_of(line, plain) for line in lines]
    numbers = {name: number_of([values[name] for values in measured if name in values]) for name in names}
    failed = sum(line["status"] != "success" for line in lines)
    at = {name: lines[0]["inputs"].get(name) for name in columns}
    return Point(at, len(lines), failed, {name: number for name, number in numbers.items() if number is not None})


def number_of(values: list[float]) -> Number | None:
    if not values:
        return None
    return Number(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def axes_of(points: list[Point], columns: list[str]) -> dict:
    """{column: its values}: columns that the others determine are no axes of their own (the last of equals goes first)."""
    kept = list(columns)
    for column in reversed(columns):
        others = [name for name in kept if name != column]
        seen = {}
        for point in points:
            seen.setdefault(json.dumps([point.at[name] for name in others]), set()).add(json.dumps(point.at[column]))
        if others and all(len(values) == 1 for values in seen.values()):
            kept = others
    return {name: ordered([point.at[name] for point in points]) for name in kept}


def ordered(values: list) -> list:
    """Each value once: numbers sorted, anything else in order of appearance."""
    unique = list({json.dumps(value): value for value in values}.values())
    return sorted(unique) if all(is_number(value) for value in unique) else unique


def is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def as_text(value) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def printed(table: Table, width: int | None = None) -> str:
    """Aligned columns: the varying values, runs, failures, then mean and spread of every quantity; too wide tables go in parts."""
    failures = any(point.failed for point in table.points)
    head = [(*(shortened(name) for name in table.columns), "runs", *(["failed"] if failures else []))]
    head += [(*(shortened(as_text(point.at[name])) for name in table.columns), str(point.runs), *([str(point.failed)] if failures else []))
             for point in table.points]
    parts = in_parts(aligned(head), [numbers_column(table, name) for name in table.quantities], width or max(shutil.get_terminal_size().columns, 120))
    return "\n\n".join("\n".join(part) for part in parts)


def numbers_column(table: Table, quantity: str) -> list[str]:
    return [quantity, *(str(point.numbers.get(quantity, "")) for point in table.points)]


def in_parts(head: list[str], columns: list[list[str]], width: int) -> list[list[str]]:
    """Lines of tables that begin with `head` and are no wider than `width` where that is possible."""
    start = max(map(len, head))
    parts, used = [[]], start
    for column in columns:
        size = max(map(len, column)) + 2
        if parts[-1] and used + size > width:
            parts.append([])
            used = start
        parts[-1].append(column)
        used += size
    return [aligned([(first.ljust(start), *cells) for first, *cells in zip(head, *part)]) for part in parts]


def shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= WIDEST else line[: WIDEST - 3] + "..."


def as_json(table: Table) -> str:
    """Everything, full precision: columns, axes and points with mean, spread and count of each quantity."""
    points = [{"at": point.at, "runs": point.runs, "failed": point.failed,
               "numbers": {name: vars(number) for name, number in point.numbers.items()}} for point in table.points]
    return json.dumps({"columns": table.columns, "axes": table.axes, "quantities": table.quantities, "points": points}, indent=1, ensure_ascii=False)


def as_csv(table: Table) -> str:
    """The same as comma separated values: `NAME` is a mean, `NAME spread` its standard deviation over the runs."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*table.columns, "runs", "failed", *(part for name in table.quantities for part in (name, f"{name} spread"))])
    for point in table.points:
        numbers = [point.numbers.get(name) for name in table.quantities]
        cells = [part for number in numbers for part in (("", "") if number is None else (number.mean, "" if number.spread is None else number.spread))]
        writer.writerow([*(as_text(point.at[name]) for name in table.columns), point.runs, point.failed, *cells])
    return stream.getvalue()
