"""One row on a host that may be lost in the middle of it."""

from pathlib import Path

import client
import show

from .executor import HostLost, execute_row, started_line
from .rows import Row


def run_row(row: Row, place, out: Path, announce, interrupter, lines: bool) -> dict:
    """One row's line; a row in which the host was lost is tried once more."""
    for attempt in (1, 2):
        shown = show.Lines({node: client.title_of(row.prompt, node) for node in row.prompt}) if lines else None
        try:
            line = execute_row(place.address, row, out, where=place.where, local=place.local, on_event=shown and shown.handle, interrupter=interrupter)
            if shown:
                shown.finish()
            return line
        except HostLost:
            words = place.last_words()
            if interrupter is not None and interrupter.pressed:
                return {**started_line(row, place.where), "status": "interrupted"}
            place.recover()
            announce(f"    the host was lost in this row: {words}")
    return {**started_line(row, place.where), "error": f"the host was lost twice in this row: {words}"}
