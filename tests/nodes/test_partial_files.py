"""Text encoders, image encoders and VAEs that are not whole: the loader says which tensors are missing and which file is meant.

The host loads such files without a word and fills the rest with arbitrary numbers.
"""

import pytest
import torch

from bloom4d.models.formats.encoder_layouts import check_whole, t5_names, text_names, vae_names, vision_names


@pytest.fixture(scope="module")
def checkpoints(comfy):
    import checkpoints

    return checkpoints


@pytest.fixture(scope="module")
def kl(checkpoints):
    """A VAE of Stable Diffusion as its files have it."""
    return {name: torch.zeros(shape, dtype=torch.float16) for name, shape in checkpoints.kl_shapes().items()}


def in_diffusers(kl: dict) -> dict:
    """The same under the names of diffusers, written down from its modules; attention as matrices."""
    import re

    attention = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}

    def renamed(name):
        name = re.sub(r"(encoder)\.down\.(\d)\.block\.(\d)\.", r"\1.down_blocks.\2.resnets.\3.", name)
        name = re.sub(r"(decoder)\.up\.(\d)\.block\.(\d)\.", lambda m: f"decoder.up_blocks.{3 - int(m[2])}.resnets.{m[3]}.", name)
        name = re.sub(r"down\.(\d)\.downsample\.", r"down_blocks.\1.downsamplers.0.", name)
        name = re.sub(r"up\.(\d)\.upsample\.", lambda m: f"up_blocks.{3 - int(m[1])}.upsamplers.0.", name)
        name = re.sub(r"mid\.block_(\d)\.", lambda m: f"mid_block.resnets.{int(m[1]) - 1}.", name)
        name = re.sub(r"mid\.attn_1\.(norm|q|k|v|proj_out)\.", lambda m: f"mid_block.attentions.0.{attention[m[1]]}.", name)
        return name.replace("nin_shortcut", "conv_shortcut").replace("norm_out", "conv_norm_out")

    return {renamed(name): value.flatten(1) if "mid.attn_1" in name and value.ndim == 4 else value for name, value in kl.items()}


def without(tensors: dict, *starts: str) -> dict:
    return {name: value for name, value in tensors.items() if not name.startswith(starts)}


def test_the_lists_are_the_hosts_networks(comfy, kl):
    import json
    from pathlib import Path

    import comfy.clip_model
    import comfy.ops
    import comfy.text_encoders.sd2_clip
    import comfy.text_encoders.sd3_clip
    import comfy.text_encoders.t5

    assert sorted(vae_names()) == sorted(kl) and len(kl) == 248
    read = lambda folder, name: json.loads((Path(folder.__file__).parent / name).read_text())  # noqa: E731
    with torch.device("meta"):
        text = comfy.clip_model.CLIPTextModel(read(comfy.text_encoders.sd2_clip, "sd2_clip_config.json"), torch.float32, "meta", comfy.ops.manual_cast).state_dict()
        vision = comfy.clip_model.CLIPVisionModelProjection(read(comfy.clip_model, "clip_vision_config_vitl.json"), torch.float32, "meta", comfy.ops.manual_cast).state_dict()
        t5 = comfy.text_encoders.t5.T5(read(comfy.text_encoders.sd3_clip, "t5_config_xxl.json"), torch.float32, "meta", comfy.ops.manual_cast).state_dict()
    assert sorted(text_names(text)) == sorted(set(text) - {"text_projection.weight"}), "24 layers, and files of transformers have no projection"
    assert sorted(vision_names()) == sorted(vision) and sorted(t5_names()) == sorted(t5)
    published = [name for name in text if not name.startswith(("text_model.encoder.layers.23.", "text_projection"))]
    assert sorted(text_names(published)) == sorted(published), "23 layers, as diffusers publishes it"


def test_the_original_layout_of_the_text_encoder(comfy):
    from synthetic import _text_tensors

    whole = _text_tensors(0)
    assert sorted(text_names(whole)) == sorted(set(whole) - {"text_projection"})
    check_whole("a", whole, text_names(whole), "it", "")
    for lost in ("transformer.resblocks.23.mlp.c_fc.bias", "transformer.resblocks.7.", "token_embedding.weight", "ln_final"):
        with pytest.raises(ValueError, match="^a is not whole: of the 292 tensors of it "):
            check_whole("a", without(whole, lost), text_names(without(whole, lost)), "it", "")


def test_a_whole_vae_loads_in_both_layouts(comfy, kl):
    from bloom4d.nodes.host.whole_vae import original_names, whole_vae

    assert set(original_names(in_diffusers(kl))) == set(kl) and ".resnets." in "".join(in_diffusers(kl))
    given = {name: torch.full_like(value, 0.25) for name, value in kl.items() if name.startswith("decoder.conv_in")}
    for tensors in (kl | given, in_diffusers(kl | given)):
        vae = whole_vae(tensors, "vae.safetensors", "Zeroscope's", "Choose another.")
        weight = vae.first_stage_model.decoder.conv_in.weight
        assert weight.shape == (128, 4, 3, 3) and torch.all(weight.float() == 0.25)


PARTS = {"decoder.up.": 106, "encoder.": 106, "encoder.down.": 74, "encoder.down.1.block.0.nin_shortcut.bias": 1, "post_quant_conv.": 2, "quant_conv.bias": 1}


@pytest.mark.parametrize("diffusers", [False, True])
@pytest.mark.parametrize("lost", PARTS)
def test_half_a_vae_is_counted(comfy, kl, lost, diffusers):
    """Also without the tensors by which the host tells a layout: it took 174 of 248 for a VAE, and a lone half for none."""
    from bloom4d.nodes.host.whole_vae import whole_vae

    left = without(kl, lost)
    assert len(kl) - len(left) == PARTS[lost]
    with pytest.raises(ValueError, match=rf"^vae.pt is not whole: of the 248 tensors of Zeroscope's VAE {PARTS[lost]} \({lost}.* missing. Copy or download it again. Choose another.$"):
        whole_vae(in_diffusers(left) if diffusers else left, "vae.pt", "Zeroscope's", "Choose another.")


@pytest.mark.parametrize("lost", ["taesd_decoder.", "taesd_encoder.", "vae_scale"])
def test_half_a_tiny_vae(checkpoints, lost):
    """Two files of TAESD's are a VAE only together; and without its scale its latents are none of Stable Diffusion's."""
    from bloom4d.nodes.host.whole_vae import whole_vae

    with pytest.raises(ValueError, match=rf"^a.pt is not whole: of the \d+ tensors of MVDream's VAE \d+ \({lost}"):
        whole_vae(without(checkpoints.tiny_vae(0), lost), "a.pt", "MVDream's", "")


def test_vaes_of_other_models(comfy, kl):
    """Flux's has 16 channels; Wan's has other names altogether. Neither is called a part of Stable Diffusion's."""
    from bloom4d.nodes.host.whole_vae import whole_vae

    sixteen = without(kl, "quant_conv", "post_quant_conv") | {"decoder.conv_in.weight": torch.zeros(128, 16, 3, 3), "encoder.conv_out.weight": torch.zeros(32, 512, 3, 3), "encoder.conv_out.bias": torch.zeros(32)}
    for tensors in (sixteen, {"decoder.middle.9.residual.0.gamma": torch.zeros(1), "encoder.conv1.weight": torch.zeros(1)}, {}):
        with pytest.raises(ValueError, match=r"^a.pt holds no VAE of Stable Diffusion 1 or 2 \(4 channels\), which MVDream's is. Get it."):
            whole_vae(tensors, "a.pt", "MVDream's", "Get it.")


def put(checkpoints, folder, text, vae, how):
    """An MVDream checkpoint as one file, or as a folder of diffusers; its path and the names under which text encoder and VAE are meant."""
    unet = checkpoints.mvdream_unet(checkpoints.SMALLEST)
    if how == "one file":
        parts = checkpoints.under("cond_stage_model.model.", text) | checkpoints.under("first_stage_model.", vae)
        return checkpoints.write(folder / "mvdream.safetensors", checkpoints.under("model.diffusion_model.", unet) | parts), ("mvdream.safetensors",) * 2
    for part in ("unet", "text_encoder", "vae"):
        (folder / part).mkdir()
    checkpoints.write(folder / "text_encoder" / "model.safetensors", text)
    checkpoints.write(folder / "vae" / "diffusion_pytorch_model.safetensors", vae)
    path = checkpoints.write(folder / "unet" / "diffusion_pytorch_model.safetensors", checkpoints.in_diffusers(unet, checkpoints.SMALLEST))
    return path, ("text_encoder/model.safetensors", "vae/diffusion_pytorch_model.safetensors")


@pytest.mark.parametrize("how", ["one file", "folder"])
def test_mvdream_without_a_part_of_its_encoders(checkpoints, tmp_path, how):
    from synthetic import _text_tensors

    from bloom4d.nodes.host import mvdream

    text, vae = _text_tensors(0), checkpoints.tiny_vae(1)
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    path, (file, _) = put(checkpoints, tmp_path / "a", without(text, "transformer.resblocks.5.attn"), vae, how)
    with pytest.raises(ValueError, match=rf"^{file} is not whole: of the 292 tensors of MVDream's text encoder 4 \(transformer.resblocks.5.attn.in_proj_weight, .* MVDream is sd-v2.1-base-4view.pt .*CreativeML Open RAIL-M"):
        mvdream.load(str(path))
    path, (_, file) = put(checkpoints, tmp_path / "b", text, without(vae, "taesd_decoder"), how)
    with pytest.raises(ValueError, match=rf"^{file} is not whole: of the \d+ tensors of MVDream's VAE .* MVDream is sd-v2.1-base-4view.pt"):
        mvdream.load(str(path))


def test_zero123_without_a_part_of_its_vae(checkpoints, tmp_path):
    from bloom4d.models.formats.model_files import projection
    from bloom4d.nodes.host import zero123

    layout = checkpoints.SMALLEST_ZERO123
    unet = checkpoints.under("model.diffusion_model.", checkpoints.zero123_unet(layout)) | checkpoints.random_tensors(projection(layout), 3)
    path = checkpoints.write(tmp_path / "zero.safetensors", unet | checkpoints.under("first_stage_model.", without(checkpoints.tiny_vae(1), "taesd_decoder")))
    with pytest.raises(ValueError, match="^zero.safetensors is not whole: of the .* tensors of Zero123's VAE .* Zero123-XL is zero123-xl.ckpt .*MIT"):
        zero123.load(str(path), False)


def test_zero123_without_a_part_of_the_image_encoder_beside_it(checkpoints, tmp_path):
    from bloom4d.nodes.host import zero123

    for part in ("unet", "image_encoder"):
        (tmp_path / part).mkdir()
    checkpoints.write(tmp_path / "image_encoder" / "model.safetensors", {name: torch.zeros(1).half() for name in vision_names() if ".layers.3.mlp" not in name})
    with pytest.raises(ValueError, match="^image_encoder is not whole: of the 392 tensors of Zero123's image encoder 4 .* zero123-xl.ckpt"):
        zero123._vision({}, tmp_path / "unet" / "model.safetensors")


def test_zeroscopes_encoders_and_t5(checkpoints, tmp_path):
    from checkpoints_video import write_open_clip
    from safetensors.torch import load_file

    from bloom4d.nodes.host import foreign

    text = load_file(write_open_clip(tmp_path / "whole.safetensors"))
    part = checkpoints.write(tmp_path / "text.safetensors", without(text, "text_model.encoder.layers.9.", "text_model.final_layer_norm"))
    with pytest.raises(ValueError, match="^text.safetensors is not whole: of the 372 tensors of OpenCLIP ViT-H/14's text encoder 18 .*Choose text_encoder/model.safetensors of the folder zeroscope_v2_576w .*licence CC-BY-NC"):
        foreign.load_open_clip(str(part))
    vae = checkpoints.write(tmp_path / "vae.safetensors", without(checkpoints.tiny_vae(0), "taesd_encoder.3"))
    with pytest.raises(ValueError, match=r"^vae.safetensors \(.*\) is not whole: of the .* tensors of Zeroscope's VAE .*licence CC-BY-NC"):
        foreign.load_frame_vae(str(vae))
    second = {name: torch.zeros(2).half() for name in t5_names() if name == "encoder.final_layer_norm.weight" or ".block.2" in name}
    with pytest.raises(ValueError, match=r"^t5.safetensors is not whole: of the 219 tensors of T5-XXL's encoder .*shared.weight.* t5xxl_fp16.safetensors .*Apache-2.0"):
        foreign.load_t5(str(checkpoints.write(tmp_path / "t5.safetensors", second)))
