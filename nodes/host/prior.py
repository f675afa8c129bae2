"""The embedded prior as native MODEL, CLIP and VAE: the host's own UNet, text transformer and VAE object run its weights.

So KSampler, CLIPTextEncode, VAEDecode, LoRA training, ControlNet, offloading and device selection work on it as on any
model. What it needs beyond text arrives as keys on CONDITIONING (`bloom4d_camera`, `bloom4d_time`, `bloom4d_frames`, ...).
"""

from __future__ import annotations

from pathlib import Path

import comfy.clip_model
import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.model_management as mm
import comfy.model_patcher
import comfy.model_sampling
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import comfy.utils
import safetensors
import torch
from comfy.ldm.modules.attention import optimized_attention_masked
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor

from ...models.data.prompts import parse_phenomenon
from ...models.data.styles import PHENOMENA
from ...models.geometry.cameras import spherical
from ...models.networks.joint_prior import JointPriorConfig, alpha_bar, joint_attention_bias, preconditioning
from ...models.networks.patch_codec import PatchCodec
from ...models.networks.prior_conditioning import Frame, camera_code, condition_vector, time_code, wrap_angle
from ...models.networks.prior_file import PriorConfigs, check_tensors, prior_configs
from ...models.networks.text_encoder import TextEncoderConfig, hash_tokens

DEFAULTS = {"guidance": 3.0, "size": 64}
"""What travels with the model: it was trained at 64 x 64, and knows so much that it needs little guidance (6 already flickers)."""


class JointUNet(UNetModel):
    """The host's UNet whose self-attention spans the frames of a scene, which passes clean frames through, and whose output is
    an estimate of x0 (see `preconditioning`)."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.register_buffer("variance", torch.ones(self.in_channels), persistent=False)
        self.passed = JointPriorConfig.passed

    def forward(self, x, timesteps=None, context=None, y=None, control=None, transformer_options={}, bloom4d_frames=1, bloom4d_clean=None, bloom4d_clean_mask=None, **kwargs):
        clean = None
        if bloom4d_clean is not None:
            clean = bloom4d_clean_mask > 0.5  # (B,)
            rows = clean[:, None, None, None]
            x, timesteps = torch.where(rows, bloom4d_clean.to(x), x), torch.where(clean, 0.0, timesteps)
        options = self._with_joint_attention(transformer_options, bloom4d_frames, clean, x.shape[-2:])
        variance, signal = (value.to(x.device, torch.float32) for value in (self.variance, alpha_bar()))  # half loses the last noise levels
        skip, scale = preconditioning(variance, signal[timesteps.long()], self.passed)
        out = skip * x + scale * super().forward(x, timesteps, context, y, control, options, **kwargs)
        return out if clean is None else torch.where(rows, bloom4d_clean.to(out), out)

    def _with_joint_attention(self, options: dict, frames: int, clean: Tensor | None, size: tuple[int, int]) -> dict:
        scenes = None if clean is None else clean.view(-1, frames)
        biases = {}

        def attend(q, k, v, extra):
            height, width = extra["activations_shape"][-2:]
            if (height, width) not in biases:
                biases[height, width] = joint_attention_bias(extra["n_heads"], frames, height, width, size[0], scenes).to(q)
            joined = (part.reshape(-1, frames * part.shape[1], part.shape[2]) for part in (q, k, v))
            out = optimized_attention_masked(*joined, extra["n_heads"], biases[height, width], transformer_options=extra)
            return out.reshape(q.shape)

        replaced = dict(options.get("patches_replace", {}))
        ours = {(stage, index): attend for stage, blocks in self._stages() for index in range(blocks)}
        replaced["attn1"] = ours | replaced.get("attn1", {})  # a user's own patch of a block wins
        return {**options, "patches_replace": replaced}

    def _stages(self) -> tuple[tuple[str, int], ...]:
        return ("input", len(self.input_blocks)), ("middle", 1), ("output", len(self.output_blocks))


class EmbeddedPriorModel(comfy.model_base.BaseModel):
    """BaseModel that turns the keys on CONDITIONING into the class vector, the scene length and the clean frames."""

    bloom4d_defaults = DEFAULTS

    def __init__(self, config, device=None):
        super().__init__(config, comfy.model_base.ModelType.V_PREDICTION, device=device, unet_model=JointUNet)

        class Sampling(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.X0):
            pass

        self.model_sampling = Sampling(config)

    def extra_conds(self, **kwargs):
        out = super().extra_conds(**kwargs)
        frames = scene_length(kwargs)
        out["bloom4d_frames"] = comfy.conds.CONDConstant(frames)
        clean = kwargs.get("bloom4d_clean")
        if clean is not None:
            latents, mask = clean_rows(clean, kwargs["noise"].shape[0], frames)
            out["bloom4d_clean"] = comfy.conds.CONDRegular(latents.to(kwargs["device"]))
            out["bloom4d_clean_mask"] = comfy.conds.CONDRegular(mask.float().to(kwargs["device"]))
        return out

    def encode_adm(self, **kwargs):
        return class_vectors(kwargs, self.adm_channels).to(kwargs["device"])


def scene_length(conditioning: dict) -> int:
    """Frames V per scene asked for by a conditioning dict; ValueError when the batch does not divide."""
    frames, batch = int(conditioning.get("bloom4d_frames", 1)), conditioning["noise"].shape[0]
    if frames < 1 or batch % frames:
        raise ValueError(f"A batch of {batch} latents is no whole number of scenes of {frames} frames. Set the empty latent's batch size to a multiple of {frames}.")
    return frames


def class_vectors(conditioning: dict, size: int) -> Tensor:
    """The class vectors (B, Y) that a conditioning dict asks for, on the CPU."""
    batch, frames = conditioning["noise"].shape[0], scene_length(conditioning)
    clean = conditioning.get("bloom4d_clean")
    first = 0 if clean is None else int(clean["index"][0])
    camera, time = _camera_codes(conditioning, batch, frames, first), _time_codes(conditioning, batch, frames, first)
    mask = torch.zeros(batch, dtype=torch.bool) if clean is None else clean_rows(clean, batch, frames)[1]
    reference = None if clean is None else clean["thumbnail"].float().cpu().expand(batch, -1)
    pooled = conditioning.get("pooled_output")
    width = size - camera.shape[1] - time.shape[1] - 2 - 256
    pooled = torch.zeros(batch, width) if pooled is None else _rows(pooled.float().cpu(), batch)
    if pooled.shape[1] != width:
        raise ValueError(f"The text conditioning has a pooled vector of {pooled.shape[1]} numbers, the embedded prior needs {width}. Encode the prompt with the CLIP of the Embedded Prior Loader.")
    return condition_vector(camera, time, mask, reference, pooled)


def clean_rows(clean: dict, batch: int, frames: int) -> tuple[Tensor, Tensor]:
    """Latents (B, C, h, w) holding the clean frames at their places in every scene, and their mask (B,) bool."""
    given, index = clean["latents"], clean["index"]
    if max(index) >= frames:
        raise ValueError(f"Clean frame {max(index)} lies outside a scene of {frames} frames. Give frame numbers from 0 to {frames - 1}.")
    latents = given.new_zeros(batch, *given.shape[1:])
    mask = torch.zeros(batch, dtype=torch.bool)
    for scene in range(0, batch, frames):
        for picture, place in enumerate(index):
            latents[scene + place], mask[scene + place] = given[picture], True
    return latents, mask


def _camera_codes(conditioning: dict, batch: int, frames: int, reference: int) -> Tensor:
    poses = conditioning.get("bloom4d_camera")
    if poses is None:
        return camera_code(torch.zeros(batch), torch.zeros(batch), torch.full((batch,), int(Frame.ABSENT)))
    frame = Frame[conditioning.get("bloom4d_camera_frame", "absolute").upper()]
    azimuth, elevation, _ = spherical(_rows(poses.float().cpu(), batch))
    if frame is Frame.RELATIVE:
        azimuth, elevation = (_relative(angle, frames, reference) for angle in (azimuth, elevation))
    return camera_code(wrap_angle(azimuth), elevation, torch.full((batch,), int(frame)))


def _time_codes(conditioning: dict, batch: int, frames: int, reference: int) -> Tensor:
    times = conditioning.get("bloom4d_time")
    if times is None:
        return time_code(torch.zeros(batch), torch.full((batch,), int(Frame.ABSENT)))
    frame = Frame[conditioning.get("bloom4d_time_frame", "absolute").upper()]
    times = _rows(times.float().cpu(), batch)
    return time_code(_relative(times, frames, reference) if frame is Frame.RELATIVE else times, torch.full((batch,), int(frame)))


def _relative(values: Tensor, frames: int, reference: int) -> Tensor:
    grid = values.view(-1, frames)
    return (grid - grid[:, reference : reference + 1]).flatten()


def _rows(values: Tensor, batch: int) -> Tensor:
    """Repeat the first axis to `batch` rows, as the host does with conditioning."""
    return comfy.utils.repeat_to_batch_size(values, batch)


def load_model(path: str, disable_dynamic: bool = False):
    """The denoiser of the prior file at `path` as a host MODEL (ModelPatcher)."""
    tensors, configs = _read(path)
    denoiser = configs.denoiser

    class Latent(comfy.latent_formats.LatentFormat):
        latent_channels = denoiser.latent_channels
        spacial_downscale_ratio = configs.codec.patch
        latent_rgb_factors, latent_rgb_factors_bias = preview_factors(_codec(tensors, configs))

    class Config(comfy.supported_models_base.BASE):
        unet_config = {**denoiser.host_config(), "dtype": mm.unet_dtype(supported_dtypes=[torch.float16, torch.bfloat16, torch.float32])}
        unet_extra_config = {}
        latent_format = Latent
        sampling_settings = {"zsnr": True}
        memory_usage_factor = 0.5

    config = Config(Config.unet_config)
    load_device, offload_device = mm.get_torch_device(), mm.unet_offload_device()
    config.set_inference_dtype(config.unet_config["dtype"], mm.unet_manual_cast(config.unet_config["dtype"], load_device))
    model = EmbeddedPriorModel(config, device=offload_device)
    patcher_class = comfy.model_patcher.ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    patcher = patcher_class(model, load_device=load_device, offload_device=offload_device)
    model.diffusion_model.variance = tensors["codec.variance"].clone()
    model.diffusion_model.passed = denoiser.passed
    model.load_model_weights(tensors, "unet.", assign=patcher.is_dynamic())
    patcher.cached_patcher_init = (load_model, (path,))
    return patcher


class HashedEmbedding(torch.nn.Embedding):
    """Token ids to the sum of two rows of a small table (see `models/networks/text_encoder.py`)."""

    def forward(self, tokens, out_dtype=None):
        first, second = hash_tokens(tokens, self.num_embeddings)
        dtype = self.weight.dtype if out_dtype is None else out_dtype
        return super().forward(first).to(dtype) + super().forward(second).to(dtype)  # the twin adds in full precision


class NotedTokens(dict):
    """The host's tokens, and what there is to say about the prompt they came from."""

    note = ""


class NotingTokenizer(comfy.sd1_clip.SD1Tokenizer):
    """The host's CLIP tokenizer, which also looks whether the demo prior can know the prompt."""

    def tokenize_with_weights(self, text, return_word_ids=False, **kwargs):
        tokens = NotedTokens(super().tokenize_with_weights(text, return_word_ids, **kwargs))
        tokens.note = limits_note(text)
        return tokens


def limits_note(text: str) -> str:
    """What a user must hear about a prompt that the demo prior cannot follow; empty for all others."""
    known = ", ".join(PHENOMENA)
    if not text.strip():
        return f"The prompt is empty: the demo prior makes any of the seven things that it knows ({known})."
    if parse_phenomenon(text) is None:
        return f'The demo prior does not know "{text.strip()}": it knows {known}. Name one of these, or load a real model.'
    return ""


def text_encoder_class(config: TextEncoderConfig):
    """The host's SD1-style CLIP wrapper around a text model of `config`'s shape."""

    class TextModel(comfy.clip_model.CLIPTextModel):
        def __init__(self, config_dict, dtype, device, operations):
            super().__init__(config_dict, dtype, device, operations)
            self.text_model.embeddings.token_embedding = HashedEmbedding(config.table, config.width, dtype=dtype, device=device)

    class Encoder(comfy.sd1_clip.SDClipModel):
        def __init__(self, device="cpu", dtype=None, model_options={}):
            options = {**model_options, "model_name": "bloom4d_text"}
            super().__init__(device=device, dtype=dtype, textmodel_json_config=config.host_config(), model_class=TextModel, return_projected_pooled=False, model_options=options)

    class Wrapped(comfy.sd1_clip.SD1ClipModel):
        def __init__(self, device="cpu", dtype=None, model_options={}):
            super().__init__(device=device, dtype=dtype, model_options=model_options, clip_name="l", clip_model=Encoder)

        def encode_token_weights(self, tokens):
            encoded, note = super().encode_token_weights(tokens), getattr(tokens, "note", "")
            return (*encoded, {"bloom4d_note": note}) if note else encoded  # further keys of the conditioning

    return Wrapped


def load_clip(path: str) -> comfy.sd.CLIP:
    """The text encoder of the prior file at `path` as a host CLIP."""
    tensors, configs = _read(path)

    class Target:
        params = {}
        clip = text_encoder_class(configs.text)
        tokenizer = NotingTokenizer

    weights = {f"text_model.{name}": value for name, value in _under(tensors, "text.").items()}
    weights["text_projection.weight"] = torch.eye(configs.text.width)  # CLIP's layout has one; the pooled state is used as it is
    return comfy.sd.CLIP(Target, parameters=sum(value.numel() for value in weights.values()), state_dict=[weights])


def load_vae(path: str) -> comfy.sd.VAE:
    """The patch codec of the prior file at `path` as a host VAE: RGB over white out, RGB (keyed) or premultiplied RGBA in."""
    tensors, configs = _read(path)
    codec = _codec(tensors, configs)
    vae = comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)}, dtype=torch.float32)
    vae.first_stage_model = codec
    vae.patcher = comfy.model_patcher.ModelPatcher(codec, load_device=vae.device, offload_device=mm.vae_offload_device())
    vae.downscale_ratio = vae.upscale_ratio = configs.codec.patch
    vae.latent_channels = configs.codec.channels
    vae.process_input = vae.process_output = _unchanged
    vae.memory_used_encode = vae.memory_used_decode = _codec_memory
    return vae


def preview_factors(codec: PatchCodec) -> tuple[list[list[float]], list[float]]:
    """Linear map from a latent pixel to its mean colour over white in [-1, 1], for the host's Latent2RGB previews."""
    with torch.inference_mode(False):
        pixels = codec.config.patch**2
        mean_of = lambda rows: rows.unflatten(-1, (4, pixels)).mean(-1)  # noqa: E731
        over_white = lambda rgba: rgba[..., :3] - rgba[..., 3:]  # noqa: E731
        factors = over_white(mean_of(codec.basis * codec.scale[:, None])) * 2
        bias = (over_white(mean_of(codec.mean)) + 1) * 2 - 1
    return factors.tolist(), bias.tolist()


def _codec(tensors: dict[str, Tensor], configs: PriorConfigs) -> PatchCodec:
    codec = PatchCodec(configs.codec)
    codec.load_state_dict(_under(tensors, "codec."))
    return codec.eval()


def _read(path: str) -> tuple[dict[str, Tensor], PriorConfigs]:
    name = Path(path).name
    try:
        tensors, metadata = comfy.utils.load_torch_file(path, safe_load=True, return_metadata=True)
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{name} is no readable safetensors file ({reason}). It may be truncated: reinstall Bloom4D, or copy your own file again.") from None
    configs = prior_configs(metadata, name)
    check_tensors(tensors, configs, name)
    return tensors, configs


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


def _unchanged(picture: Tensor) -> Tensor:
    return picture


def _codec_memory(shape, dtype) -> int:
    return 4 * mm.dtype_size(dtype) * shape[0] * shape[-1] * shape[-2] * 256
