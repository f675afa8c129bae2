"""3D Gaussian splats and point clouds as .ply: the files of 3DGS, in its frame (Y down, Z away from the viewer)."""

import re
import warnings
from dataclasses import dataclass

import numpy as np

from .splat_cloud import COEFFICIENTS, SplatCloud, harmonics_of, sigmoid, unit_rotations

LEAST_OPACITY = 1e-6  # 0 and 1 have no logit
LEAST_SCALE = 1e-12
LONGEST_HEADER = 1 << 20
LONGEST_COMMENTS = 24 << 10  # bytes; some viewers look for the end of the header in the first 64 KiB only
POINT = 0.01  # standard deviation of a single point of a plain cloud, which has no neighbour to measure
SAMPLE = 512  # points whose nearest neighbour is looked for
KINDS = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4", "double": "f8",
         "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8"}  # fmt: skip
ENDIANS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}
NEEDED = ("f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3")


def names_of(coefficients: int) -> list[str]:
    """The properties of a 3DGS file with K harmonics, in its order; the higher harmonics all red first, then green, then blue."""
    rest = 3 * (coefficients - 1)
    return ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *(f"f_rest_{index}" for index in range(rest)), *NEEDED[3:]]


def write_ply(splats: SplatCloud, comments: dict[str, str] | None = None) -> bytes:
    """A binary 3DGS file: logarithms of the scales, logits of the opacities clipped to [1e-6, 1 - 1e-6].

    comments: text by name, each a header line `comment NAME TEXT`; texts of one line in ASCII (JSON is), the first ones as far
    as they fit into the header that every viewer finds the end of.
    """
    names = names_of(splats.harmonics.shape[1])
    header = ["ply", "format binary_little_endian 1.0", *_comment_lines(comments or {}), f"element vertex {splats.count}"]
    header += [*(f"property float {name}" for name in names), "end_header", ""]
    return "\n".join(header).encode("ascii") + _rows(splats, names).tobytes()


def _rows(splats: SplatCloud, names: list[str]) -> np.ndarray:
    """The numbers of the file, (N, properties); filled column by column, since millions of Gaussians are written too."""
    rows, opacities = np.zeros((splats.count, len(names)), "<f4"), splats.opacities.clip(LEAST_OPACITY, 1 - LEAST_OPACITY).astype(np.float64)
    place = names.index("opacity")
    rows[:, :3], rows[:, 6:9] = splats.positions, splats.harmonics[:, 0]
    rows[:, 9:place] = splats.harmonics[:, 1:].transpose(0, 2, 1).reshape(splats.count, -1)
    rows[:, place] = np.log(opacities / (1 - opacities))
    rows[:, place + 1 : place + 4] = np.log(splats.scales.clip(LEAST_SCALE))
    rows[:, place + 4 :] = splats.rotations
    return rows


def _comment_lines(comments: dict[str, str]) -> list[str]:
    lines, left = [], LONGEST_COMMENTS
    for name, text in comments.items():
        left -= len(name) + len(text) + 10
        if left < 0:
            return [*lines, f"comment {name} is too long for this header: it is in the other files of this save"]
        lines.append(f"comment {name} {text}")
    return lines


def bytes_of(count: int, coefficients: int) -> int:
    """Size of the data of such a file."""
    return 4 * count * len(names_of(coefficients))


# ---- reading


@dataclass(frozen=True)
class Header:
    """order: "<", ">" or "" for text. count vertices with these (name, numpy kind) properties, `before` bytes (or numbers, in text) of other elements ahead of them, which start at `body`."""

    order: str
    count: int
    properties: tuple[tuple[str, str], ...]
    before: int
    body: int


def read_ply(data: bytes) -> tuple[SplatCloud, str]:
    """A 3DGS file or a plain point cloud, any order of properties, binary or text, and a note on what it lacked.

    ValueError in a clause says what is wrong; the number of vertices is held against the size of the file before anything is made.
    """
    header = _header(data)
    columns = _columns(data, header)
    if "scale_0" in columns or "f_dc_0" in columns:
        return _splats(columns), ""
    return _points(columns)


def _header(data: bytes) -> Header:
    end = re.search(rb"^end_header[ \t]*\r?\n", data[:LONGEST_HEADER], re.MULTILINE)
    if not data.startswith(b"ply") or end is None:
        raise ValueError("it does not begin with the header of a PLY file" if not data.startswith(b"ply") else "its header has no end")
    lines = [line.split() for line in data[: end.start()].decode("latin-1").splitlines()]
    order, elements = None, []
    for words in lines:
        if words[:1] == ["format"]:
            order = ENDIANS.get(words[1] if len(words) > 1 else "")
        elif words[:1] == ["element"]:
            elements.append((_element(words), []))
        elif words[:1] == ["property"]:
            if not elements:
                raise ValueError("its header has a property that belongs to no element")
            elements[-1][1].append(_property(words))
    if order is None:
        raise ValueError("its header names no known format (ascii, binary_little_endian or binary_big_endian)")
    return _vertices(order, elements, end.end())


def _element(words: list[str]) -> tuple[str, int]:
    if len(words) != 3 or not re.fullmatch(r"\d{1,18}", words[2], re.ASCII):
        raise ValueError("its header has an element without a name and a number")
    return words[1], int(words[2])


def _property(words: list[str]) -> tuple[str, str]:
    if len(words) > 1 and words[1] == "list":
        return words[-1], "list"
    if len(words) != 3 or words[1] not in KINDS:
        raise ValueError("its header has a property of an unknown type")
    return words[2], KINDS[words[1]]


def _vertices(order: str, elements: list, body: int) -> Header:
    before = 0
    for (name, count), properties in elements:
        if name == "chunk":
            raise ValueError("it is a compressed PLY (of SuperSplat); save it there as an uncompressed one")
        if any(kind == "list" for _, kind in properties):
            break
        if name == "vertex":
            if len({key for key, _ in properties}) != len(properties) or not properties:
                raise ValueError("its vertices have no properties, or two of one name")
            return Header(order, count, tuple(properties), before, body)
        before += count * (len(properties) if not order else sum(np.dtype(kind).itemsize for _, kind in properties))
    raise ValueError("it has no vertices, or lists in front of them")


def _columns(data: bytes, header: Header) -> dict[str, np.ndarray]:
    """Property name -> float32 (N,), colours of whole numbers as shares of their range."""
    if header.order:
        kind = np.dtype([(f"p{index}", header.order + kind) for index, (_, kind) in enumerate(header.properties)])
        start = header.body + header.before
        if header.count > (len(data) - start) // kind.itemsize:
            raise ValueError(f"its header promises {header.count} vertices of {kind.itemsize} bytes and {max(len(data) - start, 0)} bytes follow: it is truncated")
        rows = np.frombuffer(data, kind, header.count, start)
        parts = [rows[name] for name in kind.names]
    else:
        parts = _text_columns(data, header)
    return {name: _share(name, kind, part) for (name, kind), part in zip(header.properties, parts)}


def _text_columns(data: bytes, header: Header) -> list[np.ndarray]:
    width = len(header.properties)
    wanted = header.before + header.count * width
    if wanted > (len(data) - header.body + 1) // 2:  # a digit and a space each
        raise ValueError(f"its header promises {header.count} vertices and {len(data) - header.body} bytes of text follow: it is truncated")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # numpy's way to say that something is no number
        try:
            numbers = np.fromstring(data[header.body :], np.float64, wanted, sep=" ") if wanted else np.zeros(0)
        except (ValueError, DeprecationWarning):
            numbers = np.zeros(0)
    if len(numbers) != wanted:
        raise ValueError(f"its text holds fewer than the {wanted} numbers that its header promises")
    return list(numbers[header.before :].reshape(header.count, width).T)


def _share(name: str, kind: str, values: np.ndarray) -> np.ndarray:
    colour = name in ("red", "green", "blue", "alpha") and kind[0] in "iu"
    with np.errstate(over="ignore"):  # a double beyond single precision becomes infinite, which is refused later
        return (values / np.iinfo(kind).max if colour else values).astype(np.float32)


def _together(columns: dict[str, np.ndarray], *names: str) -> np.ndarray:
    missing = [name for name in names if name not in columns]
    if missing:
        raise ValueError(f"its vertices have no {', '.join(missing)}")
    return np.stack([columns[name] for name in names], 1)


def _splats(columns: dict[str, np.ndarray]) -> SplatCloud:
    positions = _together(columns, "x", "y", "z")
    values = _together(columns, *NEEDED)
    with np.errstate(over="ignore"):
        scales = np.exp(values[:, 4:7])
    return SplatCloud(positions, unit_rotations(values[:, 7:]), scales, sigmoid(values[:, 3]), _harmonics(columns, values[:, :3]))


def _harmonics(columns: dict[str, np.ndarray], constant: np.ndarray) -> np.ndarray:
    rest = sum(name.startswith("f_rest_") for name in columns)
    if rest // 3 + 1 not in COEFFICIENTS or rest % 3:
        raise ValueError(f"it has {rest} values f_rest; spherical harmonics of degree 0 to 3 have 0, 9, 24 or 45")
    if not rest:
        return constant[:, None]
    higher = _together(columns, *(f"f_rest_{index}" for index in range(rest))).reshape(len(constant), 3, rest // 3)
    return np.concatenate([constant[:, None], higher.transpose(0, 2, 1)], 1)


def _points(columns: dict[str, np.ndarray]) -> tuple[SplatCloud, str]:
    """Points as round Gaussians as wide as the typical distance to a neighbour is half."""
    positions = _together(columns, "x", "y", "z")
    coloured = {"red", "green", "blue"} <= columns.keys()
    colours = _together(columns, "red", "green", "blue") if coloured else np.full_like(positions, 0.5)
    opacities = columns.get("alpha", np.ones(len(positions), np.float32)).clip(0, 1)
    rotations = np.tile(np.array([1, 0, 0, 0], np.float32), (len(positions), 1))
    scales = np.full_like(positions, _spacing(positions) / 2)
    note = "a plain point cloud: each point is a round Gaussian" + ("" if coloured else "; it has no colours, so all are grey")
    return SplatCloud(positions, rotations, scales, opacities, harmonics_of(colours)), note


def _spacing(positions: np.ndarray) -> float:
    """The median distance of some points to their nearest neighbour at another place."""
    if len(positions) < 2 or not np.isfinite(positions).all():
        return 2 * POINT
    chosen = positions[np.linspace(0, len(positions) - 1, min(SAMPLE, len(positions))).astype(int)].astype(np.float64)
    nearest = [_nearest(positions, point) for point in chosen]
    found = [distance for distance in nearest if np.isfinite(distance)]
    return float(np.median(found)) if found else 2 * POINT


def _nearest(positions: np.ndarray, point: np.ndarray) -> float:
    distance = np.square(positions - point).sum(1)
    return float(np.sqrt(np.where(distance > 0, distance, np.inf).min()))
