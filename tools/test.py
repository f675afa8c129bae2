"""Run the tests. --fast leaves out those that start ComfyUI or a browser. Further arguments go to pytest."""

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import node_packages

ROOT = Path(__file__).resolve().parent.parent
FAST = ("tests/maths", "tests/nodes", "tests/guards")


def arguments():
    parser = argparse.ArgumentParser(prog="launch.py test", description=__doc__)
    parser.add_argument("--fast", action="store_true", help="only tests/maths, tests/nodes and tests/guards")
    return parser.parse_known_args()


def main() -> int:
    options, rest = arguments()
    if importlib.util.find_spec("pytest") is None:  # we never install anything but requirements.txt into a ComfyUI that is not ours
        print(f"pytest is not installed for {sys.executable}: run the tests from a checkout outside custom_nodes, which prepares its own "
              f"environment, or install it yourself (pip install pytest playwright hypothesis plyfile axe-playwright-python accelerate).", file=sys.stderr)
        return 1
    paths = [] if any(not word.startswith("-") for word in rest) else list(FAST) if options.fast else ["tests"]
    node = shutil.which("node")
    if not options.fast and node:
        if reason := node_packages.install():
            print(f"Tests with other people's readers will be skipped: {reason}", file=sys.stderr)
        scripts = sorted(str(path) for path in (ROOT / "tests" / "web").glob("*.test.mjs"))
        if scripts and subprocess.run([node, "--test", *scripts], cwd=ROOT).returncode:
            return 1
    # one thread per operation: sums in another order would change the last bits that some tests compare
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=15", *paths, *rest]
    return subprocess.run(command, cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
