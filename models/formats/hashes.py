"""What a file holds, as a short name."""

import hashlib
from pathlib import Path

BLOCK = 1 << 20  # bytes read at once: a model file may be larger than the memory


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal; OSError when it cannot be read."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
