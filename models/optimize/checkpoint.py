"""Checkpoints of a run: written whole or not at all, found again after any kill, two kept.

A run's folder holds step_NNNNNNNN.safetensors (tensors) and the same name with .json (everything else, and the hash of the
first), `latest` (the newest name) and `lock`. Each file is written under a temporary name, flushed to the disk and renamed;
the .json comes second, so a pair without it was never finished.
"""

import json
import os
import re
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import safetensors
from torch import Tensor

from ..formats.configs import LARGEST, read_json, shown
from ..formats.hashes import sha256_of
from ..formats.tensors import read_tensors
from ..formats.writing import write_bytes, write_tensors

FORMAT, VERSION = "bloom4d.checkpoint", 1
KEPT = 2
FINISHED_KEPT = 48  # runs of an output folder whose checkpoints stay after their end: a dozen prompts of four optimisers
SPARE_BYTES = 16 << 20  # left free on the disk, for the host's own small files


@dataclass(frozen=True)
class Checkpoint:
    """A step's tensors and plain values."""

    step: int
    tensors: dict[str, Tensor]
    values: dict
    path: Path


def read_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint whose .safetensors file is `path`; ValueError when it is damaged, unfinished or something else."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f'There is no checkpoint "{path}". Give the path of a step_*.safetensors file of a run.')
    values = _read_values(path)
    if sha256_of(path) != values["sha256"]:
        raise ValueError(f'The checkpoint "{path.name}" is damaged: its content does not match the hash written beside it. Use an older one of its folder.')
    try:
        return Checkpoint(values["step"], read_tensors(path)[0], values, path)
    except ValueError as error:
        raise ValueError(f"The checkpoint {error}. Use an older one of its folder.") from None


def _read_values(path: Path) -> dict:
    sidecar = path.with_suffix(".json")
    try:
        values = read_json(sidecar.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ValueError(f'"{path.name}" is no finished Bloom4D checkpoint: {sidecar.name} is missing or unreadable beside it.') from None
    step = values.get("step") if isinstance(values, dict) else None
    if type(step) is not int or not 0 <= step < LARGEST or values.get("format") != FORMAT or "sha256" not in values:
        raise ValueError(f'"{path.name}" is no Bloom4D checkpoint: {sidecar.name} beside it describes something else.')
    if values.get("version") != VERSION:
        raise ValueError(f'"{path.name}" has checkpoint version {shown(values.get("version"))}, this pack reads {VERSION}. Use the pack that wrote it.')
    return values


def drop_finished(root: Path, kept: int = FINISHED_KEPT) -> None:
    """Remove the folders below `root` of all runs that reached their last step, but the newest `kept`.

    What is left of them is a shortcut: queueing such a graph again computes the same bytes. Unfinished runs stay.
    """
    finished = sorted((time, file) for file in root.rglob("latest") if (time := _finished_at(file)) is not None)
    for _, file in finished[: max(len(finished) - kept, 0)]:
        with suppress(OSError):  # another ComfyUI on this output folder may be sweeping too
            CheckpointStore(file.parent).remove()


def _finished_at(latest: Path) -> int | None:
    """When the run's last step was written, in nanoseconds; None of an unfinished or unreadable run."""
    try:
        values = read_json(latest.with_name(latest.read_text().strip()).with_suffix(".json").read_text())
        return latest.stat().st_mtime_ns if values["step"] >= values["steps"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


class CheckpointStore:
    """The checkpoints of one run in one folder."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    def write(self, step: int, tensors: dict[str, Tensor], values: dict) -> Path:
        """Add a checkpoint and drop all but the newest two; OSError in plain words when the disk does not take it."""
        path = self.folder / f"step_{step:08d}.safetensors"
        needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        try:
            try:
                self._put(path, tensors, values | {"step": step}, needed)
            except FileNotFoundError:  # someone deleted the folder in the middle of it
                self._put(path, tensors, values | {"step": step}, needed)
        except (OSError, safetensors.SafetensorError) as error:
            raise OSError(
                f"The checkpoint of step {step} could not be written to {self.folder} ({needed / 2**20:.1f} MiB: {error}). "
                "Free some disk space and queue the same graph: it goes on from the last checkpoint, which is intact."
            ) from error
        self._drop_old(path)
        return path

    def _put(self, path: Path, tensors: dict[str, Tensor], values: dict, needed: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self.folder).free < needed + SPARE_BYTES:
            raise OSError("not enough free space")
        document = {"format": FORMAT, "version": VERSION, **values, "sha256": write_tensors(path, tensors)}
        write_bytes(path.with_suffix(".json"), json.dumps(document, indent=1, sort_keys=True).encode())
        write_bytes(self.folder / "latest", path.name.encode())

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole; damaged and unfinished ones are passed over. None when there is none."""
        for path in self._newest_first():
            try:
                return read_checkpoint(path)
            except ValueError:
                continue
        return None

    def clear(self) -> None:
        """Remove every checkpoint of the run."""
        for path in self._files():
            path.unlink(missing_ok=True)

    @contextmanager
    def lock(self):
        """Hold the run for this process; ValueError while another one works on it, OSError in plain words where nothing can be
        written. A killed process leaves nothing held."""
        with self._held() as held:
            if not held:
                raise ValueError(
                    f"Another process is working on this very run ({self.folder}). Wait for it, or change the file name prefix or the seed."
                )
            for leftover in self.folder.glob("*.tmp"):
                leftover.unlink(missing_ok=True)
            yield self

    def remove(self) -> None:
        """Delete the run's folder, unless a process works on it."""
        with self._held() as held:
            if held:
                self.clear()
                (self.folder / "lock").unlink(missing_ok=True)
                self.folder.rmdir()

    @contextmanager
    def _held(self):
        """Whether the lock could be taken; kept inside the `with`."""
        while True:
            with self._lock_file() as file:
                held = hold(file)
                if held and not _is_at(file, self.folder / "lock"):
                    continue  # the folder was removed between opening and locking
                yield held
                return

    def recover(self) -> Checkpoint | None:
        """`latest`, and damaged or unfinished files newer than it are dropped, so that they never count among those kept.

        Hold the lock.
        """
        found = self.latest()
        self._drop([path for path in self._by_step() if found is not None and _step_of(path) > found.step])
        return found

    def _lock_file(self):
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return open(self.folder / "lock", "a+b")
        except OSError as error:
            raise OSError(
                f"The run's folder {self.folder} cannot be written to ({error.strerror}). Make the output folder writable or free some disk "
                "space, or start ComfyUI with another --output-directory, and queue the same graph."
            ) from error

    def _by_step(self) -> list[Path]:
        return sorted(self.folder.glob("step_*.safetensors"), key=_step_of, reverse=True)

    def _newest_first(self) -> list[Path]:
        try:
            named = self.folder / (self.folder / "latest").read_text().strip()
        except (OSError, ValueError):  # not there, or not even text
            return self._by_step()
        return sorted(self._by_step(), key=lambda path: path != named)

    def _drop_old(self, newest: Path) -> None:
        paths = self._by_step()
        older = [path for path in paths if _step_of(path) < _step_of(newest)]
        abandoned = [path for path in paths if _step_of(path) > _step_of(newest)]  # of an attempt that was damaged or given up
        self._drop(abandoned + older[KEPT - 1 :])

    def _drop(self, paths: list[Path]) -> None:
        for path in paths:
            path.with_suffix(".json").unlink(missing_ok=True)
            path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return [path for path in self.folder.glob("*") if path.name.startswith(("latest", "step_"))]


def _step_of(path: Path) -> int:
    digits = re.search(r"\d+", path.stem)
    return int(digits.group()) if digits else -1


def hold(file, wait: bool = False) -> bool:
    """Lock an open file for this process, until it is closed or the process ends; False while another one holds it."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_at(file, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except OSError:
        return False
