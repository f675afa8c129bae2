"""Out of memory: what it looks like, and the smaller chunk that the same step is repeated with."""

import torch

SMALLEST_CHUNK = 256  # rays


def out_of_memory(error: RuntimeError) -> bool:
    """Whether the accelerator or the machine ran out of memory."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def smaller_chunk(error: RuntimeError, chunk: int, rays: int) -> int:
    """Half the chunk in use, of at most `rays` rays; 0 counts as all of them. To be called where `error` is handled.

    Raises `error` itself when it is about something else, or when the chunk is as small as it gets.
    """
    if not out_of_memory(error) or 0 < chunk <= SMALLEST_CHUNK:
        raise error
    return max(min(chunk or rays, rays) // 2, SMALLEST_CHUNK)
