"""Checkpoints of our loaders: listed, found, and read into parts by the host's safe loader."""

from pathlib import Path

import folder_paths
from torch import Tensor

from ...models.formats.model_files import KnownFile
from .judges import Choice, read

CHECKPOINTS = Choice(("checkpoints", "diffusion_models", "diffusers"), (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin"))
"""Where such files lie: whole checkpoints, single UNets, and diffusers' folders."""
SIBLINGS = ("model.fp16.safetensors", "model.safetensors", "pytorch_model.fp16.bin", "pytorch_model.bin", "diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")


def options(known: KnownFile) -> list[str]:
    """What a loader's list shows: every checkpoint, or which file to get where there is none.

    That line is not the file's bare name: a graph that names it would look complete to the browser, which then offers no download.
    """
    return CHECKPOINTS.options()[1:] or [_none_here(known)]


def _none_here(known: KnownFile) -> str:
    return f"none here, get {known.file}"


def folder() -> str:
    """The folders that messages name."""
    return " or ".join(folder_paths.get_folder_paths("checkpoints"))


def check_listed(name: str | None, known: KnownFile) -> bool | str:
    """For `validate_inputs`, in the place of the host's check, which says neither where a file belongs nor what it is."""
    return True if name is None or name in CHECKPOINTS.options()[1:] else known.missing(known.file if name == _none_here(known) else name, folder())  # None: connected, known later


def checkpoint_path(name: str, known: KnownFile) -> Path:
    """Where a chosen checkpoint is; ValueError that names the file to get when it is gone."""
    if check_listed(name, known) is not True:
        raise ValueError(known.missing(name, folder()))
    return CHECKPOINTS.path(name)


def below(tensors: dict[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    """The tensors under the first of `prefixes` that has any, without it."""
    for prefix in prefixes:
        if found := {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}:
            return found
    return {}


def sibling(path: Path, part: str) -> dict[str, Tensor]:
    """The tensors of `part` ("vae", "text_encoder") of the diffusers folder whose UNet is `path`; empty where there is none."""
    found = _sibling(path, part)
    return {} if found is None else read(found)[0]


def part_of(tensors: dict[str, Tensor], path: Path, part: str, *prefixes: str) -> tuple[dict[str, Tensor], str]:
    """(tensors, name of the file) of a part of the model at `path`: below the first of `prefixes` that has any, or in the file beside it."""
    found, beside = below(tensors, *prefixes), _sibling(path, part)
    return (found, path.name) if found or beside is None else (read(beside)[0], f"{part}/{beside.name}")


def _sibling(path: Path, part: str) -> Path | None:
    if path.parent.name != "unet":
        return None
    return next((file for name in SIBLINGS if (file := path.parent.parent / part / name).is_file()), None)
