"""What the benchmarks share: the pack, alternating measurements in one process, memory kept by autograd, one JSON line per case."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

import pack  # noqa: E402

pack.load_pack()

from bloom4d.models.render.graph_memory import kept_bytes  # noqa: E402, F401

FAILED = []


def alternate(cases: dict[str, Callable[[], object]], rounds: int = 7) -> dict[str, float]:
    """Least milliseconds of processor time of each case, measured in turns so that other work on the machine hits all alike."""
    least = dict.fromkeys(cases, float("inf"))
    for _ in range(rounds + 1):  # the first round warms up, and counts only if it is the fastest
        for name, case in cases.items():
            start = time.process_time()
            case()
            least[name] = min(least[name], (time.process_time() - start) * 1e3)
    return least


def relative_error(value: torch.Tensor, expected: torch.Tensor) -> float:
    """Norm of the difference over the norm of the expectation."""
    value, expected = value.detach().double(), expected.detach().double()
    return float((value - expected).norm() / expected.norm().clamp_min(1e-30))


def report(case: str, error: float, tolerance: float, **numbers) -> None:
    """Print one JSON line; a case whose error is too large makes `finish` fail."""
    equal = error <= tolerance
    rounded = {name: round(value, 4 if abs(value) < 1 else 2) if isinstance(value, float) else value for name, value in numbers.items()}
    print(json.dumps({"case": case, **rounded, "error": float(f"{error:.2g}"), "equal": equal}), flush=True)
    if not equal:
        FAILED.append(case)


def finish() -> None:
    """Exit with an error when any case was not equal to its reference."""
    if FAILED:
        raise SystemExit(f"not equal to the reference: {', '.join(FAILED)}")
