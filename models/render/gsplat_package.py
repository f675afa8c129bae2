"""What can be known of an installed gsplat without importing it, and its import where that compiles nothing.

A gsplat from PyPI is source code that its first import compiles with nvcc, for minutes, or fails. Here it is imported only with a
compiled module at hand: the one inside the package (the project's own wheels), or the one that an earlier build left in PyTorch's
folder for extensions.
"""

import functools
import importlib
import importlib.machinery
import importlib.util
import os
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType

import torch

MAX_ALPHA, MAX_ALPHA_FROM_1_6 = 0.999, 0.99
COMPILED, BUILT = "gsplat.csrc", "gsplat_cuda"  # the name that the package imports, and the one that its own build gives
ENDINGS = tuple(importlib.machinery.EXTENSION_SUFFIXES)


@functools.cache
def installed_version() -> tuple[int, ...] | None:
    """The version's leading numbers; None without the package."""
    try:
        text = metadata.version("gsplat")
    except metadata.PackageNotFoundError:
        return None
    numbers = []
    for part in text.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def installed_max_alpha() -> float:
    """The largest alpha of one Gaussian that the installed gsplat was compiled with; that of 1.5 without the package."""
    version = installed_version()
    return MAX_ALPHA_FROM_1_6 if version is not None and version >= (1, 6) else MAX_ALPHA


def load() -> ModuleType:
    """The package, imported; RuntimeError when its compiled module is not there, ImportError when that does not fit."""
    if "gsplat" not in sys.modules and not _has_module() and COMPILED not in sys.modules:
        built = _built_earlier()
        if built is None:
            raise RuntimeError(
                "gsplat is installed without its compiled CUDA module. Install one of the project's wheels, or build it once with: "
                'python -c "from gsplat.cuda._backend import _C"'
            )
        sys.modules[COMPILED] = _read(built)  # the package takes it for its own and looks no further
    return importlib.import_module("gsplat")


def _has_module() -> bool:
    """Whether the package holds its compiled module; looks at its folder and imports nothing."""
    found = importlib.util.find_spec("gsplat")
    folders = found.submodule_search_locations or () if found else ()
    return any(path.name.endswith(ENDINGS) for folder in folders for path in Path(folder).glob("csrc.*"))


def _built_earlier() -> Path | None:
    """The module that the package's own build left for this Python and this PyTorch."""
    from torch.utils.cpp_extension import get_default_build_root

    root = os.environ.get("TORCH_EXTENSIONS_DIR")
    toolkit = "cpu" if torch.version.cuda is None else "cu" + torch.version.cuda.replace(".", "")
    python = f"py{sys.version_info.major}{sys.version_info.minor}{getattr(sys, 'abiflags', '')}"
    folder = Path(root) if root else Path(get_default_build_root()) / f"{python}_{toolkit}"
    names = (folder / BUILT / f"{BUILT}{ending}" for ending in (".so", ".pyd"))
    return next((path for path in names if path.is_file()), None)


def _read(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(BUILT, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
