"""What the pack says about itself in `pyproject.toml`, the only place that states it."""

import re
from pathlib import Path

PACK = Path(__file__).resolve().parent.parent.parent


def version() -> str:
    return _stated("version")


def repository() -> str:
    """Where the pack and the files that it ships are published."""
    return _stated("Repository")


def _stated(name: str) -> str:
    text = (PACK / "pyproject.toml").read_text(encoding="utf-8")
    return re.search(rf'^{name} = "(.+)"$', text, re.MULTILINE)[1]
