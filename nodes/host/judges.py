"""The networks that judge pictures: their files in the host's model folders, read by its safe loader, resident while they are asked."""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import comfy.utils
import folder_paths
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ...models.metrics import clip_text, perceptual
from . import paths
from .content import content_of
from .residency import make_resident

NONE = "none"
TOKENIZER = Path(comfy.utils.__file__).parent / "sd1_tokenizer"
UNREADABLE = (ValueError, RuntimeError, OSError, EOFError, KeyError, TypeError, AttributeError, SafetensorError, torch.serialization.pickle.UnpicklingError)
ROOM = 1 << 30  # bytes of activations, generously
interrupted = comfy.model_management.throw_exception_if_processing_interrupted


@dataclass(frozen=True)
class Choice:
    """Files of one kind of network: the host's model folders, the first one wins, and the endings that count."""

    folders: tuple[str, ...]
    endings: tuple[str, ...]

    def options(self) -> list[str]:
        """"none" and every file, by its name below its folder."""
        roots = [root for folder in self.folders for root in self._roots(folder)]
        found = [name for root in roots for name in folder_paths.recursive_search(root)[0] if name.lower().endswith(self.endings)]
        return [NONE, *sorted(dict.fromkeys(found))]

    def path(self, name: str) -> Path:
        """Where a file is; ValueError when it is gone."""
        holding = [folder for folder in self.folders if folder_paths.get_full_path(folder, name)]
        return paths.weights_file(name, holding[0] if holding else self.folders[0])

    def stamp(self, name: str | None) -> str:
        """What changes when the file does, for the host's cache."""
        if name in (None, NONE):
            return ""
        status = self.path(name).stat()
        return f"{status.st_mtime_ns}:{status.st_size}"

    def _roots(self, folder: str) -> list[str]:
        return folder_paths.get_folder_paths(folder) if folder in folder_paths.folder_names_and_paths else []


CLIP = Choice(("clip_vision", paths.MODEL_FOLDER), (".safetensors", ".bin"))
LPIPS = Choice((paths.MODEL_FOLDER,), (".safetensors", ".pth"))


def read(path: Path) -> tuple[dict[str, Tensor], dict | None]:
    """Tensors and metadata by the host's safe loader; ValueError when it is no weight file."""
    try:
        weights, metadata = comfy.utils.load_torch_file(str(path), safe_load=True, return_metadata=True)
    except UNREADABLE as error:
        raise ValueError(f"{path.name} cannot be read as a weight file. Get it again from where it came: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError(f"{path.name} holds something else than named tensors. Choose a file of weights.")
    return weights, metadata


def source(path: Path) -> str:
    """How notes name a file."""
    return f"{path.name}, SHA-256 {content_of(path)}"


@contextmanager
def resident(network: nn.Module):
    """The network on the host's device and known to the host for the length of the body."""
    management = comfy.model_management
    held = nn.Sequential(network)  # the host notes a device on what it loads, which a transformers model refuses
    patcher = comfy.model_patcher.ModelPatcher(held, load_device=management.get_torch_device(), offload_device=management.unet_offload_device())
    make_resident([patcher], ROOM)
    try:
        yield
    finally:
        patcher.detach()


def clip_score(name: str, prompt: str) -> tuple[Callable[[Tensor], float], str]:
    """What scores frames (N, 3, H, W) against a prompt, and a note on file and protocol."""
    path = CLIP.path(name)
    judge = clip_text.load_clip(*read(path), TOKENIZER)
    cut = ", cut to the model's length" if clip_text.cut(judge, prompt) else ""
    note = f'CLIP: {source(path)}; {judge.activation}; every frame resized and cropped to {judge.size} x {judge.size} by CLIP\'s preprocessing, background as given, 100 x cosine, mean; prompt "{prompt}"{cut}.'

    def score(frames: Tensor) -> float:
        with resident(judge.model):
            return clip_text.text_score(judge, frames, prompt, interrupted)

    return score, note


def lpips_network(name: str) -> tuple[nn.Module, str]:
    """LPIPS on the CPU, and a note on its files."""
    if not perceptual.installed():
        raise ValueError('LPIPS needs the package lpips: install it with "pip install lpips" in ComfyUI\'s Python, or set lpips to none.')
    path = LPIPS.path(name)
    weights, _ = read(path)
    backbone = perceptual.backbone_of(weights)
    if backbone is None:
        raise ValueError(f"{path.name} is no network that LPIPS knows. Choose {perceptual.PUBLIC_FILE}, or VGG16 or SqueezeNet 1.1 of torchvision.")
    linear = path if perceptual.has_linear(weights) else perceptual.packaged_linear_file(backbone)
    network = perceptual.build(backbone, weights, weights if linear == path else read(linear)[0])
    return network, f"LPIPS: {source(path)}; {backbone}, version 0.1, linear weights of {source(linear)}"


def lpips_distance(name: str) -> tuple[Callable[[Tensor, Tensor], float], str]:
    """What gives the LPIPS of two sets of pictures (N, 3, H, W), and a note on the files."""
    network, note = lpips_network(name)

    def distance(pictures: Tensor, reference: Tensor) -> float:
        with resident(network):
            return perceptual.distance(network, pictures, reference, interrupted)

    return distance, f"{note}; over white, mean over the frames."
