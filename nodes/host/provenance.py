"""What saved files say about the prompt that made them, as the host's savers do it.

Our own savers write it themselves. SaveVideo, SaveGLB and SaveImage copy `extra_pnginfo` of the prompt into their files, so
the mark is added there when a prompt with a node of ours is queued.
"""

import json

from comfy.cli_args import args
from comfy.model_management import get_torch_device

from ...models.formats.provenance import KEY, Provenance, mark
from ...models.render.backend import summary
from . import pack

MADE_WITH = {"MODEL", "FIELD_4D"}
"""Outputs that only a trained model, or what was optimised with one, gives."""


def of(hidden) -> Provenance:
    """The provenance of the running prompt; `hidden`: the saver's `cls.hidden`. Empty with --disable-metadata.

    Our own savers also tell which backends run here: another one rounds otherwise. The host's savers write what was known when
    the prompt was queued, before any backend has proved itself.
    """
    if args.disable_metadata or hidden is None:
        return Provenance()
    texts = {} if hidden.prompt is None else {"prompt": json.dumps(hidden.prompt)}
    texts |= {name: json.dumps(value) for name, value in (hidden.extra_pnginfo or {}).items() if name != KEY}
    return Provenance(texts, {**mark_of(hidden.prompt or {}), "backends": summary(get_torch_device())})


def mark_of(prompt: dict) -> dict[str, str]:
    """Pack and version, and whether what the prompt makes is AI-generated."""
    import nodes as host_nodes  # late: importing it loads half of the host

    classes = {node["class_type"] for node in prompt.values()}
    made = {kind for name in classes for kind in getattr(host_nodes.NODE_CLASS_MAPPINGS.get(name), "RETURN_TYPES", ())}
    return mark(pack.version(), bool(made & MADE_WITH))


def mark_prompt(request):
    """A request of POST /prompt with our mark in its `extra_pnginfo`; the very same when no node of ours is in it.

    A request of a shape that the host does not know is the host's to answer.
    """
    try:
        ours = any(node["class_type"].startswith("Bloom4D") for node in request["prompt"].values())
        return _marked(request) if ours and not args.disable_metadata else request
    except (AttributeError, KeyError, TypeError):
        return request


def _marked(request: dict) -> dict:
    extra = request.get("extra_data") or {}
    information = {**(extra.get("extra_pnginfo") or {}), KEY: mark_of(request["prompt"])}
    return {**request, "extra_data": {**extra, "extra_pnginfo": information}}
