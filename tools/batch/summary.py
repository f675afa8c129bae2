"""How the rows of a batch ended, as a table in a terminal. Standard library only."""

import show

SHOWN = 60  # rows; of a longer batch only those that did not end well are shown
WIDE = 100  # characters of the last column


def table(lines: list[dict]) -> str:
    """A line per row: number, status, time, folder or error; rows that repeat another name it."""
    chosen = lines if len(lines) <= SHOWN else [line for line in lines if line["status"] != "success"]
    rows = [("row", "status", "time", "folder or error")] + [cells(line) for line in chosen]
    left_out = [] if len(chosen) == len(lines) else [f"({len(lines) - len(chosen)} rows that ended well are not shown)"]
    return "\n".join(aligned(rows) + left_out)


def cells(line: dict) -> tuple[str, ...]:
    words = line["error"] or (line["folder"] if line["outputs"] else "no files")
    same = f" (same as row {line['same_as']})" if line["same_as"] else ""
    return str(line["row"]), line["status"], show.clock(line["seconds"]), words[:WIDE] + same


def aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Columns of equal width, the last one free."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
