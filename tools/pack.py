"""Load the repository root as the package `bloom4d`, whatever its folder is called."""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def load_pack():
    """Return the package `bloom4d`; `import bloom4d.models...` works afterwards."""
    if "bloom4d" not in sys.modules:
        spec = importlib.util.spec_from_file_location("bloom4d", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
        module = importlib.util.module_from_spec(spec)
        sys.modules["bloom4d"] = module
        spec.loader.exec_module(module)
    return sys.modules["bloom4d"]
