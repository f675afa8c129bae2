"""Start ComfyUI's main.py in this process after the mends and guards that the environment asks for.

`python tools/boot.py PATH/TO/main.py [flags of the host]`
"""

import os
import runpy
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import compat  # noqa: E402
import offline  # noqa: E402


def end_with(parent: int):
    """End this process soon after `parent` is gone: a killed launcher must not leave a host behind that nobody can reach."""
    def watch():
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    if os.name != "nt":  # Windows keeps reporting the number of a parent that has ended
        threading.Thread(target=watch, daemon=True).start()


class Without:
    """A module finder that does not find some packages: how the host looks without what we only recommend."""

    def __init__(self, finder, names):
        self.finder, self.names = finder, frozenset(names)

    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in self.names else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)


def main():
    if os.environ.get("BLOOM4D_PARENT"):
        end_with(int(os.environ["BLOOM4D_PARENT"]))
    main_file = sys.argv[1]
    sys.argv = sys.argv[1:]
    if os.environ.get("BLOOM4D_OFFLINE") == "1":
        offline.install()
    if compat.needed():
        compat.apply()
    if os.environ.get("BLOOM4D_HIDE"):
        names = os.environ["BLOOM4D_HIDE"].split(",")
        sys.meta_path[:] = [Without(finder, names) for finder in sys.meta_path]
    sys.path[0] = os.path.dirname(main_file)  # main.py imports its neighbours; ours must not shadow them
    runpy.run_path(main_file, run_name="__main__")


if __name__ == "__main__":
    main()
