"""The embedded prior as one file: denoiser, text encoder, codec and their configurations.

Tensors: `unet.*` in the host's UNet layout, `text.*` in CLIP's layout, both float16; `codec.*` float32. The metadata holds the
three configurations and the card's facts as JSON, so that the file alone rebuilds the networks.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from ..formats.configs import read_config, read_json
from ..formats.header import order_metadata
from ..formats.tensors import mismatch, promised, read_tensors
from .joint_prior import JointPrior, JointPriorConfig
from .patch_codec import PatchCodec, PatchCodecConfig
from .text_encoder import TextEncoder, TextEncoderConfig

KIND = "bloom4d.joint_prior"
FORMAT = 1


@dataclass(frozen=True)
class PriorConfigs:
    """The three configurations that a prior file carries."""

    denoiser: JointPriorConfig
    text: TextEncoderConfig
    codec: PatchCodecConfig

    def __post_init__(self):
        if self.denoiser.latent_channels != self.codec.channels:
            raise ValueError(f"the denoiser takes {self.denoiser.latent_channels} channels, the codec makes {self.codec.channels}")


def save_prior(path: Path, denoiser: JointPrior, text: TextEncoder, codec: PatchCodec, card: dict[str, str]) -> None:
    """Write the networks to `path` (through a temporary name); `card` is added to the metadata."""
    tensors = {f"unet.{name}": value.half() for name, value in denoiser.state_dict().items()}
    tensors |= {f"text.{name}": value.half() for name, value in text.state_dict().items()}
    tensors |= {f"codec.{name}": value.float() for name, value in codec.state_dict().items()}
    configs = {"denoiser": asdict(denoiser.config), "text": asdict(text.config), "codec": asdict(codec.config)}
    metadata = {"kind": KIND, "format": str(FORMAT), "config": json.dumps(configs, sort_keys=True), **card}
    unfinished = Path(path).with_suffix(".part")
    unfinished.write_bytes(order_metadata(save({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, metadata)))
    os.replace(unfinished, path)


def prior_configs(metadata: dict[str, str] | None, path: Path | str) -> PriorConfigs:
    """The configurations in a file's metadata; ValueError when the file is no prior of ours or of a newer format."""
    if not metadata or metadata.get("kind") != KIND:
        raise ValueError(f"{Path(path).name} is not a Bloom4D joint prior: its metadata has no kind \"{KIND}\". Choose a file written by `launch.py train prior`.")
    if (written := metadata.get("format", "none")) != str(FORMAT):
        raise ValueError(f"{Path(path).name} has format {written[:20]}, this version of Bloom4D reads format {FORMAT}. Update the pack.")
    try:
        return read_config(PriorConfigs, read_json(metadata.get("config", "")))
    except ValueError as error:
        raise damaged(path, error) from None


def check_tensors(tensors: dict[str, Tensor], configs: PriorConfigs, path: Path | str) -> None:
    """ValueError unless a file holds just the tensors that its configurations promise; nothing is allocated for the comparison."""
    networks = {"unet.": lambda: JointPrior(configs.denoiser), "text.": lambda: TextEncoder(configs.text), "codec.": lambda: PatchCodec(configs.codec)}
    wanted = {prefix + name: value for prefix, build in networks.items() for name, value in promised(build).items()}
    if problem := mismatch(tensors, wanted):
        raise damaged(path, ValueError(problem))


def damaged(path: Path | str, problem: ValueError) -> ValueError:
    """What to raise for a prior file whose content is not what this version writes."""
    return ValueError(f"{Path(path).name} is damaged or was written by another version of Bloom4D: {problem}. Train it again, or choose the shipped one.")


def load_prior(path: Path) -> tuple[JointPrior, TextEncoder, PatchCodec]:
    """Read the networks in float32 and evaluation mode; the host's own loader is in `nodes/host/prior.py`."""
    try:
        tensors, metadata = read_tensors(path)
    except ValueError as error:
        raise ValueError(f"{error}. It may be truncated: reinstall Bloom4D, or copy your own file again.") from None
    configs = prior_configs(metadata, path)
    check_tensors(tensors, configs, path)
    tensors = {name: value.float() for name, value in tensors.items()}
    networks = JointPrior(configs.denoiser, tensors["codec.variance"]), TextEncoder(configs.text), PatchCodec(configs.codec)
    for prefix, network in zip(("unet.", "text.", "codec."), networks):
        network.load_state_dict(_under(tensors, prefix))
        network.eval().requires_grad_(False)
    return networks


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
