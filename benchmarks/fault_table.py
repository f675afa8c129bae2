"""Faults injected into a running ComfyUI, as a page: what the user reads, what is kept, what queueing again gives.

`.venv/bin/python benchmarks/fault_table.py` runs the tests of faults and writes docs/fault_table.md from what its tests note;
a fault whose test fails is not on the page, and the exit status says so.
"""

import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ("tests/host/test_faults.py", "tests/host/test_save_4d.py")
COLUMNS = ("fault", "first line", "kept", "queued again")
PAGE = """# Faults and what they leave

| {head} |
|{rule}|
{rows}

First lines as a user reads them, folders shortened to `...`. "Same bytes": the saved field equals the one of another ComfyUI on another folder that nothing
happened to. After every fault the queue goes on with the next prompt, no temporary file stays, and no unfinished file of ours bears a final name.
Written by `benchmarks/fault_table.py`.
"""


def noted(report: Path) -> list[dict[str, str]]:
    """What every passed test noted about its fault."""
    rows = []
    for case in xml.parse(report).getroot().iter("testcase"):
        properties = {item.get("name"): item.get("value") for item in case.iter("property")}
        if set(COLUMNS) <= properties.keys() and case.find("failure") is None and case.find("error") is None:
            rows.append(properties)
    return rows


def cell(text: str) -> str:
    """One cell of a table, without folders of this machine."""
    return re.sub(r"(/[\w.-]+){2,}", "...", text).replace("|", "\\|")


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS, f"--junitxml={report}", "-o", "junit_family=xunit1"]
        status = subprocess.run([*command, *sys.argv[1:]], cwd=ROOT).returncode
        rows = noted(report)
    lines = "\n".join("| " + " | ".join(cell(row[column]) for column in COLUMNS) + " |" for row in rows)
    page = PAGE.format(head=" | ".join(COLUMNS), rule="---|" * (len(COLUMNS) - 1) + "---", rows=lines)
    (ROOT / "docs" / "fault_table.md").write_text(page, encoding="utf-8")
    print(f"{len(rows)} faults")
    return status


if __name__ == "__main__":
    sys.exit(main())
