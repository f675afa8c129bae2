"""A small viewer file and, by NumPy alone, what it holds: `python tests/web/write_viewer_fixture.py` after a change of the format.

The browser's reader is tested on both (viewer_file.test.mjs), and a Python test says that the writer still gives these bytes.
"""

import json
import sys
from pathlib import Path

import numpy

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))

FOLDER = Path(__file__).with_name("fixtures")
FRAMES, COUNT = 3, 5


def values() -> dict[str, numpy.ndarray]:
    """Attributes of an odd number of Gaussians; scales and colours stand still."""
    random = numpy.random.Generator(numpy.random.PCG64(8))
    turns = random.normal(size=(FRAMES, COUNT, 4))
    return {
        "positions": random.uniform(-1, 1, (FRAMES, COUNT, 3)).astype(numpy.float32),
        "rotations": (turns / numpy.linalg.norm(turns, axis=-1, keepdims=True)).astype(numpy.float32),
        "scales": numpy.exp(random.uniform(-6, 0, (1, COUNT, 3))).astype(numpy.float32),
        "opacities": random.uniform(0, 1, (1, COUNT)).astype(numpy.float32),
        "colours": random.uniform(0, 1, (1, COUNT, 3)).astype(numpy.float32),
        "times": numpy.linspace(0, 1, FRAMES, dtype=numpy.float32),
    }


def packed() -> bytes:
    import pack

    pack.load_pack()
    import torch
    from bloom4d.models.formats.viewer_file import ViewerSequence, pack_viewer_file

    return pack_viewer_file(ViewerSequence(**{name: torch.from_numpy(value) for name, value in values().items()}, fps=12, metadata={"note": "<b>text</b>"}))


def main() -> None:
    (FOLDER / "small_viewer.safetensors").write_bytes(packed())
    held = {name: numpy.round(value.astype(float), 7).ravel().tolist() for name, value in values().items()}
    (FOLDER / "small_viewer.json").write_text(json.dumps({"frames": FRAMES, "count": COUNT, "fps": 12, **held}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
