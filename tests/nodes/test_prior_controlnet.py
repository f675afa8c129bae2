"""A ControlNet file of the prior's own layout goes through the host's stock loader and steers the host's sampler."""

import torch
from prior_fixtures import write_untrained_prior
from safetensors.torch import load_file, save_file
from test_embedded_prior import encode, sample

HINT_CHANNELS, WIDTH = 16, 64
STEM = (HINT_CHANNELS, 16, 16, 32, 32, 96, 96, 256, WIDTH)  # the stock hint encoder, 8x down


def write_controlnet(path, prior_file, strength: float):
    """Encoder copy of the prior, the stock hint stem and output convolutions of the given strength."""
    generator = torch.Generator().manual_seed(0)
    convolution = lambda out, into, size: torch.randn(out, into, size, size, generator=generator) * strength  # noqa: E731
    copied = ("unet.time_embed", "unet.label_emb", "unet.input_blocks", "unet.middle_block")
    tensors = {"control_model." + name[5:]: value.float() for name, value in load_file(prior_file).items() if name.startswith(copied)}
    for index, (into, out) in enumerate(zip(STEM, STEM[1:])):
        tensors[f"control_model.input_hint_block.{2 * index}.weight"] = convolution(out, into, 3)
        tensors[f"control_model.input_hint_block.{2 * index}.bias"] = torch.zeros(out)
    for name in [f"zero_convs.{index}.0" for index in range(4)] + ["middle_block_out.0"]:
        tensors[f"control_model.{name}.weight"] = convolution(WIDTH, WIDTH, 1)
        tensors[f"control_model.{name}.bias"] = torch.zeros(WIDTH)
    save_file(tensors, path)
    return str(path)


def steered(comfy, folder, strength):
    import comfy.controlnet
    import nodes

    from bloom4d.nodes.host import prior

    prior_file = write_untrained_prior(folder / "prior.safetensors", width=WIDTH)
    hint = torch.rand(4, 64, 64, HINT_CHANNELS, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        control = comfy.controlnet.load_controlnet(write_controlnet(folder / "control.safetensors", prior_file, strength))
        model, clip = prior.load_model(str(prior_file)), prior.load_clip(str(prior_file))
        conditions = [[[entry[0], {**entry[1], "bloom4d_frames": 4}] for entry in encode(clip, text)] for text in ("a rose", "")]
        plain = sample(model, *conditions, batch=4)
        applied = nodes.ControlNetApplyAdvanced().apply_controlnet(*conditions, control, hint, 1.0, 0.0, 1.0)
        return plain, sample(model, *applied, batch=4)


def test_stock_controlnet_steers_the_prior(comfy, tmp_path):
    plain, controlled = steered(comfy, tmp_path, strength=0.05)
    assert controlled.isfinite().all() and (plain - controlled).abs().max() > 1e-2


def test_zero_convolutions_change_nothing(comfy, tmp_path):
    plain, controlled = steered(comfy, tmp_path, strength=0.0)
    assert torch.equal(plain, controlled)
