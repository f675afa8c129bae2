"""Which model files a prompt names, and their hashes, read from the host's model folders where these are on this machine."""

import asyncio
import os
from pathlib import Path

from .manifest import sha256_of

ENDINGS = (".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".gguf")
LONGEST = 250  # characters; longer ones are texts, and no file system has such names
NOT_MODELS = ("custom_nodes", "configs")
REMOTE, MISSING = "unknown: remote host", "unknown: in no model folder of the host"


def named_models(prompt: dict) -> list[str]:
    """Every input value that reads like a model file's name, sorted."""
    values = {value for node in prompt.values() for value in node["inputs"].values() if isinstance(value, str)}
    return sorted(value for value in values if value.lower().endswith(ENDINGS) and len(value) < LONGEST and value.isprintable())


async def model_hashes(connection, prompt: dict, local: bool) -> tuple[dict, dict]:
    """({file: sha256 or why it is unknown}, {file: path}) of the models that a prompt names.

    A name that several model folders have is listed once for each, as "folder/name". Nothing is assumed about a remote host.
    """
    names = named_models(prompt)
    if not names or not local:
        return {name: REMOTE for name in names}, {}
    folders = await connection.get_json("/internal/folder_paths")
    hashes, paths = {}, {}
    for name in names:
        found = find(folders, name)
        for kind, path in found.items():
            label = name if len(found) == 1 else f"{kind}/{name}"
            hashes[label], paths[label] = await asyncio.to_thread(sha256_of, path), str(path)
        if not found:
            hashes[name] = MISSING
    return hashes, paths


def find(folders: dict, name: str) -> dict[str, Path]:
    """{kind: path} of a file below the host's model folders, or among the weights that a node pack ships."""
    places = [(kind, Path(folder)) for kind, paths in folders.items() if kind not in NOT_MODELS for folder in paths]
    packs = [entry for folder in folders.get("custom_nodes", []) for entry in _entries(folder)]
    places += [(pack.name, pack / "models" / "weights") for pack in packs]
    found, seen = {}, set()
    for kind, folder in places:
        path = folder / name
        if path.is_file() and kind not in found and os.path.realpath(path) not in seen:
            seen.add(os.path.realpath(path))
            found[kind] = path
    return found


def _entries(folder: str) -> list[Path]:
    return sorted(Path(folder).iterdir()) if Path(folder).is_dir() else []
