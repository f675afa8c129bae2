"""A host MODEL as a function from noisy latents to denoised ones, equal to what the host's samplers see at every step.

Everything the host applies while sampling is applied here: LoRA and object patches, ControlNets, areas and masks, hooks,
wrappers, guidance patches, offloading. Cameras, prompts and hints may change between calls.
"""

from collections.abc import Callable, Iterator, Sequence

import comfy.model_management
import comfy.model_patcher
import comfy.sampler_helpers
import comfy.samplers
import torch
from torch import Tensor

from ...models.geometry.cameras import Cameras
from .conditions import VIEW_TELLS, check_latent_shape, check_start_picture, check_text, has_gate, own_controls, reads_views, told, view_keys
from .residency import make_resident
from .texts import Texts, for_pictures


class ScoreSession:
    """Denoised estimates of one MODEL under one conditioning; a context manager that restores the host's state.

    positive, negative: CONDITIONING (negative may be None: no unconditional estimates). `directions`: the positive prompt's
    variants by view; `set_text` chooses by index, 0 is `positive`. `guidance` is only used by `denoised`. `beside`: a prompt (and
    as many variants as `directions`), every part of which `apart` estimates by itself. Several sessions on one MODEL may be
    open together. Opens at the first call, with the latents' shape, and adapts when that changes.

    Latents are in the model's own space (`process_latent_in`), (B, C, h, w) or (B, C, T, h, w), noise levels `sigma` (B,) or
    a number in the model's own units. Results are float32, ordinary tensors when called outside inference mode, on the device
    of z.
    """

    def __init__(self, model, positive: list, negative: list | None = None, guidance: float = 1.0, directions: Sequence[list] = (), seed: int = 0, beside: Sequence[list] = ()):
        texts = [positive, *directions]
        for conditioning in texts:
            check_text(model, conditioning, "positive")
        for conditioning in [*([] if negative is None else [negative]), *beside]:
            check_text(model, conditioning, "negative")
        self.model, self.guidance, self.seed = model, guidance, seed
        self.texts, self.negative, self.beside = texts, negative, tuple(beside)
        self._views: dict = {}
        self._text: tuple[int, ...] | None = None
        self._hints: dict[int | None, Tensor] = {}
        self._guider = None
        self._copies: dict = {}
        self._stale = True
        # hooks patch the shared weights in place, so other sessions must never meet a session with hooks open
        self._hooked = any(comfy.sampler_helpers.cond_has_hooks(conditioning) for conditioning in [*texts, *filter(None, [negative]), *beside])

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.close()

    def open(self, shape: Sequence[int], latent_image: Tensor | None = None):
        """Load the model and prepare the conditioning for latents of `shape`; `latent_image` for models that take one."""
        check_latent_shape(self.model, shape)
        self.close()
        with torch.inference_mode():
            guider = self._guider = comfy.samplers.CFGGuider(self.model)
            try:
                self._start(guider, tuple(shape), latent_image)
            except BaseException:
                self.close()
                raise
        return self

    def denoised(self, z: Tensor, sigma: Tensor | float) -> Tensor:
        """The estimate with guidance and with every guidance patch of the MODEL: what a sampler gets."""
        return self._call(z, sigma, lambda x, level, options: self._guider.outer_predict_noise(x, level, options, self.seed))

    def both(self, z: Tensor, sigma: Tensor | float, unconditional: bool = True) -> tuple[Tensor, Tensor | None]:
        """The conditional and the unconditional estimate apart (None where there is none or it is not wanted).

        Patches that change guidance itself (RescaleCFG and the like) belong to `denoised` and are not applied.
        """
        wanted = unconditional and self.negative is not None
        conditional, free = self._call(z, sigma, lambda x, level, options: self._estimates(x, level, options, wanted))
        return conditional, free if wanted else None

    def apart(self, z: Tensor, sigma: Tensor | float) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
        """Both estimates of `both`, and that of every part of `beside` with its strength by picture, (B,) or (1,); needs a negative."""
        conditional, free, *others = self._call(z, sigma, lambda x, level, options: self._estimates(x, level, options, True, self._others))
        return conditional, free, list(zip(self._beside.strengths(self._text), others))

    def set_views(self, cameras: Cameras | None, tells: Sequence[str] = VIEW_TELLS):
        """Tell the model the cameras and times of the next calls' pictures; models that read none ignore it at no cost."""
        if reads_views(self.model.model):
            self._views = {} if cameras is None else view_keys(cameras, tells)
            self._stale = True

    def set_text(self, indices: Sequence[int] | None):
        """Choose the prompt of every sample of the next calls: indices into positive and `directions`; None: positive."""
        chosen = None if indices is None else tuple(indices)
        if chosen != self._text:
            self._text, self._stale = chosen, True

    def set_hint(self, hint: Tensor, position: int | None = None):
        """Replace the picture (B or 1, H, W, C) of the ControlNets for the next calls, item by item.

        `position` counts them in the order in which they were applied; None sets all.
        """
        if position is None:
            self._hints.clear()
        self._hints[position] = hint.detach().movedim(-1, 1)
        if self._guider is not None:
            self._apply_hints()

    @property
    def controls(self) -> list:
        """The open session's own copies of the ControlNets, the first applied first."""
        return list(self._copies.values())

    def close(self):
        """Give everything back; safe to call at any time, also after an interrupt in the middle of a call."""
        guider, self._guider = self._guider, None
        if guider is None:
            return
        patcher = guider.model_patcher
        with torch.inference_mode():
            try:
                patcher.cleanup()
                comfy.sampler_helpers.cleanup_models(getattr(guider, "conds", {}), [*getattr(guider, "loaded_models", []), *self.controls])
                comfy.samplers.cast_to_load_options(guider.model_options, device=patcher.offload_device)
            finally:
                patcher.restore_hook_patches()

    def _apply_hints(self):
        for position, hint in self._hints.items():
            for control in self.controls if position is None else [self.controls[position]]:
                control.cond_hint_original, control.cond_hint = hint, None

    def _start(self, guider, shape: tuple, latent_image: Tensor | None):
        """The host's own preparation of sampling (CFGGuider.sample), up to the sampler."""
        texts, negative = self.texts, self.negative
        if negative is not None:
            guider.set_conds(texts[0], negative)  # may exchange the patcher where hooks need another kind
        else:
            guider.inner_set_conds({"positive": texts[0]})
        if self.beside:
            guider.inner_set_conds({"beside": self.beside[0]})
        guider.set_cfg(1.0 if negative is None else self.guidance)
        patcher = guider.model_patcher
        self._copies = {}
        self._texts = Texts(texts, self._copies)
        self._negative = None if negative is None else own_controls(guider.original_conds["negative"], self._copies)
        self._beside = Texts(self.beside, self._copies, apart=True) if self.beside else None
        self._apply_hints()
        guider.conds = self._entries(every=True)
        comfy.samplers.preprocess_conds_hooks(guider.conds)
        guider.model_options = comfy.model_patcher.create_model_options_clone(guider.model_options)
        comfy.sampler_helpers.prepare_model_patcher(patcher, guider.conds, guider.model_options)
        guider.inner_model, guider.conds, guider.loaded_models = comfy.sampler_helpers.prepare_sampling(patcher, list(shape), guider.conds, guider.model_options)
        comfy.samplers.cast_to_load_options(guider.model_options, device=patcher.load_device, dtype=patcher.model_dtype())
        patcher.pre_run()
        self._latent_image = latent_image
        self._process(shape)

    def _entries(self, every: bool = False) -> dict[str, list[dict]]:
        """Copies of the conditioning with the current prompts (or every prompt), cameras and times."""
        positive = self._texts.every() if every else [entry for part in self._texts.choose(self._text) for entry in part]
        others = [] if self._beside is None else [self._beside.every()] if every else self._beside.choose(self._text)
        parts = {"positive": positive} | ({} if self._negative is None else {"negative": self._negative})
        parts |= {f"beside {place}": [{"prompt_type": "negative"} | entry for entry in part] for place, part in enumerate(others)}
        self._others = tuple(name for name in parts if name.startswith("beside"))
        return {name: told(self.model.model, entries, self._views) for name, entries in parts.items()}

    def _process(self, shape: tuple):
        """Turn the conditioning into what the model takes, for latents of `shape`."""
        guider, device = self._guider, self._guider.model_patcher.load_device
        check_start_picture(self.model, [*self.texts, *filter(None, [self.negative])], shape)
        conds = {name: for_pictures(entries, shape, device) for name, entries in self._entries().items()}
        comfy.samplers.preprocess_conds_hooks(conds)
        comfy.samplers.filter_registered_hooks_on_conds(conds, guider.model_options)
        empty = torch.zeros(shape, device=device)
        image = empty if self._latent_image is None else guider.inner_model.process_latent_in(self._latent_image.to(empty))
        guider.conds = comfy.samplers.process_conds(guider.inner_model, empty, conds, device, image, None, self.seed, latent_shapes=[shape])
        for control in _controls(guider.conds):
            control.pre_run = _nothing  # ours alone; again and again it would rebuild a Control-LoRA at every step
        self._memory = comfy.sampler_helpers.estimate_memory(guider.model_patcher, list(shape), guider.conds)
        _, self._control_memory = comfy.sampler_helpers.get_additional_models(guider.conds, guider.model_patcher.model_dtype())
        self._gated = any(map(has_gate, guider.conds.values()))
        self._shape, self._stale = shape, False

    def _call(self, z: Tensor, sigma: Tensor | float, estimate: Callable):
        """Run `estimate` on the device in inference mode and bring its results back."""
        if self._guider is None:
            self.open(z.shape)
        guider, patcher = self._guider, self._guider.model_patcher
        with torch.inference_mode(), comfy.model_management.cuda_device_context(patcher.load_device):
            x = z.detach().to(patcher.load_device, torch.float32)
            level = torch.as_tensor(sigma, dtype=torch.float32, device=x.device).reshape(-1).expand(x.shape[0]).clone()
            self._load()
            if tuple(x.shape) != self._shape or self._stale:
                check_latent_shape(self.model, x.shape)
                self._process(tuple(x.shape))
                self._load()
            self._check_gates(level)
            options = comfy.model_patcher.create_model_options_clone(guider.model_options)
            options.setdefault("transformer_options", {})["sample_sigmas"] = torch.cat([level.unique().flip(0), level.new_zeros(1)])
            try:
                results = estimate(x, level, options)
            finally:
                if self._hooked:
                    self.close()
        if isinstance(results, Tensor):
            return results.to(z.device, torch.float32).clone()
        return tuple(result.to(z.device, torch.float32).clone() for result in results)

    def _load(self):
        """Have the models in memory, with room for this shape; nothing but a look when they are."""
        patcher = self._guider.model_patcher
        make_resident([patcher, *self._guider.loaded_models], *(memory + self._control_memory for memory in self._memory))
        self._guider.inner_model.current_patcher = patcher  # another session on the same model may have taken or cleared it

    def _estimates(self, x: Tensor, level: Tensor, options: dict, unconditional: bool, others: Sequence[str] = ()) -> list[Tensor]:
        """The host's `sampling_function` up to the point where guidance mixes the two estimates."""
        model = self._guider.inner_model
        conds = [self._guider.conds["positive"], self._guider.conds["negative"] if unconditional else None, *map(self._guider.conds.get, others)]
        arguments = {"conds": conds, "input": x, "sigma": level, "model": model, "model_options": options}
        if "sampler_calc_cond_batch_function" in options:
            results = options["sampler_calc_cond_batch_function"](arguments)
        else:
            results = comfy.samplers.calc_cond_batch(model, conds, x, level, options)
        for change in options.get("sampler_pre_cfg_function", []):
            results = change(arguments | {"conds_out": results, "cond_scale": self.guidance, "timestep": level})
        return results

    def _check_gates(self, level: Tensor):
        if self._gated and bool((level != level[0]).any()):
            raise ValueError(
                "The conditioning starts or ends at a percent of the schedule, and this batch mixes noise levels. "
                "Use one noise level per step in the guidance, or remove the start and end percent from the conditioning and its ControlNets."
            )


def _controls(conds: dict[str, list[dict]]) -> Iterator:
    """The ControlNets of processed entries, with those that were applied before them."""
    for control in (entry.get("control") for entries in conds.values() for entry in entries):
        while control is not None:
            yield control
            control = control.previous_controlnet


def _nothing(*arguments):
    """A ControlNet of an open session has run its preparation already."""
