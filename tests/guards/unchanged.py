"""Detect a function that changes its arguments: a digest of every tensor, number and text in them before and after."""

import dataclasses
import functools
import hashlib

import torch

DEPTH = 6  # deeper than any of our sockets nests


def digest(value) -> str:
    """A hash over the content of nested containers, tensors, modules and dataclasses; other objects count by identity."""
    sha = hashlib.sha256()
    _feed(sha, value, DEPTH)
    return sha.hexdigest()


def _feed(sha, value, depth: int):
    sha.update(type(value).__name__.encode())
    if isinstance(value, torch.Tensor):
        sha.update(str((tuple(value.shape), value.dtype)).encode())
        sha.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    elif isinstance(value, (str, bytes, int, float, bool, type(None))):
        sha.update(repr(value).encode())
    elif depth == 0:
        sha.update(str(id(value)).encode())
    else:
        for part in _parts(value):
            _feed(sha, part, depth - 1)


def _parts(value):
    if isinstance(value, dict):
        return [part for item in value.items() for part in item]
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, torch.nn.Module):
        return [part for item in value.state_dict().items() for part in item]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, part.name) for part in dataclasses.fields(value)]
    return [id(value)]


def watched_execute(execute):
    """`execute` of a node class with an assertion that no argument has changed when it returns or raises."""

    @functools.wraps(execute)
    def watched(*arguments, **named):
        before = {name: digest(value) for name, value in (*enumerate(arguments), *named.items())}
        try:
            return execute(*arguments, **named)
        finally:
            changed = [name for name, value in (*enumerate(arguments), *named.items()) if digest(value) != before[name]]
            assert changed == [], f"{execute.__qualname__} changed its input {changed}"

    return watched
