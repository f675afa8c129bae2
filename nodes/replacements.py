"""Node ids that are not ours any more, or never were, and what stands in their place: the one table of them.

ComfyUI's frontend offers the replacement when a graph with an old id is opened. No published id has changed yet. The first
row is the spelling that prompts written by hand use, since the papers and our own texts say "optimiser".

A row may keep inputs under their old names, rename them, or set values. Frontend 1.47 leaves inputs with dots in their names
(Autogrow, children of a DynamicCombo) as they are on a new node, so a node that has such inputs keeps its id for good.
"""

from comfy_api.latest import ComfyAPI, io


def renamed(old: str, new: str, widgets: list[str], sockets: list[str], outputs: int) -> io.NodeReplace:
    """Another id for the same inputs. widgets: in the order of a saved graph's `widgets_values`, so with `control_after_generate`."""
    inputs = [{"new_id": name, "old_id": name} for name in (*sockets, *widgets)]
    return io.NodeReplace(new, old, widgets, inputs, [{"new_idx": index, "old_idx": index} for index in range(outputs)])


REPLACEMENTS = [
    renamed(
        "Bloom4DHybridSDSOptimiser",
        "Bloom4DHybridSDSOptimizer",
        widgets=["steps", "seed", "control_after_generate", "resume", "checkpoint", "filename_prefix", "preview_interval", "checkpoint_interval", "time_budget", "step_budget"],
        sockets=["field", "stage", "renderer"],
        outputs=3,
    ),
]


async def register() -> None:
    """Tell the host, which tells the frontend."""
    api = ComfyAPI()
    for replacement in REPLACEMENTS:
        await api.node_replacement.register(replacement)


def renew_prompt(request):
    """A request of POST /prompt with old ids replaced, before the host does it.

    The host answers 500 when a node has no `_meta` or when an optional input is not connected, as API prompts usually are.
    """
    rows = {row.old_node_id: row for row in REPLACEMENTS}
    try:
        prompt = {name: _renew(node, rows.get(node["class_type"])) for name, node in request["prompt"].items()}
        return {**request, "prompt": prompt}
    except (AttributeError, KeyError, TypeError):  # of a shape that the host does not know: the host answers it
        return request


def _renew(node: dict, row: io.NodeReplace | None) -> dict:
    """`node` by its new id. Outputs keep their places: no row moves them."""
    if row is None:
        return node
    inputs = {}
    for entry in row.input_mapping:
        if "set_value" in entry:
            inputs[entry["new_id"]] = entry["set_value"]
        elif entry["old_id"] in node["inputs"]:
            inputs[entry["new_id"]] = node["inputs"][entry["old_id"]]
    return {**node, "class_type": row.new_node_id, "inputs": inputs}
