"""Readers from npm that the tests hold our files against, installed once and kept beside the environment: `python tools/node_packages.py`.

Versions and hashes are in tests/web/package-lock.json. The tests themselves run offline; without npm they skip, or fail in CI.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LISTED = ROOT / "tests" / "web"
FOLDER = ROOT / ".comfyui" / "npm"
FILES = ("package.json", "package-lock.json")


def ready() -> bool:
    """Whether what is listed is what is installed."""
    stamp = FOLDER / "installed.json"
    return stamp.is_file() and stamp.read_bytes() == (LISTED / FILES[1]).read_bytes()


def install() -> str:
    """Install what is missing; why that was not possible, or nothing."""
    if ready():
        return ""
    npm = shutil.which("npm")
    if npm is None:
        return "there is no npm: install Node.js with it"
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copy(LISTED / name, FOLDER / name)
    done = subprocess.run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=FOLDER, capture_output=True, text=True)
    if done.returncode:
        return f"npm could not install them: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}"
    shutil.copy(LISTED / FILES[1], FOLDER / "installed.json")
    return ""


if __name__ == "__main__":
    sys.exit(install() or 0)
