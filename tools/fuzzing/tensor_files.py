"""Safetensors files with something wrong: a whole file is taken apart, changed in its header, texts, tensors or bytes, and written again."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from .values import DEEP, changed, changes, odd_values, one_of, texts_of, weighted

DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "U8", "BOOL", "F8_E4M3", "C64", "Q4", "", 3, None)
SIZES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "U8": 1, "BOOL": 1}


@dataclass(frozen=True)
class TensorFile:
    """A whole file: its header (a dictionary) and the bytes behind it. `documents`: metadata keys whose text is JSON."""

    header: dict
    data: bytes
    documents: tuple[str, ...]

    @classmethod
    def read(cls, path: Path, *documents: str) -> "TensorFile":
        content = path.read_bytes()
        size, = struct.unpack("<Q", content[:8])
        return cls(json.loads(content[8 : 8 + size]), content[8 + size :], documents)

    @property
    def tensors(self) -> list[str]:
        return [name for name in self.header if name != "__metadata__"]


@dataclass(frozen=True)
class Damage:
    """What was done to a file, in words, and its bytes."""

    words: str
    content: bytes

    def __str__(self):
        return f"{self.words} ({len(self.content)} bytes, {self.content[:24]!r}...)"


def joined(header: dict | bytes, data: bytes, claimed: int | None = None) -> bytes:
    """A file of a header and data; `claimed` is written as the header's length instead of the true one."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if claimed is None else claimed) + text + data


def damaged(file: TensorFile) -> SearchStrategy:
    """Strategy of `Damage` done to a whole file; tensors and texts come more often than the container, which is not ours."""
    texts = [(4, _texts(file))] if file.documents else []
    return weighted(*texts, (4, _tensors(file)), (1, _swaps(file)), (2, _headers(file)), (2, _container(file)))


def _texts(file: TensorFile) -> SearchStrategy:
    """The JSON inside the metadata."""
    metadata = file.header["__metadata__"]

    def build(key: str) -> SearchStrategy:
        return texts_of(json.loads(metadata[key])).map(lambda text: _with(file, {**metadata, key: text}, f"metadata {key} = {text[:1500]}"))

    others = st.tuples(st.sampled_from(sorted(metadata)), one_of(("", "0", "-1", "9" * 5000, "nan", "bloom4d", "1.5", "blüte")))
    missing = st.sampled_from(sorted(metadata))
    return (
        st.sampled_from(file.documents).flatmap(build)
        | others.map(lambda drawn: _with(file, {**metadata, drawn[0]: drawn[1]}, f"metadata {drawn[0]} = {drawn[1][:20]}"))
        | missing.map(lambda key: _with(file, {name: text for name, text in metadata.items() if name != key}, f"metadata without {key}"))
    )


def _with(file: TensorFile, metadata: dict, words: str) -> Damage:
    return Damage(words, joined({**file.header, "__metadata__": metadata}, file.data))


def _tensors(file: TensorFile) -> SearchStrategy:
    """Readable files whose tensors are missing, renamed, of another type or shape, or filled with one byte."""
    name = st.sampled_from(file.tensors)
    shapes = st.lists(st.integers(0, 5), max_size=4)
    return (
        name.map(lambda key: Damage(f"without {key}", rebuilt(file, drop=key)))
        | st.tuples(name, st.sampled_from(["x", "", "field.x", "a.b", "history.0.step", "pool.x", "adam.x", "ü"])).map(lambda drawn: Damage(f"{drawn[0]} named {drawn[1]}", rebuilt(file, rename=drawn)))
        | st.tuples(name, st.sampled_from(sorted(SIZES)), shapes).map(lambda drawn: Damage(f"{drawn[0]} as {drawn[1]} {drawn[2]}", rebuilt(file, replace=drawn)))
        | st.tuples(name, st.sampled_from([0x00, 0xFF, 0x7F, 0x80, 0x7C])).map(lambda drawn: Damage(f"{drawn[0]} filled with {drawn[1]:#x}", rebuilt(file, fill=drawn)))
    )


def _swaps(file: TensorFile) -> SearchStrategy:
    """The header entries of two tensors exchanged."""
    pair = st.tuples(st.sampled_from(file.tensors), st.sampled_from(file.tensors))
    return pair.map(lambda names: Damage(f"header entries of {names[0]} and {names[1]} swapped", joined(_swapped(file.header, *names), file.data)))


def _swapped(header: dict, one: str, other: str) -> dict:
    return {**header, one: header[other], other: header[one]}


def _headers(file: TensorFile) -> SearchStrategy:
    """Entries of the container's own header: types, shapes, offsets, what is no text."""
    name = st.sampled_from(file.tensors)
    huge = st.sampled_from([[2**60], [2**40, 2**40], [-1], [2**63], [1e9], ["a"], None, [[1]], [10**30]])
    offsets = st.sampled_from([[0, 2**60], [5, 2], [-4, 4], [0], [], None, [0, 10**30], ["0", "4"]])
    return (
        st.tuples(name, st.sampled_from(DTYPES)).map(lambda drawn: _entry(file, drawn[0], dtype=drawn[1]))
        | st.tuples(name, huge).map(lambda drawn: _entry(file, drawn[0], shape=drawn[1]))
        | st.tuples(name, offsets).map(lambda drawn: _entry(file, drawn[0], data_offsets=drawn[1]))
        | odd_values().map(lambda value: Damage(f"__metadata__ = {str(value)[:40]}", joined({**file.header, "__metadata__": value}, file.data)))
        | changes(file.header, 2).map(lambda steps: Damage("; ".join(map(str, steps)), joined(changed(file.header, steps), file.data)))
    )


def _entry(file: TensorFile, name: str, **values) -> Damage:
    return Damage(f"{name} claims {values}", joined({**file.header, name: {**file.header[name], **values}}, file.data))


def _container(file: TensorFile) -> SearchStrategy:
    """The bytes: cut off, flipped, put in, another length of the header, nested without end, something else."""
    whole = joined(file.header, file.data)
    place = st.integers(0, len(whole) - 1)
    lengths = st.sampled_from([0, 1, 7, 2**31, 2**60, 2**64 - 1, len(whole), len(whole) - 8, 100_000_001])
    others = (b"", b"{", b"PK\x03\x04 a zip of pickles", b"\x80\x04\x95.", b"\x00" * 64, b"\xff" * 64, joined(b"[" * DEEP, b""), joined(b'{"a":' * DEEP, b""), joined(b"{}", b""), joined(b"[]", b""), joined(b"\xff\xfe", b""))
    return (
        place.map(lambda end: Damage(f"cut at {end}", whole[:end]))
        | st.tuples(place, st.integers(1, 255)).map(lambda drawn: Damage(f"byte {drawn[0]} xor {drawn[1]}", whole[: drawn[0]] + bytes([whole[drawn[0]] ^ drawn[1]]) + whole[drawn[0] + 1 :]))
        | st.tuples(place, st.binary(min_size=1, max_size=9)).map(lambda drawn: Damage(f"{drawn[1]!r} put in at {drawn[0]}", whole[: drawn[0]] + drawn[1] + whole[drawn[0] :]))
        | lengths.map(lambda claimed: Damage(f"header length {claimed}", joined(file.header, file.data, claimed)))
        | one_of(others).map(lambda content: Damage("another file", content))
        | st.binary(max_size=64).map(lambda content: Damage("random bytes", content))
    )


def rebuilt(file: TensorFile, drop: str = "", rename: tuple = (), replace: tuple = (), fill: tuple = ()) -> bytes:
    """A readable file with one tensor missing, renamed (name, new name), replaced by zeros (name, dtype, shape) or filled (name, byte)."""
    header, data = {"__metadata__": file.header.get("__metadata__", {})}, b""
    for name in file.tensors:
        if name == drop:
            continue
        entry = file.header[name]
        kind, shape, content = entry["dtype"], entry["shape"], file.data[slice(*entry["data_offsets"])]
        if replace and name == replace[0]:
            kind, shape = replace[1:]
            content = bytes(_count(shape) * SIZES[kind])
        if fill and name == fill[0]:
            content = bytes([fill[1]]) * len(content)
        shown = rename[1] if rename and name == rename[0] else name
        header[shown] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    return joined(header, data)


def _count(shape: list[int]) -> int:
    total = 1
    for side in shape:
        total *= side
    return total
