"""Rows of a batch: one prompt each, made from a workflow and a prompts file. Standard library only."""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import workflow

from .prompts_file import MAX_ROWS, Cells, Place, PromptsError, PromptsFile, read

PROMPT, SEED = "prompt", "seed"  # columns that need no title
MAX_SEED = 2**64 - 1


@dataclass(frozen=True)
class Row:
    """One run. number: from 1, in the file's order. name: its folder below --out. prompt: what is queued; rows share its nodes.

    inputs: column -> value that this row ran with. seed: what its seeds are when all are equal. key: sha256 of the prompt, the
    row's identity. source: where in the file it stands.
    """

    number: int
    name: str
    prompt: dict
    inputs: dict
    seed: int | None
    key: str
    source: str = ""


def make_row(number: int, prompt: dict, inputs: dict, source: str = "") -> Row:
    """The row of a prompt whose values are already in place; equal prompts have equal keys and names."""
    key = hashlib.sha256(json.dumps(prompt, sort_keys=True).encode()).hexdigest()
    return Row(number, folder_name(inputs, key), prompt, dict(inputs), common_seed(prompt), key, source)


def folder_name(inputs: dict, key: str) -> str:
    """Readable words from the values, and enough of the key to be unlike any other: a valid file name everywhere."""
    values = [str(value)[:32] if name == PROMPT else f"{name.rpartition('.')[2]}_{str(value)[:16]}" for name, value in inputs.items()]
    words = re.sub(r"[^a-z0-9.]+", "_", "_".join(values).lower()).strip("_.")
    return f"{words[:64].rstrip('_.') or 'row'}_{key[:8]}"


def common_seed(prompt: dict) -> int | None:
    seeds = {node["inputs"][name] for node in prompt.values() for name in workflow.SEEDS if type(node["inputs"].get(name)) is int}
    return seeds.pop() if len(seeds) == 1 else None


def with_values(prompt: dict, values: dict) -> dict:
    """The prompt with {(node id, input name): value} set; untouched nodes are shared, the original stays as it is."""
    changed = dict(prompt)
    for (node_id, name), value in values.items():
        node = changed[node_id]
        inputs = {**node["inputs"], name: value}
        changed[node_id] = {**node, "inputs": inputs}
    return changed


def read_rows(path: Path, prompt: dict, seeds: Sequence[int] = ()) -> list[Row]:
    """Every row of a prompts file over a workflow: grids spread out (the last column fastest), each with every seed.

    PromptsError names file, line and column of the first thing that cannot be; then no row at all is given.
    """
    file = read(path)
    targets = {name: places_of(prompt, name, place) for name, place in file.columns.items()}
    check_targets(file, targets)
    if seeds:
        seed_targets = add_seeds(prompt, file, targets)
        targets, seeds = {**targets, SEED: seed_targets}, [checked_seed(seed, "--seeds") for seed in seeds]
    count(file, len(seeds) or 1)
    rows = []
    for cells in file.lines:
        for values in choices(cells, prompt, targets, seeds):
            rows.append(row_of(len(rows) + 1, cells, prompt, targets, values))
    return rows


def places_of(prompt: dict, column: str, place: Place) -> list[tuple[str, str]]:
    """(node id, input name) of everything that a column sets."""
    try:
        if column == PROMPT:
            return [workflow.prompt_place(prompt, "this column")]
        return workflow.seed_places(prompt, "this column") if column == SEED else [workflow.resolve(prompt, column)]
    except workflow.WorkflowError as error:
        raise place.error(str(error)) from None


def check_targets(file: PromptsFile, targets: dict):
    """Refuse two columns that set the same value."""
    owners = {}
    for column, places in targets.items():
        for place in places:
            if place in owners:
                raise file.columns[column].error(f'it sets the same value as column "{owners[place]}": keep one of them.')
            owners[place] = column


def add_seeds(prompt: dict, file: PromptsFile, targets: dict) -> list[tuple[str, str]]:
    try:
        places = workflow.seed_places(prompt, "--seeds")
    except workflow.WorkflowError as error:
        raise PromptsError(str(error)) from None
    for column, own in targets.items():
        if set(own) & set(places):
            raise file.columns[column].error("this column sets a seed, and so does --seeds: use one of them.")
    return places


def count(file: PromptsFile, seeds: int):
    """Refuse a file that spreads to more rows than we run, before any is made."""
    total = 0
    for cells in file.lines:
        total += seeds * math.prod(map(len, cells.values.values()))
        if total > MAX_ROWS:
            raise cells.place.error(f"with this line the file has {total} rows, at most {MAX_ROWS} are allowed: split it, or make its grids smaller.")


def choices(cells: Cells, prompt: dict, targets: dict, seeds: Sequence[int]):
    """Yield {column: value} for every point of the line's grid, seeds fastest."""
    columns = {name: [value_of(cells, prompt, targets, name, value) for value in values] for name, values in cells.values.items()}
    if seeds:
        columns[SEED] = seeds
    for point in itertools.product(*columns.values()):
        yield dict(zip(columns, point))


def value_of(cells: Cells, prompt: dict, targets: dict, column: str, value):
    """A cell's value in the type of the input that it sets."""
    place = Place(cells.place.file, cells.place.line, column)
    if column == SEED:
        return seed_of(value, place)
    node_id, name = targets[column][0]
    old = prompt[node_id]["inputs"][name]
    try:
        return workflow.fitting(old, value, column) if cells.typed else workflow.convert(old, value, column)
    except workflow.WorkflowError as error:
        raise place.error(str(error)) from None


def seed_of(value, place: Place) -> int:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,20}", value):
        value = int(value)
    if type(value) is not int or not 0 <= value <= MAX_SEED:
        raise place.error(f"{str(value)[:40]} is no seed: write a whole number from 0 to {MAX_SEED}.")
    return value


def checked_seed(seed: int, source: str) -> int:
    if not 0 <= seed <= MAX_SEED:
        raise PromptsError(f"{source}: {seed} is no seed: write whole numbers from 0 to {MAX_SEED}.")
    return seed


def row_of(number: int, cells: Cells, prompt: dict, targets: dict, values: dict) -> Row:
    """A row; columns whose cell is empty are listed with the workflow's own value."""
    changed = with_values(prompt, {place: value for column, value in values.items() for place in targets[column]})
    inputs = {column: values.get(column, own_value(prompt, places)) for column, places in targets.items()}
    return make_row(number, changed, inputs, str(cells.place))


def own_value(prompt: dict, places: list[tuple[str, str]]):
    """What the workflow holds at these places when it is the same everywhere, else None."""
    values = [prompt[node_id]["inputs"][name] for node_id, name in places]
    return values[0] if all(value == values[0] for value in values) else None
