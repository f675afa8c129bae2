"""LoRAs that do not belong to the MODEL that they are on: the host only logs what it could not use.

A LoRA for another base of the same family has the right names and, in part, the wrong shapes (Stable Diffusion 1.5's on 2.1: all
that reads text). One for another architecture changes nothing at all.
"""

from inspect import getclosurevars, isfunction
from math import prod

from comfy.weight_adapter import BypassInjectionManager, WeightAdapterBase

from .conditions import text_width

STRENGTH = "strength_model"
ON_MODELS = {"LoraLoaderModelOnly", "LoraModelLoader"}
"""The host's loaders that change the MODEL alone, so that one without effect is a mistake; others may be there for the CLIP."""
SELF = "the connected LoRA"


def lora_notes(hidden, model, socket: str = "model") -> tuple[str, ...]:
    """What there is to say about the LoRAs on `model`: some of their weights do not fit it, or loaders in front of it changed nothing.

    `hidden` holds the running prompt and the node's id, as the host gives them, and `socket` is the input that the MODEL came by;
    without a prompt only shapes are compared. ValueError when no weight of them fits, or when a loader for MODELs alone changed nothing.
    """
    chain = _chain(hidden, socket)
    loaders = [entry for entry in chain if _loads_lora(entry)]
    names = ", ".join(_file(entry) for entry in loaders)
    if model.patches or model.injections:
        return _shape_notes(model, names)
    if not names:
        return ()
    told = f"No weight of this MODEL ({type(model.model).__name__}) is changed by {names}: made for another base model. Choose a LoRA for this one, or remove the loader."
    if chain[: len(loaders)] == loaders and all(entry["class_type"] in ON_MODELS for entry in loaders):  # nothing in between that could have used it up
        raise ValueError(told)
    return (told,)


def _shape_notes(model, names: str) -> tuple[str, ...]:
    patched, bypassed = _patches(model), _bypassed(model)
    checked = patched + bypassed
    wrong = [entry for entry in checked if not fits(*entry[1:])]
    if not wrong:
        return ()
    stops = len(wrong) == len(checked) or any(not fits(*entry[1:]) for entry in bypassed)  # the host fails in the middle of a bypass
    told = _told(model, names, wrong, len(checked), applied=not stops)
    if stops:
        raise ValueError(told)
    return (told,)


def _told(model, names: str, wrong: list, total: int, applied: bool) -> str:
    (key, patch, size), width = wrong[0], text_width(model)
    count, verb = (f"{len(wrong)} of {total} weights", "do not fit") if len(wrong) < total else (f"None of the {total} weights", "fits")
    return (
        f"{count} of the LoRA{f' ({names})' if names else ''} {verb} this MODEL ({type(model.model).__name__}"
        f"{f', text of {width} numbers' if width else ''}): {key} is {_size(shape_of(patch))} in the LoRA and {_size(size)} here."
        f"{' The others are applied.' if applied else ''} It was made for another base model: use a LoRA made for this one, or remove the loader."
    )


def _bypassed(model) -> list[tuple[str, object, tuple]]:
    """The same of LoRAs that the host computes beside the weights; what other injections do is not known here."""
    managers = [getclosurevars(injection.inject).nonlocals.get("self") for part in model.injections.values() for injection in part if isfunction(injection.inject)]
    weights = model.model_state_dict()
    adapters = [(f"{module}.weight", adapter) for manager in managers if isinstance(manager, BypassInjectionManager) for module, (adapter, _) in manager.adapters.items()]
    comparable = [(key, adapter) for key, adapter in adapters if isinstance(adapter, WeightAdapterBase) and key in weights and weights[key].is_floating_point()]
    return [(key, adapter, tuple(weights[key].shape)) for key, adapter in comparable if shape_of(adapter) is not None]


def _patches(model) -> list[tuple[str, object, tuple]]:
    """(weight, patch, the weight's shape) of every patch with a shape of its own, on weights that are not stored in another form (4 bit)."""
    weights, found = model.model_state_dict(), []
    for key, patches in model.patches.items():
        weight = weights.get(key)
        if weight is None or not weight.is_floating_point():
            continue
        for _, patch, _, offset, _ in patches:
            size = tuple(weight.shape)
            if offset is not None:  # a part of a fused weight: (axis, start, length)
                size = (*size[: offset[0]], offset[2], *size[offset[0] + 1 :])
            if shape_of(patch) is not None:
                found.append((key, patch, size))
    return found


def fits(patch, size: tuple[int, ...]) -> bool:
    """Whether the host can add `patch` to a weight of `size`. It reshapes what low-rank factors multiply out to, and nothing else."""
    shape = shape_of(patch)
    kind = getattr(patch, "name", None)
    if kind in ("oft", "boft"):  # a rotation of the rows
        return shape[0] == size[0]
    return prod(shape) == prod(size) if kind else shape == size


def shape_of(patch) -> tuple[int, ...] | None:
    """Rows and columns that a patch of the host's makes, of convolutions with all taps in the columns; None where it takes any weight."""
    kind = getattr(patch, "name", None)
    if kind is None:
        return _plain(patch)
    made = {"lora": _lora, "loha": _loha, "lokr": _lokr, "oft": _rotation, "boft": _rotation}.get(kind)
    return made(patch.weights) if made else None


def _plain(patch) -> tuple[int, ...] | None:
    """("diff", (tensor, options)), ("set", (tensor,)) or (tensor,); the host pads a weight to a difference that asks for it."""
    kind, values = ("diff", patch) if len(patch) == 1 else patch[:2] if isinstance(patch, tuple) else ("merge", ())
    if kind not in ("diff", "set") or (len(values) > 1 and values[1].get("pad_weight")):
        return None
    return tuple(values[0].shape)


def _lora(weights) -> tuple[int, ...] | None:
    up, down, _, middle, _, reshaped = weights
    if reshaped is not None:  # the host pads the weight to it
        return None
    taps = prod(middle.shape[2:]) if middle is not None else 1
    return up.shape[0], down[0].numel() * taps


def _loha(weights) -> tuple[int, ...]:
    return _product(weights[0], weights[1], weights[5])


def _product(first, second, core) -> tuple[int, ...]:
    """Of two factors; with a core (rank, rank, taps) both are (rank, size)."""
    return (first.shape[0], second[0].numel()) if core is None else (first.shape[1], second.shape[1] * prod(core.shape[2:]))


def _lokr(weights) -> tuple[int, ...]:
    first, second, _, first_a, first_b, second_a, second_b, core, _ = weights
    small = (first.shape[0], first[0].numel()) if first is not None else _product(first_a, first_b, None)
    large = (second.shape[0], second[0].numel()) if second is not None else _product(second_a, second_b, core)
    return small[0] * large[0], small[1] * large[1]


def _rotation(weights) -> tuple[int, ...]:
    blocks, size = weights[0].shape[-3:-1]
    return (blocks * size,)


def _size(shape) -> str:
    return " x ".join(map(str, shape)) or "one number"


def _chain(hidden, socket: str) -> list[dict]:
    """The nodes that the MODEL came through, the nearest first; none without a prompt."""
    prompt, node = getattr(hidden, "prompt", None), getattr(hidden, "unique_id", None)
    return upstream(prompt, str(node), socket) if prompt and str(node) in prompt else []


def upstream(prompt: dict, node: str, socket: str = "model") -> list[dict]:
    """The nodes that a MODEL came through, the nearest first."""
    found, seen = [], {node}
    while (link := prompt[node]["inputs"].get(socket)) and isinstance(link, list) and str(link[0]) in prompt and str(link[0]) not in seen:
        node, socket = str(link[0]), "model"
        seen.add(node)
        found.append(prompt[node])
    return found


def _loads_lora(entry: dict) -> bool:
    """Whether a node applies a LoRA with a strength that is not 0 (or one that is connected)."""
    inputs = entry["inputs"]
    return ("lora_name" in inputs or entry.get("class_type") == "LoraModelLoader") and inputs.get(STRENGTH, 1.0) != 0


def _file(entry: dict) -> str:
    name = entry["inputs"].get("lora_name", SELF)
    return name if isinstance(name, str) else SELF
