"""What an optimiser takes and gives: a field with the record of how it came about."""

from dataclasses import asdict, dataclass, field as dataclass_field

from torch import Tensor

from ..fields.field import Field
from ..formats.configs import shown
from .checkpoint import Checkpoint
from .history import StageHistory


@dataclass(frozen=True)
class Scene:
    """A field, the histories of its finished stages, and what terms learned beside it (by term: VSD's phi).

    Shared by whoever holds it: copy the field before changing it.
    """

    field: Field
    history: tuple[StageHistory, ...] = ()
    learned: dict[str, dict[str, Tensor]] = dataclass_field(default_factory=dict)


def describe_field(field: Field) -> dict:
    """Kind and configuration as plain JSON values: what two fields must share to exchange parameters.

    A field over a frozen canonical one tells the same of it, and by its hash which one it is.
    """
    description = {"kind": field.kind, "config": _plain(asdict(field.config))}
    canonical = getattr(field, "canonical", None)
    return description if canonical is None else description | {"canonical": describe_field(canonical), "canonical_hash": field.canonical_hash()}


def check_field(checkpoint: Checkpoint, field: Field) -> None:
    """ValueError that names the first difference unless the checkpoint holds parameters of just such a field."""
    saved, wanted = checkpoint.values.get("field"), describe_field(field)
    saved = saved if isinstance(saved, dict) else {}
    if saved.get("kind") != wanted["kind"]:
        raise ValueError(
            f'The checkpoint "{checkpoint.path.name}" holds a field of kind {str(saved.get("kind"))[:40]}, this graph has {wanted["kind"]}. '
            "Connect the field it was made with, or start a new run."
        )
    differing = _differences(saved.get("config", {}), wanted["config"]) or _differences(_beside_config(saved), _beside_config(wanted))
    if differing:
        raise ValueError(
            f'The checkpoint "{checkpoint.path.name}" was made with another field: {differing[0]}. Set the field node to the checkpoint\'s values, '
            "or start a new run."
        )


def _beside_config(description: dict) -> dict:
    return {name: value for name, value in description.items() if name not in ("kind", "config")}


def _differences(saved, wanted, path: str = "") -> list[str]:
    if isinstance(saved, dict) and isinstance(wanted, dict):
        keys = sorted(saved.keys() | wanted.keys())
        return [text for key in keys for text in _differences(saved.get(key), wanted.get(key), f"{path}.{key}" if path else key)]
    return [] if saved == wanted else [f"its {path[:80]} is {shown(saved)}, here it is {shown(wanted)}"]


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
