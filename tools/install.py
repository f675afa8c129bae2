"""Python packages of an environment: what is missing, and pip calls that add only that. Standard library only."""

import json
import platform
import re
import shutil
import subprocess
from pathlib import Path

from setup_error import SetupError

TORCH = "torch==2.13.0"
BESIDE_TORCH = ("torchvision==0.28.0", "torchaudio==2.11.0")  # their own pins would fight over torch, hence --no-deps
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CUDA_INDEX = "https://download.pytorch.org/whl/cu130"

CHECK = """
import json, sys
from importlib.metadata import PackageNotFoundError, distribution
from pip._vendor.packaging.requirements import Requirement

def satisfied(line):
    requirement = Requirement(line)
    if requirement.marker and not requirement.marker.evaluate():
        return True
    try:
        found = distribution(requirement.name)
    except PackageNotFoundError:
        return False
    return bool(found.read_text("INSTALLER")) and requirement.specifier.contains(found.version, prereleases=True)

print(json.dumps([line for line in json.loads(sys.argv[1]) if not satisfied(line)]))
"""
INSTALLED = """
from importlib.metadata import distributions
for found in distributions():
    print(f"{found.metadata['Name']}=={found.version}")
"""


def read_requirements(path: Path) -> list[str]:
    """The requirement lines of a requirements.txt, without comments."""
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def is_torch(line: str) -> bool:
    return re.split(r"[^A-Za-z0-9_-]", line)[0].lower() in ("torch", "torchvision", "torchaudio")


def missing(python: Path, lines: list[str]) -> list[str]:
    """Which requirements an interpreter does not meet. A package that pip was killed while writing counts as missing."""
    answer = subprocess.run([python, "-c", CHECK, json.dumps(lines)], capture_output=True, text=True)
    if answer.returncode:
        raise SetupError(f"{python} cannot list its packages: {(answer.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    return json.loads(answer.stdout)


def complete(python: Path, packages: list[str], nvidia: bool, log: Path, say, check_disk):
    """Install what our own environment lacks: torch for this machine, the two packages built beside it, the rest in one go."""
    if not (lacking := missing(python, [TORCH, *BESIDE_TORCH, *packages])):
        return
    check_disk(12.0 if nvidia else 5.0)
    remove_broken(python)
    if TORCH in lacking:
        say(f"installing {TORCH} ({'CUDA' if nvidia else 'CPU'} build)")
        install_first(python, [TORCH], nvidia, log)
    if rest := [line for line in BESIDE_TORCH if line in lacking]:
        say("installing " + " and ".join(rest))
        install_first(python, rest, nvidia, log, "--no-deps")
    if set(lacking) & set(packages):
        say(f"installing {len(packages)} further requirements, a minute or more; pip's own words are in {log}")
        pip(python, [*pins(log.parent), *packages], log)


def pins(folder: Path) -> list[str]:
    """A constraints file that keeps a later pip call from moving torch."""
    file = folder / "constraints.txt"
    file.write_text("\n".join([TORCH, *BESIDE_TORCH]) + "\n", encoding="utf-8")
    return ["--constraint", str(file)]


def install_first(python: Path, lines: list[str], nvidia: bool, log: Path, *options: str):
    """Install from the first source that has a build for this machine."""
    attempts = sources(lines, nvidia, platform.system())
    for last, attempt in zip([*[False] * (len(attempts) - 1), True], attempts):
        try:
            return pip(python, [*options, *attempt], log)
        except SetupError:
            if last:
                raise


def sources(lines: list[str], nvidia: bool, system: str) -> list[list[str]]:
    """pip arguments to try in turn. On Linux the plain package is a CUDA build of several gigabytes, so CPU builds come first.

    The CUDA branch and every system but Linux are untested.
    """
    if nvidia:
        on_index = [*lines, "--extra-index-url", CUDA_INDEX]
        return [lines, on_index] if system == "Linux" else [on_index, lines]
    if system != "Linux":
        return [lines]
    cpu = [f"{line}+cpu" for line in lines]
    return [cpu, [*cpu, "--extra-index-url", CPU_INDEX, "--retries", "1"], lines]


def pip(python: Path, arguments: list[str], log: Path):
    """`pip install`, its output appended to a log; a failure becomes one line that says what to do."""
    command = [python, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, close_fds=False)  # inherits the set-up's lock
    with open(log, "a", encoding="utf-8") as output:
        output.write(f"$ {' '.join(map(str, command))}\n{result.stdout}{result.stderr}\n")
    if result.returncode:
        raise SetupError(explain(result.stdout + result.stderr, log))


def explain(output: str, log: Path) -> str:
    """The reason of a failed pip call and the way out."""
    if "No space left on device" in output or "Errno 28" in output:
        return f"the disk is full: free about 5 GB and run the same command again (pip's output: {log})."
    if found := re.search(r"No matching distribution found for (\S+)", output):
        return (f"no package index that pip uses here has {found[1]} for this Python ({platform.python_version()}, "
                f"{platform.system()} {platform.machine()}): check the network and pip's index settings, or use Python 3.10 to 3.13, "
                f"then run the same command again (pip's output: {log}).")
    errors = [line for line in output.splitlines() if line.startswith("ERROR")]
    reason = errors[-1] if errors else (output.strip().splitlines() or ["pip failed without a word"])[-1]
    return f"pip failed: {reason}\nRun the same command again to go on where it stopped (pip's output: {log})."


def remove_broken(python: Path):
    """Delete the records of packages that a killed pip left half written, so that pip installs them again.

    pip writes INSTALLER at the end of each package. Only ever called on our own environment.
    """
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    folder = Path(subprocess.run([python, "-c", where], capture_output=True, text=True, check=True).stdout.strip())
    for record in folder.glob("*.dist-info"):
        if not (record / "INSTALLER").is_file():
            shutil.rmtree(record)


def pip_without_moving_anything(python: Path, lines: list[str], log: Path):
    """Install into somebody's environment with every package that is already there pinned to its version."""
    installed = subprocess.run([python, "-c", INSTALLED], capture_output=True, text=True, check=True).stdout
    frozen = log.with_name("frozen.txt")
    frozen.write_text(installed, encoding="utf-8")
    pip(python, ["--constraint", str(frozen), *lines], log)
