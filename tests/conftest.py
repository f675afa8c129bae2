"""Everything tests share: the pack as the package `bloom4d`, the host's modules in process, no network but loopback."""

import getpass
import os
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "host"), str(ROOT / "tests" / "guards")]

import compat  # noqa: E402
import offline  # noqa: E402
import pack  # noqa: E402

os.environ.setdefault("WARP_CACHE_PATH", str(Path(tempfile.gettempdir()) / f"bloom4d_test_kernels_{getpass.getuser()}"))  # compiled once for all hosts
offline.install()
pack.load_pack()
if compat.needed():
    compat.apply()


@pytest.fixture(scope="session")
def host_tree() -> Path:
    """The ComfyUI tree under test: COMFYUI_PATH, or the one the launcher prepared; skips when there is none."""
    folder = Path(os.environ.get("COMFYUI_PATH", ROOT / ".host"))
    if not (folder / "main.py").is_file():
        pytest.skip("no ComfyUI: set COMFYUI_PATH or run `python3 launch.py test` once")
    return folder


@pytest.fixture(scope="session")
def comfy(host_tree):
    """The host's modules imported in this process, on the CPU."""
    sys.argv = [sys.argv[0], "--cpu", "--use-pytorch-cross-attention"]
    sys.path.insert(0, str(host_tree))
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.model_management
    import comfy.sd  # noqa: F401

    return sys.modules["comfy"]


@pytest.fixture(scope="session")
def server(host_tree, tmp_path_factory):
    """One real ComfyUI for the whole suite, with the pack linked into its custom_nodes; see tests/host/real_host.py."""
    import real_host

    base = real_host.prepare_base(tmp_path_factory.mktemp("host") / "base", ROOT)
    running = real_host.start(host_tree, base)
    yield running
    running.host.stop()


@pytest.fixture(scope="session")
def bare_server(host_tree, tmp_path_factory):
    """A second host for the whole suite: its pack is the unpacked archive, its weight files are lost, and no optional package can be imported."""
    import archive
    import real_host

    base = real_host.prepare_base(tmp_path_factory.mktemp("archive") / "base")
    archive.unpack(ROOT, base / "custom_nodes" / "bloom4d")
    for path in (base / "custom_nodes" / "bloom4d" / "models" / "weights").glob("*.safetensors"):
        path.unlink()
    running = real_host.start(host_tree, base, environment={"BLOOM4D_HIDE": ",".join(archive.OPTIONAL)})
    yield running
    running.host.stop()


@pytest.fixture(autouse=True)
def inputs_stay_unchanged(request, monkeypatch):
    """In tests of nodes `execute` asserts that it changed none of its inputs: the host's cache shares them with other nodes."""
    if "comfy" not in request.fixturenames or request.path.parent.name != "nodes":
        return
    request.getfixturevalue("comfy")
    from node_infos import node_classes
    from unchanged import watched_execute

    for node in node_classes():
        monkeypatch.setattr(node, "execute", watched_execute(node.execute))
