"""Sets of workflow variants: a shipped workflow, changes that all rows share, and named rows with changes of their own.

A set is one file NAME.json beside this one. Changes, all by the titles that people see in the graph:

    "set":   {"Title.input": value}                        one value, of the kind that stands there
    "link":  {"Title.input": ["Other title", slot]}        one connection; past a node in between, which is bypassed so
    "terms": {"Stage title": {"Term title": probability}}  the terms of a Stage and how often each is drawn
    "node":  {"Title": {"class_type": ..., "inputs": ...}} another node in the same place; a list [title, slot] is a link
"""

import copy
import json
import math
from dataclasses import dataclass
from pathlib import Path

import workflow

FOLDER = Path(__file__).resolve().parent
DIRECTIONS = ("up", "down")
CHANGES = ("set", "link", "terms", "node")


class SetError(ValueError):
    """A set cannot be used; the message is what its author reads."""


@dataclass(frozen=True)
class Expected:
    """What should happen to a score when a row is compared with the first one, and who says so."""

    row: str
    score: str
    direction: str
    source: str


@dataclass(frozen=True)
class AblationSet:
    """field: title of the Save Field node whose file is judged; only what it needs is run. The first row is the reference."""

    name: str
    about: str
    workflow: str
    prompt: str
    seeds: tuple[int, ...]
    field: str
    base: dict
    rows: dict[str, dict]
    expected: tuple[Expected, ...]
    columns: tuple[str, ...]
    reading: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        return next(iter(self.rows))


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load_set(name: str) -> AblationSet:
    """A set by its name or path; SetError when it is not one."""
    path = FOLDER / f"{name}.json" if name in names() else Path(name)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise SetError(f"There is no ablation set {name}. Give a path or one of: {', '.join(names())}.") from None
    except ValueError as error:
        raise SetError(f"{path} is not JSON: {error}") from None
    try:
        expected = tuple(Expected(**entry) for entry in content.pop("expected"))
        tuples = {key: tuple(content.pop(key)) for key in ("seeds", "columns", "reading") if key in content}
        made = AblationSet(name=path.stem, expected=expected, **tuples, **content)
    except (TypeError, KeyError, AttributeError) as error:
        raise SetError(f"{path} is no ablation set: {error}.") from None
    check(made)
    return made


def check(made: AblationSet):
    """SetError for a name that nothing bears."""
    for row, changes in {"base": made.base, **made.rows}.items():
        unknown = changes.keys() - {"about", *CHANGES}
        if unknown:
            raise SetError(f'{made.name}: "{row}" has {", ".join(sorted(unknown))}; a row may have about, {", ".join(CHANGES)}.')
    for entry in made.expected:
        if entry.row not in made.rows or entry.score not in made.columns or entry.direction not in DIRECTIONS:
            raise SetError(f"{made.name}: the expectation {entry.row}, {entry.score}, {entry.direction} names no row, no column or no direction of the set.")


def build(made: AblationSet, row: str, seed: int, settings: tuple[str, ...] = ()) -> dict:
    """The prompt of one row with one seed in every node; `settings`: further "Title.input=value" from the command line."""
    prompt = workflow.load(made.workflow)
    try:
        workflow.set_prompt(prompt, made.prompt)
        workflow.set_seed(prompt, seed)
        for changes in (made.base, made.rows[row]):
            apply(prompt, changes)
        workflow.set_seed(prompt, seed)  # nodes that came with the changes have a seed too
        prompt = needed(prompt, made.field)
        for setting in settings:
            workflow.change(prompt, setting)
    except workflow.WorkflowError as error:
        raise SetError(f'{made.name}, row "{row}": {error}') from None
    return prompt


def apply(prompt: dict, changes: dict):
    """Apply a row's changes in place."""
    for title, node in changes.get("node", {}).items():
        inputs = {name: linked(prompt, value) for name, value in node["inputs"].items()}
        prompt[find(prompt, title)].update(class_type=node["class_type"], inputs=inputs)
    for stage, terms in changes.get("terms", {}).items():
        set_terms(prompt, stage, terms)
    for target, link in changes.get("link", {}).items():
        node, name = workflow.resolve(prompt, target)
        prompt[node]["inputs"][name] = linked(prompt, link)
    for target, value in changes.get("set", {}).items():
        node, name = workflow.resolve(prompt, target)
        prompt[node]["inputs"][name] = workflow.convert(prompt[node]["inputs"][name], value if isinstance(value, str) else json.dumps(value), target)


def set_terms(prompt: dict, stage: str, terms: dict[str, float]):
    """Give a Stage these terms; their probabilities must sum to 1."""
    if not math.isclose(sum(terms.values()), 1.0, abs_tol=1e-3):
        raise workflow.WorkflowError(f"the probabilities of {stage} sum to {sum(terms.values()):g}, not to 1.")
    inputs = prompt[find(prompt, stage)]["inputs"]
    for name in [name for name in inputs if name.startswith("terms.")]:
        del inputs[name]
    inputs |= {f"terms.term{number}": [find(prompt, title), 0] for number, title in enumerate(terms)}
    inputs["probabilities"] = ", ".join(f"{probability:g}" for probability in terms.values())


def find(prompt: dict, title: str) -> str:
    """The id of the one node with this title."""
    found = [node_id for node_id, node in prompt.items() if workflow.title(node_id, node) == title]
    if len(found) != 1:
        raise workflow.WorkflowError(f'{len(found)} nodes are titled "{title}"; titles: ' + ", ".join(sorted({workflow.title(*item) for item in prompt.items()})))
    return found[0]


def linked(prompt: dict, value):
    """A link by title as one by id; any other value as it is."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int):
        return [find(prompt, value[0]), value[1]]
    return value


def needed(prompt: dict, title: str) -> dict:
    """The node with this title and all that it depends on, in the workflow's order."""
    kept, waiting = set(), [find(prompt, title)]
    while waiting:
        name = waiting.pop()
        kept.add(name)
        waiting += [value[0] for value in prompt[name]["inputs"].values() if isinstance(value, list)]
    return copy.deepcopy({name: node for name, node in prompt.items() if name in kept})
