"""What the host makes of MVDream's MODEL beside sampling: it trains a LoRA on it, and knows the memory that it takes."""

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@pytest.fixture(scope="module")
def checkpoints(comfy):
    import checkpoints

    return checkpoints


def test_the_hosts_trainer_learns_a_lora_on_it(checkpoints, synthetic, tmp_path):
    from comfy_extras.nodes_train import TrainLoraNode

    from bloom4d.nodes.host import mvdream

    checkpoints.write(tmp_path / "unet.safetensors", checkpoints.mvdream_unet(checkpoints.SMALLEST))
    model = mvdream.load_model(str(tmp_path / "unet.safetensors"))
    result = TrainLoraNode.execute(
        [model], [{"samples": torch.randn(1, 4, 8, 8)}], [synthetic.conditioning(1, tokens=7, width=1024)], [1], [2], [1], [1e-3], [4], ["AdamW"], ["MSE"], [0],
        ["fp32"], ["fp32"], [False], ["LoRA"], [False], [1], [False], ["[None]"], [False], [True],
    ).result  # fmt: skip
    lora = next(value for value in result if isinstance(value, dict) and "loss" not in value)
    assert any("camera_embed" in name for name in lora), "the camera embedding may be trained as any layer"
    assert any("attn1.to_q" in name for name in lora) and all(value.isfinite().all() for value in lora.values())


class Live(TorchDispatchMode):
    """The peak of bytes in tensors that a computation makes; parameters that are there already do not count."""

    def __init__(self, module):
        super().__init__()
        self.known = {value.untyped_storage()._cdata for value in module.parameters()}
        self.now = self.peak = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        for storage in (value.untyped_storage() for value in tree_leaves(result) if isinstance(value, torch.Tensor)):
            if storage._cdata not in self.known:
                self.known.add(storage._cdata)
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())
        return result

    def _freed(self, place: int, size: int):
        self.known.discard(place)
        self.now -= size


def peak(model, batch: int, views: int) -> int:
    """Bytes of activations of one call at true size and 256 x 256 pixels in half precision.

    In inference mode torch's attention is one operation, elsewhere it is taken apart and its matrices are counted.
    """
    half = dict(dtype=torch.float16, device="meta")
    live = Live(model.diffusion_model)
    with live, torch.no_grad():
        camera = torch.empty(batch, 16, **half) if views > 1 else None
        text = torch.empty(batch, 77, 1024, **half)
        model.diffusion_model(torch.empty(batch, 4, 32, 32, **half), torch.empty(batch, device="meta"), context=text, bloom4d_views=views, bloom4d_camera=camera)
    return live.peak


def test_the_hosts_estimate_covers_four_views_that_attend_to_each_other(comfy):
    import comfy.model_detection
    import comfy.supported_models

    from bloom4d.models.formats.model_files import camera_embedding
    from bloom4d.models.formats.unet_layout import STABLE_DIFFUSION_2
    from bloom4d.nodes.host.mvdream import MVDreamModel

    shapes = STABLE_DIFFUSION_2.shapes() | camera_embedding(STABLE_DIFFUSION_2)
    config = comfy.supported_models.SD20(comfy.model_detection.detect_unet_config({name: torch.empty(shape, device="meta") for name, shape in shapes.items()}, ""))
    config.set_inference_dtype(torch.float16, None)
    model = MVDreamModel(config, device="meta")
    fused = peak(model, 8, 4)
    with torch.inference_mode(False):
        joint, alone = peak(model, 8, 4), peak(model, 8, 1)
    per_pixel = 8 * 32 * 32 * (1 << 20)
    assert fused < 2 * 0.01 * per_pixel, "the host's figure where attention is fused: 2 bytes, 0.01 MiB each"
    assert alone < joint < 0.15 * per_pixel == model.memory_required([8, 4, 32, 32]), "and where it is not"
    assert joint > 2 * alone, "control: attention over four views takes more, and that is counted"
