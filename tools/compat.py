"""Make the CUDA builds of torchvision and torchaudio importable under CPU torch.

The registries hold no CPU build of either. Under a CPU torch their compiled libraries cannot load: torchvision then fails
because its operators are undeclared, torchaudio because it insists on a library file that it finds. The host imports both;
no node of ours uses the missing operators.
"""

import importlib
import os
import pathlib
import subprocess
import sys

ANSWER = "BLOOM4D_TORCHVISION_MEND"  # "1" or "0": what an earlier probe found, so that children need not probe again
SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
PROBE = """
import torch
try:
    import torchvision
    broken = False
except Exception:
    broken = True
raise SystemExit(3 if broken and torch.version.cuda is None else 0)
"""
_kept = []  # a torch Library takes its declarations with it when it is collected


def needed() -> bool:
    """Whether `import torchvision` fails in a child process under a CPU build of torch; remembered for child processes."""
    if ANSWER not in os.environ:
        child = subprocess.run([sys.executable, "-c", PROBE], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.environ[ANSWER] = "1" if child.returncode == 3 else "0"
    return os.environ[ANSWER] == "1"


def declare_torchvision_operators():
    """Declare `torchvision::nms` and `torchvision::qnms` without an implementation."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(name + SCHEMA)
    _kept.append(library)


def import_torchaudio_without_libraries():
    """Import torchaudio while its folder of compiled libraries looks empty, which it treats as "not built"."""
    glob = pathlib.Path.glob

    def without_torchaudio(self, pattern, **options):
        return iter(()) if self.name == "lib" and self.parent.name == "torchaudio" else glob(self, pattern, **options)

    pathlib.Path.glob = without_torchaudio
    try:
        importlib.import_module("torchaudio")
    finally:
        pathlib.Path.glob = glob


def apply():
    """Both mends, once per process; call it before anything imports torchvision, torchaudio or the host."""
    if not _kept:
        declare_torchvision_operators()
        import_torchaudio_without_libraries()
