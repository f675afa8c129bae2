"""Which Bloom4D this is: its version and a hash of what runs. Standard library only."""

import hashlib
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("models", "nodes", "tools")
ENDINGS = (".py", ".safetensors")


def pack_version() -> str:
    """The version in pyproject.toml, the only place that states it."""
    return re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)[1]


def source_hash(root: Path = ROOT) -> str:
    """Twelve digits that change with any line of our code and any weight file: two checkouts with equal ones give equal results."""
    digest = hashlib.sha256()
    for path in sorted(path for folder in FOLDERS for path in (root / folder).rglob("*") if path.suffix in ENDINGS):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def label() -> str:
    """Both in one word, such as 0.1.0-1f2e3d4c5b6a."""
    return f"{pack_version()}-{source_hash()}"
