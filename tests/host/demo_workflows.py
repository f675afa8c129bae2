"""The shipped workflows at smoke size: every node, a few steps, small pictures, a prior of random weights."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PRIOR = "untrained.safetensors"
NAMES = ("text_to_4d_demo", "embedded_prior_sampling_demo")
STAGES = ("Optimize stage 1", "Optimize stage 2", "Optimize stage 3")
STEPS = 3


def load(name: str) -> dict:
    """The committed prompt."""
    return json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))


def titled(prompt: dict, title: str) -> str:
    """The id of the node with this title."""
    found, = (name for name, node in prompt.items() if node["_meta"]["title"] == title)
    return found


def change(prompt: dict, changes: dict) -> dict:
    """Set {title: {input: value}}, in place; an input that is not there is a mistake of the test."""
    for title, inputs in changes.items():
        node = prompt[titled(prompt, title)]
        assert inputs.keys() <= node["inputs"].keys(), f"{title} has no input {inputs.keys() - node['inputs'].keys()}"
        node["inputs"].update(inputs)
    return prompt


def of_class(prompt: dict, *classes: str) -> list[str]:
    """Titles of all nodes of these classes."""
    return [node["_meta"]["title"] for node in prompt.values() if node["class_type"] in classes]


def smoke_changes(prompt: dict) -> dict:
    """What makes a shipped workflow small, as {title: {input: value}}."""
    guidance = [node["class_type"] for node in prompt.values() if node["class_type"].endswith("Guidance")]
    changes = {title: {"width": 16, "height": 16} for title in of_class(prompt, *guidance)}
    changes |= {title: {"steps": STEPS, "preview_interval": 0.5} for title in of_class(prompt, "Bloom4DHybridSDSOptimizer")}
    changes |= {title: {"samples": 12} for title in of_class(prompt, "Bloom4DVolumeRenderer")}
    changes |= {title: {"resolution": 16} for title in of_class(prompt, "Bloom4DIsosurface")}
    changes |= {title: {"width": 32, "height": 32} for title in of_class(prompt, "Bloom4DRenderField")}
    changes |= {title: {"frames": 4} for title in of_class(prompt, "Bloom4DCameraPath") if "Bloom4DRenderField" in classes(prompt)}
    changes |= {title: {"steps": 2} for title in of_class(prompt, "KSampler")}
    return changes | {"Prior": {"prior": PRIOR}}


def classes(prompt: dict) -> set:
    return {node["class_type"] for node in prompt.values()}


def smoke(name: str, **titles) -> dict:
    """A shipped workflow at smoke size; `titles`: further changes."""
    prompt = load(name)
    return change(change(prompt, smoke_changes(prompt)), titles)
