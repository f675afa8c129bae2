"""The rule of rooms (web -> nodes -> models, and an order inside models) read off the source's import statements."""

import ast
import sys
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACK = "bloom4d"

HOST = {"comfy", "comfy_api", "comfy_api_nodes", "comfy_execution", "comfy_extras", "comfy_config", "comfyui_version", "folder_paths",
        "server", "execution", "node_helpers", "latent_preview", "app", "api_server", "nodes", "main", "cuda_malloc", "protocol"}

LEVEL = {"geometry": 0, "formats": 0, "fields": 1, "gaussians": 1, "networks": 1, "render": 2, "data": 3, "guidance": 3,
         "template": 3, "metrics": 3, "optimize": 4}
NEVER_DATA = {"fields", "gaussians", "networks", "render", "guidance", "template", "metrics", "optimize", "geometry", "formats"}

ALWAYS = {"torch", "numpy", "safetensors"}  # what models/ may import at the top of a file
LAZY = {  # what models/ may import inside a function, and where
    "skimage": ["models/geometry/isosurface.py", "models/*/flow.py"],
    "pygltflib": ["models/formats/glb.py"],
    "torchmetrics": ["models/metrics/*"], "lpips": ["models/metrics/perceptual.py"], "transformers": ["models/metrics/clip_text.py"],
    "kornia": ["models/metrics/similarity.py"],
    "diffusers": ["models/networks/*"],
    "accelerate": ["models/optimize/distributed.py"],
    "warp": ["models/render/kernels/*"], "gsplat": ["models/render/*"], "tinycudann": ["models/render/*"], "nvdiffrast": ["models/render/*"],
}

KERNELS = "models/render/kernels/*"
"""Files that may import warp at the top, since kernels are made there; so nobody may import them but inside a function."""


@dataclass(frozen=True)
class Import:
    """file: path relative to the root. target: dotted name with relative imports resolved to `bloom4d....`. lazy: in a function."""

    file: str
    line: int
    target: str
    lazy: bool

    @property
    def top(self) -> str:
        return self.target.split(".")[0]


def imports(source: str, file: str) -> list[Import]:
    """Every import of a file, also those inside functions."""
    found = []

    def visit(node, lazy):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend(Import(file, child.lineno, alias.name, lazy) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = resolve(child, file)
                found.extend(Import(file, child.lineno, f"{base}.{alias.name}", lazy) for alias in child.names)
            visit(child, lazy or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)))

    visit(ast.parse(source, file), False)
    return found


def resolve(node: ast.ImportFrom, file: str) -> str:
    """The absolute module of a `from ... import`."""
    if not node.level:
        return node.module
    parts = [PACK, *Path(file).with_suffix("").parts]
    return ".".join([*parts[: len(parts) - node.level], *([node.module] if node.module else [])])


def problems(found: list[Import]) -> list[str]:
    """One line for each import that breaks a rule."""
    return [f"{entry.file}:{entry.line} imports {entry.target}: {reason}" for entry in found if (reason := broken_rule(entry))]


def broken_rule(entry: Import) -> str | None:
    room = Path(entry.file).parts[0]
    if room not in ("nodes", "models"):
        return "host packages belong to nodes/" if entry.top in HOST else None
    if entry.top == PACK:
        return inside_pack(entry)
    return outside_models(entry) if room == "models" else None


def inside_pack(entry: Import) -> str | None:
    """Rules for imports of our own modules."""
    here, there = Path(entry.file).parts, entry.target.split(".")[1:]
    if ".".join(there).startswith(KERNELS.removesuffix("/*").replace("/", ".")) and not entry.lazy and not fnmatch(entry.file, KERNELS):
        return "kernels import warp: import them inside the function that needs them"
    if here[0] == "nodes":
        return None if there[0] in ("nodes", "models") else "nodes/ may import nodes/ and models/"
    if there[0] != "models":
        return "models/ never imports anything outside models/"
    if len(here) < 3 or len(there) < 2 or there[1] == here[1]:
        return None
    if there[1] == "data" and here[1] in NEVER_DATA:
        return f"{here[1]} never knows the procedural data"
    if there[1] in LEVEL and LEVEL[there[1]] >= LEVEL[here[1]]:
        return f"{here[1]} stands below {there[1]}"
    return None


def outside_models(entry: Import) -> str | None:
    """Rules for what models/ imports from other packages."""
    if entry.top in HOST:
        return "host packages belong to nodes/"
    if entry.top in sys.stdlib_module_names or entry.top in ALWAYS:
        return None
    if entry.top not in LAZY:
        return "models/ knows torch, numpy, safetensors, the standard library and the optional packages of its list"
    if not any(fnmatch(entry.file, pattern) for pattern in LAZY[entry.top]):
        return f"{entry.top} is imported only in {', '.join(LAZY[entry.top])}"
    return None if entry.lazy or (entry.top == "warp" and fnmatch(entry.file, KERNELS)) else f"{entry.top} is optional: import it inside the function that needs it"


def pack_files() -> list[Path]:
    """Python files that ComfyUI loads: the root module, nodes/ and models/."""
    return [ROOT / "__init__.py", *sorted((ROOT / "nodes").rglob("*.py")), *sorted((ROOT / "models").rglob("*.py"))]


def pack_imports() -> list[Import]:
    return [entry for path in pack_files() for entry in imports(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix())]
