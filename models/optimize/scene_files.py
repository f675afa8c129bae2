"""Scenes as files: one .safetensors with the field's parameters, its configuration, the history of its stages and what their terms learned."""

from collections.abc import Callable
from pathlib import Path

import safetensors
import torch
from torch import Tensor

from ..fields.deformable import DeformableField
from ..fields.deformable_gaussians import DeformableGaussians
from ..fields.deformed import DeformableConfig, Deformed
from ..fields.field import Field
from ..fields.hash_field import HashField, HashFieldConfig
from ..fields.hexplane_field import HexPlaneField, HexPlaneFieldConfig
from ..fields.single_grid import SingleGridConfig, SingleGridField
from ..formats.configs import read_json, shown
from ..formats.provenance import KEY, Provenance
from ..formats.tensors import mismatch, promised, read_tensors
from ..formats.writing import write_tensors
from ..gaussians.dynamic import DynamicGaussians, DynamicGaussiansConfig
from .history import StageHistory
from .scene import Scene, describe_field

FORMAT, VERSION = "bloom4d.field", 1
FIELDS = {
    HashField.kind: (HashField, HashFieldConfig),
    SingleGridField.kind: (SingleGridField, SingleGridConfig),
    HexPlaneField.kind: (HexPlaneField, HexPlaneFieldConfig),
    DynamicGaussians.kind: (DynamicGaussians, DynamicGaussiansConfig),
    DeformableField.kind: (DeformableField, DeformableConfig),
    DeformableGaussians.kind: (DeformableGaussians, DeformableConfig),
}
DEEPEST = 8  # canonical fields of canonical fields


def save_scene(scene: Scene, path: Path, provenance: Provenance = Provenance()) -> None:
    """Write a scene so that `path` holds it whole or stays as it was; OSError in plain words when the disk is full."""
    tensors = {f"field.{name}": value for name, value in scene.field.state_dict().items()}
    for index, history in enumerate(scene.history):
        tensors |= {f"history.{index}.{name}": value for name, value in history.tensors().items()}
    for index, values in enumerate(scene.learned.values()):
        tensors |= {f"learned.{index}.{name}": value for name, value in values.items()}
    stages = [history.describe() for history in scene.history]
    document = {"format": FORMAT, "version": VERSION, "field": describe_field(scene.field), "stages": stages, "learned": list(scene.learned)}
    try:
        write_tensors(path, tensors, provenance.metadata(document))
    except (OSError, safetensors.SafetensorError) as error:
        raise OSError(f"The field could not be written to {path} ({error}). Free some disk space, or choose another folder.") from error


def load_scene(path: Path) -> Scene:
    """Read what `save_scene` wrote; ValueError that says what is wrong with anything else."""
    try:
        tensors, metadata = read_tensors(path)
    except ValueError as error:
        raise ValueError(f"{error}. It may be truncated: save the field again, or load another file.") from None
    document = _document(metadata, path)
    state = _under(tensors, "field.")
    try:
        field = build_field(document.get("field"), state, path)
        return Scene(field.requires_grad_(False), _histories(document.get("stages"), tensors), _learned(document.get("learned", []), tensors))
    except ValueError as error:
        raise ValueError(f'"{path.name}" is a damaged field: {error}. Save the field again, or load another file.') from None


def build_field(description, state: dict[str, Tensor], path: Path) -> Field:
    """The field of a described kind and shape with the parameters of `state`, whose sizes are compared before anything is allocated."""
    build = _builder(description, state, DEEPEST)
    if problem := mismatch(state, promised(build)):
        raise ValueError(problem)
    field = build()
    field.load_state_dict(state)
    if isinstance(field, Deformed) and field.canonical_hash() != description.get("canonical_hash"):
        raise ValueError("its canonical field is not the one that it was saved with")
    return field


def _builder(description, state: dict[str, Tensor], deeper: int) -> Callable[[], Field]:
    """What makes an untrained field as it is described, in the sizes that `state` asks for."""
    if not isinstance(description, dict) or not isinstance(description.get("kind"), str):
        raise ValueError("its description names no kind of field")
    if description["kind"] not in FIELDS:
        raise ValueError(f"its kind {shown(description['kind'])} is unknown to this version, update Bloom4D")
    kind, config_kind = FIELDS[description["kind"]]
    config = config_kind.from_dict(description.get("config"))
    seeded = lambda **more: kind(config, torch.Generator().manual_seed(0), **more)  # noqa: E731
    if config_kind is DeformableConfig:
        if not deeper:
            raise ValueError(f"its canonical fields are nested more than {DEEPEST} deep")
        below = {name.removeprefix("canonical."): value for name, value in state.items() if name.startswith("canonical.")}
        canonical = _builder(description.get("canonical"), below, deeper - 1)
        return lambda: seeded(canonical=canonical())
    sizes = DynamicGaussians.sizes_of(state) if kind is DynamicGaussians else {}
    return lambda: seeded(**sizes)


def _document(metadata: dict[str, str], path: Path) -> dict:
    try:
        document = read_json(metadata.get(KEY, ""))
    except ValueError:
        document = None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f'"{path.name}" is no Bloom4D field: its description is missing. Load a file that Save Field wrote.')
    if document.get("version") != VERSION:
        raise ValueError(f'"{path.name}" has field version {shown(document.get("version"))}, this pack reads {VERSION}. Use the pack that wrote it.')
    return document


def _histories(descriptions, tensors: dict[str, Tensor]) -> tuple[StageHistory, ...]:
    if not isinstance(descriptions, list):
        raise ValueError("its list of stages is missing")
    return tuple(StageHistory.restore(description, _under(tensors, f"history.{index}.")) for index, description in enumerate(descriptions))


def _learned(terms, tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """What terms learned beside the field, by their names; files of before have none."""
    if not isinstance(terms, list) or not all(isinstance(term, str) for term in terms) or len(set(terms)) != len(terms):
        raise ValueError(f"its list of learning terms is {shown(terms)}, different names are needed")
    found = {term: _under(tensors, f"learned.{index}.") for index, term in enumerate(terms)}
    for term, values in found.items():
        if not values or not all(value.is_floating_point() for value in values.values()):
            raise ValueError(f"what its term {shown(term)} learned is missing or holds no numbers with a fraction")
    if sum(map(len, found.values())) != len(_under(tensors, "learned.")):
        raise ValueError("it holds what a term learned that its description does not name")
    return found


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
