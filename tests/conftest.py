"""Everything tests share: the pack as the package `bloom4d`, the host's modules in process, no network but loopback."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import pack  # noqa: E402

pack.load_pack()


def host_folder() -> Path | None:
    """The ComfyUI tree under test: COMFYUI_PATH, or the one the launcher prepared."""
    folder = Path(os.environ.get("COMFYUI_PATH", ROOT / ".host"))
    return folder if (folder / "main.py").is_file() else None


@pytest.fixture(scope="session")
def comfy():
    """The host's modules imported in this process, on the CPU; skips when there is no host."""
    folder = host_folder()
    if folder is None:
        pytest.skip("no ComfyUI: set COMFYUI_PATH or run `python3 launch.py test` once")
    import compat

    sys.argv = [sys.argv[0], "--cpu", "--use-pytorch-cross-attention"]
    compat.apply()
    sys.path.insert(0, str(folder))
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.model_management
    import comfy.sd  # noqa: F401

    return sys.modules["comfy"]
