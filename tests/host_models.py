"""The host's own model classes at tiny random size: pictures and video, from text and from a picture, each with a VAE of its kind.

Import after the `comfy` fixture has run. VAEs are averages over blocks of pixels and frames under the real ones' compression,
channels and flags; Stable Diffusion's and Wan 2.1's are of the host's own classes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import comfy.latent_formats
import comfy.model_base
import comfy.model_patcher
import comfy.sd
import comfy.supported_models as known
import torch
from synthetic import conditioning, fill, kl_vae, patcher, pixel_vae
from torch import Tensor, nn

TEXT = 32
POOLED = 48


class Averages(nn.Module):
    """An encoder: means over blocks, mixed into `channels` by a fixed matrix; causal in time (the first frame for itself) where time is squeezed."""

    def __init__(self, channels: int, space: int, time: int | None):
        super().__init__()
        self.space, self.time = space, time
        self.register_buffer("matrix", torch.randn(channels, 3, generator=torch.Generator().manual_seed(9)))

    def encode(self, pictures: Tensor) -> Tensor:
        latents = torch.einsum("oc,bc...->bo...", self.matrix.to(pictures), pictures)
        if self.time is None:
            return nn.functional.avg_pool2d(latents, self.space)
        frames = 1 + (latents.shape[2] - 1) // self.time * self.time  # the rest is dropped, as the real ones do
        latents = nn.functional.avg_pool3d(latents[:, :, :frames], (1, self.space, self.space))
        first, rest = latents[:, :, :1], latents[:, :, 1:]
        return torch.cat([first, nn.functional.avg_pool3d(rest, (self.time, 1, 1))], 2) if rest.shape[2] else first


def averaging_vae(channels: int, space: int, time: int | None = None) -> comfy.sd.VAE:
    return vae_of(Averages(channels, space, time), channels, space, time)


def vae_of(model: nn.Module, channels: int, space: int, time: int | None) -> comfy.sd.VAE:
    """A host VAE around a module, with the attributes that the host sets for its kind."""
    vae = pixel_vae()
    vae.first_stage_model, vae.latent_channels = model.eval(), channels
    vae.patcher = comfy.model_patcher.ModelPatcher(model, load_device=vae.device, offload_device=vae.device)
    vae.downscale_ratio = vae.upscale_ratio = space
    if time:
        vae.latent_dim = 3
        vae.downscale_ratio = (lambda frames: max(0, (frames + time - 1) // time), space, space)
        vae.upscale_ratio = (lambda frames: max(0, frames * time - time + 1), space, space)
        vae.memory_used_encode = vae.memory_used_decode = lambda shape, dtype: 1000
    return vae


def unet(**changes) -> dict:
    """A UNet of the Stable Diffusion family, 32 wide."""
    config = dict(
        image_size=32, in_channels=4, out_channels=4, model_channels=32, num_res_blocks=[1, 1], channel_mult=(1, 2), transformer_depth=[1, 1], transformer_depth_output=[1, 1, 1, 1],
        transformer_depth_middle=1, context_dim=TEXT, use_spatial_transformer=True, use_linear_in_transformer=True, legacy=False, adm_in_channels=None, dtype=torch.float32,
    )  # fmt: skip
    return config | changes


def made(config_class, config: dict, seed: int = 0, prefix: dict = {}):
    """A MODEL the way the host makes it from a configuration."""
    description = config_class({"dtype": torch.float32, **config})
    description.unet_config.update(prefix)
    model = description.get_model({}, "", device=torch.device("cpu"))
    fill(model.diffusion_model, seed)
    return patcher(model)


def sd15():
    return made(known.SD15, unet(), prefix={"num_heads": 2, "num_head_channels": -1})


def sd21():
    return made(known.SD20, unet(), prefix={"num_head_channels": 16})


def sd21_v():
    """Stable Diffusion 2.1 at 768, which the host tells by a weight."""
    description = known.SD20({**unet(), "dtype": torch.float32})
    description.unet_config["num_head_channels"] = 16
    model = comfy.model_base.BaseModel(description, comfy.model_base.ModelType.V_PREDICTION, device=torch.device("cpu"))
    fill(model.diffusion_model, 0)
    return patcher(model)


def sdxl():
    return made(known.SDXL, unet(num_classes="sequential", adm_in_channels=POOLED + 6 * 256), prefix={"num_heads": -1, "num_head_channels": 16})


def sd3():
    embedder = {"target": "torch.nn.Linear", "params": {"in_features": TEXT, "out_features": 64}}
    model = made(known.SD3, dict(input_size=None, in_channels=16, out_channels=16, patch_size=2, depth=1, pos_embed_max_size=16, num_patches=256, adm_in_channels=POOLED, context_embedder_config=embedder, qk_norm="rms", pos_embed_scaling_factor=None))
    positions = model.model.diffusion_model.pos_embed  # comes as empty memory
    positions.copy_(torch.randn(positions.shape, generator=torch.Generator().manual_seed(8)))
    return model


FLUX = dict(image_model="flux", in_channels=16, out_channels=16, vec_in_dim=POOLED, context_in_dim=TEXT, hidden_size=64, mlp_ratio=2.0, num_heads=2, depth=1, depth_single_blocks=1, axes_dim=[8, 12, 12], theta=10000, patch_size=2, qkv_bias=True, txt_ids_dims=[])


def flux():
    return made(known.Flux, {**FLUX, "guidance_embed": True})


def flux_schnell():
    return made(known.FluxSchnell, {**FLUX, "guidance_embed": False})


WAN = dict(image_model="wan2.1", dim=48, ffn_dim=64, num_heads=2, num_layers=1, text_dim=TEXT, text_len=8, freq_dim=32)


def wan21():
    return made(known.WAN21_T2V, {**WAN, "model_type": "t2v"})


def wan21_i2v():
    return made(known.WAN21_I2V, {**WAN, "model_type": "i2v", "in_dim": 36})


def wan22():
    return made(known.WAN22_T2V, {**WAN, "model_type": "t2v", "in_dim": 48, "out_dim": 48})


def ltx():
    return made(known.LTXV, dict(image_model="ltxv", in_channels=128, cross_attention_dim=64, attention_head_dim=32, num_attention_heads=2, caption_channels=TEXT, num_layers=1))


def svd():
    temporal = unet(in_channels=8, num_classes="sequential", adm_in_channels=768, use_temporal_attention=True, use_temporal_resblock=True, extra_ff_mix_layer=True, merge_strategy="learned_with_images", merge_factor=0.0, video_kernel_size=[3, 1, 1])
    return made(known.SVD_img2vid, temporal, prefix={"num_head_channels": 16})


COG = dict(image_model="cogvideox", num_attention_heads=2, attention_head_dim=48, num_layers=1, text_embed_dim=TEXT, time_embed_dim=32, sample_width=8, sample_height=8, sample_frames=9, max_text_seq_length=8)


def cogvideox():
    return made(known.CogVideoX_T2V, {**COG, "in_channels": 16})


def cogvideox_i2v():
    return made(known.CogVideoX_I2V, {**COG, "in_channels": 32})


HUNYUAN = dict(image_model="hunyuan_video", out_channels=16, vec_in_dim=POOLED, context_in_dim=TEXT, hidden_size=64, mlp_ratio=2.0, num_heads=2, depth=1, depth_single_blocks=1, axes_dim=[8, 12, 12], theta=256, patch_size=[1, 2, 2], qkv_bias=True, byt5=False, meanflow=False, use_cond_type_embedding=False, vision_in_dim=None, meanflow_sum=False)


def hunyuan():
    return made(known.HunyuanVideo, {**HUNYUAN, "in_channels": 16, "guidance_embed": True})


def hunyuan_i2v():
    return made(known.HunyuanVideoI2V, {**HUNYUAN, "in_channels": 33, "guidance_embed": False})


def wan_vae() -> comfy.sd.VAE:
    """Wan 2.1's own VAE class, 8 wide."""
    from comfy.ldm.wan.vae import WanVAE

    return vae_of(fill(WanVAE(dim=8, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]), 5), 16, 8, 4)


def text(seed: int, tokens: int = 6, **entries) -> list:
    """Text features with a pooled vector, as the text encoders of these models give them."""
    pooled = torch.randn(1, POOLED, generator=torch.Generator().manual_seed(seed + 100))
    return [[features, {**options, "pooled_output": pooled, **entries}] for features, options in conditioning(seed, tokens, TEXT)]


@dataclass(frozen=True)
class Kind:
    """One class of model, and what must hold for it.

    `latent`: the latents' shape for `pictures` pictures of `side` x `side`. `sigma`: between which its noise levels lie. `form`: how
    a and b of z = a x0 + b eps follow from sigma. `target`: what its network estimates.
    """

    name: str
    model: Callable
    vae: Callable[[], comfy.sd.VAE]
    pictures: int
    side: int
    latent: tuple[int, ...]
    guidance: float
    sigma: tuple[float, float]
    form: str = "exploding"
    target: str = "eps"
    size: tuple[int, int] = (512, 512)
    prompt: dict = field(default_factory=dict)  # further entries of its conditioning
    slot: str = "image"


FLOW = (0.0, 1.0)
VP = (0.02, 16.0)  # Stable Diffusion's sigma is 0.0292 to 14.6


def start_latent(channels: int, frames: int, side: int, **more) -> dict:
    """A start picture in latents, as the host's image-to-video nodes put it on the conditioning."""
    return {"concat_latent_image": torch.randn(1, channels, frames, side, side, generator=torch.Generator().manual_seed(7)), **more}


KINDS = [
    Kind("SD 1.5", sd15, kl_vae, 2, 32, (2, 4, 4, 4), 50.0, VP),
    Kind("SD 2.1", sd21, kl_vae, 2, 32, (2, 4, 4, 4), 50.0, VP),
    Kind("SD 2.1 at 768", sd21_v, kl_vae, 2, 32, (2, 4, 4, 4), 50.0, VP, target="v"),
    Kind("SDXL", sdxl, kl_vae, 2, 32, (2, 4, 4, 4), 50.0, VP, size=(1024, 1024)),
    Kind("SD3", sd3, lambda: averaging_vae(16, 8), 2, 32, (2, 16, 4, 4), 7.5, FLOW, "flow", "flow", (1024, 1024)),
    Kind("Flux", flux, lambda: averaging_vae(16, 8), 2, 32, (2, 16, 4, 4), 1.0, FLOW, "flow", "flow", (1024, 1024)),
    Kind("Flux schnell", flux_schnell, lambda: averaging_vae(16, 8), 2, 32, (2, 16, 4, 4), 1.0, FLOW, "flow", "flow", (1024, 1024)),
    Kind("Wan 2.1", wan21, wan_vae, 5, 32, (1, 16, 2, 4, 4), 7.5, FLOW, "flow", "flow", (480, 832), slot="video"),
    Kind("Wan 2.1, 16 frames", wan21, wan_vae, 16, 16, (1, 16, 5, 2, 2), 7.5, FLOW, "flow", "flow", (480, 832), slot="video"),
    Kind("Wan 2.1 from a picture", wan21_i2v, wan_vae, 5, 32, (1, 16, 2, 4, 4), 7.5, FLOW, "flow", "flow", (480, 832), start_latent(16, 2, 4, concat_mask=torch.ones(1, 1, 2, 4, 4)), "video"),
    Kind("Wan 2.2 5B", wan22, lambda: averaging_vae(48, 16, 4), 5, 64, (1, 48, 2, 4, 4), 7.5, FLOW, "flow", "flow", (480, 832), slot="video"),
    Kind("LTX", ltx, lambda: averaging_vae(128, 32, 8), 9, 64, (1, 128, 2, 2, 2), 7.5, FLOW, "flow", "flow", (512, 768), {"attention_mask": torch.ones(1, 6, dtype=torch.long)}, "video"),
    Kind("SVD", svd, kl_vae, 3, 32, (3, 4, 4, 4), 7.5, (0.001, 701.0), target="v", size=(576, 1024), prompt={"concat_latent_image": torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(7))}, slot="video"),
    Kind("CogVideoX", cogvideox, lambda: averaging_vae(16, 8, 4), 5, 32, (1, 16, 2, 4, 4), 50.0, (0.02, 1e5), "preserving", "v", (480, 720), slot="video"),
    Kind("CogVideoX from a picture", cogvideox_i2v, lambda: averaging_vae(16, 8, 4), 5, 32, (1, 16, 2, 4, 4), 50.0, (0.02, 1e5), "preserving", "v", (480, 720), start_latent(16, 2, 4), "video"),
    Kind("HunyuanVideo", hunyuan, lambda: averaging_vae(16, 8, 4), 5, 32, (1, 16, 2, 4, 4), 1.0, FLOW, "flow", "flow", (480, 848), slot="video"),
    Kind("HunyuanVideo from a picture", hunyuan_i2v, lambda: averaging_vae(16, 8, 4), 5, 32, (1, 16, 2, 4, 4), 7.5, FLOW, "flow", "flow", (480, 848), start_latent(16, 2, 4, concat_mask=torch.ones(1, 1, 2, 4, 4)), "video"),
]


def coefficients(kind: Kind, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """(a, b) of z = a x0 + b eps: "exploding" 1, sigma; "flow" 1 - sigma, sigma; "preserving" with a^2 + b^2 = 1 and b / a = sigma."""
    if kind.form == "flow":
        return 1 - sigma, sigma
    norm = torch.ones_like(sigma) if kind.form == "exploding" else (1 + sigma**2).sqrt()
    return 1 / norm, sigma / norm


def network_target(kind: Kind, x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """What a perfect network of this kind answers: the noise; v = alpha eps - sigma x0 of the variance preserving process; eps - x0."""
    if kind.target == "flow":
        return noise - x0
    level = sigma.view(-1, *[1] * (x0.ndim - 1))
    norm = (1 + level**2).sqrt()
    return noise if kind.target == "eps" else noise / norm - x0 * level / norm
