"""Prompts for every node class of the pack, built from what the host says about it, and what may be wrong with their inputs."""

import copy
import json
from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from .values import ODD_TEXTS, odd_values, one_of

PACK = "custom_nodes.bloom4d"
HOST_SOURCES = {  # of the host's types: (class, its inputs, slot)
    "CONDITIONING": ("CLIPTextEncode", {"text": "a red rose blooming"}, 0),
    "IMAGE": ("EmptyImage", {"width": 64, "height": 64, "batch_size": 1, "color": 255}, 0),
    "MASK": ("SolidMask", {"value": 0.5, "width": 64, "height": 64}, 0),
    "LATENT": ("VAEEncode", {}, 0),
}
LINKS = {"CLIPTextEncode": {"clip": "CLIP"}, "VAEEncode": {"pixels": "IMAGE", "vae": "VAE"}}
LOADER = "Bloom4DEmbeddedPriorLoader"
OWN_SOURCES = {"FIELD_4D": "Bloom4DHashField", "CAMERAS_4D": "Bloom4DCameraSampler", "GAUSSIANS_4D": "Bloom4DToyMotion", "GUIDANCE_4D": "Bloom4DSDSGuidance", "MODEL": LOADER, "CLIP": LOADER, "VAE": LOADER}
"""Where several classes of ours make a type, the one that every other takes."""
PLAIN = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COLOR")
SMALL = 16  # a whole number up to here is taken as it comes; anything larger may be a size and is made as small as it may be


@dataclass(frozen=True)
class Widget:
    """An input that holds a value: its name in a prompt, type and options."""

    name: str
    kind: str
    options: dict

    def modest(self):
        """The value that costs least to execute."""
        options = self.options
        if self.kind == "INT":
            return options["default"] if options["default"] <= 2 else options["min"]
        if self.kind == "COMBO":
            return options.get("default") or options["options"][0]
        return options.get("default", "")

    def allowed(self) -> list:
        """Values at the edges of what the host lets through, none of which makes a node work long."""
        options, kind = self.options, self.kind
        if kind == "INT":
            seed = [options["max"]] if options["max"] >= 2**32 - 1 else []
            return [options["min"], options["min"] + options["step"], *seed, *([options["default"]] if options["default"] <= SMALL else [])]
        if kind == "FLOAT":
            return [options["min"], options["max"], (options["min"] + options["max"]) / 2, options["default"], float("nan")]
        if kind == "COMBO":
            return [choice for choice in options["options"] if isinstance(choice, str)]
        return [True, False] if kind == "BOOLEAN" else list(ODD_TEXTS)


class Pack:
    """The node classes of the pack as GET /object_info describes them. `prior`: the file that its loader is to choose."""

    def __init__(self, infos: dict, prior: str):
        self.infos, self.prior = infos, prior
        self.classes = sorted(name for name, info in infos.items() if info["python_module"] == PACK)

    def prompt(self, name: str) -> dict:
        """The smallest prompt in which a class works: its sources, itself as node "target", and something that shows its output."""
        prompt = {}
        self._add(name, prompt, "target", ())
        if not self.infos[name]["output_node"]:
            prompt["show"] = {"class_type": "PreviewAny", "inputs": {"source": ["target", 0]}, "_meta": {"title": "Show"}}
        return prompt

    def widgets(self, name: str) -> list[Widget]:
        """The values that a class takes, those of the first choice of its dynamic inputs too."""
        return [Widget(path, kind, options) for path, kind, options in flat(self.infos[name]) if kind in PLAIN]

    def _add(self, name: str, prompt: dict, key: str, above: tuple) -> None:
        info, inputs = self.infos[name], {}
        prompt[key] = {"class_type": name, "inputs": inputs, "_meta": {"title": f"{name} {key}"}}
        for path, kind, options in flat(info):
            if kind in PLAIN:
                inputs[path] = self.prior if name == LOADER and path == "prior" else Widget(path, kind, options).modest()
            elif kind == "COMFY_DYNAMICCOMBO_V3":
                inputs[path] = options["options"][0]["key"]
            elif not options.get("optional"):
                inputs[path] = self._source(kind, prompt, (*above, name))

    def _source(self, kind: str, prompt: dict, above: tuple) -> list:
        """A link to a node that makes a value of this type."""
        kind = "IMAGE" if kind == "*" else kind.split(",")[0]
        name, inputs, slot = HOST_SOURCES.get(kind) or self._own_source(kind, above)
        key = f"{name} for {kind}"
        if key not in prompt:
            if inputs is None:
                self._add(name, prompt, key, above)
            else:
                prompt[key] = {"class_type": name, "inputs": dict(inputs), "_meta": {"title": key}}
                prompt[key]["inputs"] |= {place: self._source(needed, prompt, above) for place, needed in LINKS.get(name, {}).items()}
        return [key, slot]

    def _own_source(self, kind: str, above: tuple) -> tuple:
        """(class, None, slot) of a class of ours that makes this type."""
        makers = [name for name in (OWN_SOURCES.get(kind), *self.classes) if name and kind in self.infos[name]["output"] and name not in above]
        if not makers:
            raise LookupError(f"no class makes {kind}: add one to HOST_SOURCES")
        return makers[0], None, self.infos[makers[0]]["output"].index(kind)


def flat(info: dict) -> list[tuple[str, str, dict]]:
    """(name in a prompt, type, options) of every input; of dynamic ones the first choice or the first place."""
    return [entry for group in ("required", "optional") for name, (kind, *rest) in (info["input"].get(group) or {}).items()
            for entry in _flat(name, kind, {**(rest[0] if rest else {}), **({"optional": True} if group == "optional" else {})})]


def _flat(name: str, kind, options: dict) -> list:
    if isinstance(kind, list):  # an old-style list of choices
        return [(name, "COMBO", {**options, "options": kind})]
    if kind == "COMFY_AUTOGROW_V3":
        template = options["template"]
        (inner, (inner_kind, *rest)), = [*template["input"].get("required", {}).items(), *template["input"].get("optional", {}).items()][:1]
        place = f"{name}.{template['prefix']}0" if "prefix" in template else f"{name}.{(template.get('names') or [inner])[0]}"
        return [(place, inner_kind, rest[0] if rest else {})]
    if kind == "COMFY_DYNAMICCOMBO_V3":
        chosen = options["options"][0]["inputs"]
        inner = [entry for group in chosen.values() for key, (inner_kind, *rest) in group.items() for entry in _flat(f"{name}.{key}", inner_kind, rest[0] if rest else {})]
        return [(name, kind, options), *inner]
    return [(name, kind, options)]


# ---- what may be wrong


@dataclass(frozen=True)
class Wrong:
    """A class's smallest prompt with some inputs of its node changed: (action, input, value) each."""

    name: str
    steps: tuple

    def __str__(self):
        return f"{self.name}: " + "; ".join(f"{action} {key!r} {str(value)[:60]!r}" for action, key, value in self.steps)

    def applied(self, pack: Pack) -> dict:
        """The prompt as it is posted."""
        prompt = pack.prompt(self.name)
        inputs = prompt["target"]["inputs"]
        for action, key, value in self.steps:
            if action == "drop":
                inputs.pop(key, None)
            else:
                inputs[key] = copy.deepcopy(value)
        return prompt


def wrong_prompts(pack: Pack) -> SearchStrategy:
    """Any class of the pack with one to three of its inputs wrong: values, links, missing, unknown."""
    return one_of(tuple(pack.classes)).flatmap(lambda name: _wrong(pack, name))


def _wrong(pack: Pack, name: str) -> SearchStrategy:
    inputs = tuple(pack.prompt(name)["target"]["inputs"]) or ("unknown",)
    widgets = {widget.name: widget for widget in pack.widgets(name)}
    links = (["target", 0], ["nobody", 0], ["target", 99], ["target", -1], ["target", "0"], ["show", 0], [], ["target"], ["target", 0, 0], [0, 0], [None, None], [["target"], 0], ["", 0], [{}, {}])
    step = (
        st.tuples(st.just("value"), one_of(inputs), odd_values())
        | one_of(inputs).flatmap(lambda key: st.tuples(st.just("value"), st.just(key), one_of(beyond(widgets.get(key)))))
        | st.tuples(st.just("link"), one_of(inputs), one_of(links))
        | st.tuples(st.just("drop"), one_of(inputs), st.none())
        | st.tuples(st.just("add"), one_of((*ODD_TEXTS, f"{inputs[0]}.x", f"{inputs[0]}.0", "self", "cls", "unique_id", "prompt")), odd_values())
    )
    return st.lists(step, min_size=1, max_size=3).map(lambda steps: Wrong(name, tuple(steps)))


def beyond(widget: Widget | None) -> tuple:
    """Values just outside a widget's limits, and those within that are easily forgotten."""
    if widget is None or widget.kind not in ("INT", "FLOAT"):
        return ("no such choice", "", 0, ["a"], {"__value__": ["a"]}, {"__value__": None})
    low, high = widget.options["min"], widget.options["max"]
    return (low - 1, high + 1, str(low), f"{high}x", float("nan"), float("inf"), 10**400, {"__value__": low}, {"__value__": [low]}, [low, high], True, low, high)


def edge_prompts(pack: Pack) -> SearchStrategy:
    """Any class of the pack with one to three values at the edges of what the host lets through."""
    def edges(name: str) -> SearchStrategy:
        widgets = tuple(pack.widgets(name))
        if not widgets:
            return st.just(Wrong(name, ()))
        step = one_of(widgets).flatmap(lambda widget: st.tuples(st.just("value"), st.just(widget.name), one_of(tuple(widget.allowed()) or ("",))))
        return st.lists(step, min_size=1, max_size=3).map(lambda steps: Wrong(name, tuple(steps)))

    return one_of(tuple(pack.classes)).flatmap(edges)


def body_of(prompt: dict) -> bytes:
    """What is posted; NaN and infinity as Python writes them, which the host reads."""
    return json.dumps({"prompt": prompt, "client_id": "fuzz"}).encode()
