"""All rows of a batch on one host: what is finished is skipped, what fails stops nothing else."""

from pathlib import Path

import show

from . import places
from .attempts import run_row
from .manifest import NAME, Manifest
from .rows import Row


def run_rows(rows: list[Row], out: Path, host: str | None = None, *, ray: str | None = None, cores: int = 0,
             announce=print, interrupter=None, lines=True) -> list[dict]:
    """Run every row that has not finished yet; the manifest lines of all rows that have one, in the order of `rows`.

    out: folder of the batch; OUT/manifest.jsonl gets a line as soon as a row ended. host: URL of a running server; None starts
    and ends a ComfyUI of ours (and starts it again once for a row in which it ended). Rows with equal prompts run once.
    ray: address of a Ray cluster instead, with a host for each of its GPUs or for each `cores` (see cluster.py).
    interrupter: stops after Ctrl-C. lines: whether to show each node. Raises host.HostFailed, ManifestError, cluster.ClusterError.
    """
    with Manifest(Path(out) / NAME).writing() as manifest:
        first = {}
        for row in rows:
            first.setdefault(row.key, row)
        waiting = [row for row in first.values() if manifest.finished(row.key) is None]
        if len(waiting) < len(first):
            announce(f"{len(first) - len(waiting)} of {len(first)} rows are finished already and are left as they are.")
        if waiting and ray is not None:
            from . import cluster

            cluster.run_all(waiting, ray, cores, manifest, announce, interrupter)
        elif waiting:
            with place_of(host, announce) as place:
                run_all(waiting, place, manifest, announce, interrupter, lines)
        return listed(rows, first, manifest)


def place_of(host: str | None, announce):
    return places.OwnHost(announce) if host is None else places.GivenServer(host)


def run_all(rows: list[Row], place, manifest: Manifest, announce, interrupter, lines: bool):
    """Run rows one after the other until one was interrupted."""
    place.check([row.prompt for row in rows])
    for number, row in enumerate(rows, 1):
        announce(f"--- {number}/{len(rows)}  row {row.number}: {describe(row)}")
        line = run_row(row, place, manifest.path.parent, announce, interrupter, lines)
        manifest.append(line)
        announce(f"    {line['status']} after {show.clock(line['seconds'])}  " + (line["error"] or (str(manifest.path.parent / line["folder"]) if line["outputs"] else "")))
        if line["status"] == "interrupted" or interrupter is not None and interrupter.pressed:
            return


def describe(row: Row) -> str:
    return ", ".join(f"{name}={value}" for name, value in row.inputs.items()) or row.name


def listed(rows: list[Row], first: dict, manifest: Manifest) -> list[dict]:
    """A line per row. Equal rows get a line of their own that names the one that ran; moved rows get their new number."""
    result = []
    for row in rows:
        line = manifest.find(row.key)
        if line is None:
            continue
        same_as = None if first[row.key] is row else first[row.key].number
        now = {**line, "row": row.number, "inputs": row.inputs, "same_as": same_as}
        if now != line:
            manifest.append(now)
        result.append(now)
    return result
