"""Make the CUDA builds of torchvision and torchaudio importable under CPU torch.

The registries hold no CPU build of either. Under a CPU torch their compiled libraries cannot load: torchvision then fails
because its operators are undeclared, torchaudio because it insists on a library file that it finds. The host imports both;
no node of ours uses the missing operators.
"""

import importlib
import pathlib

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_kept = []  # a torch Library takes its declarations with it when it is collected


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
    """Both mends; call it before anything imports torchvision, torchaudio or the host."""
    declare_torchvision_operators()
    import_torchaudio_without_libraries()
