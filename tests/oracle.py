"""The oracle prior: a perfectly trained denoiser of a few known objects, as a native host MODEL.

What field, renderer and optimiser reach with it is what they are worth; what is missing with a trained prior is the prior's
fault. Its answer is the exact posterior mean of a mixture of K objects, each photographed on a lattice of azimuths and
times. The V frames of a joint scene share one posterior over the objects, so it settles on one of them. It goes through the
same score session as any model. Import this module after the `comfy` fixture has run.
"""

import math

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.supported_models_base
import synthetic
import torch
from torch import Tensor, nn

from bloom4d.models.geometry.cameras import RIG_ELEVATION_DEGREES, Cameras, spherical, view_time_grid


class OracleNetwork(nn.Module):
    """E[x0 | noisy frames, cameras, times] in the variance preserving form that the host feeds to an x0 network.

    latents (K, A, T, C, h, w): what the mixture's objects look like at azimuths 2 pi i / A and times j / (T - 1). `variance`
    around each; `temperature` above 1 lets it decide later, as trained models do.
    """

    dtype = torch.float32

    def __init__(self, latents: Tensor, variance: float, temperature: float):
        super().__init__()
        self.register_buffer("latents", latents.float())
        self.variance, self.temperature = variance, temperature

    def forward(self, x, timesteps, bloom4d_frames=1, bloom4d_place=None, bloom4d_log_weights=None, transformer_options={}, **unused):
        levels = transformer_options["sigmas"]  # exact, where `timesteps` are rounded to the schedule's steps
        sigma = levels.repeat(x.shape[0] // levels.shape[0])
        a, b = (1 + sigma**2).rsqrt(), sigma * (1 + sigma**2).rsqrt()
        means = self._seen_from(bloom4d_place)  # (B, K or more, C, h, w)
        spread = a**2 * self.variance + b**2
        distance = (x[:, None] - a.view(-1, 1, 1, 1, 1) * means).square().flatten(2).sum(-1)
        evidence = (-0.5 * distance / spread[:, None]).view(-1, bloom4d_frames, means.shape[1]).sum(1)  # of a scene's frames together
        objects = bloom4d_log_weights[::bloom4d_frames]  # (S, K)
        prior = objects.repeat_interleave(means.shape[1] // objects.shape[1], 1)
        posterior = (evidence / self.temperature + prior).softmax(1).repeat_interleave(bloom4d_frames, 0)
        mean = torch.einsum("bk,bk...->b...", posterior, means)
        a, b, spread = (value.view(-1, 1, 1, 1) for value in (a, b, spread))
        return (a * self.variance * x + b**2 * mean) / spread

    def _seen_from(self, place: Tensor) -> Tensor:
        """The objects from each picture's (azimuth in turns, time, whether told), at the nearest lattice point (B, K, ...).

        A picture whose camera was not told may show any object from anywhere at any time (B, K A T, ...).
        """
        count, azimuths, times = self.latents.shape[:3]
        if not bool((place[:, 2] > 0).all()):
            return self.latents.flatten(0, 2)[None].expand(place.shape[0], -1, -1, -1, -1)
        turn = (place[:, 0] * azimuths).round().long() % azimuths
        moment = (place[:, 1] * (times - 1)).round().long()
        return self.latents[:, turn, moment].transpose(0, 1)


class OracleModel(comfy.model_base.BaseModel):
    """Turns the pack's condition keys into the oracle's; `bloom4d_weights` (K,) on CONDITIONING says which objects a prompt means."""

    def extra_conds(self, **kwargs):
        batch, count = kwargs["noise"].shape[0], self.diffusion_model.latents.shape[0]
        weights = kwargs.get("bloom4d_weights")
        weights = torch.ones(count) if weights is None else weights
        out = super().extra_conds(**kwargs)
        out["bloom4d_frames"] = comfy.conds.CONDConstant(int(kwargs.get("bloom4d_frames") or 1))
        out["bloom4d_place"] = comfy.conds.CONDRegular(self._place(kwargs, batch))
        out["bloom4d_log_weights"] = comfy.conds.CONDRegular(weights.log()[None].repeat(batch, 1))
        return out

    @staticmethod
    def _place(kwargs: dict, batch: int) -> Tensor:
        cameras, times = kwargs.get("bloom4d_camera"), kwargs.get("bloom4d_time")
        if cameras is None or times is None:
            return torch.zeros(batch, 3)
        azimuth, _, _ = spherical(cameras)
        return torch.stack([azimuth / (2 * math.pi), times, torch.ones_like(times)], 1)


class Pixels(nn.Module):
    """Latents that are the premultiplied RGBA picture itself."""

    accepts_alpha = True

    def encode(self, pictures: Tensor) -> Tensor:
        return pictures

    def decode(self, latents: Tensor) -> Tensor:
        return latents[:, :3] + 1 - latents[:, 3:]


def oracle_prior(
    pictures: Tensor, variance: float = 1e-4, temperature: float = 1.0, zero_terminal: bool = True, codec: nn.Module | None = None
):
    """(MODEL, VAE) of the oracle that knows `pictures` (objects, azimuths, times, 4, H, W), premultiplied RGBA in [0, 1].

    `codec`: a module with `encode` and `decode` between pictures and latents, the patch codec for one; default the pixels.
    """
    codec = codec or Pixels()
    latents = codec.encode(pictures.flatten(0, 2)).unflatten(0, pictures.shape[:3])
    ratio = pictures.shape[-1] // latents.shape[-1]

    class Space(comfy.latent_formats.LatentFormat):
        latent_channels, spacial_downscale_ratio = latents.shape[3], ratio

    class Config(comfy.supported_models_base.BASE):
        unet_config, unet_extra_config = {"disable_unet_model_creation": True}, {}
        latent_format, memory_usage_factor = Space, 0.1

    model = OracleModel(Config(Config.unet_config), comfy.model_base.ModelType.EPS)
    model.model_sampling = synthetic.x0_sampling(zero_terminal)
    model.diffusion_model = OracleNetwork(latents, variance, temperature)
    model.bloom4d_defaults = {"guidance": 1.0, "size": tuple(pictures.shape[-2:])}
    return synthetic.patcher(model), synthetic.rgba_vae(codec, latents.shape[3], ratio)


def prompt(objects: list[int] | None = None, count: int = 1) -> list:
    """A CONDITIONING that means the given ones of `count` objects; None means any (what an empty prompt says)."""
    weights = torch.ones(count) if objects is None else torch.tensor([1.0 if i in objects else 1e-30 for i in range(count)])
    return [[None, {"bloom4d_weights": weights}]]


def lattice_cameras(azimuths: int, times: int) -> Cameras:
    """Cameras of one object's pictures, azimuth slowest: A T cameras at the default rig."""
    grid = view_time_grid(views=azimuths, frames=times, elevation_degrees=RIG_ELEVATION_DEGREES)
    order = torch.arange(azimuths * times).view(times, azimuths).T.flatten()
    return grid.select(order)


def photograph(styles: list, azimuths: int = 16, times: int = 12, size: int = 64) -> Tensor:
    """Pictures (K, A, T, 4, H, W) of procedural objects for `oracle_prior`."""
    from bloom4d.models.data.objects import render_object

    cameras = lattice_cameras(azimuths, times)
    rendered = torch.stack([render_object(style, cameras, size).rgba for style in styles])
    return rendered.movedim(-1, 2).unflatten(1, (azimuths, times))
