"""A prior whose weights are random and the same in every process, for tests of loading and sampling."""

import torch

from bloom4d.models.networks.joint_prior import JointPrior, JointPriorConfig
from bloom4d.models.networks.patch_codec import PatchCodec, PatchCodecConfig
from bloom4d.models.networks.prior_conditioning import condition_size
from bloom4d.models.networks.text_encoder import TextEncoder, TextEncoderConfig


def untrained_prior(seed: int = 0, width: int = 64, latent_channels: int = 96, scale: float = 0.02) -> tuple[JointPrior, TextEncoder, PatchCodec]:
    """Networks whose weights are random everywhere (also where training starts from zero) and follow from `seed` alone."""
    text_config = TextEncoderConfig()
    config = JointPriorConfig(latent_channels=latent_channels, width=width, condition_size=condition_size(text_config.width))
    codec = PatchCodec(PatchCodecConfig(channels=latent_channels))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # torch draws a layer's first weights from its global generator
        denoiser, text = JointPrior(config), TextEncoder(text_config)
    generator = torch.Generator().manual_seed(seed)
    for network in (denoiser, text):
        for parameter in network.parameters():
            parameter.data.add_(torch.randn(parameter.shape, generator=generator) * scale)
    return denoiser, text, codec
