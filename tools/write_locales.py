"""Bring locales/ in step with the nodes: `.venv/bin/python tools/write_locales.py` after adding or renaming a node.

English is written from the schemas. The other languages are translated by people, in their files: entries of nodes that are
gone are dropped, and nodes without a title are named, which makes the exit code 1. COMFYUI_PATH names another host.
"""

import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "locales"
TRANSLATED = ("zh", "ja", "de", "es")


def read(language: str) -> dict:
    """Node id -> {"display_name": title}; empty where there is no file yet."""
    path = FOLDER / language / "nodeDefs.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def write(language: str, titles: dict):
    path = FOLDER / language / "nodeDefs.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(sorted(titles.items())), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def english(infos: dict) -> dict:
    """What the English file must hold: the schemas' own names, since the browser prefers the file's."""
    return {name: {"display_name": info["display_name"]} for name, info in infos.items()}


def missing(language: str, infos: dict) -> list[str]:
    """Nodes without a title in a language, as they are called in English."""
    known = read(language)
    return [f"{name} ({info['display_name']})" for name, info in infos.items() if not known.get(name, {}).get("display_name")]


def main() -> int:
    sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "guards"), os.environ.get("COMFYUI_PATH", str(ROOT / ".host"))]
    sys.argv = [sys.argv[0], "--cpu"]
    import compat
    import pack

    if compat.needed():
        compat.apply()
    pack.load_pack()
    import comfy.options

    comfy.options.enable_args_parsing()
    import node_infos

    infos = node_infos.node_infos()
    write("en", english(infos))
    for language in TRANSLATED:
        write(language, {name: entry for name, entry in read(language).items() if name in infos})
    untold = {language: names for language in TRANSLATED if (names := missing(language, infos))}
    for language, names in untold.items():
        print(f"locales/{language}/nodeDefs.json has no title for {', '.join(names)}")
    return 1 if untold else 0


if __name__ == "__main__":
    sys.exit(main())
