"""3D Gaussian splats as .spz (Niantic): a tenth of a .ply, quantised, Y up.

A gzip stream of a 16-byte header and one array per attribute. Axes are RUB (right, up, back), which is our own frame.
We write version 3, whose rotations are exact to 0.001, and read 1 to 3; version 4 is another container.
"""

import gzip
import struct
import zlib

import numpy as np

from .splat_cloud import COEFFICIENTS, SplatCloud, unit_rotations

MAGIC, WRITTEN = 0x5053474E, 3
MOST = 10_000_000  # Gaussians of a file; the reference library reads no more either
MOST_RATIO = 1032  # what deflate can shrink to at most
CONTRAST = 0.15  # stored colour = CONTRAST * harmonic + 0.5
HIGHEST = (1 << 23) - 1  # of a position, in 24 bits
FINEST = 14  # bits of a position's fraction: steps of 6e-5; the reference library takes 12
EXTENSIONS = 2  # flag: something follows the arrays
ROOT_HALF = 0.5**0.5
_POSITION = {1: 6, 2: 9, 3: 9}
_ROTATION = {1: 3, 2: 3, 3: 4}


def write_spz(splats: SplatCloud) -> bytes:
    """A file of version 3, Y up. The format has no place for comments. Scales are stored in steps of 1/16 of their logarithm."""
    bits = _fraction_bits(float(np.abs(splats.positions).max()))
    header = struct.pack("<IIIBBBB", MAGIC, WRITTEN, splats.count, splats.degree, bits, 0, 0)
    fixed = np.round(splats.positions.astype(np.float64) * (1 << bits)).clip(-HIGHEST - 1, HIGHEST).astype("<i4")
    parts = (
        fixed.view(np.uint8).reshape(-1, 3, 4)[..., :3],
        _byte(splats.opacities * 255),
        _byte((splats.harmonics[:, 0] * CONTRAST + 0.5) * 255),
        _byte((np.log(splats.scales.clip(1e-12)) + 10) * 16),
        _packed_rotations(splats.rotations),
        _byte(splats.harmonics[:, 1:] * 128 + 128),
    )
    return gzip.compress(header + b"".join(part.tobytes() for part in parts), 6, mtime=0)


def _fraction_bits(reach: float) -> int:
    """The finest steps in which the farthest position still fits."""
    return next(bits for bits in range(FINEST, -1, -1) if reach * (1 << bits) < HIGHEST or bits == 0)


def _byte(values: np.ndarray) -> np.ndarray:
    return np.round(values).clip(0, 255).astype(np.uint8)


def _packed_rotations(rotations: np.ndarray) -> np.ndarray:
    """Smallest three: two bits for the largest of x, y, z, w, then a sign and nine bits for each other one, (N, 4) bytes."""
    quaternion = rotations[:, [1, 2, 3, 0]].astype(np.float64)  # x, y, z, w
    rows, largest = np.arange(len(quaternion)), np.abs(quaternion).argmax(1)
    negative = quaternion[rows, largest] < 0
    packed = largest.astype(np.uint32)
    for index in range(4):
        value = quaternion[:, index]
        size = np.round(np.abs(value) / ROOT_HALF * 511).clip(0, 511).astype(np.uint32)
        sign = ((value < 0) ^ negative).astype(np.uint32)
        packed = np.where(largest == index, packed, packed << 10 | sign << 9 | size)
    return packed.astype("<u4").view(np.uint8).reshape(-1, 4)


# ---- reading


def read_spz(data: bytes) -> SplatCloud:
    """Versions 1 to 3 with their harmonics; Y up. ValueError in a clause says what is wrong.

    No more is unpacked than the header's count of Gaussians needs, and that count is held against what so many bytes can hold.
    """
    if data[:4] == struct.pack("<I", MAGIC):
        raise ValueError("it is SPZ of version 4 or later (zstd), and 1 to 3 are read; save it as version 3")
    stream = zlib.decompressobj(31)
    header = _unpack(stream, data, 16)
    if len(header) < 16 or struct.unpack("<I", header[:4])[0] != MAGIC:
        raise ValueError("it is no gzip stream with the header of an SPZ file")
    version, count, degree, bits, flags = struct.unpack("<IIBBB", header[4:15])
    expected = _expected(version, count, degree, bits, len(data))
    body = _unpack(stream, stream.unconsumed_tail, expected)
    if len(body) < expected:
        raise ValueError(f"its header promises {count} Gaussians in {expected} bytes and only {len(body)} are in it: it is truncated")
    if not flags & EXTENSIONS and _unpack(stream, stream.unconsumed_tail, 1):
        raise ValueError(f"more than the {count} Gaussians of its header is in it")
    if not flags & EXTENSIONS and not stream.eof:
        raise ValueError("its checksum does not fit or is missing: it is truncated")
    return _splats(np.frombuffer(body, np.uint8), version, count, degree, bits)


def _unpack(stream, data: bytes, most: int) -> bytes:
    if most == 0:
        return b""
    try:
        return stream.decompress(data, most)
    except zlib.error:
        return b""


def _expected(version: int, count: int, degree: int, bits: int, size: int) -> int:
    """Bytes behind the header; ValueError where the header promises what cannot be."""
    if version not in _POSITION:
        raise ValueError(f"it is SPZ of version {version}, and 1 to 3 are read")
    if degree > 3 or bits > 31:
        raise ValueError(f"its header asks for harmonics of degree {degree} (0 to 3 are read) or positions of {bits} fractional bits")
    expected = count * (_POSITION[version] + 1 + 3 + 3 + _ROTATION[version] + 3 * (COEFFICIENTS[degree] - 1))
    if count > MOST or expected > size * MOST_RATIO:
        raise ValueError(f"its header promises {count} Gaussians, more than {size} bytes can hold or than the {MOST} that are read")
    return expected


def _splats(body: np.ndarray, version: int, count: int, degree: int, bits: int) -> SplatCloud:
    sizes = [_POSITION[version], 1, 3, 3, _ROTATION[version], 3 * (COEFFICIENTS[degree] - 1)]
    places = np.cumsum([0, *sizes]) * count
    position, alpha, colour, scale, rotation, rest = (body[a:b].reshape(count, size) for a, b, size in zip(places, places[1:], sizes))
    constant = (colour / np.float32(255) - 0.5) / CONTRAST
    higher = (rest.reshape(count, -1, 3).astype(np.float32) - 128) / 128
    return SplatCloud(
        _positions(position, version, bits),
        _rotations_smallest_three(rotation) if version == 3 else _rotations_first_three(rotation),
        np.exp(scale / np.float32(16) - 10),
        (alpha[:, 0] / np.float32(255)),
        np.concatenate([constant[:, None], higher], 1).astype(np.float32),
    )


def _positions(stored: np.ndarray, version: int, bits: int) -> np.ndarray:
    if version == 1:
        return np.ascontiguousarray(stored).view("<f2").astype(np.float32)
    wide = np.zeros((*stored.shape[:1], 3, 4), np.uint8)
    wide[..., 1:] = stored.reshape(-1, 3, 3)  # in the upper three bytes, so that the sign is in its place
    return ((wide.view("<i4")[..., 0] >> 8) / (1 << bits)).astype(np.float32)


def _rotations_first_three(stored: np.ndarray) -> np.ndarray:
    vector = stored / 127.5 - 1.0
    real = np.sqrt((1 - (vector**2).sum(1)).clip(0))
    return unit_rotations(np.concatenate([real[:, None], vector], 1))


def _rotations_smallest_three(stored: np.ndarray) -> np.ndarray:
    packed = np.ascontiguousarray(stored).view("<u4")[:, 0].astype(np.int64)
    largest, quaternion = packed >> 30, np.zeros((len(packed), 4))
    for index in (3, 2, 1, 0):
        value = (packed & 511) * (ROOT_HALF / 511) * np.where(packed >> 9 & 1, -1.0, 1.0)
        held = largest != index
        quaternion[held, index] = value[held]
        packed = np.where(held, packed >> 10, packed)
    quaternion[np.arange(len(packed)), largest] = np.sqrt((1 - (quaternion**2).sum(1)).clip(0))
    return unit_rotations(quaternion[:, [3, 0, 1, 2]])
