"""Hosts with the pack that breaks them: prompts that differ, faults to arm, what is left behind."""

import os
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import demo_workflows as demo
import real_host

ROOT = Path(__file__).resolve().parent.parent.parent
TEXTS = ("a red rose blooming", "a yellow banana rotting", "a purple pillar candle burning", "a golden loaf of bread baking", "a basil plant sprouting")
SIZES = (16, 24, 8)
STAGE = demo.STAGES[0]


def prepare(base: Path) -> Path:
    """A base directory of a host that also has the fault pack."""
    real_host.prepare_base(base, ROOT)
    (base / "custom_nodes" / "fault_pack").symlink_to(Path(__file__).parent / "fault_pack")
    return base


def varied(number: int) -> dict:
    """Text to 4D at smoke size: with another number another text, other seeds and other sizes."""
    size = SIZES[number % len(SIZES)]
    guidance = {title: {"width": size, "height": size} for title in ("Multi-view, one instant", "Video", "Image")}
    seeds = {title: {"seed": 100 + number} for title in ("Field", *demo.STAGES)}
    return demo.smoke("text_to_4d_demo", Prompt={"text": TEXTS[number % len(TEXTS)]}, Render={"width": 2 * size, "height": 32}, **guidance, **seeds)


def arm(server, *faults: dict) -> None:
    """Replace the faults that wait in a host; none disarms it."""
    status, _ = server.post("/test/faults", {"faults": list(faults)})
    assert status == 200


def free(server) -> None:
    """POST /free until the host has done it: it reads the flags between prompts, and misses those that come while it tidies up."""
    for _ in range(120):
        server.post("/free", {"unload_models": True, "free_memory": True})
        time.sleep(0.5)
        if "Scene" not in server.get("/test/objects")["objects"]:
            return
    raise AssertionError("the host keeps its results")


def short(seed: int, *titles: str, steps: int = 4, **changes) -> dict:
    """One optimiser, with a checkpoint after every step, and what hangs on it: the saved field, or the nodes `titles`."""
    every_step = {"steps": steps, "checkpoint_interval": 0.01, "seed": seed}
    prompt = demo.smoke("text_to_4d_demo", Polish=every_step, **{STAGE: every_step}, **changes)
    stage = demo.titled(prompt, STAGE)
    for node in prompt.values():  # everything behind the polish hangs on the first stage; the polish too
        links = {name: [stage, 0] for name, value in node["inputs"].items() if value in ([demo.titled(prompt, "Polish"), 0], [demo.titled(prompt, demo.STAGES[2]), 0])}
        node["inputs"].update(links)
    return demo.only(prompt, *(titles or ("Save field",)))


def polished(seed: int, steps: int = 4) -> dict:
    """The polish of an untouched field, and the saved field."""
    prompt = demo.smoke("text_to_4d_demo", Polish={"steps": steps, "checkpoint_interval": 0.01, "seed": seed})
    prompt[demo.titled(prompt, "Polish")]["inputs"]["field"] = [demo.titled(prompt, "Field"), 0]
    return demo.only(prompt, "Save field")


def stop_at(prompt: dict, title: str, step: int, then):
    """A watcher of events that calls `then(prompt_id, connection)` once, when the node has reported this step."""
    asked = []

    async def watch(event, prompt_id, connection):
        if event.kind == "progress_state" and not asked and event.data["nodes"].get(demo.titled(prompt, title), {}).get("value", 0) >= step:
            asked.append(step)
            await then(prompt_id, connection)

    return watch


async def interrupt(prompt_id, connection):
    await connection.interrupt(prompt_id)


def first_line(run) -> str:
    """What a user reads first about a failed run."""
    return run.error["exception_message"].splitlines()[0]


def unfinished(output: Path) -> list[str]:
    """Temporary files below the output folder."""
    return sorted(path.name for path in output.rglob("*") if ".tmp" in path.name)


class SmallDisk:
    """A file system of its own in memory, as the output folder; OSError where this process may not mount one."""

    def __init__(self, folder: Path, size: int = 1 << 30):
        self.folder, self.size = folder, size
        folder.mkdir(parents=True)
        self._mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))

    def close(self) -> None:
        """Unmount it."""
        subprocess.run(["umount", "-l", self.folder], check=True)

    @contextmanager
    def full(self, left: int):
        """Only `left` bytes are free."""
        state = os.statvfs(self.folder)
        used = (state.f_blocks - state.f_bfree) * state.f_frsize
        self._resize(used + left)
        try:
            yield
        finally:
            self._resize(self.size)

    @contextmanager
    def readonly(self):
        """Nothing can be written through the folder's name: a second, read-only mount lies over the first."""
        self._mount("--bind", str(self.folder), str(self.folder))
        try:
            self._mount("-o", "remount,bind,ro", str(self.folder))
            yield
        finally:
            self.close()

    def _resize(self, size: int) -> None:
        self._mount("-o", f"remount,size={max(size, 4096)}", str(self.folder))

    @staticmethod
    def _mount(*words: str) -> None:
        done = subprocess.run(["mount", *words], capture_output=True, text=True)
        if done.returncode:
            raise OSError(done.stderr.strip())
