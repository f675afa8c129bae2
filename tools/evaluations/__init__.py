"""Evaluations: a shipped workflow over a paper's prompts, an orbit through time for each result, scores beside published numbers.

One file NAME.json each, beside this one: `workflow`, title of the Save Field node whose field is judged (`field`), the inputs of
the Camera Path that looks at it (`orbit`) and the side of its pictures (`size`), `prompts` with the values that a paper sets for
each (`set`, by title), and `published`: what others report, and where.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import workflow

FOLDER = Path(__file__).resolve().parent
JUDGE = "Evaluation"
"""Title and label of the 4D Metrics node that is put behind the field."""
NO_CLIP = "none"


class EvaluationError(ValueError):
    """An evaluation cannot be used; the message is what its user reads."""


@dataclass(frozen=True)
class Case:
    """One prompt, the values that go with it, and who names it."""

    prompt: str
    set: dict
    source: str = ""


@dataclass(frozen=True)
class Evaluation:
    """What one file says."""

    name: str
    about: str
    workflow: str
    field: str
    orbit: dict
    size: int
    prompts: tuple[Case, ...]
    published: tuple[dict, ...]


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load(name: str) -> Evaluation:
    """An evaluation by its name; EvaluationError when there is none."""
    if name not in names():
        raise EvaluationError(f"There is no evaluation {name}. Choose one of: {', '.join(names())}.")
    content = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    cases = tuple(Case(entry["prompt"], entry.get("set", {}), entry.get("source", "")) for entry in content.pop("prompts"))
    return Evaluation(name=name, prompts=cases, published=tuple(content.pop("published")), **content)


def build(made: Evaluation, case: Case, seed: int, clip: str, settings: list[str]) -> dict:
    """The graph of one case with the judge behind its field; workflow.WorkflowError for a title that it lacks.

    clip: file of a CLIPModel in the host's model folder clip_vision. settings: further "Title.input=value".
    """
    prompt = workflow.load(made.workflow)
    workflow.set_prompt(prompt, case.prompt)
    workflow.set_seed(prompt, seed)
    for target, value in case.set.items():
        workflow.change(prompt, f"{target}={json.dumps(value)}")
    for setting in settings:
        workflow.change(prompt, setting)
    return prompt | judge(prompt, made, case.prompt, clip)


def judge(prompt: dict, made: Evaluation, text: str, clip: str) -> dict:
    """An orbit through time, its pictures over the field's own background, and their scores: the papers' protocol."""
    node, name = workflow.resolve(prompt, f"{made.field}.field")
    field = prompt[node]["inputs"][name]
    path, render, scores = (f"evaluation_{part}" for part in ("path", "render", "scores"))
    metrics = {"label": JUDGE, "views": 1, "prompt": text, "phenomenon": "none", "clip": clip, "lpips": "none", "filename_prefix": "bloom4d/scores/evaluation"}
    picture = {"field": field, "cameras": [path, 0], "width": made.size, "height": made.size, "background": "field"}
    return {
        path: {"class_type": "Bloom4DCameraPath", "inputs": dict(made.orbit), "_meta": {"title": "Evaluation orbit"}},
        render: {"class_type": "Bloom4DRenderField", "inputs": picture, "_meta": {"title": "Evaluation pictures"}},
        scores: {"class_type": "Bloom4DMetrics", "inputs": {**metrics, "images": [render, 0], "mask": [render, 1]}, "_meta": {"title": JUDGE}},
    }
