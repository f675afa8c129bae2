"""Files written whole or not at all."""

import hashlib
import json
import os
import struct
from pathlib import Path

import torch
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


def stream_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file straight to `path`, one tensor in memory at a time: for a place that nobody looks into before it is whole."""
    kinds = {torch.float64: "F64", torch.int64: "I64", torch.float32: "F32", torch.int32: "I32", torch.float16: "F16", torch.bfloat16: "BF16", torch.uint8: "U8", torch.bool: "BOOL"}
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))  # aligned, as the library does
    header, place = {"__metadata__": dict(sorted(metadata.items()))}, 0
    for name, tensor in ordered:
        end = place + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": kinds[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text) + -len(text) % 8) + text + b" " * (-len(text) % 8))
        for _, tensor in ordered:
            file.write(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        file.flush()
        os.fsync(file.fileno())
