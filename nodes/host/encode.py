"""Encoding pictures into a host VAE's latents with gradients back to the pictures.

The host's own `VAE.encode` gives the same numbers but cannot be differentiated inside a node: its weights are inference
tensors, and when memory is short it silently switches to a tiled encoder that cuts the gradient.
"""

from contextlib import contextmanager

import comfy.model_management
import torch
from torch import Tensor, nn

from .residency import make_resident

GRAPH_FACTOR = 2  # activations kept for the backward pass against the host's estimate of encoding one picture (Stable Diffusion's VAE: 1.7)


@contextmanager
def differentiable(module: nn.Module):
    """While it is open, forwards of `module` outside inference mode can be differentiated; afterwards nothing is left behind.

    The host's operations fetch their weights through `weight_function` and `bias_function`: a clone there makes private,
    ordinary tensors that also survive an eviction of the weights before the backward pass. Other parameters and buffers are
    swapped for clones. No weight asks for a gradient. The graph holds the clones, so leave before calling backward.
    """
    undo = []
    try:
        for part in module.modules():
            cast = hasattr(part, "weight_function")
            if cast:
                undo.append((part.__dict__, "weight_function", part.__dict__.get("weight_function")))
                undo.append((part.__dict__, "bias_function", part.__dict__.get("bias_function")))
                part.weight_function = [*part.weight_function, _private]
                part.bias_function = [*part.bias_function, _private]
            for store in (part._parameters, part._buffers):
                for name, value in list(store.items()):
                    if value is not None and not (cast and name in ("weight", "bias")) and (value.is_inference() or value.requires_grad):
                        undo.append((store, name, value))
                        store[name] = _like(value)
        yield
    finally:
        for store, name, value in reversed(undo):
            if value is None:
                store.pop(name, None)  # the class attribute shows again
            else:
                store[name] = value


def _private(weight: Tensor) -> Tensor:
    return weight.detach().clone()


def _like(value: Tensor) -> Tensor:
    clone = value.detach().clone()
    return nn.Parameter(clone, requires_grad=False) if isinstance(value, nn.Parameter) else clone


def accepts_alpha(vae) -> bool:
    """True where the VAE encodes premultiplied RGBA in [0, 1] (it says so by `accepts_alpha` on its model)."""
    return bool(getattr(vae.first_stage_model, "accepts_alpha", False))


def check_vae(vae):
    """ValueError when there is no usable VAE."""
    if vae is None or vae.first_stage_model is None:
        raise ValueError(
            "There is no VAE to turn pictures into the model's latents. Connect the VAE of the same checkpoint, or load one with Load VAE."
        )


def is_video_vae(vae) -> bool:
    """Whether the VAE takes a clip as one sample."""
    return vae.latent_dim == 3 and not vae.not_video


def held(clip: Tensor, vae) -> Tensor:
    """A clip (F, H, W, C) whose last frame is held until the VAE takes all of it.

    Causal VAEs take 1 + k n frames and drop the rest without a word, so that the dropped ones would get no gradient: of 16
    frames Wan's would see 13. Here it gets 17.
    """
    compress = vae.downscale_ratio[0] if isinstance(vae.downscale_ratio, (tuple, list)) else None
    if not callable(compress):
        return clip
    length = len(clip)
    while compress(length) == compress(length - 1):
        length += 1
    return torch.cat([clip, clip[-1:].expand(length - len(clip), -1, -1, -1)]) if length > len(clip) else clip


def graphs_bytes(vae, pictures: int, size: tuple[int, int]) -> float:
    """About what the graphs of so many pictures (height, width) take when they are encoded together.

    By the host's own estimate, which is of one picture where they are the batch, and of the whole clip of a video VAE.
    """
    check_vae(vae)
    if vae.latent_dim == 3 and not vae.not_video:
        return GRAPH_FACTOR * vae.memory_used_encode((1, 3, pictures, *size), vae.vae_dtype)
    axes = (1,) * (vae.latent_dim - 2)
    return GRAPH_FACTOR * pictures * vae.memory_used_encode((1, 3, *axes, *size), vae.vae_dtype)


def encode_with_gradient(vae, rgb: Tensor, alpha: Tensor | None = None, one_at_a_time: bool = False) -> Tensor:
    """Latents of pictures, differentiable, equal to `vae.encode`; call it outside inference mode.

    rgb (B, H, W, 3) in [0, 1]. Where `accepts_alpha(vae)`, rgb is premultiplied and alpha (B, H, W) is encoded with it (fully
    opaque when None); elsewhere composite before. Returns float32 (B, C, h, w), or (1, C, F, h, w) of a video VAE, which takes
    the pictures as one clip, on the pictures' device, wherever the VAE lies. The posterior's mode is taken, as the host does.

    `one_at_a_time` keeps no activations: forward runs without a graph and backward encodes each picture again with one. Exact,
    because every picture is its own sample; a video VAE's clip is one sample and its graph is built whole, in backward only.
    """
    check_vae(vae)
    pixels = _pixels(vae, rgb, alpha)
    make_resident([vae.patcher], graphs_bytes(vae, 1 if one_at_a_time else len(rgb), pixels.shape[-2:]))
    if one_at_a_time:
        latents = _Recomputed.apply(pixels, vae)
    else:
        latents = _forward(vae, pixels)
    return latents if vae.format_encoded is None else vae.format_encoded(latents)


def _pixels(vae, rgb: Tensor, alpha: Tensor | None) -> Tensor:
    """What the encoder takes: (B, C, H, W), or (B, C, F, H, W) for a VAE with a time axis."""
    if accepts_alpha(vae):
        alpha = torch.ones_like(rgb[..., 0]) if alpha is None else alpha
        return torch.cat([rgb, alpha[..., None]], dim=-1).movedim(-1, 1)
    pixels = vae.vae_encode_crop_pixels(rgb).movedim(-1, 1)
    if vae.latent_dim == 3:
        pixels = pixels.unsqueeze(2) if vae.not_video else pixels.movedim(1, 0)[None]
    return vae.process_input(pixels)


def _forward(vae, pixels: Tensor) -> Tensor:
    model = vae.first_stage_model
    with differentiable(model), comfy.model_management.cuda_device_context(vae.device):
        picture = pixels.to(vae.vae_dtype)
        if getattr(model, "comfy_has_chunked_io", False):
            return model.encode(picture, device=vae.device).to(pixels.device, torch.float32)
        return model.encode(picture.to(vae.device)).to(pixels.device, torch.float32)


class _Recomputed(torch.autograd.Function):
    """Encode without a graph; encode again, one picture at a time, when the gradient arrives."""

    @staticmethod
    def forward(ctx, pixels: Tensor, vae) -> Tensor:
        ctx.save_for_backward(pixels)
        ctx.vae = vae
        return torch.cat([_forward(vae, item) for item in pixels.detach().split(1)])

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (pixels,) = ctx.saved_tensors
        make_resident([ctx.vae.patcher], graphs_bytes(ctx.vae, pixels.shape[2] if pixels.ndim == 5 else 1, pixels.shape[-2:]))
        parts = []
        for item, item_gradient in zip(pixels.split(1), gradient.split(1)):
            leaf = item.detach().requires_grad_()
            with torch.enable_grad():
                latent = _forward(ctx.vae, leaf)
            parts.append(torch.autograd.grad(latent, leaf, item_gradient)[0])
        return torch.cat(parts), None
