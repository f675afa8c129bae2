"""What the judges of weights and of distilled objects share: the recogniser, real objects of a name, tables."""

import json
import subprocess
from pathlib import Path

import pack
import torch
from safetensors import safe_open
from torch import Generator, Tensor

pack.load_pack()
from bloom4d.models.data.objects import render_object  # noqa: E402
from bloom4d.models.data.prior_dataset import species_name  # noqa: E402
from bloom4d.models.data.prompts import parse_names  # noqa: E402
from bloom4d.models.data.styles import PHENOMENA, ObjectStyle, pairs, sample_style  # noqa: E402
from bloom4d.models.metrics.field_scores import Named  # noqa: E402
from bloom4d.models.metrics.recogniser import Recogniser, load_recogniser  # noqa: E402

RECOGNISER = pack.ROOT / "models" / "weights" / "recogniser.safetensors"
BANK_SEED = 880000  # real objects that no training draws


def recogniser(path: Path = RECOGNISER) -> Recogniser:
    return load_recogniser(path)


def bank(phenomenon: str, species: str | None, colour: str | None, cameras, count: int, size: int = 64) -> Tensor:
    """`count` real objects of a name seen by N cameras: (count, N, 4, size, size) premultiplied RGBA."""
    styles = [sample_style(phenomenon, Generator().manual_seed(BANK_SEED + index), species, colour, "all") for index in range(count)]
    return torch.stack([pictures(style, cameras, size) for style in styles])


def pictures(style: ObjectStyle, cameras, size: int = 64) -> Tensor:
    """(N, 4, size, size) premultiplied RGBA."""
    return render_object(style, cameras, size).rgba.movedim(-1, 1)


def named(prompt: str) -> Named:
    """What a prompt names; ValueError when it is none of the seven phenomena."""
    phenomenon, species, colour = parse_names(prompt)
    if phenomenon is None:
        raise ValueError(f'"{prompt}" names none of the phenomena: {", ".join(PHENOMENA)}.')
    if (species, colour) not in pairs(phenomenon, "all") and None not in (species, colour):
        raise ValueError(f'"{prompt}": there is no {colour} {species} among the procedural objects.')
    return Named(phenomenon, species, colour)


def recogniser_name(name: Named) -> Named:
    """The same with the species as the recogniser calls it."""
    species = None if name.species is None else species_name(ObjectStyle(name.phenomenon, name.species, ""))
    return Named(name.phenomenon, species, name.colour)


def commit() -> str:
    """The commit of the working tree, with a mark when source files differ from it."""
    run = lambda *words: subprocess.run(["git", "-C", str(pack.ROOT), *words], capture_output=True, text=True).stdout.strip()  # noqa: E731
    return run("rev-parse", "--short", "HEAD") + (" and changes" if run("status", "--porcelain", "--untracked-files=no", "models", "nodes") else "")


def write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rounded(content), indent=1) + "\n", encoding="utf-8")


def rounded(value):
    """Four digits after the point are more than the scores are good for; NaN (does not apply) becomes null."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(entry) for entry in value]
    if isinstance(value, float):
        return None if value != value else round(value, 4)
    return value


def metadata(path: Path) -> dict[str, str]:
    """Of a safetensors file."""
    with safe_open(path, "pt") as file:
        return file.metadata() or {}
