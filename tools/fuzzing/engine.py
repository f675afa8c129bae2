"""Feeding generated cases to a reader and judging how it takes them. The generator is Hypothesis.

A case that breaks a rule is reduced to a small one and raised as `Broken`, with the reader, the rule and the seed.
"""

import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis.strategies import SearchStrategy

LONGEST_LINE = 300
SPARE_BYTES = 1 << 30  # what reading a file of a few megabytes may take; a file that only claims to be large gets no more
HANGS_AFTER = 60  # seconds; finds endless loops, says nothing about speed
RAW = re.compile(
    r"""^'[^']*'$|^"[^"]*"$|object has no attribute|not subscriptable|unexpected keyword|missing \d+ required|out of range$|unhashable|invalid literal"""
    r"""|could not convert|not iterable|positional argument|codec can't|not supported between|indices must be|unpack|^Expecting |in state_dict"""
)


@dataclass(frozen=True)
class Reader:
    """Something that reads. `read` returns a word for how a case was taken; `refusals`: what else it may raise.

    `names` gives the words of which a refusal's first line must hold one: what was given.
    """

    name: str
    cases: SearchStrategy
    read: Callable[[object], str]
    refusals: tuple[type, ...] = (ValueError,)
    names: Callable[[object], tuple[str, ...]] = lambda case: ()


class Broken(AssertionError):
    """A reader broke a rule."""


class Hang(BaseException):
    """A case took so long that it will not end; not an Exception, so that nobody catches it on the way."""


def fuzz(reader: Reader, cases: int, seed: int) -> Counter:
    """How `cases` generated cases ended: {"read": n, "refused: first words": n}; `Broken` at the first that breaks a rule."""
    ends = Counter()

    @seeded(seed)
    @settings(max_examples=cases, database=None, deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.generate, Phase.shrink), print_blob=False)
    @given(reader.cases)
    def check(case):
        ends[end_of(reader, case, seed)] += 1

    check()
    return ends


def end_of(reader: Reader, case, seed: int = 0) -> str:
    """How one case ended; `Broken` when a rule is."""
    try:
        with watched(), limited_memory():
            return reader.read(case)
    except reader.refusals as refusal:
        if type(refusal) not in reader.refusals:
            raise Broken(report(reader, case, seed, f"raised {type(refusal).__name__}, which is no refusal: {refusal}")) from refusal
        line = (str(refusal).strip().splitlines() or [""])[0]
        if problem := problem_of(line, reader.names(case)):
            raise Broken(report(reader, case, seed, f"refused with a first line that {problem}: {line[:LONGEST_LINE]!r}")) from refusal
        return f"refused: {pattern(line)}"
    except (Exception, Hang) as error:
        raise Broken(report(reader, case, seed, f"raised {type(error).__name__}: {str(error)[:LONGEST_LINE]}")) from error


def report(reader: Reader, case, seed: int, problem: str) -> str:
    return f"{reader.name} {problem}\n  case: {str(case)[:2000]}\n  replay: python tools/fuzz.py --reader {reader.name} --seed {seed}"


def problem_of(line: str, names: tuple[str, ...] = ()) -> str:
    """What is wrong with the first line of a refusal; empty when it stands alone."""
    if len(line) < 10:
        return "says nothing"
    if len(line) > LONGEST_LINE:
        return f"is {len(line)} characters long"
    if RAW.search(line):
        return "is raw Python"
    return "" if not names or any(name in line for name in names) else f"does not name {' or '.join(names)}"


def pattern(line: str) -> str:
    """A first line without what differs from case to case: the same refusal counts as one."""
    return re.sub(r"\d+", "0", re.sub(r'"[^"]*"', '""', re.sub(r"\"?\S+\.(safetensors|json)\b\"?", "FILE", line)))[:80]


@contextmanager
def watched():
    """`Hang` inside the block when it does not end; only in the main thread of systems with alarms."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(*_):
        raise Hang(f"no end after {HANGS_AFTER} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, HANGS_AFTER)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def limited_memory():
    """Address space for `SPARE_BYTES` more than is in use now, so that believing a claimed size fails; Linux only."""
    if sys.platform != "linux":
        yield
        return
    import resource

    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
