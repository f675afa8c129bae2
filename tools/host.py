"""A ComfyUI process of our own: command line, readiness, log, end."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
PACK = TOOLS.parent


CPU_SETTINGS = {  # what the user has set wins
    "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads sleep: on a busy machine spinning ones cost a factor of ten
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),  # glibc keeps the memory of temporaries instead of faulting it in again
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
}


class HostFailed(RuntimeError):
    """The host did not start, or ended on its own."""


def free_port() -> int:
    """A loopback port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Host:
    """One running ComfyUI; use it as a context manager.

    tree: folder with main.py. log: file that receives everything the host prints. arguments: further flags of the host.
    """

    def __init__(self, tree: Path, log: Path, arguments=(), port: int | None = None, environment=None, wait: float = 180.0):
        self.tree, self.log, self.wait = Path(tree), Path(log), wait
        self.port = port or free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.address}"
        self.command = [sys.executable, str(TOOLS / "boot.py"), str(self.tree / "main.py"), "--listen", "127.0.0.1",
                        "--port", str(self.port), *map(str, arguments)]
        self.environment = {**CPU_SETTINGS, **os.environ, "PYTHONUNBUFFERED": "1", "BLOOM4D_PARENT": str(os.getpid()), **(environment or {})}
        self.process = None

    def __enter__(self):
        with open(self.log, "ab") as output:
            self.process = subprocess.Popen(self.command, cwd=self.tree, stdin=subprocess.DEVNULL, stdout=output,
                                            stderr=subprocess.STDOUT, env=self.environment, **_own_group())
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def _wait_until_ready(self):
        end = time.monotonic() + self.wait
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise HostFailed(f"ComfyUI ended with code {self.process.returncode} while starting; its log is {self.log}\n"
                                 + self.log_text()[-2000:])
            if self.answers():
                return
            time.sleep(0.1)
        raise HostFailed(f"ComfyUI did not answer within {self.wait:.0f} s; its log is {self.log}")

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + "/queue", timeout=5) as response:
                return response.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def log_text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def stop(self):
        """Ask the host to end, insist after ten seconds."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self):
        """End the host at once, as a crash would (SIGKILL)."""
        self.process.kill()
        self.process.wait()


def _own_group() -> dict:
    """A process group of its own: Ctrl-C in our terminal must reach us, who then interrupt the prompt, not the host."""
    if os.name == "nt":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def tree() -> Path:
    """The ComfyUI that the launcher chose."""
    if not os.environ.get("COMFYUI_PATH"):
        raise HostFailed("no ComfyUI was chosen: start this through `python3 launch.py`.")
    return Path(os.environ["COMFYUI_PATH"])


def data_folder() -> Path:
    """Where a host of ours keeps its models, outputs and settings; also the place for logs beside an existing ComfyUI."""
    folder = Path(os.environ.get("BLOOM4D_BASE") or PACK / ".comfyui")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def working_arguments(folder: Path) -> list:
    """Flags for a host that does a user's work. `folder` may receive a configuration file for an existing ComfyUI."""
    flags = ["--database-url", "sqlite:///:memory:", "--disable-api-nodes"]
    if os.environ.get("BLOOM4D_CPU") == "1":
        flags += ["--cpu", "--use-pytorch-cross-attention"]
    if os.environ.get("BLOOM4D_BASE"):
        return [*flags, "--base-directory", os.environ["BLOOM4D_BASE"]]
    if any(entry.resolve() == PACK for entry in (tree() / "custom_nodes").iterdir()):
        return flags
    return [*flags, "--extra-model-paths-config", also_load_this_pack(folder)]


def also_load_this_pack(folder: Path) -> Path:
    """A configuration that adds this pack to an existing ComfyUI without writing into it."""
    import environment

    environment.link_pack(folder)
    file = folder / "bloom4d_paths.yaml"
    file.write_text(f"bloom4d:\n  base_path: {json.dumps(str(folder))}\n  custom_nodes: custom_nodes\n", encoding="utf-8")
    return file


def hermetic_arguments(base: Path) -> list:
    """Flags for a host that shares nothing with another one: its own folders, a database in memory, the CPU."""
    return ["--cpu", "--base-directory", base, "--database-url", "sqlite:///:memory:", "--disable-api-nodes",
            "--use-pytorch-cross-attention"]
