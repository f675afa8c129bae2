"""The manifest of a batch: one JSON line a finished row, in OUT/manifest.jsonl. Standard library only."""

import contextlib
import hashlib
import json
import os
from pathlib import Path

NAME = "manifest.jsonl"
LOCK = ".batch.lock"


class ManifestError(ValueError):
    """The manifest cannot be read or written, or somebody else writes it."""


class Manifest:
    """Lines of `path`, newest last. A line is a dictionary with at least row, key, folder, outputs, status and same_as.

    Each line is one write that is on the disk before `append` returns. A line that a crash cut off is ignored, and gone after
    the next `writing`. Of lines with one key the newest holds; lines with `same_as` repeat another row's result.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self._take(_read(self.path))

    def _take(self, lines: list[dict]):
        self.newest = {}
        for line in lines:
            self._add(line)

    def _add(self, line: dict):
        name = (line["key"], line["row"] if line.get("same_as") else None)
        self.newest.pop(name, None)
        self.newest[name] = line

    @property
    def lines(self) -> list[dict]:
        """The newest line of every row, in the order in which they ended."""
        return list(self.newest.values())

    def find(self, key: str) -> dict | None:
        """The newest line of a prompt's key."""
        return self.newest.get((key, None))

    def finished(self, key: str) -> dict | None:
        """The line of a row that need not run again: it ended well, its files are there and unaltered, and its models unaltered.

        Models that are not on this machine are not asked: the row may have run on another one.
        """
        line = self.find(key)
        return line if line and line["status"] == "success" and self.intact(line) else None

    def intact(self, line: dict) -> bool:
        folder = self.path.parent / line["folder"]
        outputs = all(sha256_of(folder / name) == line["hashes"].get(name) for name in line["outputs"])
        return outputs and all(sha256_of(Path(path)) in (None, line["models"].get(name)) for name, path in line["model_paths"].items())

    def append(self, line: dict):
        """Write a line so that it survives a crash right afterwards; ManifestError when the disk refuses."""
        try:
            with open(self.path, "ab") as file:
                file.write(_encoded(line))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ManifestError(f"{self.path} cannot be written: {error.strerror}. Make room or give another --out; "
                                "the same command then goes on.") from None
        self._add(line)

    @contextlib.contextmanager
    def writing(self):
        """Hold the folder for one batch; ManifestError when another one has it. Old and cut-off lines are dropped first."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = open(self.path.parent / LOCK, "a+b")
        except OSError as error:
            raise ManifestError(f"{self.path.parent} cannot be written: {error.strerror}. Give another --out.") from None
        with lock:
            if not _lock(lock):
                raise ManifestError(f"another batch is writing to {self.path.parent}: wait for it to end, or give another --out.")
            self._take(_read(self.path))
            self._compact()
            yield self

    def _compact(self):
        self._take([line for line in self.lines if not line.get("same_as")])
        content = b"".join(_encoded(line) for line in self.lines)
        if not self.path.exists() or self.path.read_bytes() == content:
            return
        partial = self.path.with_name(self.path.name + ".partial")
        partial.write_bytes(content)
        partial.replace(self.path)


def _read(path: Path) -> list[dict]:
    """Every whole line; a last line without its end was cut off by a crash and does not count."""
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror}.") from None
    *lines, _ = content.split(b"\n")
    return [_parsed(path, number, line) for number, line in enumerate(lines, 1)]


def _encoded(line: dict) -> bytes:
    return (json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "replace")


def _parsed(path: Path, number: int, line: bytes) -> dict:
    needed = {"row": int, "key": str, "folder": str, "status": str, "outputs": list, "hashes": dict, "models": dict, "model_paths": dict}
    try:
        entry = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict) or not all(isinstance(entry.get(name), kind) for name, kind in needed.items()):
        raise ManifestError(f"{path} line {number} is no line of a manifest: remove that line, its row then runs again.")
    return entry


def _lock(file) -> bool:
    """Take the lock that the system drops when this process ends."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


_known = {}  # (path, size, time of change) -> sha256: a model of gigabytes is read once


def sha256_of(path: Path) -> str | None:
    """The hash of a file, None when there is none."""
    try:
        state = path.stat()
        name = (str(path), state.st_size, state.st_mtime_ns)
        if name not in _known:
            with open(path, "rb") as file:
                _known[name] = _digest(file)
        return _known[name]
    except OSError:
        return None


def _digest(file) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
