"""Every node of the pack as ComfyUI describes it to the browser."""

import asyncio


def node_classes() -> list:
    """The pack's node classes; needs the host's modules in process (fixture `comfy`)."""
    from bloom4d.nodes.extension import Bloom4DExtension

    return asyncio.run(Bloom4DExtension().get_node_list())


def node_infos() -> dict:
    """Node id -> the dictionary of GET /object_info."""
    return {node.GET_SCHEMA().node_id: node.GET_NODE_INFO_V1() for node in node_classes()}


def inputs_of(info: dict):
    """Yield (dotted name, type, options) of every input, those inside dynamic inputs too, in order."""
    yield from _walk(info["input"], "")


def _walk(groups: dict, prefix: str):
    for group in ("required", "optional"):
        for name, (kind, *rest) in (groups.get(group) or {}).items():
            options = rest[0] if rest else {}
            yield prefix + name, kind, options
            for choice in options.get("options") or []:  # of a DynamicCombo
                if isinstance(choice, dict) and "inputs" in choice:
                    yield from _walk(choice["inputs"], f"{prefix}{name}.{choice['key']}.")
            if isinstance(options.get("template"), dict):  # of an Autogrow
                yield from _walk(options["template"]["input"], f"{prefix}{name}.")
