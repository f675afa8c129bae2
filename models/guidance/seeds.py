"""Random numbers that depend on where they are used and on nothing else."""

import hashlib

import torch


def derive(*keys: int | str) -> int:
    """A 63-bit seed from any integers and strings, such as (seed, stage, step, term, purpose); the same on every machine."""
    text = "\x1f".join(f"{type(key).__name__}:{key}" for key in keys)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(*keys: int | str) -> torch.Generator:
    """A CPU generator for these keys. A step draws the same numbers alone, after a resume or beside other terms."""
    return torch.Generator().manual_seed(derive(*keys))
