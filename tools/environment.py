"""Find or build the ComfyUI and the Python that every tool runs with. Standard library only.

Two cases. An existing installation: its own Python, and nothing is ever installed into it but our requirements.txt. Otherwise
our own `.venv` and `.host`: each step looks at what is really there, does what is missing, and a stamp written last makes the
next start instant. A kill at any point leaves something that the next start completes. Linux is tested; the macOS and Windows
branches are written from documentation and untested.
"""

import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import host_archive
import install
from setup_error import SetupError

ROOT = Path(__file__).resolve().parent.parent
VENV, TREE = ROOT / ".venv", ROOT / ".host"
DATA = ROOT / ".comfyui"  # models, custom_nodes, input, output and user folders of our own host; set-up logs and stamps
PYTHON_IN_VENV = Path("Scripts/python.exe") if os.name == "nt" else Path("bin/python")

PROBE = """
import json, torch
try:
    import torchvision
    broken = False
except Exception:
    broken = True
accelerator = torch.cuda.is_available() or torch.backends.mps.is_available()
print(json.dumps({"mend": broken and torch.version.cuda is None, "cpu": not accelerator}))
"""


@dataclass(frozen=True)
class Ready:
    """python: interpreter to run tools with. tree: the ComfyUI folder. base: its base directory, None for its own one.

    mend: whether torchvision has to be made importable (tools/compat.py). cpu: whether the host needs the flag --cpu.
    """

    python: Path
    tree: Path
    base: Path | None
    mend: bool
    cpu: bool

    def variables(self) -> dict:
        """The same facts as environment variables for child processes."""
        return {
            "COMFYUI_PATH": str(self.tree),
            "BLOOM4D_BASE": str(self.base or ""),
            "BLOOM4D_TORCHVISION_MEND": "1" if self.mend else "0",
            "BLOOM4D_CPU": "1" if self.cpu else "0",
        }


def prepare(comfyui: str | None = None, python: str | None = None, extras=()) -> Ready:
    """The environment for a command, built or completed where needed. extras: names of pyproject's optional groups."""
    tree = find_existing(comfyui)
    if tree is not None:
        return prepare_existing(tree, python)
    with _lock():
        return prepare_own(extras)


# ---- an existing installation


def find_existing(comfyui: str | None = None, start: Path | None = None) -> Path | None:
    """The ComfyUI named by the argument or COMFYUI_PATH, or the one whose custom_nodes contain us (links included)."""
    named = comfyui or os.environ.get("COMFYUI_PATH")
    if named:
        tree = Path(named).expanduser().absolute()
        if not (tree / "main.py").is_file() or not (tree / "comfy").is_dir():
            raise SetupError(f"{tree} is not a ComfyUI folder (no main.py and comfy/ in it): give the folder that contains main.py.")
        return tree
    for path in (start or logical_folder(), ROOT):
        for parent in path.parents:
            if parent.name == "custom_nodes" and (parent.parent / "main.py").is_file():
                return parent.parent
    return None


def logical_folder() -> Path:
    """The folder of launch.py as it was typed: inside a linked folder the shell knows the link, the system only its target."""
    here = os.environ.get("PWD", "")
    if not here or not os.path.isdir(here) or not os.path.samefile(here, os.getcwd()):
        here = os.getcwd()
    return Path(os.path.normpath(os.path.join(here, sys.argv[0]))).parent


def candidates(tree: Path) -> list[Path]:
    """Interpreters that usually belong to a ComfyUI folder, most specific first."""
    places = [tree / ".venv", tree / "venv", tree.parent / ".venv", tree.parent / "venv"]
    found = [place / PYTHON_IN_VENV for place in places]
    found.append(tree.parent / "python_embeded" / "python.exe")  # the portable Windows build spells it so
    if os.environ.get("VIRTUAL_ENV"):
        found.append(Path(os.environ["VIRTUAL_ENV"]) / PYTHON_IN_VENV)
    return [*(path for path in found if path.is_file()), Path(sys.executable)]


def python_of(tree: Path, given: str | None = None) -> Path:
    """The interpreter that runs an existing ComfyUI: the first that finds torch and aiohttp."""
    looks = "import importlib.util as u, sys; sys.exit(0 if u.find_spec('torch') and u.find_spec('aiohttp') else 1)"
    for path in [Path(given)] if given else candidates(tree):
        if subprocess.run([path, "-c", looks], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
            return path
    raise SetupError(f"no Python with torch and aiohttp was found for the ComfyUI at {tree}: activate its environment first, "
                     "or name its interpreter with --python PATH.")


def prepare_existing(tree: Path, given: str | None) -> Ready:
    python = python_of(tree, given)
    ours = install.read_requirements(ROOT / "requirements.txt")
    missing = install.missing(python, ours)
    if missing:
        print(f"Installing into {python}: {', '.join(missing)} (from our requirements.txt; nothing else is touched).", flush=True)
        DATA.mkdir(exist_ok=True)
        install.pip_without_moving_anything(python, missing, DATA / "setup.log")
    facts = probe(python)
    return Ready(python, tree, None, facts["mend"], facts["cpu"])


# ---- our own environment


ONLY_FASTER = ("fast",)
"""Optional groups without which everything runs, so that a machine for which they have no build is set up all the same."""


def prepare_own(extras=()) -> Ready:
    python = VENV / PYTHON_IN_VENV
    wanted = fingerprint(extras)
    stamp = read_stamp(wanted)
    if stamp is None:
        build_own(python, extras)
        stamp = {**probe(python), "wanted": wanted, "made": creation_mark()}
        write_stamp(stamp)
    link_pack(DATA)
    return Ready(python, TREE, DATA, stamp["mend"], stamp["cpu"])


def build_own(python: Path, extras):
    """Every step of a first set-up, in the order in which it is most likely to fail."""
    log = DATA / "setup.log"
    make_venv(python)
    if not (TREE / "main.py").is_file():
        check_disk(1.0)
        say("fetching ComfyUI " + host_archive.COMFYUI)
        host_archive.fetch(python, TREE, DATA / "download", log)
    host_archive.check_version(TREE)
    packages = [*install.read_requirements(TREE / "requirements.txt"), *install.read_requirements(ROOT / "requirements.txt"),
                *(name for extra in extras if extra not in ONLY_FASTER for name in read_extra(extra))]
    install.complete(python, [line for line in packages if not install.is_torch(line)], has_nvidia(), log, say, check_disk)
    for line in (name for extra in extras if extra in ONLY_FASTER for name in read_extra(extra)):
        add_if_possible(python, line, log)


def add_if_possible(python: Path, line: str, log: Path):
    """Install a package that only makes things faster; why it can't be is said, and all goes on."""
    try:
        install.complete(python, [line], has_nvidia(), log, say, check_disk)
    except SetupError as error:
        say(f"going on without {line}, which only makes things faster: {str(error).splitlines()[0]}")


def make_venv(python: Path):
    if python.exists() and subprocess.run([python, "-c", "import pip"], stderr=subprocess.DEVNULL).returncode == 0:
        return
    check_disk(0.5)
    say(f"making {VENV}")
    made = subprocess.run([sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True, close_fds=False)
    if made.returncode:
        hint = "on Debian and Ubuntu `apt install python3-venv`" if platform.system() == "Linux" else "reinstall Python with venv"
        raise SetupError(f"Python cannot make a virtual environment in {VENV}: {hint}, then run the same command again.\n"
                         + (made.stdout + made.stderr).strip())


def read_extra(name: str) -> list[str]:
    """One optional group of pyproject.toml; read by hand because Python 3.10 has no TOML reader."""
    for line in (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(" = ")
        if key == name and value.startswith("["):
            return json.loads(value)
    raise KeyError(name)


def has_nvidia() -> bool:
    """Whether an NVIDIA driver answers on this machine."""
    try:
        return subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def check_disk(gigabytes: float):
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < gigabytes:
        raise SetupError(f"{ROOT} has {free:.1f} GB free and this step needs about {gigabytes:.1f} GB: free some space "
                         "(or move this folder to a larger disk), then run the same command again.")


def probe(python: Path) -> dict:
    """{"mend", "cpu"} of an interpreter, found in a child process."""
    answer = subprocess.run([python, "-c", PROBE], capture_output=True, text=True)
    if answer.returncode:
        raise SetupError(f"torch cannot be imported by {python}: {answer.stderr.strip().splitlines()[-1]}\n"
                         "Delete .venv and run the same command again, or repair that installation.")
    return json.loads(answer.stdout.splitlines()[-1])


def link_pack(base: Path):
    """Make `base`/custom_nodes contain this pack, as a link (a junction on Windows, which needs no special right)."""
    link = base / "custom_nodes" / "bloom4d"
    if link.exists() and os.path.samefile(link, ROOT):
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink():
        link.unlink()
    if os.name == "nt":
        import _winapi

        _winapi.CreateJunction(str(ROOT), str(link))
    else:
        link.symlink_to(ROOT, target_is_directory=True)


# ---- stamps


def fingerprint(extras) -> str:
    """A hash of everything that set-up depends on."""
    files = [ROOT / "requirements.txt", ROOT / "pyproject.toml", ROOT / "tools" / "install.py", ROOT / "tools" / "host_archive.py"]
    text = "\0".join(path.read_text(encoding="utf-8") for path in files)
    return hashlib.sha256(f"{text}\0{sorted(extras)}\0{has_nvidia()}\0{ROOT}".encode()).hexdigest()


def creation_mark() -> list:
    """Changes when .venv or .host was replaced."""
    return [str((VENV / "pyvenv.cfg").stat().st_mtime_ns), str((TREE / "main.py").stat().st_mtime_ns)]


def stamp_file(wanted: str) -> Path:
    return DATA / f"ready-{wanted[:16]}.json"


def read_stamp(wanted: str) -> dict | None:
    with contextlib.suppress(OSError, ValueError, KeyError):
        stamp = json.loads(stamp_file(wanted).read_text(encoding="utf-8"))
        if stamp["wanted"] == wanted and stamp["made"] == creation_mark():
            return stamp
    return None


def write_stamp(stamp: dict):
    target = stamp_file(stamp["wanted"])
    partial = target.with_suffix(".partial")
    partial.write_text(json.dumps(stamp), encoding="utf-8")
    partial.replace(target)


def say(line: str):
    print(f"[set-up] {line}", flush=True)


@contextlib.contextmanager
def _lock():
    """Only one set-up at a time; the system drops the lock when its last owner ends.

    pip's processes inherit it (`close_fds=False`): when the launcher alone is killed, the next one waits for the pip that still runs.
    """
    DATA.mkdir(exist_ok=True)
    with open(DATA / "setup.lock", "w") as file:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
        else:
            _wait_for(file)
        yield


def _wait_for(file):
    import fcntl

    os.set_inheritable(file.fileno(), True)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("waiting for another set-up in this folder")
        fcntl.flock(file, fcntl.LOCK_EX)
