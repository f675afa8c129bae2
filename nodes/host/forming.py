"""While an optimiser runs: its Gaussians so far, in the Preview 4D nodes that wait for its result."""

import sys
import time
from collections.abc import Callable

from ...models.formats.viewer_file import pack_viewer_file
from ...models.formats.writing import write_bytes
from ...models.gaussians.gaussians import Gaussians4D
from ...models.gaussians.viewer import drawable, viewer_sequence
from . import paths

EVENT, VIEWER = "bloom4d.forming", "Bloom4DPreview4D"
SECONDS = 2.0  # between two views at least,
SHARE = 20.0  # and so many times what the last one took
FRAMES, BYTES = 8, 600_000  # of one view
_due: dict[str, float] = {}


def show_forming(node_id: str | None, gaussians: Gaussians4D | Callable[[], Gaussians4D]) -> bool:
    """Send what the node `node_id` has so far to the viewers behind it in the running prompt; True when it was sent.

    `gaussians`, or the function that makes them when a view is due. Call it as often as you like: a view is due every two
    seconds, and no view costs more than a twentieth of the time. Nothing is done without a viewer, a browser or a host; what
    goes wrong costs the view, never the run.
    """
    server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    started = time.monotonic()
    if node_id is None or server is None or server.client_id is None or started < _due.get(node_id, 0.0):
        return False
    viewers = viewers_behind(node_id, [item[2] for item in server.prompt_queue.get_current_queue_volatile()[0]])
    try:
        sent = bool(viewers) and _send(server, node_id, viewers, gaussians() if callable(gaussians) else gaussians)
    except (ValueError, RuntimeError, OSError):  # nothing to draw yet, too little memory, a full disk
        sent = False
    _due[node_id] = time.monotonic() + max(SECONDS, SHARE * (time.monotonic() - started))
    return sent


def viewers_behind(node_id: str, prompts: list[dict]) -> list[str]:
    """Ids of the Preview 4D nodes that something of `node_id` reaches, in the prompts that have such a node."""
    found = []
    for prompt in prompts:
        reached = {node_id}
        grown = True
        while grown:
            behind = {key for key, node in prompt.items() if key not in reached and _sources(node) & reached}
            reached, grown = reached | behind, bool(behind)
        if node_id in prompt:
            found += [key for key in reached - {node_id} if prompt[key].get("class_type") == VIEWER]
    return sorted(found)


def _sources(node: dict) -> set[str]:
    """Ids of the nodes that a prompt's node takes something from."""
    return {str(value[0]) for value in node.get("inputs", {}).values() if isinstance(value, list) and len(value) == 2}


def _send(server, node_id: str, viewers: list[str], gaussians: Gaussians4D) -> bool:
    step = max(-(-gaussians.frames // FRAMES), 1)
    some, _ = drawable(gaussians.at_frames(list(range(0, gaussians.frames, step))).to("cpu"), BYTES)
    path = paths.temporary_file(f"forming_{node_id.replace(':', '_')}.safetensors")
    write_bytes(path, pack_viewer_file(viewer_sequence(some, fps=max(some.frames - 1, 1) / 2)))
    file = {"filename": path.name, "subfolder": path.parent.name, "type": "temp", "stamp": str(time.time_ns())}
    server.send_sync(EVENT, {"viewers": viewers, "file": file}, server.client_id)
    return True
