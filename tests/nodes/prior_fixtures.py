"""A prior file with random weights, small and quick, for every test of loading and sampling."""

import torch
from untrained import untrained_prior

from bloom4d.models.networks.patch_codec import PatchCodec, PatchCodecConfig
from bloom4d.models.networks.prior_file import save_prior


def toy_pictures(count: int = 48, seed: int = 3) -> torch.Tensor:
    """Premultiplied RGBA (N, 4, 64, 64): soft coloured discs on nothing."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(count, 6, 1, 1, generator=generator)
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 64), indexing="ij")
    distance = ((rows - draw[:, 0]) ** 2 + (columns - draw[:, 1]) ** 2).sqrt()
    alpha = ((0.1 + 0.3 * draw[:, 2] - distance) * 20).clamp(0, 1)[:, None]  # (N, 1, 64, 64)
    colour = draw[:, 3:6].expand(-1, -1, 64, 64) * (0.6 + 0.4 * rows)
    return torch.cat([colour * alpha, alpha], dim=1)


def write_untrained_prior(path, width: int = 64, seed: int = 0):
    """Write the file and return its twins (denoiser, text encoder, codec) in float32."""
    denoiser, text, _ = untrained_prior(seed=seed, width=width)
    codec = PatchCodec.fit(toy_pictures(), PatchCodecConfig())
    save_prior(path, denoiser, text, codec, {"license": "Apache-2.0"})
    return path
