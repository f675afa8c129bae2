"""What a file holds, as a name: the host caches by it and writes it into saved files, which must not depend on a file's age."""

import functools
from pathlib import Path

from ...models.formats.hashes import sha256_of


def content_of(path: Path) -> str:
    """SHA-256 of a file, read again only after it changed."""
    status = Path(path).stat()
    return _content(str(path), status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=64)
def _content(path: str, modified: int, size: int) -> str:
    return sha256_of(path)
