"""One row on one running host: queue its prompt, copy what it saved, and tell how it went as a line of the manifest."""

import asyncio
import hashlib
import math
import shutil
import time
from datetime import datetime, timezone
from pathlib import Path

import aiohttp
import client
import interrupt
from results import files_of, inside

from .model_files import model_hashes
from .rows import Row

LOST = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, aiohttp.WSServerHandshakeError, ConnectionError, asyncio.TimeoutError)


class HostLost(ConnectionError):
    """The host cannot be reached or went away in the middle of a row; the row may be tried again on another one."""


def execute_row(address: str, row: Row, out: Path, *, where: str = "", local: bool = True, on_event=None, interrupter=None) -> dict:
    """Run `row` on the host at `address` (see client.Client) and return its line for the manifest; blocks until it ended.

    Files go to out/row.name, which appears only when all of them are there. where: what the line says about the place.
    local: whether the host's model folders are on this machine. on_event(event) sees what happens. interrupter: see
    tools/interrupt.py. A refused or failed prompt is a line with status "error"; a lost host raises HostLost.
    """
    return asyncio.run(_execute(address, row, Path(out), where, local, on_event, interrupter))


async def _execute(address, row, out, where, local, on_event, interrupter) -> dict:
    line = started_line(row, where or address)
    try:
        async with client.Client(address) as connection:
            line["models"], line["model_paths"] = await model_hashes(connection, row.prompt, local)
            began = time.monotonic()
            run = await _run(connection, row, on_event, interrupter)
            line["seconds"] = round(time.monotonic() - began, 3)
            await _conclude(connection, row, run, out, line)
    except client.Rejected as refusal:
        line["error"] = f"the workflow was refused: {'; '.join(str(refusal).splitlines())}"
    except LOST as error:
        raise HostLost(f"{line['where']} does not answer any more: {first_line(str(error)) or type(error).__name__}") from error
    except aiohttp.ClientResponseError as error:
        if error.status >= 500:
            raise HostLost(f"{line['where']} answered with status {error.status}") from error
        line["error"] = (f"the host answered {error.status} for {error.request_info.url.path_qs}: a file that it wrote is gone, "
                         "and its cache does not know that; restart it and give the same command.")
    except OSError as error:
        line["error"] = f"the results cannot be written to {out / row.name}: {error.strerror or error}. Make room or give another --out."
    except ValueError as error:
        line["error"] = f"the host's answer cannot be used: {first_line(str(error))}"
    return line


def started_line(row: Row, where: str) -> dict:
    """The line of a row of which nothing is known yet: status error until something better happened."""
    return {"row": row.number, "key": row.key, "folder": row.name, "inputs": row.inputs, "seed": row.seed, "models": {}, "model_paths": {},
            "outputs": [], "hashes": {}, "bytes": 0, "scores": {}, "seconds": 0.0, "status": "error", "error": None, "where": where,
            "ended": datetime.now(timezone.utc).isoformat(timespec="seconds"), "same_as": None}


async def _run(connection, row: Row, on_event, interrupter) -> client.Run:
    async def handle(event, prompt_id):
        if on_event is not None:
            on_event(event)

    return await interrupt.run(connection, row.prompt, handle, interrupter)


async def _conclude(connection, row: Row, run: client.Run, out: Path, line: dict):
    """Fill in how the run ended; the files of a run that did not end well are not results and stay on the host."""
    line["ended"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
    if run.status == "error":
        line["error"] = f"{client.title_of(row.prompt, run.error['node_id'])}: {first_line(run.error['exception_message']) or run.error['exception_type']}"
    elif run.status == "success":
        line["hashes"], line["bytes"] = await _copy_all(connection, files_of(run.outputs), out / row.name)
        line["outputs"] = list(line["hashes"])
        line["scores"] = scores_of(run.outputs, row.prompt)
    line["status"] = run.status


def first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


async def _copy_all(connection, files: list[dict], folder: Path) -> tuple[dict, int]:
    """({path below folder: sha256}, bytes together); the folder is filled under another name and then renamed."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        copied = {name: entry for name, *entry in [await _copy(connection, file, partial) for file in files]}
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return {name: digest for name, (digest, _) in copied.items()}, sum(size for _, size in copied.values())


async def _copy(connection, file: dict, folder: Path) -> tuple[str, str, int]:
    """(path below folder, sha256, bytes) of a copied file."""
    target = inside(folder, file)
    content = await connection.view({"subfolder": "", **file})
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return target.relative_to(folder).as_posix(), hashlib.sha256(content).hexdigest(), len(content)


def scores_of(outputs: dict, prompt: dict) -> dict:
    """{label: {name: value}} of every node's `scores`; two nodes with one label are told apart by their titles."""
    scores = {}
    for node_id, values in outputs.items():
        for entry in values.get("scores") or []:
            if isinstance(entry, dict) and isinstance(entry.get("values"), dict):
                label = str(entry.get("label", ""))
                label = label if label not in scores else f"{label} ({client.title_of(prompt, node_id)} {node_id})"
                scores[label] = {str(name): number(value) for name, value in entry["values"].items()}
    return scores


def number(value) -> float | None:
    """A finite number, else None."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
