"""What a file holds, as a name: the host caches by it and writes it into saved files, which must not depend on a file's age."""

import functools
import hashlib
from pathlib import Path

BLOCK = 1 << 20


def content_of(path: Path) -> str:
    """SHA-256 of a file, read again only after it changed."""
    status = Path(path).stat()
    return _sha256(str(path), status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=64)
def _sha256(path: str, modified: int, size: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
