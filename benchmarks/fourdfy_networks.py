"""The networks of 4D-fy with random weights, as host MODELs and VAE: of the true shapes, or small ones that a CPU runs in seconds.

Stable Diffusion 2.1's UNet, MVDream on it (joint attention of four views), Zeroscope's 3D UNet, and Stable Diffusion's VAE: the pack's
own loaders build them of the same classes. `flops` counts the true ones on the meta device, where nothing is computed.
"""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import measure  # noqa: F401  (the pack as a package)
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import compat  # noqa: E402
import host  # noqa: E402

WORDS, CONTEXT = 77, 1024


def start_host(arguments: list[str]) -> None:
    """The host's modules in this process, under its own options such as --lowvram; before anything else of the host is imported."""
    tree = ROOT / ".host" if (ROOT / ".host" / "main.py").is_file() else host.tree()
    sys.path.insert(0, str(tree))
    sys.argv = [sys.argv[0], *arguments, *([] if torch.cuda.is_available() else ["--cpu"]), "--use-pytorch-cross-attention"]
    logging.getLogger().setLevel(logging.ERROR)  # the networks' weights are random: nothing is missing
    if compat.needed():
        compat.apply()
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.model_management  # noqa: F401


def unet_config(width: int, levels: tuple[int, ...], blocks: int, attention: int, head: int) -> dict:
    """Arguments of the host's UNet in Stable Diffusion 2's layout; the last level has no attention where there are four."""
    deep = [attention if level < 3 else 0 for level in range(len(levels)) for _ in range(blocks)]
    up = [attention if level < 3 else 0 for level in range(len(levels)) for _ in range(blocks + 1)]
    return dict(
        image_size=32, in_channels=4, out_channels=4, model_channels=width, num_res_blocks=[blocks] * len(levels), channel_mult=list(levels),
        transformer_depth=deep, transformer_depth_output=up, transformer_depth_middle=attention, context_dim=CONTEXT, use_spatial_transformer=True,
        use_linear_in_transformer=True, legacy=False, num_heads=-1, num_head_channels=head, adm_in_channels=None,
    )  # fmt: skip


def vae_config(width: int, levels: tuple[int, ...], blocks: int) -> dict:
    return dict(double_z=True, z_channels=4, resolution=256, in_channels=3, out_ch=3, ch=width, ch_mult=list(levels), num_res_blocks=blocks, attn_resolutions=[], dropout=0.0)


@dataclass(frozen=True)
class Shapes:
    """Networks and what one iteration of each type gives them: pictures (count, side or height and width) and renders."""

    unet: dict
    video: dict
    vae: dict
    image: int  # side of Stable Diffusion's picture
    views: int  # side of each of MVDream's four
    clip: tuple[int, int, int]  # frames, height, width of Zeroscope's
    render: int  # side of the renders of both image terms
    frame: tuple[int, int]  # height and width of the video's renders
    samples: int


TRUE = Shapes(
    unet_config(320, (1, 2, 4, 4), 2, 1, 64), dict(block_out_channels=(320, 640, 1280, 1280), attention_head_dim=64), vae_config(128, (1, 2, 4, 4), 2),
    image=512, views=256, clip=(16, 320, 576), render=256, frame=(160, 288), samples=512,
)  # fmt: skip
"""4D-fy's third stage: 262,144, 65,536 and 737,280 rays; a field of 4D-fy's own size (`PAPER_FIELD`)."""
SMALL = Shapes(
    unet_config(64, (1, 2), 1, 1, 32), dict(block_out_channels=(32, 64, 64, 64), attention_head_dim=8), vae_config(32, (1, 1, 1, 1), 1),
    image=64, views=32, clip=(4, 64, 64), render=32, frame=(24, 24), samples=48,
)  # fmt: skip


def filled(module, seed: int):
    """Random weights, small enough that signals neither vanish nor explode."""
    generator = torch.Generator(next(module.parameters()).device).manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            if weight.ndim > 1:
                weight.normal_(0.0, weight[0].numel() ** -0.5, generator=generator)
            else:
                weight.fill_(0.0)
        for name, weight in module.named_parameters():
            if weight.ndim == 1 and name.endswith("weight"):
                weight.fill_(1.0)
    return module


def patcher(model):
    import comfy.model_management as mm
    import comfy.model_patcher

    return comfy.model_patcher.CoreModelPatcher(model, load_device=mm.get_torch_device(), offload_device=mm.unet_offload_device())


def image_model(config: dict, dtype: torch.dtype, joint: bool, seed: int):
    """Stable Diffusion 2's layout as MODEL; `joint`: MVDream."""
    import comfy.model_base
    import comfy.supported_models

    from bloom4d.nodes.host.mvdream import MVDreamModel

    described = comfy.supported_models.SD20({**config, "dtype": dtype})
    described.set_inference_dtype(dtype, None)
    make = MVDreamModel if joint else (lambda given, device: comfy.model_base.BaseModel(given, comfy.model_base.ModelType.EPS, device=device))
    model = make(described, device=torch.device("cpu"))
    filled(model.diffusion_model, seed)
    return patcher(model)


def video_model(config: dict, dtype: torch.dtype, seed: int):
    """Zeroscope's layout as MODEL."""
    import comfy.supported_models_base

    from bloom4d.models.networks.zeroscope import build_zeroscope
    from bloom4d.nodes.host.foreign import VideoLatents, ZeroscopeModel

    class Described(comfy.supported_models_base.BASE):
        unet_config = {"network": config, "context_dim": CONTEXT}
        unet_extra_config = {}
        latent_format = VideoLatents
        sampling_settings = {}
        memory_usage_factor = 1.5

    described = Described(Described.unet_config)
    described.set_inference_dtype(dtype, None)
    network = lambda network, context_dim, dtype, device, operations: build_zeroscope(network, operations, device, dtype)  # noqa: E731
    model = ZeroscopeModel(described, device=torch.device("cpu"), unet_model=network)
    filled(model.diffusion_model, seed)
    return patcher(model)


def vae(config: dict, dtype: torch.dtype, seed: int = 3):
    """Stable Diffusion's autoencoder as the host's VAE."""
    import comfy.sd

    made = comfy.sd.VAE(sd={"unused": torch.zeros(1)}, config={"params": {"ddconfig": config, "embed_dim": 4}}, dtype=dtype)
    filled(made.first_stage_model, seed)
    return made


def text(seed: int) -> list:
    """A CONDITIONING of random words."""
    words = torch.randn(1, WORDS, CONTEXT, generator=torch.Generator().manual_seed(seed))
    return [[words, {"pooled_output": words.mean(1)}]]


def flops(shapes: Shapes) -> dict[str, float]:
    """Floating point operations of the networks in one iteration of each type, counted on the meta device.

    Rendering is left out, as in the specification's table. IMG is variational: base and LoRA with their unconditional halves, and
    one training step of the LoRA (forward and backward to activations) on one picture.
    """
    import comfy.ops
    from comfy.ldm.models.autoencoder import AutoencoderKL
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    from bloom4d.models.networks.zeroscope import build_zeroscope
    from bloom4d.nodes.host.mvdream import MultiViewUNet

    meta, layers = torch.device("meta"), comfy.ops.disable_weight_init
    unet = UNetModel(**shapes.unet, dtype=torch.float32, device=meta, operations=layers)
    joint = MultiViewUNet(**shapes.unet, dtype=torch.float32, device=meta, operations=layers)
    video = build_zeroscope(shapes.video, layers, meta, torch.float32)
    with meta:
        encoder = AutoencoderKL(ddconfig=shapes.vae, embed_dim=4)
    frames, height, width = shapes.clip
    one = shapes.image // 8

    def ask(network, *latent, **options):
        batch = latent[0]
        return counted(lambda: network(torch.empty(latent, device=meta), torch.zeros(batch, device=meta), torch.empty(batch, WORDS, CONTEXT, device=meta), **options))

    def encode(count, rows, columns):
        return counted(lambda: encoder.encode(torch.empty(count, 3, rows, columns, device=meta, requires_grad=True)).sum().backward())

    def learn():
        latent = torch.empty(1, 4, one, one, device=meta, requires_grad=True)
        return counted(lambda: unet(latent, torch.zeros(1, device=meta), torch.empty(1, WORDS, CONTEXT, device=meta)).sum().backward())

    for module in (unet, joint, video, encoder):
        module.requires_grad_(False)
    side = shapes.views // 8
    return {
        "3D": ask(joint, 8, 4, side, side, bloom4d_views=4) + encode(4, shapes.views, shapes.views),
        "IMG": 2 * ask(unet, 2, 4, one, one) + learn() + encode(1, shapes.image, shapes.image),
        "VID": ask(video, 2, 4, frames, height // 8, width // 8) + encode(frames, height, width),
    }


def counted(work) -> float:
    """FLOPs of a call."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())
