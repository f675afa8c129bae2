"""What importing the pack touches, and which connections this process may make."""

import json
import os
import socket
import subprocess
import sys

import pytest
from rooms import ROOT

OPTIONAL = {"diffusers", "skimage", "pygltflib", "warp", "gsplat", "tinycudann", "nvdiffrast", "accelerate", "ray", "torchmetrics", "lpips"}
LOAD = """
import asyncio, json, sys
sys.path[:0] = [{tools!r}, {host!r}]
sys.argv = ["host", "--cpu"]
import compat, pack
if compat.needed():
    compat.apply()
import comfy.options
comfy.options.enable_args_parsing()
import comfy.sd, nodes
before = set(sys.modules)
extension = asyncio.run(pack.load_pack().comfy_entrypoint())
for node in asyncio.run(extension.get_node_list()):
    node.GET_SCHEMA()
print(json.dumps(sorted({{name.split(".")[0] for name in set(sys.modules) - before}})))
"""


def loaded_by(code: str, host_tree) -> set[str]:
    """Top-level modules that loading the pack adds to a process with the host in it."""
    script = LOAD.format(tools=str(ROOT / "tools"), host=str(host_tree)) if not code else code
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=dict(os.environ))
    assert answer.returncode == 0, answer.stderr[-2000:]
    return set(json.loads(answer.stdout.splitlines()[-1]))


def test_import_touches_no_optional_package(host_tree):
    added = loaded_by("", host_tree)
    assert "bloom4d" in added
    assert added & OPTIONAL == set()


def test_models_work_without_the_host():
    code = ("import json, sys; sys.path.insert(0, {0!r}); import pack; pack.load_pack(); import bloom4d.models.geometry.cameras; "
            "print(json.dumps(sorted(name.split('.')[0] for name in sys.modules)))").format(str(ROOT / "tools"))
    assert loaded_by(code, None) & (OPTIONAL | {"comfy", "comfy_api", "folder_paths"}) == set()


def test_the_check_sees_an_import():
    code = "import json, sys; import ast; sys.modules['gsplat'] = ast; print(json.dumps(list(sys.modules)))"
    assert loaded_by(code, None) & OPTIONAL == {"gsplat"}


@pytest.mark.parametrize("address", ["192.0.2.1", "example.invalid", "8.8.8.8"])
def test_connections_to_other_machines_raise(address):
    with pytest.raises(PermissionError, match="offline guard"):
        socket.create_connection((address, 80), timeout=0.1)


def test_connections_to_this_machine_pass():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.create_connection(listener.getsockname(), timeout=1) as connection:
            assert connection.getpeername() == listener.getsockname()


def test_the_guard_holds_in_a_booted_host_process(tmp_path):
    main = tmp_path / "main.py"
    main.write_text("import socket\nsocket.create_connection(('192.0.2.1', 80), timeout=0.1)\n")
    command = [sys.executable, str(ROOT / "tools" / "boot.py"), str(main)]
    guarded = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "BLOOM4D_OFFLINE": "1"})
    assert guarded.returncode != 0 and "offline guard" in guarded.stderr
    free = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "BLOOM4D_OFFLINE": ""})
    assert "offline guard" not in free.stderr
