"""Several files of one save: one number for all, and none is seen before all are whole."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import folder_paths

from . import paths

SPARE = 1.02  # of the estimate: a file system needs some room of its own


def in_words(size: float) -> str:
    """A number of bytes as people read it."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


class Save:
    """Files that are being written under one number; `stem` begins all their names."""

    def __init__(self, folder: Path, stem: str):
        self.folder, self.stem, self.hidden = folder, stem, folder / f"{stem}.tmp"

    def path(self, ending: str) -> Path:
        """Where to write a file for now; `ending` follows the stem, and may lead into a folder ("ply/frame_0000.ply")."""
        path = self.hidden / f"{self.stem}{ending}"
        path.parent.mkdir(exist_ok=True)
        return path

    def write(self, ending: str, data: bytes) -> None:
        """A whole file, on the disk when this returns."""
        with open(self.path(ending), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def show(self) -> list[Path]:
        """Move everything to its place, folders whole; on an error what was moved goes again. The files and folders, sorted."""
        moved = []
        try:
            for item in sorted(self.hidden.iterdir()):
                moved.append(self.folder / item.name)
                os.rename(item, moved[-1])
        except OSError:
            for path in moved:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            raise
        return moved


@contextmanager
def together(prefix: str, needed: dict[str, int]):
    """A `Save` for a prefix in the host's output folder; leaving the block without `show` leaves nothing behind.

    needed: bytes by what takes them. ValueError with numbers when the disk has not as much; OSError in plain words when writing fails.
    """
    with paths.output_file(prefix, "tmp") as hidden:
        _check_room(hidden.parent, needed)
        try:
            hidden.mkdir()
            yield Save(hidden.parent, hidden.stem)
        except OSError as error:
            raise OSError(f"The 4D files could not be written ({error.strerror or error}). Free some disk space or choose another folder, and queue the same graph; nothing half-written was left.") from error
        finally:
            shutil.rmtree(hidden, ignore_errors=True)


def _check_room(folder: Path, needed: dict[str, int]) -> None:
    free, wanted = shutil.disk_usage(folder).free, sum(needed.values()) * SPARE
    if wanted > free:
        parts = ", ".join(f"{name} {in_words(size)}" for name, size in sorted(needed.items(), key=lambda item: -item[1]))
        raise ValueError(f"Save 4D would write about {in_words(wanted)} ({parts}) and the disk of the output folder has {in_words(free)} free. Switch formats off, save fewer times or Gaussians, or free some space.")


def below_output(path: Path) -> str:
    """A path relative to the host's output folder, as Load 4D and the host's 3D nodes take it."""
    return path.resolve().relative_to(Path(folder_paths.get_output_directory()).resolve()).as_posix()


def entry(path: Path) -> dict[str, str]:
    """How the host names a file in the output folder."""
    folder, _, name = below_output(path).rpartition("/")
    return {"filename": name, "subfolder": folder, "type": "output"}
