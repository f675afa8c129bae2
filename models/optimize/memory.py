"""How much is computed at once: chosen from free memory before a term first renders at a size, made smaller when memory runs out.

Whatever is chosen here changes rounding and nothing else. It is kept in checkpoints, so that a resumed run rounds alike.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
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

    def plannable(self, device: torch.device) -> float:
        """How many bytes of any device the run may plan with, those of its models that are still to be loaded aside."""


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
class Attempt:
    """One render of a step and what is done with it: what the plan must know when memory runs out."""

    key: str  # term and size
    rays: int
    seen: bool = False  # the pictures were there: it was their judge, or the way back


@dataclass(frozen=True)
class Share:
    """What was decided for one term at one size of picture."""

    ray_bytes: float = 0.0  # at the peak of a step whose graph is kept; 0: not asked yet
    singly: bool = False  # pictures are encoded one at a time in the backward pass
    chunk: int = 0  # rays with one graph; 0: as many as the plan allows

    def __post_init__(self):
        if self.chunk < 0:
            raise ValueError("memory has a chunk below 0")


@dataclass
class MemoryPlan:
    """Rays that are rendered with one graph (0: all), and how pictures are encoded: for each term at each size by itself.

    `chunk` bounds every render and stays. Without a `room` nothing is asked, and renders only shrink by running out of memory.
    """

    chunk: int = 0
    shares: dict[str, Share] = field(default_factory=dict)
    room: Room | None = None
    halved: int = 0  # how often memory ran out

    def prepare(self, key: str, rays: int, ray_bytes: Callable[[], float], singly: Callable[[], bool]) -> int:
        """The chunk for a render of `rays` rays; `key` names term and size. `ray_bytes` and `singly` are asked at the first
        render at that size (before a switch of resolution, that is), and then no more: not by a resumed run either."""
        if self.room is None:
            return self._of(key, rays)
        if not self._share(key).ray_bytes:
            self._fit(key, rays, ray_bytes(), singly)
        self.room.make(self._of(key, rays, whole=True) * self._share(key).ray_bytes)
        return self._of(key, rays)

    def singly(self, key: str) -> bool:
        """Whether this term's pictures are encoded one at a time."""
        return self._share(key).singly

    def shrink(self, error: RuntimeError, failed: Attempt | None) -> None:
        """Half the chunk of the render that failed; where its pictures were there already, they are encoded one at a time, too.

        To be called where `error` is handled; raises it when it is about something else, or when nothing is left to shrink.
        """
        if failed is None:
            raise error
        share, chunk = self._share(failed.key), self._bound(failed.key)
        encoded_less = failed.seen and not share.singly and out_of_memory(error)
        if not (encoded_less and 0 < chunk <= SMALLEST_CHUNK):
            chunk = smaller_chunk(error, chunk, failed.rays)
        self.shares[failed.key] = replace(share, singly=share.singly or failed.seen, chunk=chunk)
        self.halved += 1

    def make_room(self, failed: Attempt) -> None:
        """Let go of what nobody uses, for the render that failed. To be called when its graph is gone: where its error is still
        handled, the traceback holds it, and the run's own models would go in its place."""
        if self.room is not None:
            self.room.make(self._of(failed.key, failed.rays, whole=True) * self._share(failed.key).ray_bytes)

    def in_words(self) -> list[str]:
        """What a run says of itself that ran out of memory, since it is slower from there on."""
        return [f"memory ran out {self.halved} x: less at once since"] if self.halved else []

    def describe(self) -> dict:
        """The decisions as plain values, for a checkpoint."""
        return {"chunk": self.chunk, "halved": self.halved, "shares": [[key, asdict(share)] for key, share in sorted(self.shares.items())]}

    def restore(self, values) -> None:
        """The inverse of `describe`; ValueError in a clause when it is none."""
        told = read_config(_Described, values, "memory")
        self.chunk, self.halved, self.shares = told.chunk, told.halved, dict(told.shares)

    def _fit(self, key: str, rays: int, ray_bytes: float, singly: Callable[[], bool]) -> None:
        """Decide for a key: the largest power of two of rays that fits, if all that is wanted does not; then how to encode, when
        what nobody uses is gone."""
        share = self._share(key)
        wanted, chunk = self._of(key, rays, whole=True), share.chunk
        fitting = int(SHARE * self.room.free(wanted * ray_bytes / SHARE) / ray_bytes)
        if fitting < wanted:
            chunk = max(1 << max(fitting, 1).bit_length() - 1, SMALLEST_CHUNK)
        self.shares[key] = Share(ray_bytes, share.singly or singly(), chunk)

    def _share(self, key: str) -> Share:
        return self.shares.get(key, Share())

    def _bound(self, key: str) -> int:
        """Most rays at once: the plan's, or this key's own where that is less; 0 where neither says."""
        return min((bound for bound in (self.chunk, self._share(key).chunk) if bound), default=0)

    def _of(self, key: str, rays: int, whole: bool = False) -> int:
        """The chunk for so many rays: 0 where all of them fit in one, or with `whole` their number."""
        bound = self._bound(key)
        fits = bound == 0 or rays <= bound
        return (rays if whole else 0) if fits else bound


@dataclass(frozen=True)
class _Described:
    chunk: int
    halved: int
    shares: tuple[tuple[str, Share], ...]

    def __post_init__(self):
        if self.chunk < 0 or self.halved < 0:
            raise ValueError("memory has a chunk below 0")
