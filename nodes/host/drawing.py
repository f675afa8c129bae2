"""A host prior that also shows its latents as pictures."""

import comfy.model_management
import torch
from torch import Tensor

from .adapter import HostPrior
from .residency import make_resident


class DrawingPrior(HostPrior):
    """`HostPrior` with `decode`: for refinement on pictures that the model redraws."""

    def decode(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Premultiplied rgb (B, H, W, 3) and alpha (B, H, W) in [0, 1] of latents in the model's space, without gradient.

        A VAE that reads alpha gives it back; of any other the pictures are opaque.
        """
        vae, device = self.vae, latents.device
        with torch.inference_mode():
            space = self.model.model.process_latent_out(latents)
            if space.ndim == 5 and self.vae.latent_dim == 2:
                space = space.movedim(2, 1).flatten(0, 1)  # a picture VAE under a video model: the host would show the first frame alone
            if self.accepts_alpha:
                make_resident([vae.patcher], vae.memory_used_decode(space.shape, vae.vae_dtype))
                with comfy.model_management.cuda_device_context(vae.device):
                    pictures = vae.first_stage_model.decode_rgba(space.to(vae.device, vae.vae_dtype)).movedim(1, -1)
            else:
                pictures = vae.decode(space)
                if pictures.ndim == 5:  # a video VAE keeps its batch, and what `held` has added
                    pictures = pictures[:, : self.frames or None]
                pictures = pictures.reshape(-1, *pictures.shape[-3:])
        pictures = pictures.to(device, torch.float32).clone()
        return pictures[..., :3], pictures[..., 3] if self.accepts_alpha else torch.ones_like(pictures[..., 0])
