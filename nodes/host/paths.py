"""Where files go: always inside the host's output folder; where weights come from: its model folders."""

import glob
import os
import re
import shutil
from contextlib import ExitStack, contextmanager
from pathlib import Path

import folder_paths

from ...models.optimize.checkpoint import hold

MODEL_FOLDER = "bloom4d"
EXTENSIONS = {".safetensors"}
LONGEST_NAME, LONGEST_PATH = 200, 2000  # bytes of a part and of all; file systems take 255, and a number and an ending follow


def register_model_folder():
    """Make `models/bloom4d` known to the host, .safetensors only.

    Paths of an extra_model_paths.yaml are there already and are kept. Merged by hand because the host's own registration of
    a new name leaves the extension filter empty, which would list every file.
    """
    paths, _ = folder_paths.folder_names_and_paths.get(MODEL_FOLDER, ([], set()))
    own = os.path.join(folder_paths.models_dir, MODEL_FOLDER)
    merged = list(paths) if own in paths else [*paths, own]
    folder_paths.folder_names_and_paths[MODEL_FOLDER] = (merged, set(EXTENSIONS))


def shown(text: str) -> str:
    """A text from a widget for a message: one line, cut where it is long."""
    line = " ".join(text.split()).encode("utf-8", "replace").decode()
    return line if len(line) <= 80 else f"{line[:77]}..."


def possible(text: str) -> bool:
    """Whether a file system could take this as a relative path."""
    try:
        sizes = [len(name.encode()) for name in re.split(r"[\\/]+", text)]
    except UnicodeEncodeError:
        return False
    return "\0" not in text and sum(sizes) <= LONGEST_PATH and max(sizes) <= LONGEST_NAME


def inside(root: str | os.PathLike, *parts: str) -> Path:
    """The path of `parts` below `root`; ValueError when it would leave it (.., an absolute part, a symlink outwards) or cannot be a path."""
    root, text = Path(root).resolve(), "/".join(parts)
    if not possible(text):
        raise ValueError(f'"{shown(text)}" cannot be a path: a name is longer than {LONGEST_NAME} bytes, or it holds characters that no file system takes. Choose a shorter plain name.')
    path = root.joinpath(*parts).resolve()
    if not path.is_relative_to(root):
        raise ValueError(f'"{shown(text)}" leads out of the folder {root}. Use a name without ".." and without a leading slash.')
    return path


def safe_name(name: str) -> str:
    """`name` as a relative path of plain parts: separators kept, characters that some file system refuses replaced by "_"."""
    parts = [re.sub(r'[<>:"|?*\x00-\x1f]', "_", part).strip(" .") for part in re.split(r"[\\/]+", name)]
    return "/".join(part for part in parts if part) or "unnamed"


def run_folder(prefix: str, run_id: str) -> Path:
    """output/bloom4d/runs/<prefix>/<run id>; not created. ValueError when the prefix leads elsewhere."""
    return inside(runs_root(), *_plain_parts(prefix), run_id)


def runs_root() -> Path:
    """Where the run folders of all prefixes are."""
    return inside(folder_paths.get_output_directory(), "bloom4d", "runs")


def runs_of(prefix: str) -> list[Path]:
    """The run folders of a prefix that exist, the most recently changed last."""
    folder = run_folder(prefix, "x").parent
    found = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return sorted(found, key=lambda path: (path.stat().st_mtime, path.name))


@contextmanager
def output_file(prefix: str, extension: str):
    """The path of a new numbered file for `prefix` in the host's output folder; its folder is created.

    Inside the `with` no other ComfyUI on the same output folder can take the same number. OSError in plain words where nothing
    can be written.
    """
    output = Path(folder_paths.get_output_directory())
    inside(output, *_plain_parts(prefix))  # first, because the host makes the folder
    with ExitStack() as held:
        try:
            (output / "bloom4d").mkdir(parents=True, exist_ok=True)
            hold(held.enter_context(open(output / "bloom4d" / "saving.lock", "ab")), wait=True)
            wanted = "/".join(_plain_parts(prefix)), str(output)
            folder, name, *_ = folder_paths.get_save_image_path(*wanted)
            for leftover in Path(folder).glob(f"{glob.escape(name)}_*.tmp"):  # of a process that was killed
                _clear(leftover, name)
            counter = folder_paths.get_save_image_path(*wanted)[2]
        except OSError as error:
            raise OSError(
                f"The output folder {output} cannot be written to ({error.strerror}). Make it writable or free some disk space, or start ComfyUI "
                "with another --output-directory, and queue the same graph."
            ) from error
        yield Path(folder) / f"{name}_{counter:05}_.{extension.lstrip('.')}"


def temporary_file(name: str) -> Path:
    """The path of a file of ours in the host's temporary folder, which the host empties when it starts; its folder is created."""
    path = inside(folder_paths.get_temp_directory(), "bloom4d", *_plain_parts(name))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"The temporary folder {path.parent} cannot be written to ({error.strerror}). Make it writable, or start ComfyUI with another --temp-directory.") from error
    return path


def _clear(leftover: Path, name: str) -> None:
    """Delete a temporary file, or a folder whose name is one that only a save of several files gives."""
    if not leftover.is_dir():
        leftover.unlink(missing_ok=True)
    elif re.fullmatch(rf"{re.escape(name)}_\d{{5,}}_\.tmp", leftover.name):
        shutil.rmtree(leftover)


def weights_file(name: str, folder: str = MODEL_FOLDER) -> Path:
    """The full path of a model file of one of the host's folders.

    ValueError that names file and folder when it is not there.
    """
    found = folder_paths.get_full_path(folder, name)
    if found is None:
        places = ", ".join(folder_paths.get_folder_paths(folder)) or "no folder"
        raise ValueError(f'The model file "{name}" is missing. Put it into {places}, then press R to refresh the list.')
    return Path(found)


def _plain_parts(prefix: str) -> list[str]:
    if os.path.isabs(prefix) or ".." in re.split(r"[\\/]+", prefix):
        raise ValueError(f'"{shown(prefix)}" leads out of the output folder. Use a name without ".." and without a leading slash.')
    return safe_name(prefix).split("/")
