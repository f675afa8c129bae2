"""A workflow queued on a running ComfyUI for the field that it saves: what the tools that judge fields share."""

from pathlib import Path

import client
import show
import workflow

SAVE = "Save field"


async def make(address: str, content: dict, folder: Path) -> tuple[Path, client.Run]:
    """Queue a graph, follow it to the end, fetch what its node "Save field" wrote; returns the copy and the finished run."""
    lines = show.Lines({node: workflow.title(node, entry) for node, entry in content.items()})

    async def watch(event, _):
        lines.handle(event)

    async with client.Client(address) as connection:
        run = await connection.run(content, watch)
        lines.finish()
        if run.status != "success":
            raise SystemExit(f"The workflow ended with {run.status}: {run.error['exception_message'].strip() if run.status == 'error' else ''}")
        saved = Path(texts_of(run, content, SAVE)[0])
        path = folder / saved.name
        path.write_bytes(await connection.view({"filename": saved.name, "subfolder": saved.parent.as_posix(), "type": "output"}))
        return path, run


def texts_of(run: client.Run, content: dict, title: str) -> list[str]:
    """What the node of this title showed as text."""
    node = next(node for node, entry in content.items() if workflow.title(node, entry) == title)
    return run.outputs.get(node, {}).get("text", [])
