"""The networks that judge pictures: their files in the host's model folders, read by its safe loader, resident while they are asked."""

import hashlib
from collections.abc import Callable
from contextlib import contextmanager
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
from .residency import make_resident

NONE = "none"
CLIP_FOLDERS, CLIP_KINDS = ("clip_vision", paths.MODEL_FOLDER), (".safetensors", ".bin")
LPIPS_FOLDERS, LPIPS_KINDS = (paths.MODEL_FOLDER,), (".safetensors", ".pth")
TOKENIZER = Path(comfy.utils.__file__).parent / "sd1_tokenizer"
UNREADABLE = (ValueError, RuntimeError, OSError, EOFError, KeyError, TypeError, AttributeError, SafetensorError, torch.serialization.pickle.UnpicklingError)
ROOM = 1 << 30  # bytes of activations, generously


def listed(folders: tuple[str, ...], kinds: tuple[str, ...]) -> list[str]:
    """"none" and every file of these kinds in the host's model folders, as folder/name."""
    found = []
    for folder in folders:
        for root in folder_paths.get_folder_paths(folder) if folder in folder_paths.folder_names_and_paths else []:
            found += [f"{folder}/{name}" for name in folder_paths.recursive_search(root)[0] if name.lower().endswith(kinds)]
    return [NONE, *sorted(dict.fromkeys(found))]


def file_of(choice: str) -> Path:
    """The path of a choice of `listed`; ValueError when it is gone."""
    folder, _, name = choice.partition("/")
    return paths.weights_file(name, folder)


def stamp(*choices: str | None) -> str:
    """What changes when a chosen file does, for the host's cache."""
    found = [file_of(choice).stat() for choice in choices if choice not in (None, NONE)]
    return " ".join(f"{one.st_mtime_ns}:{one.st_size}" for one in found)


def read(path: Path) -> tuple[dict[str, Tensor], dict | None]:
    """Tensors and metadata by the host's safe loader; ValueError when it is no weight file."""
    try:
        weights, metadata = comfy.utils.load_torch_file(str(path), safe_load=True, return_metadata=True)
    except UNREADABLE as error:
        raise ValueError(f"{path.name} cannot be read as a weight file. Get it again from where it came: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError(f"{path.name} holds something else than named tensors. Choose a file of weights.")
    return weights, metadata


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def source(path: Path) -> str:
    """How notes name a file."""
    return f"{path.name}, SHA-256 {sha256(path)}"


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


def clip_score(choice: str, prompt: str) -> tuple[Callable[[Tensor], float], str]:
    """What scores frames (N, 3, H, W) against a prompt, and a note on file and protocol."""
    path = file_of(choice)
    judge = clip_text.load_clip(*read(path), TOKENIZER)
    cut = ", cut to the model's length" if clip_text.cut(judge, prompt) else ""
    note = f'CLIP: {source(path)}; {judge.activation}; every frame resized and cropped to {judge.size} x {judge.size} by CLIP\'s preprocessing, background as given, 100 x cosine, mean; prompt "{prompt}"{cut}.'

    def score(frames: Tensor) -> float:
        with resident(judge.model):
            return clip_text.text_score(judge, frames, prompt)

    return score, note


def lpips_distance(choice: str) -> tuple[Callable[[Tensor, Tensor], float], str]:
    """What gives the LPIPS of two sets of pictures (N, 3, H, W), and a note on the files."""
    if not perceptual.installed():
        raise ValueError('LPIPS needs the package lpips: install it with "pip install lpips" in ComfyUI\'s Python, or set lpips to none.')
    path = file_of(choice)
    weights, _ = read(path)
    backbone = perceptual.backbone_of(weights)
    if backbone is None:
        raise ValueError(f"{path.name} is no network that LPIPS knows. Choose {perceptual.PUBLIC_FILE}, or VGG16 or SqueezeNet 1.1 of torchvision.")
    linear = path if perceptual.has_linear(weights) else perceptual.packaged_linear_file(backbone)
    network = perceptual.build(backbone, weights, weights if linear == path else read(linear)[0])
    note = f"LPIPS: {source(path)}; {backbone}, version 0.1, linear weights of {source(linear)}; over white, mean over the frames."

    def distance(pictures: Tensor, reference: Tensor) -> float:
        with resident(network):
            return perceptual.distance(network, pictures, reference)

    return distance, note
