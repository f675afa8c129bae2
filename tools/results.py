"""The files that a finished prompt names, and where copies of them go. Standard library only."""

from pathlib import Path


def files_of(outputs: dict) -> list[dict]:
    """Every file in the host's output folder that a node names in its result, each once."""
    entries = [entry for node in outputs.values() for values in node.values() if isinstance(values, list) for entry in values]
    files = [entry for entry in entries if isinstance(entry, dict) and entry.get("type") == "output" and entry.get("filename")]
    return list({(file.get("subfolder", ""), file["filename"]): file for file in files}.values())


def inside(folder: Path, file: dict) -> Path:
    """Where the copy of a file that the host names goes; ValueError when its name leads out of `folder`."""
    target = folder / file.get("subfolder", "") / file["filename"]
    if not target.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"the host named a file outside its folder: {file}")
    return target
