"""4D Environment: what runs here, as text that can be pasted into an issue."""

import importlib.util
import platform
from importlib import metadata

import comfy.model_management as management
import comfyui_version
import torch
from comfy_api.latest import io, ui

from ..models.render.backend import OPERATIONS, choose, forced, installed, rows
from .host import pack

PACKAGES = ("torchvision", "numpy", "comfyui-frontend-package")
REQUIRED = {"diffusers": "diffusers", "scikit-image": "skimage", "pygltflib": "pygltflib"}  # distribution: module


def version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def requirement_line(package: str, module: str) -> str:
    """The state of one package of requirements.txt; a module that is found is not imported."""
    try:
        found = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        found = False
    return f"{package} {version_of(package)}" if found else f"{package} cannot be imported: install requirements.txt of this pack"


def device_lines() -> list[str]:
    device = management.get_torch_device()
    total = management.get_total_memory(device) / 2**30
    return [
        f"Device: {management.get_torch_device_name(device)}, {total:.1f} GB",
        f"CPU threads: {torch.get_num_threads()}, RAM {management.get_total_memory(torch.device('cpu')) / 2**30:.1f} GB",
    ]


def backend_lines() -> list[str]:
    """Per hot operation: the backend that runs on the device, what it is, and what there is to say of each other one."""
    device, lines = management.get_torch_device(), []
    for operation in OPERATIONS:
        table = rows(operation, device)
        used = choose(operation, device).name
        lines.append(f"Backend of {operation}: " + "; ".join(f"{row.name} ({row.reason})" for row in sorted(table, key=lambda row: row.name != used)))
    return lines


def summary(nodes: int) -> str:
    """The pack's one line in ComfyUI's log: version, number of nodes, packages of fast backends; which of them work is tried when they are needed."""
    try:
        found = f"only the {forced()} backend where there is one" if forced() else f"fast backends found: {', '.join(installed()) or 'none'}"
    except ValueError as error:  # of the variable that forces one: no reason to lose the nodes
        found = str(error)
    return f"Bloom4D {pack.version()}: {nodes} nodes; {found}"


def report() -> str:
    """Versions, device and backends, one fact per line."""
    lines = [
        f"Bloom4D {pack.version()}, ComfyUI {comfyui_version.__version__}",
        f"{platform.python_implementation()} {platform.python_version()}, {platform.platform()}",
        f"torch {torch.__version__}, CUDA {torch.version.cuda or 'none'}",
        "Packages: " + ", ".join(f"{name} {version_of(name)}" for name in PACKAGES),
        *(requirement_line(package, module) for package, module in REQUIRED.items()),
    ]
    return "\n".join(lines + device_lines() + backend_lines())


class Bloom4DEnvironment(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="Bloom4DEnvironment",
            display_name="4D Environment",
            category="4d/utilities",
            description="Versions, device and rendering backends of this installation, as text to paste into an issue.",
            search_aliases=["versions", "backends", "diagnostics", "debug"],
            inputs=[],
            outputs=[io.String.Output("report", tooltip="One fact per line; nothing personal, no paths.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        text = report()
        return io.NodeOutput(text, ui=ui.PreviewText(text))


NODES = [Bloom4DEnvironment]
