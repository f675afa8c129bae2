"""What a file holds, as a name: the host caches by it and writes it into saved files, which must not depend on a file's age."""

import functools
import hashlib
from pathlib import Path

from ...models.formats.hashes import sha256_of


def content_of(path: Path) -> str:
    """SHA-256 of a file, read again only after it changed."""
    status = Path(path).stat()
    return _content(str(path), status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=64)
def _content(path: str, modified: int, size: int) -> str:
    return sha256_of(path)


ENDS = 4 << 20  # bytes at each end; the beginning of a safetensors file names all its tensors


def ends_of(path: Path) -> str:
    """A name for a file of many gigabytes, out of its size and its two ends; as independent of the file's age as `content_of`."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        digest = hashlib.sha256(str(size).encode() + file.read(ENDS))
        file.seek(max(size - ENDS, 0))
        digest.update(file.read(ENDS))
    return digest.hexdigest()
