"""VSD's phi on host MODELs: a score session whose MODEL carries a LoRA and a camera branch while, and only while, it is asked."""

from contextlib import contextmanager

import comfy.model_sampling
import torch
from torch import Tensor, nn

from ...models.geometry.cameras import Cameras
from ...models.guidance.noise import guided
from ...models.guidance.seeds import generator
from ...models.guidance.variational import target_error
from ...models.networks.low_rank import CAMERA_SIZE, CameraBranch, LowRank, camera_codes
from .adapter import noise_levels, noised
from .bypass import attention_layers, beside, embedding_width, ordinary_bypasses, ordinary_conditions, recomputed_blocks, trainable_forward, ungraded
from .conditions import VIEW_TELLS
from .drawing import DrawingPrior
from .encode import GRAPH_FACTOR, differentiable
from .inference import gradients
from .residency import make_resident
from .score import ScoreSession

VSD_GUIDANCE = 7.5
"""The frozen prior's scale for models that do not say (specification 1.4, of Stable Diffusion)."""

NETWORK, CAMERA = "diffusion_model", "camera"
LARGEST_WEIGHT = 25.0  # of the v-space error of models whose output is x0, as the embedded prior was trained
HALF_SCALE = 4096.0  # of the loss while it goes backward through a half precision network, whose gradients would round to zero


class HostPhi(ScoreSession):
    """The `Phi` of one MODEL. Its weights lie on the MODEL's device in float32 and are the same in every process when new."""

    def __init__(self, model, positive: list, negative: list | None, rank: int, rate: float, camera: bool, tells=VIEW_TELLS, save_memory: bool = False):
        super().__init__(model, positive, negative)
        network, device = model.model.diffusion_model, model.load_device
        layers = attention_layers(network, NETWORK)
        width = embedding_width(network) if camera else 0
        self.rate, self.tells, self.save_memory = rate, tuple(tells), save_memory
        with gradients():
            additions = {name: LowRank(layer.in_features, layer.out_features, rank, generator("phi", name)).to(device) for name, layer in layers.items()}
            self.branch = CameraBranch(width, generator("phi", "camera")).to(device) if width else None
        self.layers = {layer: additions[name] for name, layer in layers.items()}
        self.parts = additions if self.branch is None else {**additions, CAMERA: self.branch}
        self.parameters = [value for _, value in self.named_parameters()]
        self._codes = torch.zeros(1, CAMERA_SIZE)

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """See `Learner`; the low-rank weights under their layers' names."""
        return [(f"{name}.{inner}", value) for name, part in self.parts.items() for inner, value in part.named_parameters()]

    @property
    def sampling(self):
        """The MODEL's noise schedule, as patched by the user's nodes."""
        return self.model.get_model_object("model_sampling")

    def sigma_at(self, percent: Tensor) -> Tensor:
        """See `Phi`."""
        return noise_levels(self.sampling, percent)

    def denoise(self, z: Tensor, sigma: Tensor, cameras: Cameras, scale: float) -> Tensor:
        """See `Phi`."""
        self._look(cameras, z.shape[0])
        conditional, unconditional = self.both(z, sigma, unconditional=scale != 1.0)
        return guided(conditional, unconditional, scale)

    def error(self, x0: Tensor, noise: Tensor, sigma: Tensor, cameras: Cameras, hidden: Tensor) -> Tensor:
        """See `Phi`: of eps, v or flow as the network gives it, of v in the place of x0.

        Its gradient is computed here and now, so that no graph through the network outlives the call.
        """
        self._look(cameras, x0.shape[0], hidden)
        z = noised(self.sampling, x0, noise, sigma)
        error, *slopes = self._call(z, sigma, lambda x, level, options: self._error_and_gradients(x, level, options, x0))
        return _Known.apply(error, slopes, *self.parameters)

    def _look(self, cameras: Cameras, rows: int, hidden: Tensor | None = None):
        """Tell model and branch the cameras of the next call; a video's latent has its first frame's."""
        self.set_views(cameras, self.tells)
        codes = camera_codes(cameras.camera_to_world[:: max(len(cameras) // rows, 1)])
        self._codes = codes if hidden is None else codes.masked_fill(hidden.to(codes.device)[:, None], 0.0)

    def _estimates(self, x: Tensor, level: Tensor, options: dict, unconditional: bool) -> list[Tensor]:
        with self._applied(options):
            return super()._estimates(x, level, options, unconditional)

    @contextmanager
    def _applied(self, options: dict):
        """The MODEL as phi; further copies of it on other GPUs, which would be the base, are left out."""
        options.pop("multigpu_clones", None)
        if self.branch is not None:
            patches = options.setdefault("transformer_options", {}).setdefault("patches", {})
            patches["emb_patch"] = [*patches.get("emb_patch", []), self._add_camera]
        with beside(self.layers):
            yield

    def _add_camera(self, embedding: Tensor, channels: int, options: dict) -> Tensor:
        """The host's patch of time embeddings: in unconditional chunks of the batch no camera is heard of."""
        codes = self._codes.to(embedding.device, torch.float32)
        rows = torch.cat([torch.zeros_like(codes) if unconditional else codes for unconditional in options["cond_or_uncond"]])
        return embedding + self.branch(rows).to(embedding.dtype)

    def _error_and_gradients(self, x: Tensor, level: Tensor, options: dict, x0: Tensor) -> list[Tensor]:
        """The error and its gradient by parameter; blocks are computed again only while everything is as in the forward."""
        model, guider = self._guider.inner_model, self._guider
        graphs, kept = (1, 0) if self.save_memory else (GRAPH_FACTOR, guider.model_patcher.model_size())  # a graph keeps copies of the weights
        make_resident([guider.model_patcher, *guider.loaded_models], *(graphs * memory + kept for memory in self._memory))
        scale = HALF_SCALE if model.get_dtype_inference() == torch.float16 else 1.0
        with (
            gradients(), trainable_forward(options), self._ordinary(), differentiable(model), ordinary_bypasses(model), ungraded(self.controls),
            self._applied(options), recomputed_blocks(model.diffusion_model, self.save_memory),
        ):  # fmt: skip
            denoised = super()._estimates(x.clone(), level.clone(), options, False)[0]
            error = target_error(x0.to(denoised), denoised, self._output_scale(level.clone()))
            slopes = torch.autograd.grad(error * scale, self.parameters, allow_unused=True)
        return [error.detach(), *(torch.zeros_like(value) if slope is None else slope / scale for value, slope in zip(self.parameters, slopes))]

    @contextmanager
    def _ordinary(self):
        """The session's conditioning as tensors that a graph may hold."""
        processed = self._guider.conds
        self._guider.conds = {name: ordinary_conditions(entries) for name, entries in processed.items()}
        try:
            yield
        finally:
            self._guider.conds = processed

    def _output_scale(self, sigma: Tensor) -> Tensor:
        """d D / d output of the network at levels (B,), read off the host's own formula."""
        if isinstance(self.sampling, comfy.model_sampling.X0):
            return (sigma / (1 + sigma**2).sqrt()).clamp_min(LARGEST_WEIGHT**-0.5)
        one = torch.ones(len(sigma), 1).to(sigma)
        return self.sampling.calculate_denoised(sigma, one, torch.zeros_like(one)).flatten()


class VariationalPrior(DrawingPrior):
    """A `VariationalJudge`: the frozen prior of one MODEL, and phi on the same or on another one."""

    def __init__(self, phi: HostPhi, *arguments, **named):
        super().__init__(*arguments, **named)
        self.learner = phi
        self.default_guidance = float(getattr(self.model.model, "bloom4d_defaults", {}).get("guidance", VSD_GUIDANCE))
        if phi.model is not self.model:
            _check_same_latents(self, phi)

    def close(self):
        """See `HostPrior`; both MODELs are given back."""
        try:
            super().close()
        finally:
            self.learner.close()


def _check_same_latents(prior: VariationalPrior, phi: HostPhi):
    """ValueError unless both MODELs denoise the same latents with the same kind of noise."""
    ours, theirs = (type(model.get_model_object("latent_format")).__name__ for model in (prior.model, phi.model))
    level = torch.tensor([0.5])
    a, b = prior.coefficients(level)
    noisy = noised(phi.sampling, torch.ones(1, 1), torch.full((1, 1), 2.0), level).flatten()
    if ours != theirs or not torch.allclose(noisy, a + 2.0 * b):
        raise ValueError(
            f"The phi MODEL ({type(phi.model.model).__name__}, latents {theirs}) cannot learn what this MODEL ({type(prior.model.model).__name__}, latents {ours}) judges: "
            "they need the same latents and noise. Connect a model of the same family, such as SD 2.1 beside SD 2.1-base, or none."
        )


class _Known(torch.autograd.Function):
    """A value whose gradient by the parameters has been computed already."""

    @staticmethod
    def forward(ctx, value: Tensor, slopes: list[Tensor], *parameters: nn.Parameter) -> Tensor:
        ctx.slopes = [slope.to(parameter.device) for slope, parameter in zip(slopes, parameters)]
        return value.clone()

    @staticmethod
    def backward(ctx, factor: Tensor):
        return None, None, *(factor.to(slope.device) * slope for slope in ctx.slopes)
