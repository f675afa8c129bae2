"""Start ComfyUI's main.py in this process after the mends and guards that the environment asks for.

`python tools/boot.py PATH/TO/main.py [flags of the host]`
"""

import os
import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import compat  # noqa: E402
import offline  # noqa: E402


def main():
    main_file = sys.argv[1]
    sys.argv = sys.argv[1:]
    if os.environ.get("BLOOM4D_OFFLINE") == "1":
        offline.install()
    if compat.needed():
        compat.apply()
    sys.path[0] = os.path.dirname(main_file)  # main.py imports its neighbours; ours must not shadow them
    runpy.run_path(main_file, run_name="__main__")


if __name__ == "__main__":
    main()
