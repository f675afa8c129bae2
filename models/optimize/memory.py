"""How much is computed at once: chosen from free memory before a term first renders at a size, made smaller when memory runs out.

Whatever is chosen here changes rounding and nothing else. It is kept in checkpoints, so that a resumed run rounds alike.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Protocol

import torch

from ..formats.configs import read_config

SMALLEST_CHUNK = 256  # rays
SHARE = 0.5  # of the free memory, for one step's graph; the rest is for networks, their activations and everybody else


class Room(Protocol):
    """The memory where the field lies, as one run may use it."""

    def free(self, wanted: float) -> float:
        """Let go of what this run does not use until `wanted` bytes are free; how many the run may plan with."""

    def make(self, required: float) -> None:
        """Have `required` bytes free, whoever must go for it."""


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


@dataclass(frozen=True)
class Share:
    """What was decided for one term at one size of picture."""

    ray_bytes: float = 0.0  # at the peak of a step whose graph is kept
    singly: bool = False  # pictures are encoded one at a time in the backward pass


@dataclass
class MemoryPlan:
    """Rays that are rendered with one graph (0: all), and how each term's pictures are encoded.

    Without a `room` nothing is asked, and `chunk` only ever shrinks by running out of memory.
    """

    chunk: int = 0
    shares: dict[str, Share] = field(default_factory=dict)
    room: Room | None = None
    halved: int = 0  # how often memory ran out

    def prepare(self, key: str, rays: int, ray_bytes: Callable[[], float], singly: Callable[[], bool]) -> int:
        """The chunk for a render of `rays` rays; `key` names term and size. `ray_bytes` and `singly` are asked at the first
        render at that size (before a switch of resolution, that is), and then no more: not by a resumed run either."""
        if self.room is None:
            return self._of(rays)
        known = self.shares.get(key)
        if known is None:
            known = self.shares[key] = Share(ray_bytes(), singly())
            self._fit(rays, known.ray_bytes)
        self.room.make(self._of(rays, whole=True) * known.ray_bytes)
        return self._of(rays)

    def singly(self, key: str) -> bool:
        """Whether this term's pictures are encoded one at a time."""
        return self.halved > 0 or self.shares.get(key, Share()).singly

    def shrink(self, error: RuntimeError, rays: int) -> None:
        """Half the chunk of at most `rays` rays, and every picture encoded for itself; raises `error` when that can not help.

        What nobody uses is let go of, too.
        """
        self.chunk = smaller_chunk(error, self.chunk, rays)
        self.halved += 1
        if self.room is not None:
            self.room.make(self.chunk * max((share.ray_bytes for share in self.shares.values()), default=0.0))

    def describe(self) -> dict:
        """The decisions as plain values, for a checkpoint."""
        return {"chunk": self.chunk, "halved": self.halved, "shares": [[key, asdict(share)] for key, share in sorted(self.shares.items())]}

    def restore(self, values) -> None:
        """The inverse of `describe`; ValueError in a clause when it is none."""
        told = read_config(_Described, values, "memory")
        self.chunk, self.halved, self.shares = told.chunk, told.halved, dict(told.shares)

    def _fit(self, rays: int, ray_bytes: float) -> None:
        """Shrink the chunk to the largest power of two that fits, if all that is wanted does not."""
        wanted = self._of(rays, whole=True)
        fitting = int(SHARE * self.room.free(wanted * ray_bytes / SHARE) / ray_bytes)
        if fitting < wanted:
            self.chunk = max(1 << max(fitting, 1).bit_length() - 1, SMALLEST_CHUNK)

    def _of(self, rays: int, whole: bool = False) -> int:
        """The chunk for so many rays: 0 where all of them fit in one, or with `whole` their number."""
        fits = self.chunk == 0 or rays <= self.chunk
        return (rays if whole else 0) if fits else self.chunk


@dataclass(frozen=True)
class _Described:
    chunk: int
    halved: int
    shares: tuple[tuple[str, Share], ...]

    def __post_init__(self):
        if self.chunk < 0 or self.halved < 0:
            raise ValueError("memory has a chunk below 0")
