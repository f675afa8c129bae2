r"""A prompts file as cells: which line, which column, which values. Standard library only.

- .txt: a prompt a line, as it stands; lines that begin with # are comments (`\#` begins a prompt with #).
- .csv: a header and a row a line, commas between cells. Columns are `Title.input`, `prompt` or `seed`. ` | ` separates the
  values of a grid; `\|` is a bar that belongs to the text. An empty cell keeps the workflow's value.
- .jsonl: an object a line with the same names as keys. A list is a grid (a list inside it is one value); null keeps the value.

UTF-8, with or without a byte order mark. Empty lines are skipped. Every fault of a file is a `PromptsError`.
"""

import csv
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path

import workflow

MAX_BYTES = 16 << 20
MAX_CELL = 131072  # characters; also the csv module's own limit
MAX_NAME = 300  # characters of a column's name
MAX_MESSAGE = 300  # characters
MAX_ROWS = 10_000  # after grids and seeds


class PromptsError(workflow.WorkflowError):
    """What is wrong with a prompts file: file, line and column first."""


@dataclass(frozen=True)
class Place:
    """Where in the file something stands; `str` of it begins a message."""

    file: str
    line: int
    column: str = ""

    def __str__(self):
        return f"{self.file} line {self.line}" + (f', column "{shortened(self.column)}"' if self.column else "")

    def error(self, message: str) -> PromptsError:
        return PromptsError(shortened(" ".join(f"{self}: {message}".split()), MAX_MESSAGE))


@dataclass(frozen=True)
class Cells:
    """A line of the file. values: column -> the values of its cell, more than one for a grid; empty cells are left out.

    typed: whether values are JSON values; otherwise they are text in the form that --set takes.
    """

    place: Place
    values: dict
    typed: bool


@dataclass(frozen=True)
class PromptsFile:
    """columns: name -> where it first appears. lines: every line that makes rows, in order."""

    columns: dict
    lines: list


def read(path: Path) -> PromptsFile:
    """The cells of a .txt, .csv or .jsonl file."""
    path = Path(path)
    reader = {".txt": read_txt, ".csv": read_csv, ".jsonl": read_jsonl}.get(path.suffix.lower())
    if reader is None:
        raise PromptsError(f"{path.name}: a prompts file ends in .txt, .csv or .jsonl (an object a line); this one ends in {path.suffix or 'nothing'}.")
    found = reader(text_of(path), path.name)
    if not found.lines:
        raise PromptsError(f"{path.name} has no rows: write a prompt a line (.txt), or a header and rows (.csv), or an object a line (.jsonl).")
    return found


def text_of(path: Path) -> str:
    """The file as text; refuses what is too large, unreadable or not UTF-8."""
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PromptsError(f"{path.name} cannot be read: {error.strerror or error}. Give the path of a prompts file.") from None
    if len(content) > MAX_BYTES:
        raise PromptsError(f"{path.name} is larger than {MAX_BYTES >> 20} MiB: split it into several files.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Place(path.name, line).error(f"byte {content[error.start]:#04x} is not UTF-8: save the file as UTF-8.") from None
    if "\0" in text:
        raise Place(path.name, text.count("\n", 0, text.index("\0")) + 1).error("a zero byte: this is not a text file; save it as UTF-8 text.")
    return text


def lines_of(text: str, file: str) -> list[tuple[Place, str]]:
    """Lines that are not empty, without the white space around them."""
    numbered = [(Place(file, number), line.strip()) for number, line in enumerate(re.split(r"\r\n|\n|\r", text), 1)]
    return [(place, line) for place, line in numbered if line]


def read_txt(text: str, file: str) -> PromptsFile:
    lines = [(place, line) for place, line in lines_of(text, file) if not line.startswith("#")]
    cells = [Cells(place, {"prompt": (checked_text(line.removeprefix("\\") if line.startswith("\\#") else line, place),)}, False)
             for place, line in lines]
    return PromptsFile({"prompt": cells[0].place} if cells else {}, cells)


def read_csv(text: str, file: str) -> PromptsFile:
    rows = csv_rows(text, file)
    if not rows:
        return PromptsFile({}, [])
    place, header = rows[0]
    header = [checked_text(name, place) for name in header]
    check_header(place, header)
    cells = [Cells(where, csv_values(where, header, row), False) for where, row in rows[1:] if any(row)]
    return PromptsFile({name: Place(file, place.line, name) for name in header}, cells)


def csv_rows(text: str, file: str) -> list[tuple[Place, list[str]]]:
    """(where the row begins, its cells without white space around them) of every line that is not empty."""
    reader, rows, before = csv.reader(io.StringIO(text, newline=""), strict=True), [], 0
    try:
        for row in reader:
            if row:
                rows.append((Place(file, before + 1), [cell.strip() for cell in row]))
            before = reader.line_num
    except csv.Error as error:
        raise Place(file, before + 1).error(f"{csv_fault(error)}.") from None
    return rows


def csv_fault(error: csv.Error) -> str:
    known = {"unexpected end of data": "a quote is opened and never closed", "field larger": f"a cell is longer than {MAX_CELL} characters",
             "expected after": 'text after a closing quote: inside a quoted cell write "" for a quote'}
    return next((words for part, words in known.items() if part in str(error)), str(error))


def check_header(place: Place, header: list[str]):
    for number, name in enumerate(header, 1):
        if not name or len(name) > MAX_NAME:
            raise place.error(f"column {number} has {'no name' if not name else 'a name that is too long'}: write Title.input, prompt or seed, or remove the column.")
        if header.index(name) != number - 1:
            raise place.error(f'column "{shortened(name)}" is there twice.')
        if not name.isprintable():
            raise place.error(f"the name of column {number} holds a line break or another control character: write Title.input, prompt or seed.")
    if len(header) == 1 and re.search(r"[;\t]", header[0]):
        raise place.error("the cells are not separated by commas: export the table as comma separated values.")


def csv_values(place: Place, header: list[str], row: list[str]) -> dict:
    if len(row) != len(header):
        raise place.error(f"{len(row)} cells, but the header has {len(header)}: put cells that contain commas into quotes.")
    return {name: grid_of(Place(place.file, place.line, name), cell) for name, cell in zip(header, row) if cell}


def grid_of(place: Place, cell: str) -> tuple[str, ...]:
    r"""The values of a csv cell: ` | ` separates them, `\|` is a bar."""
    values = tuple(part.strip().replace("\\|", "|") for part in cell.split(" | "))
    if not all(values):
        raise place.error('an empty value beside " | ": write a value on both sides, or "\\|" for a bar in a text.')
    return tuple(checked_text(value, place) for value in values)


def read_jsonl(text: str, file: str) -> PromptsFile:
    columns, lines = {}, []
    for place, line in lines_of(text, file):
        entry = json_object(place, line)
        check_header(place, list(entry))
        for name in entry:
            columns.setdefault(checked_text(name, place), Place(file, place.line, name))
        values = {name: json_values(Place(file, place.line, name), value) for name, value in entry.items() if value is not None}
        lines.append(Cells(place, values, True))
    return PromptsFile(columns, lines)


def json_object(place: Place, line: str) -> dict:
    def unique(pairs):
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            raise place.error(f'the key "{shortened(next(name for name in names if names.count(name) > 1))}" is there twice.')
        return dict(pairs)

    try:
        entry = json.loads(line, object_pairs_hook=unique)
    except PromptsError:
        raise
    except (ValueError, RecursionError) as error:
        raise place.error(f"not JSON ({json_fault(error)}): write one object a line.") from None
    if not isinstance(entry, dict):
        raise place.error(f'{shortened(line)} is not an object: write {{"Title.input": value, ...}}.')
    return entry


def json_fault(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}, column {error.colno}"
    return "nested too deeply" if isinstance(error, RecursionError) else "a number with too many digits"


def json_values(place: Place, value) -> tuple:
    values = tuple(value) if isinstance(value, list) else (value,)
    if not values or any(entry is None for entry in values):
        raise place.error("a list that is empty or holds null: a list is a grid and needs a value at each place.")
    try:
        texts = [json.dumps(entry, ensure_ascii=False, allow_nan=False) for entry in values]
    except (ValueError, RecursionError):
        raise place.error("a number that is not finite, or lists that are nested too deeply: write an ordinary value.") from None
    for text in texts:
        checked_text(text, place)
    return values


def checked_text(text: str, place: Place) -> str:
    if len(text) > MAX_CELL:
        raise place.error(f"{len(text)} characters, at most {MAX_CELL} are allowed.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise place.error(f"{text[error.start]!a} is half of a surrogate pair and no character: write the whole pair.") from None
    return text


def shortened(text: str, length: int = 60) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."
