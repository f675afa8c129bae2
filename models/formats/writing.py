"""Files written whole or not at all."""

import hashlib
import os
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from .header import order_metadata


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that `path` holds either its old content or all of `data`."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> str:
    """Write tensors so that `path` holds either its old content or all of them, equal ones as equal bytes; returns the file's SHA-256."""
    # the library's own writing of files leaves .tmpXXXXXX behind after a kill, and files that nobody else may read
    data = order_metadata(save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata))
    write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()
