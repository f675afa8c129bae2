"""What identifies a run: a hash of everything that determines its result."""

import hashlib
from dataclasses import fields, is_dataclass
from enum import Enum

import torch
from torch import Tensor, nn


def fingerprint(*values) -> str:
    """40 hexadecimal digits over configurations, tensors and modules, by content; the same in every process.

    Takes numbers, strings, None, enumerations, sequences, dictionaries, dataclasses, tensors and modules, nested at will.
    Two values that differ in any field, byte, type or order differ here. Anything else is an error: an object's address
    must never name a run.
    """
    digest = hashlib.blake2b(digest_size=20)
    _feed(digest, values)
    return digest.hexdigest()


def _feed(digest, value) -> None:
    name = type(value).__name__
    if value is None or isinstance(value, (bool, int, float, str, Enum)):
        _mark(digest, name, repr(value))
    elif isinstance(value, Tensor):
        _mark(digest, "tensor", f"{value.dtype}{tuple(value.shape)}")
        digest.update(_bytes(value))
    elif isinstance(value, nn.Module):
        _mark(digest, "module", name)
        _feed(digest, dict(value.state_dict()))
    elif is_dataclass(value):
        _mark(digest, "dataclass", name)
        _feed(digest, {field.name: getattr(value, field.name) for field in fields(value)})
    elif isinstance(value, dict):
        _mark(digest, "dict", str(len(value)))
        for key in sorted(value, key=str):
            _feed(digest, key)
            _feed(digest, value[key])
    elif isinstance(value, (list, tuple)):
        _mark(digest, "sequence", str(len(value)))
        for item in value:
            _feed(digest, item)
    else:
        raise TypeError(f"A run cannot be identified by a {name}: give plain values, tensors, modules or dataclasses.")


def _mark(digest, *parts: str) -> None:
    for part in parts:
        text = part.encode()
        digest.update(len(text).to_bytes(8, "big") + text)


def _bytes(tensor: Tensor) -> memoryview:
    return memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
