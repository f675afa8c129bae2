"""Weight files that come with the pack: found, or named with folder, licence and where to get them again."""

from pathlib import Path

from . import pack

WEIGHTS = pack.PACK / "models" / "weights"
LICENCE = "Apache-2.0"


def shipped_file(name: str) -> Path:
    """The path of a weight file of ours; ValueError when it is gone: nothing is ever downloaded."""
    path = WEIGHTS / name
    if not path.is_file():
        raise ValueError(missing(name))
    return path


def missing(name: str) -> str:
    """What to do about a weight file of ours that is gone, in one line."""
    return (f"The file {name} is missing from {WEIGHTS}. It comes with Bloom4D (licence {LICENCE}): "
            f"reinstall the pack, or copy models/weights/{name} from {pack.repository()} into that folder.")
