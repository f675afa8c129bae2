"""Scenes as files: one .safetensors with the field's parameters, its configuration and the history of its stages."""

import json
from pathlib import Path

import safetensors
import torch
from safetensors import safe_open

from ..fields.field import Field
from ..fields.hash_field import HashField, HashFieldConfig
from ..fields.single_grid import SingleGridConfig, SingleGridField
from ..formats.provenance import KEY, Provenance
from .checkpoint import write_tensors
from .history import StageHistory
from .scene import Scene, describe_field

FORMAT, VERSION = "bloom4d.field", 1
FIELDS = {HashField.kind: (HashField, HashFieldConfig), SingleGridField.kind: (SingleGridField, SingleGridConfig)}


def save_scene(scene: Scene, path: Path, provenance: Provenance = Provenance()) -> None:
    """Write a scene so that `path` holds it whole or stays as it was; OSError in plain words when the disk is full."""
    tensors = {f"field.{name}": value for name, value in scene.field.state_dict().items()}
    for index, history in enumerate(scene.history):
        tensors |= {f"history.{index}.{name}": value for name, value in history.tensors().items()}
    stages = [history.describe() for history in scene.history]
    document = {"format": FORMAT, "version": VERSION, "field": describe_field(scene.field), "stages": stages}
    try:
        write_tensors(path, tensors, provenance.metadata(document))
    except (OSError, safetensors.SafetensorError) as error:
        raise OSError(f"The field could not be written to {path} ({error}). Free some disk space, or choose another folder.") from error


def load_scene(path: Path) -> Scene:
    """Read what `save_scene` wrote; ValueError that says what is wrong with anything else."""
    try:
        with safe_open(path, "pt") as file:
            document = _document(file.metadata(), path)
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, safetensors.SafetensorError) as error:
        raise ValueError(f'"{path.name}" is no readable safetensors file ({error}). It may be truncated: save the field again, or load another file.') from None
    field = build_field(document["field"], path)
    state = {name.removeprefix("field."): value for name, value in tensors.items() if name.startswith("field.")}
    try:
        field.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f'"{path.name}" does not hold what its own description promises: {str(error).splitlines()[-1].strip()}. Save the field again.') from None
    return Scene(field.requires_grad_(False), tuple(_history(index, stage, tensors) for index, stage in enumerate(document["stages"])))


def build_field(description: dict, path: Path) -> Field:
    """An empty field of a described kind and shape."""
    if description["kind"] not in FIELDS:
        raise ValueError(f'"{path.name}" holds a field of kind "{description["kind"]}", which this version does not know. Update Bloom4D.')
    field, config = FIELDS[description["kind"]]
    return field(config.from_dict(description["config"]), torch.Generator().manual_seed(0))


def _document(metadata: dict | None, path: Path) -> dict:
    try:
        document = json.loads((metadata or {})[KEY])
    except (KeyError, ValueError):
        document = {}
    if document.get("format") != FORMAT:
        raise ValueError(f'"{path.name}" is no Bloom4D field: its description is missing. Load a file that Save Field wrote.')
    if document.get("version") != VERSION:
        raise ValueError(f'"{path.name}" has field version {document.get("version")}, this pack reads {VERSION}. Use the pack that wrote it.')
    return document


def _history(index: int, description: dict, tensors: dict) -> StageHistory:
    prefix = f"history.{index}."
    return StageHistory.restore(description, {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)})
