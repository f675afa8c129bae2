"""A host MODEL with its VAE and prompts as the `Prior` that guidance asks (models/guidance/prior.py)."""

import copy
from collections.abc import Sequence

import comfy.model_sampling
import torch
import torch.nn.functional as F
from torch import Tensor

from ...models.geometry.cameras import Cameras
from ...models.guidance.directions import DIRECTIONS
from . import zero123
from .conditions import VIEW_TELLS, check_latent_shape
from .encode import accepts_alpha, check_vae, encode_with_gradient, graphs_bytes, held, is_video_vae
from .inference import ordinary
from .residency import RunRoom
from .score import ScoreSession

SIZES = {
    "SD15": (512, 512), "SD20": (512, 512), "SDXL": (1024, 1024), "SD3": (1024, 1024), "Flux": (1024, 1024), "SVD_img2vid": (576, 1024),
    "WAN21_T2V": (480, 832), "LTXV": (512, 768), "HunyuanVideo": (480, 848), "CogVideoX_T2V": (480, 720), "GenmoMochi": (480, 848), "CosmosT2V": (704, 1280),
}  # fmt: skip
"""Height and width that the host's model classes were trained at; 64 x 64 latents for any other."""

DISCRETE_GUIDANCE, CONTINUOUS_GUIDANCE, DISTILLED_GUIDANCE = 50.0, 7.5, 1.0
"""Guidance of models that do not say: eps and v UNets (MVDream's 50), continuous or flow models (our choice), and models into
which guidance was distilled: Flux and HunyuanVideo hear its strength from Flux Guidance on their prompt."""
DISTILLED = {"Flux", "FluxSchnell"}

CLASSES = {"Stable_Zero123": zero123.DEFAULTS}
"""What the host's own classes would say in `bloom4d_defaults`."""

ENCODING_SHARE = 0.4  # of the free memory, for the graphs of encoded pictures; rendering may plan with half of it

PERCENT_RANGE = (0.001, 0.999)
"""Schedules are finite inside; at 0 the host answers a stand-in for infinity."""


def model_defaults(model) -> dict:
    """guidance and (height, width) of a MODEL: what its model object says in `bloom4d_defaults`, else by its class."""
    told = _told(model)
    discrete = isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.ModelSamplingDiscrete)
    size = told.get("size") or _class_size(model)
    guidance = DISTILLED_GUIDANCE if _is_distilled(model) else DISCRETE_GUIDANCE if discrete else CONTINUOUS_GUIDANCE
    return {
        "guidance": float(told.get("guidance", guidance)),
        "size": (size, size) if isinstance(size, int) else tuple(size),
    }


def _is_distilled(model) -> bool:
    config = model.model.model_config
    return bool(config.unet_config.get("guidance_embed")) or bool(DISTILLED & {kind.__name__ for kind in type(config).__mro__})


def _told(model) -> dict:
    return getattr(model.model, "bloom4d_defaults", CLASSES.get(type(model.model).__name__, {}))


def _class_size(model) -> tuple[int, int]:
    names = [kind.__name__ for kind in type(model.model.model_config).__mro__]
    known = next((SIZES[name] for name in names if name in SIZES), None)
    side = 64 * model.get_model_object("latent_format").spacial_downscale_ratio
    return known or (side, side)


def noise_levels(sampling, percent: Tensor) -> Tensor:
    """Levels of a host noise schedule, float32, shaped like `percent`: 0 the noisiest, 1 clean; finite everywhere."""
    percent = torch.as_tensor(percent, dtype=torch.float64).clamp(*PERCENT_RANGE)
    levels = [float(sampling.percent_to_sigma(value)) for value in percent.flatten().tolist()]
    return torch.tensor(levels, dtype=torch.float32, device=percent.device).reshape(percent.shape)


def noised(sampling, x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """z = a x0 + b noise (B, ...) at levels sigma (B,): the host's noise_scaling in the form that the MODEL takes; no input is changed."""
    noisy = sampling.noise_scaling(sigma.to(x0), noise.clone(), x0)
    if not isinstance(sampling, comfy.model_sampling.V_PREDICTION_DDPM):
        return noisy
    norm = (1.0 + sigma.to(x0) ** 2).sqrt()  # CogVideoX takes and answers the variance preserving form, and is noised in the exploding one
    return noisy / norm.reshape(-1, *[1] * (x0.ndim - 1))


class HostPrior:
    """The `Prior` of one MODEL. A context manager: leaving it closes the score session and restores the host's state.

    `positives` are the encoded prompts in the order of `models.guidance.directions.DIRECTIONS`, the plain one first; one is
    enough. `size` (height, width) overrides the model's own. `tells`: which of camera and time the model hears of.
    `one_at_a_time` bounds the memory of encoding to one picture's graph (exact); the loop's `singly` does the same. `negatives`
    are Perp-Neg's, in the same order as `positives`, beside which `negative` is the empty prompt. `frames`: how many consecutive
    pictures are one clip of a video model; 0 makes all pictures of a call one clip.
    """

    def __init__(
        self,
        model,
        vae,
        positives: Sequence[list],
        negative: list | None = None,
        size: tuple[int, int] | None = None,
        tells: Sequence[str] = VIEW_TELLS,
        one_at_a_time: bool = False,
        seed: int = 0,
        negatives: Sequence[list] = (),
        frames: int = 0,
    ):
        check_vae(vae)
        defaults = model_defaults(model)
        self.native_size = defaults["size"] if size is None else tuple(size)
        self.default_guidance = defaults["guidance"]
        self.backdrop = _told(model).get("backdrop")
        self.accepts_alpha = accepts_alpha(vae)
        directed = len(DIRECTIONS) if max(len(positives), len(negatives)) > 1 else 1
        plain, *directions = _for_all(positives, directed)
        self.session = ScoreSession(model, plain, negative, directions=directions, seed=seed, beside=_for_all(negatives, directed))
        self.model, self.vae, self.tells, self.one_at_a_time, self.frames = model, vae, tuple(tells), one_at_a_time, frames
        self.singly = False
        self._space = model.get_model_object("latent_format")
        self._check_codec()
        self._check_size()

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.close()

    def close(self):
        """Give the model back to the host; the next `denoise` opens a new session."""
        self.session.close()

    @property
    def sampling(self):
        """The MODEL's noise schedule, as patched by the user's nodes."""
        return self.model.get_model_object("model_sampling")

    def encode(self, rgb: Tensor, alpha: Tensor | None = None) -> Tensor:
        """Latents in the model's space, differentiable: (B, C, h, w), or (clips, C, F, h, w) of a video model.

        rgb (B, H, W, 3) premultiplied in [0, 1], alpha (B, H, W). Without `accepts_alpha` composite before; alpha is then not
        read. Pictures of another size are resized to `native_size` (bilinear, no antialiasing).
        """
        picture = rgb if alpha is None or not self.accepts_alpha else torch.cat([rgb, alpha[..., None]], dim=-1)
        picture = self._resize(picture)
        latents = self._clips(picture) if self._space.latent_dimensions == 3 else self._encode(picture)
        check_latent_shape(self.model, latents.shape)
        return self._into_model_space(latents)

    def heavy(self, pictures: int, room: RunRoom) -> bool:
        """See `Prior`. Asked once per term and size of picture, before anything is rendered: none of the run's models need be
        loaded by then, and those that are still to come take their part of the VAE's device first."""
        return graphs_bytes(self.vae, pictures, self.native_size) > ENCODING_SHARE * room.plannable(self.vae.device)

    def sigma_at(self, percent: Tensor) -> Tensor:
        """Noise levels, float32, shaped like `percent`: 0 the noisiest, 1 clean; finite everywhere."""
        return noise_levels(self.sampling, percent)

    def coefficients(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(a, b) of z = a x0 + b eps, both shaped as sigma (B,); read off the host's own noising, so right for every kind."""
        one, zero = torch.ones(len(sigma), 1).to(sigma), torch.zeros(len(sigma), 1).to(sigma)
        a, b = (self.add_noise(x0, noise, sigma).reshape(sigma.shape) for noise, x0 in ((zero, one), (one, zero)))
        return a, b

    def vp_alpha_bar(self, sigma: Tensor) -> Tensor:
        """Cumulative alpha of the variance preserving process with the same signal to noise ratio, for weights w(t)."""
        a, b = self.coefficients(sigma)
        return a**2 / (a**2 + b**2)

    def add_noise(self, x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """See `noised`."""
        return noised(self.sampling, x0, noise, sigma)

    def denoise(
        self, z: Tensor, sigma: Tensor, cameras: Cameras | None = None, text: Sequence[int] | None = None, unconditional: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """Denoised estimates with the prompt and without it, detached.

        `text` chooses the prompt of every picture (indices into `positives`); a video takes its first frame's.
        """
        self._tell(z, cameras, text)
        return self.session.both(z, sigma, unconditional)

    def denoise_apart(
        self, z: Tensor, sigma: Tensor, cameras: Cameras | None = None, text: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
        """The same two, and the estimate of every negative prompt with its strength by picture, for Perp-Neg."""
        self._tell(z, cameras, text)
        return self.session.apart(z, sigma)

    def _tell(self, z: Tensor, cameras: Cameras | None, text: Sequence[int] | None):
        """What the session must know about the pictures of the next call."""
        self.session.set_views(cameras, self.tells)
        if text is not None and z.ndim == 5:
            text = text[:: max(len(text) // z.shape[0], 1)]
        self.session.set_text(text if len(self.session.texts) > 1 else None)

    def _encode(self, picture: Tensor) -> Tensor:
        return encode_with_gradient(self.vae, picture[..., :3], picture[..., 3] if picture.shape[-1] == 4 else None, self.one_at_a_time or self.singly)

    def _clips(self, picture: Tensor) -> Tensor:
        """Pictures (clips * F, H, W, 3 or 4) as latents (clips, C, F', h, w); a picture VAE's frames become the time axis."""
        frames = self.frames or len(picture)
        if is_video_vae(self.vae):
            return torch.cat([self._encode(held(clip, self.vae)) for clip in picture.split(frames)])
        latents = self._encode(picture)
        latents = latents if latents.ndim == 4 else latents.squeeze(2)  # a picture VAE with a time axis of its own
        return latents.unflatten(0, (-1, frames)).movedim(2, 1)

    def _resize(self, picture: Tensor) -> Tensor:
        if tuple(picture.shape[1:3]) == self.native_size:
            return picture
        return F.interpolate(picture.movedim(-1, 1), self.native_size, mode="bilinear", align_corners=False).movedim(1, -1)

    def _into_model_space(self, latents: Tensor) -> Tensor:
        """`process_latent_in` with ordinary constants: the host's may be inference tensors, which autograd refuses to keep."""
        model, space = self.model.model, self._space
        constants = {name: ordinary(value) for name, value in vars(space).items() if isinstance(value, Tensor)}
        if not constants:
            return model.process_latent_in(latents)
        swapped = copy.copy(space)
        vars(swapped).update(constants)
        original, model.latent_format = model.latent_format, swapped
        try:
            return model.process_latent_in(latents)
        finally:
            model.latent_format = original

    def _check_codec(self):
        channels = getattr(self.vae, "latent_channels", None)
        if channels is not None and channels != self._space.latent_channels:
            raise ValueError(
                f"The VAE makes latents of {channels} channels but this MODEL ({type(self.model.model).__name__}) takes {self._space.latent_channels}. "
                "MODEL and VAE must come from the same checkpoint: connect both from one loader."
            )
        if self._space.latent_dimensions == 3:
            self._check_time()

    def _check_time(self):
        squeezed, wanted = self.vae.temporal_compression_decode() or 1, self._space.temporal_downscale_ratio
        if squeezed != wanted:
            raise ValueError(
                f"The VAE puts {squeezed} frame{'s' * (squeezed > 1)} into each latent, and this MODEL ({type(self.model.model).__name__}) takes {wanted}. "
                "MODEL and VAE must belong together: load the VAE that the model was published with."
            )

    def _check_size(self):
        ratio = self.vae.spacial_compression_encode()
        if any(side < ratio or side % ratio for side in self.native_size):
            height, width = self.native_size
            raise ValueError(f"Pictures of {width} x {height} do not fit this VAE, which works in blocks of {ratio} pixels. Choose multiples of {ratio}.")


def _for_all(prompts: Sequence[list], directed: int) -> list[list]:
    """As many prompts as there are directions, the plain one where a direction has none of its own; none stay none."""
    return [*prompts, *[prompts[0]] * (directed - len(prompts))] if prompts else []
