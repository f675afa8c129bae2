"""Training on one core, several GPUs or several machines through Accelerate; the only file that imports it."""

from __future__ import annotations


def accelerator(precision: str = "bf16"):
    """An `accelerate.Accelerator`: "bf16" mixed precision by default, on whatever `accelerate launch` or the environment says.

    Raises ValueError when the optional package is missing.
    """
    try:
        from accelerate import Accelerator
    except ImportError as missing:
        raise ValueError("Training needs the package accelerate, which is not installed. Run it through `python3 launch.py train`, or install bloom4d[train].") from missing
    return Accelerator(mixed_precision=precision)
