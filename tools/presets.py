"""Presets of a workflow: named values of its widgets, which the browser's file carries in extra.bloom4d_presets. Standard library only."""

import json

import workflow
from workflow import WorkflowError

KEY = "bloom4d_presets"


def by_node(prompt: dict, presets: dict) -> dict:
    """{name: {about, set: {"Title.input": value}}} with nodes in the place of titles; WorkflowError for a value that nothing takes."""
    found = {}
    for name, preset in presets.items():
        values = {}
        for target, value in preset["set"].items():
            node, widget = workflow.resolve(prompt, target)
            values.setdefault(node, {})[widget] = workflow.fitting(prompt[node]["inputs"][widget], value, target)
        found[name] = {"about": preset["about"], "values": values}
    return found


def of_workflow(name: str) -> dict:
    """The presets of a workflow that we ship, by its name or path; none for any other file."""
    path = workflow.FOLDER.parent / f"{workflow.find(name).stem}.json"
    if not path.is_file():
        return {}
    return json.loads(path.read_text(encoding="utf-8")).get("extra", {}).get(KEY, {})


def apply(prompt: dict, names: list[str], presets: dict):
    """Set the values of these presets in place, one after the other; WorkflowError for a name that there is not."""
    for name in names:
        if name not in presets:
            raise WorkflowError(f'--preset "{workflow.cut(name)}": this workflow has ' + (", ".join(presets) if presets else "no presets") + ".")
        for node, values in presets[name]["values"].items():
            prompt[node]["inputs"].update(values)
