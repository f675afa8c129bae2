"""Readers that need ComfyUI's modules in this process: prior files as the loader node reads them, and texts that become paths."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from hypothesis import strategies as st

from .engine import Reader
from .file_readers import file_reader, tiny_prior
from .values import ODD_TEXTS, one_of

LONG = ("a" * 300, "a/" * 200 + "b", "ü" * 200, "x" * 70_000)
TRAVERSALS = ("../x", "a/../../x", "/abs", "//server/x", "\\\\server\\x", "C:/x", "..\\..\\x", "a/./b", "./", "a//b", "link/x", "...", "a\n b", "nul.txt", "a:b", "~root/x", "%date:yyyy%", "%year%-%width%")
GOOD = ("fields/good", "fields/good.safetensors", "bloom4d/runs/4d", "rose", "a b/ü")


def host_prior_files(folder: Path) -> Reader:
    """The three loaders of Embedded Prior Loader on one damaged file."""
    from bloom4d.nodes.host.prior import load_clip, load_model, load_vae

    def read(path: Path) -> str:
        with torch.inference_mode():
            for load in (load_model, load_clip, load_vae):
                load(str(path))
        return "read"

    return file_reader("prior in the host", tiny_prior(folder), ("config",), read)


@dataclass(frozen=True)
class Name:
    """A text from a widget and what makes a path of it."""

    use: str
    text: str


def path_names(folder: Path) -> Reader:
    """Every widget text that becomes a path: what comes out lies below the output folder, and nothing outside is made."""
    import folder_paths
    from bloom4d.nodes import files, optimize, runner
    from bloom4d.nodes.host import paths

    output = folder / "output"
    (output / "fields").mkdir(parents=True)
    (output / "fields" / "good.safetensors").write_bytes(b"x")
    (folder / "outside").mkdir()
    (output / "link").symlink_to(folder / "outside", target_is_directory=True)

    def prefix(text: str) -> Path:
        with paths.output_file(text, "safetensors") as path:
            return path

    uses = {
        "filename prefix": prefix,
        "run prefix": lambda text: paths.run_folder(text, "0123"),
        "runs of a prefix": lambda text: [output, *paths.runs_of(text)][-1],
        "field path": files.field_path,
        "field fingerprint": lambda text: files.Bloom4DLoadField.fingerprint_inputs(text) and output,
        "field": lambda text: files.Bloom4DLoadField.execute(text) and output,
        "checkpoint path": runner.checkpoint_path,
        "newest checkpoint": lambda text: optimize.newest_checkpoint(text) or output,
        "curves": lambda text: optimize.Bloom4DTrainingCurves.fingerprint_inputs(text) and output or output,
    }
    pieces = one_of((*TRAVERSALS, *ODD_TEXTS, *LONG, *GOOD)) | st.text(max_size=10)
    texts = pieces | st.builds(lambda one, other: f"{one}/{other}", pieces, pieces) | pieces.map(lambda text: f"{text}.safetensors")

    def read(name: Name) -> str:
        before, folder_paths.output_directory = folder_paths.output_directory, str(output)
        try:
            path = Path(uses[name.use](name.text) or output)
        finally:
            folder_paths.output_directory = before
        assert Path(os.path.realpath(path)).is_relative_to(output.resolve()), f"{path} lies outside"
        assert set(os.listdir(folder)) == {"output", "outside"} and not os.listdir(folder / "outside"), "something was made outside"
        return f"{name.use}: taken"

    return Reader("path", st.builds(Name, one_of(tuple(uses)), texts), read)
