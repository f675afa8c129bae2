"""The shipped workflows at smoke size: every node, a few steps, small pictures, a prior of random weights."""

import json
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.append(str(ROOT / "tests" / "nodes"))
PRIOR = "untrained.safetensors"
NAMES = ("text_to_4d_demo", "embedded_prior_sampling_demo", "four_d_metrics_demo", "orbit_video_to_4d_gaussians_demo", "text_to_4d_gaussians_demo",
         "text_to_4d_4dfy_demo", "text_to_4d_dream_in_4d_demo", "reanimate_4d_demo", "image_to_4d_demo", "personalised_4d_demo")  # fmt: skip
REAL = ("text_to_4d_4dfy", "text_to_4d_dream_in_4d", "reanimate_4d", "image_to_4d", "personalised_4d")
"""The same graphs on real models, whose files nobody ships."""
STAGES = ("Optimize stage 1", "Optimize stage 2", "Optimize stage 3")
STEPS = 3
REFERENCE = "Reference view"  # is compared with a picture, so it keeps that one's size


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
    changes |= {title: {"steps": STEPS, "preview_interval": 0.5} for title in of_class(prompt, "Bloom4DHybridSDSOptimizer", "Bloom4DPhotometricRefinement")}
    refinement = {"views": 2, "frames": 2, "denoising_steps": 2, "steps_per_round": 2, "rays": 128}
    changes |= {title: {**changes[title], **refinement} for title in of_class(prompt, "Bloom4DPhotometricRefinement")}
    changes |= {title: {"samples": 12, "occupancy_resolution": 8, "time_slabs": 2} for title in of_class(prompt, "Bloom4DVolumeRenderer")}
    changes |= {title: {"resolution": 16} for title in of_class(prompt, "Bloom4DIsosurface")}
    changes |= {title: {"width": 32, "height": 32} for title in of_class(prompt, "Bloom4DRenderField") if title != REFERENCE}
    changes |= {title: {"frames": min(prompt[titled(prompt, title)]["inputs"]["frames"], 4)} for title in of_class(prompt, "Bloom4DCameraPath") if classes(prompt) & {"Bloom4DRenderField", "Bloom4DGaussiansFromOrbitVideo"}}
    construction = {"coarse": STEPS, "fine": 2, "initial_gaussians": 150, "max_gaussians": 300, "frames_out": 4, "densify_from": 1, "densify_every": 2, "preview_interval": 0.5}
    changes |= {title: construction for title in of_class(prompt, "Bloom4DGaussiansFromOrbitVideo")}
    changes |= {title: {"width": 32, "height": 32, "frames": 4} for title in of_class(prompt, "Bloom4DRenderGaussians")}
    distillation = {"count": 60, "views": 3, "times": 2, "size": 16, "frames": 3, "steps": STEPS, "preview_interval": 0.5}
    changes |= {title: distillation for title in of_class(prompt, "Bloom4DGaussiansFromField")}
    changes |= {title: {"steps": 2} for title in of_class(prompt, "KSampler")}
    changes |= {title: {"size": 32} for title in of_class(prompt, "Bloom4DProcedural4DObject") if "Bloom4DMetrics" in classes(prompt) and "TrainLoraNode" not in classes(prompt)}
    changes |= {title: {"steps": 2, "rank": 2} for title in of_class(prompt, "TrainLoraNode")}
    changes |= {title: {"height": 16} for title in of_class(prompt, "Bloom4DReferenceViewLoss")}
    changes |= {title: {"tolerance": 0.08} for title in of_class(prompt, "Bloom4DFlatBackgroundMask")}  # random weights draw a restless background
    return changes | {title: {"prior": PRIOR} for title in of_class(prompt, "Bloom4DEmbeddedPriorLoader")}


def only(prompt: dict, *titles: str) -> dict:
    """The nodes with these titles and all that they depend on."""
    kept, waiting = {}, [titled(prompt, title) for title in titles]
    while waiting:
        name = waiting.pop()
        kept[name] = prompt[name]
        waiting += [value[0] for value in prompt[name]["inputs"].values() if isinstance(value, list)]
    return kept


def classes(prompt: dict) -> set:
    return {node["class_type"] for node in prompt.values()}


def smoke(name: str, **titles) -> dict:
    """A shipped workflow at smoke size; `titles`: further changes."""
    prompt = load(name)
    return change(change(prompt, smoke_changes(prompt)), titles)


def give_prior(base: Path, like: Path | None = None) -> Path:
    """Put a prior of random weights into a host's model folder, where the loader lists it; `like`: a base whose file is copied."""
    from prior_fixtures import write_untrained_prior

    path = base / "models" / "bloom4d" / PRIOR
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_untrained_prior(path) if like is None else shutil.copy(give_prior(like), path)
    return path


def steps_of(run, prompt: dict, title: str) -> list[int]:
    """The progress that a node reported, step by step."""
    name = titled(prompt, title)
    states = [event.data["nodes"][name] for event in run.of("progress_state") if name in event.data["nodes"]]
    return sorted({int(state["value"]) for state in states if state["state"] == "running"} - {0})


def saved_field(run, prompt: dict, base: Path) -> Path:
    """The file that Save Field wrote."""
    name, = run.outputs[titled(prompt, "Save field")]["text"]
    return base / "output" / name
