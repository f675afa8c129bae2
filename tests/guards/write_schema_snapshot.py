"""Renew tests/guards/schema_snapshot.json from the nodes as they are.

Run it with the launcher's Python: `.venv/bin/python tests/guards/write_schema_snapshot.py`. COMFYUI_PATH names another host.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tools"), os.environ.get("COMFYUI_PATH", str(ROOT / ".host"))]
sys.argv = [sys.argv[0], "--cpu"]

import compat  # noqa: E402
import pack  # noqa: E402

if compat.needed():
    compat.apply()
pack.load_pack()

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import node_infos  # noqa: E402
import schemas  # noqa: E402

schemas.write_snapshot(node_infos.node_infos())
