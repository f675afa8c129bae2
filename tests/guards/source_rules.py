"""House rules and the registry's conduct rules that a reader of the syntax tree can check."""

import ast
from pathlib import Path

LONGEST = 600  # lines of any source file

FORBIDDEN_NAMES = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "subprocess", "ctypes", "requests", "urllib", "http", "socket",
                     "ftplib", "huggingface_hub", "pip", "runpy"}
FORBIDDEN_CALLS = {"os.system", "os.popen", "os.spawnl", "os.execv", "os.execve", "torch.hub.load"}
GLOBAL_RANDOM = {"torch.manual_seed", "torch.seed", "np.random.seed", "numpy.random.seed", "random.seed", "np.random.rand",
                 "np.random.randn", "np.random.randint", "np.random.uniform", "np.random.normal", "random.random", "random.randint",
                 "random.choice", "random.uniform", "random.shuffle", "torch.random.manual_seed", "torch.cuda.manual_seed"}
BROAD_EXCEPT_ALLOWED = {"nodes/host/progress.py", "models/render/backend.py"}  # the preview hook and the probes


def dotted(node) -> str:
    """`a.b.c` of an attribute chain, empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (head := dotted(node.value)):
        return f"{head}.{node.attr}"
    return ""


def conduct_problems(source: str, file: str) -> list[str]:
    """Code that a published pack must not contain: dynamic code, unsafe unpickling, processes, network."""
    found = []
    for node in ast.walk(ast.parse(source, file)):
        if isinstance(node, ast.Import):
            found += [(node, alias.name) for alias in node.names if alias.name.split(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module.split(".")[0] in FORBIDDEN_MODULES:
            found.append((node, node.module))
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            unsafe_load = name == "torch.load" and not any(word.arg == "weights_only" for word in node.keywords)
            if name in FORBIDDEN_NAMES or name in FORBIDDEN_CALLS or unsafe_load:
                found.append((node, name))
    return [f"{file}:{node.lineno} uses {name}" for node, name in found]


def style_problems(source: str, file: str) -> list[str]:
    """House style 6: no print, no `.cuda()`, no global random numbers, no broad `except` outside the two places that need one."""
    found = []
    for node in ast.walk(ast.parse(source, file)):
        if isinstance(node, ast.Call):
            name = dotted(node.func)
            if name == "print" or name in GLOBAL_RANDOM:
                found.append((node, name))
            elif isinstance(node.func, ast.Attribute) and node.func.attr == "cuda" and not name.startswith("torch."):
                found.append((node, ".cuda()"))
        elif isinstance(node, ast.ExceptHandler) and file not in BROAD_EXCEPT_ALLOWED and not reraises(node):
            names = [""] if node.type is None else [dotted(kind) for kind in getattr(node.type, "elts", [node.type])]
            if {"", "Exception", "BaseException"} & set(names):
                found.append((node, "a broad except"))
    return [f"{file}:{node.lineno} has {name}" for node, name in found]


def reraises(handler: ast.ExceptHandler) -> bool:
    """Whether a handler only cleans up: it ends with a bare `raise`, so it hides nothing."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def length_problem(text: str, file: str) -> list[str]:
    lines = text.count("\n") + 1
    return [f"{file} has {lines} lines, {LONGEST} are the limit: split it by what its parts do"] if lines > LONGEST else []


def source_files(root: Path) -> list[Path]:
    """Every source file of ours, tools and tests included."""
    folders = ("nodes", "models", "tools", "tests", "web", "benchmarks")
    return [root / "__init__.py", root / "launch.py",
            *(path for folder in folders for path in sorted((root / folder).rglob("*")) if path.suffix in (".py", ".js", ".mjs"))]
