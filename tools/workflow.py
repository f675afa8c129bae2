"""API-format workflows from files, and changes to them from the command line. Standard library only."""

import contextlib
import difflib
import json
import math
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "workflows" / "api"
SEEDS = ("seed", "noise_seed")
TEXTS = ("text", "prompt", "value")


class WorkflowError(ValueError):
    """The file or a change to it cannot be used; the message is what the user reads."""


def cut(text: str, length: int = 60) -> str:
    """A text for a message: one line, shortened."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 3] + "..."


def load(name: str) -> dict:
    """A prompt {node id: {class_type, inputs, _meta}} from a path, or from the name of a workflow that we ship.

    A file saved by the browser (UI format) stands for the API-format file of the same name in workflows/api.
    """
    path = find(name)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise WorkflowError(f"{path} is nested too deeply for a workflow: in the browser use File > Export (API).") from None
    except (OSError, ValueError) as error:
        raise WorkflowError(f"{path} is not JSON: {cut(str(error))}") from None
    if isinstance(content, dict) and isinstance(content.get("nodes"), list):
        return load_twin(path)
    if not isinstance(content, dict) or not all(map(is_node, content.values())):
        raise WorkflowError(f"{path} is not a workflow in API format: in the browser use File > Export (API).")
    return content


def is_node(node) -> bool:
    """Whether this is a node of an API-format file: a class, inputs, and a title that is text where there is one."""
    if not isinstance(node, dict) or not isinstance(node.get("class_type"), str) or not isinstance(node.get("inputs"), dict):
        return False
    meta = node.get("_meta", {})
    return isinstance(meta, dict) and isinstance(meta.get("title", ""), str)


def find(name: str) -> Path:
    for path in (Path(name), FOLDER / name, FOLDER / f"{name}.json"):
        with contextlib.suppress(OSError):  # a name that is too long
            if path.is_file():
                return path
    known = ", ".join(sorted(path.stem for path in FOLDER.glob("*.json"))) or "none"
    raise WorkflowError(f"there is no workflow {cut(name)}: give a path, or one of these names.\n{known}")


def load_twin(path: Path) -> dict:
    twin = FOLDER / path.name
    if not twin.is_file() or twin.resolve() == path.resolve():
        raise WorkflowError(f"{path} is in the browser's format, which only the browser can queue: use File > Export (API) there.")
    return load(str(twin))


def title(node_id: str, node: dict) -> str:
    return node.get("_meta", {}).get("title") or node["class_type"]


def change(prompt: dict, assignment: str):
    """Apply one "Title.input=value" (or "id.input=value", "Class.input=value") in place; the value is read as JSON where that fits, else as text."""
    target, equals, value = assignment.partition("=")
    if not equals:
        raise WorkflowError(f'--set "{cut(assignment)}" has no "=": write --set "Title.input=value".')
    node_id, name = resolve(prompt, target)
    prompt[node_id]["inputs"][name] = convert(prompt[node_id]["inputs"][name], value, target)


def resolve(prompt: dict, target: str) -> tuple[str, str]:
    """(node id, input name) of "Title.input". Titles and input names may contain dots, so known titles decide.

    A node's number and its class stand for its title too: a graph exported from a page in another language has other titles.
    """
    found = [(node_id, target[len(name) + 1 :]) for node_id, node in prompt.items() for name in {title(node_id, node), node_id, node["class_type"]}
             if target.startswith(name + ".")]
    found = [(node_id, name) for node_id, name in found if name in prompt[node_id]["inputs"]] or found
    if not found:
        raise WorkflowError(f'no node is titled like "{cut(target)}"; titles: ' + nearest(target.partition(".")[0], {title(*item) for item in prompt.items()}))
    if len(found) > 1:
        raise WorkflowError(f'"{cut(target)}" fits several nodes; use an id: ' + ", ".join(f"{node_id}.{name}" for node_id, name in found))
    node_id, name = found[0]
    if name not in prompt[node_id]["inputs"]:
        raise WorkflowError(f'"{cut(title(node_id, prompt[node_id]))}" has no input {cut(name)}; it has ' + ", ".join(map(cut, prompt[node_id]["inputs"])))
    return node_id, name


def nearest(name: str, names: set, shown: int = 6) -> str:
    """Names for a message: all of a few, else those that look like `name`, else the first."""
    found = sorted(names) if len(names) <= shown else difflib.get_close_matches(name, sorted(names), shown, 0.5) or sorted(names)[:shown]
    return ", ".join(map(cut, found)) + ("" if len(found) == len(names) else f" (of {len(names)})")


def convert(old, text: str, target: str):
    """The new value in the type of the old one."""
    if isinstance(old, str):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    return fitting(old, value, target, text)


def fitting(old, value, target: str, shown: str | None = None):
    """`value` when it is of the old one's kind and finite; WorkflowError otherwise. shown: how the message writes it."""
    if isinstance(old, list) and len(old) == 2 and isinstance(old[0], str):
        raise WorkflowError(f'"{cut(target)}" is connected to another node and has no value of its own to set.')
    if not same_kind(old, value):
        raise WorkflowError(f'"{cut(target)}" holds {cut(json.dumps(old))}, and {cut(json.dumps(value) if shown is None else shown)} is no value of that kind.')
    return value


def same_kind(old, value) -> bool:
    if isinstance(old, (bool, str)):
        return type(value) is type(old)
    if isinstance(old, (int, float)):
        return isinstance(value, int) and not isinstance(value, bool) or isinstance(value, float) and math.isfinite(value)
    return value is not None


def set_prompt(prompt: dict, text: str):
    """Put a text into the node titled "Prompt", in place."""
    node_id, name = prompt_place(prompt, "--prompt")
    prompt[node_id]["inputs"][name] = text


def prompt_place(prompt: dict, what: str) -> tuple[str, str]:
    """(node id, input name) of the text in the node titled "Prompt"; `what` names in an error who asks."""
    places = [(node_id, name) for node_id, node in prompt.items() for name in TEXTS
              if title(node_id, node) == "Prompt" and isinstance(node["inputs"].get(name), str)]
    if len(places) != 1:
        raise WorkflowError(f'{what} needs exactly one node titled "Prompt" with a text, this workflow has {len(places)}: '
                            'set "Title.text" instead.')
    return places[0]


def set_seed(prompt: dict, seed: int):
    """Put a seed into every seed input that is a value, in place."""
    for node_id, name in seed_places(prompt, "--seed"):
        prompt[node_id]["inputs"][name] = seed


def seed_places(prompt: dict, what: str) -> list[tuple[str, str]]:
    """(node id, input name) of every seed that is a value; `what` names in an error who asks."""
    places = [(node_id, name) for node_id, node in prompt.items() for name in SEEDS if isinstance(node["inputs"].get(name), int)]
    if not places:
        raise WorkflowError(f"{what} has nothing to set: no node of this workflow has a seed.")
    return places
