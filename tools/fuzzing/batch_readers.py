"""Readers of a batch: prompts files in their three forms, and the manifest that a batch goes on from."""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

from batch.manifest import Manifest, ManifestError
from batch.prompts_file import PromptsError
from batch.rows import read_rows
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from .engine import Reader
from .file_readers import SAMPLE
from .values import ODD_TEXTS, odd_values, one_of, texts_of, weighted

COLUMNS = ("prompt", "seed", "Prompt.text", "Sampler v1.5.seed", "Sampler v1.5.cfg", "Sampler v1.5.on", "3.deep", "Sampler v1.5.model", "Nobody.x", "", "seed ")
CELLS = ("a rose", "7", "0.5", "true", "1 | 2", "1 | ", "\\| bar", "a | b | c", "[1, 2]", "nan", "1e999", "-1", "99999999999999999999999", "null", *ODD_TEXTS)
GRID = " | ".join(map(str, range(150)))
TYPED = (7, 0.5, True, [1, 2], [[1], [2]], [], [None], {"x": 1}, "a rose", None, float("nan"), 10**30)


@dataclass(frozen=True)
class Sheet:
    """A prompts file: its ending, its bytes, and seeds beside it."""

    ending: str
    content: bytes
    seeds: tuple[int, ...]


def prompts_files(folder: Path) -> Reader:
    """What `launch.py run --prompts` makes of a file."""
    def read(sheet: Sheet) -> str:
        path = folder / f"rows{sheet.ending}"
        path.write_bytes(sheet.content)
        rows = read_rows(path, SAMPLE, sheet.seeds)
        assert len({row.name for row in rows}) == len({row.key for row in rows}) and all(json.dumps(row.prompt) for row in rows)
        assert all("/" not in row.name and "\\" not in row.name and row.name not in (".", "..") for row in rows)
        return "read, many rows" if len(rows) > 3 else "read"

    seeds = weighted((5, st.just(())), (1, st.lists(st.integers(-1, 2**65), max_size=3).map(tuple)))
    sheets = weighted((5, _tables().map(lambda text: (".csv", text))), (5, _objects().map(lambda text: (".jsonl", text))), (2, _lines().map(lambda text: (".txt", text))), (1, st.tuples(one_of((".csv", ".jsonl", ".txt", ".CSV", ".json", "")), st.binary(max_size=40))))
    spoiled = st.tuples(sheets, weighted((6, st.none()), (1, st.tuples(st.integers(0, 60), st.binary(min_size=1, max_size=4))))).map(lambda drawn: _put_in(*drawn))
    return Reader("prompts file", st.builds(lambda sheet, seeds: Sheet(*sheet, seeds), spoiled, seeds), read, (PromptsError,), names=lambda sheet: (f"rows{sheet.ending}", "--seeds"))


def _put_in(sheet: tuple[str, bytes], drawn) -> tuple[str, bytes]:
    if drawn is None:
        return sheet
    place, data = drawn
    return sheet[0], sheet[1][:place] + data + sheet[1][place:]


def _tables() -> SearchStrategy:
    def write(header: list[str], rows: list[list[str]], fit: bool) -> bytes:
        file = io.StringIO()
        writer = csv.writer(file)
        writer.writerows([header, *((row * len(header))[: len(header)] if fit else row for row in rows)])
        return file.getvalue().encode("utf-8", "surrogatepass")

    header = st.lists(weighted((8, one_of(COLUMNS[:6])), (1, one_of(COLUMNS)), (1, st.text(max_size=6))), min_size=1, max_size=3)
    cell = weighted((3, one_of(CELLS[:4])), (2, one_of(CELLS)), (1, st.text(max_size=8)), (1, st.just(GRID)))
    return st.builds(write, header, st.lists(st.lists(cell, min_size=1, max_size=3), max_size=4), st.sampled_from([True, True, True, False]))


def _objects() -> SearchStrategy:
    value = weighted((3, one_of(TYPED[:4])), (2, one_of(TYPED)), (1, odd_values()), (1, st.just(list(range(150)))))
    entry = st.dictionaries(weighted((8, one_of(COLUMNS[:6])), (1, one_of(COLUMNS))), value, min_size=1, max_size=3).map(json.dumps)
    broken = texts_of({"prompt": "a", "seed": [1, 2], "Sampler v1.5.cfg": 2.5})
    return st.lists(weighted((4, entry), (1, broken)), max_size=4).map(lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass"))


def _lines() -> SearchStrategy:
    line = one_of(("# a comment", "\\# no comment", "", "a rose")) | one_of(ODD_TEXTS) | st.text(max_size=12)
    return st.lists(line, max_size=5).map(lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass"))


def manifests(folder: Path) -> Reader:
    """What a batch reads when it goes on: lines that a crash or a person spoiled."""
    path = folder / "manifest.jsonl"
    line = {"row": 1, "key": "k", "folder": "rose_1", "inputs": {"seed": 1}, "seed": 1, "models": {"a": "0"}, "model_paths": {"a": "/a"}, "outputs": ["x.png"],
            "hashes": {"x.png": "0"}, "scores": {}, "seconds": 1.0, "status": "success", "error": None, "where": "here", "same_as": None}
    whole = json.dumps(line)

    def read(content: bytes) -> str:
        path.write_bytes(content)
        manifest = Manifest(path)
        manifest.finished("k")
        return f"read, {min(len(manifest.lines), 2)} lines"

    texts = st.lists(weighted((2, st.just(whole)), (5, texts_of(line))), max_size=3).map(lambda lines: "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass"))
    cut = st.tuples(texts, st.integers(0, 900)).map(lambda drawn: drawn[0][: drawn[1]])
    return Reader("manifest", texts | cut | st.binary(max_size=40), read, (ManifestError,), names=lambda case: (path.name,))
