"""The synthetic files of Stable Diffusion 2.1 that the real graphs run on: the published tensor names, and the host's own reading of them."""

import pytest
import torch
from safetensors import safe_open

from bloom4d.models.formats.encoder_layouts import vae_names
from bloom4d.models.formats.unet_layout import STABLE_DIFFUSION_2


@pytest.fixture(scope="module")
def files(comfy, tmp_path_factory):
    """The folder of both checkpoints and the LoRA."""
    import checkpoints

    folder = tmp_path_factory.mktemp("sd21")
    checkpoints.write_sd21(folder / "base.safetensors")
    checkpoints.write_sd21(folder / "v.safetensors", v=True, seed=10)
    checkpoints.write_sd21_lora(folder / "lora.safetensors")
    return folder


def load(files, monkeypatch, name):
    import folder_paths
    import nodes as host_nodes

    monkeypatch.setitem(folder_paths.folder_names_and_paths, "checkpoints", ([str(files)], {".safetensors"}))
    return host_nodes.CheckpointLoaderSimple().load_checkpoint(name)


@pytest.mark.parametrize("name", ["base.safetensors", "v.safetensors"])
def test_every_tensor_name_of_the_published_file(files, name):
    with safe_open(files / name, "pt") as file:
        below = lambda prefix: {key[len(prefix) :] for key in file.keys() if key.startswith(prefix)}  # noqa: E731
        assert below("model.diffusion_model.") == set(STABLE_DIFFUSION_2.shapes()), "686 tensors, four levels"
        assert below("first_stage_model.") == set(vae_names()), "AutoencoderKL, 248 tensors"
        assert len(below("cond_stage_model.model.transformer.resblocks.")) == 24 * 12
    assert (files / name).stat().st_blocks * 512 < 300e6


@pytest.mark.parametrize(("name", "kind"), [("base.safetensors", "EPS"), ("v.safetensors", "V_PREDICTION")])
def test_the_host_tells_eps_from_v_by_its_own_rule(files, monkeypatch, name, kind):
    import comfy.ldm.models.autoencoder
    import comfy.model_base
    import comfy.supported_models

    model, clip, vae = load(files, monkeypatch, name)
    assert isinstance(model.model.model_config, comfy.supported_models.SD20) and model.model.model_type is comfy.model_base.ModelType[kind]
    assert isinstance(vae.first_stage_model, comfy.ldm.models.autoencoder.AutoencoderKL)
    network = model.model.diffusion_model
    assert (len(network.input_blocks), len(network.output_blocks), len(network.state_dict())) == (12, 12, 686)
    latent = vae.encode(torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(1)))
    other = vae.encode(torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(2)))
    assert latent.shape == (1, 4, 8, 8) and latent.isfinite().all() and not torch.equal(latent, other), "a picture passes the encoder"
    assert vae.decode(latent).shape == (1, 64, 64, 3)


def test_text_and_noise_pass_the_four_levels(files, monkeypatch):
    model, clip, _ = load(files, monkeypatch, "base.safetensors")
    import comfy.sd
    import comfy.utils

    from bloom4d.nodes.host.loras import lora_notes

    network, z = model.model.diffusion_model, torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    dtype = next(network.parameters()).dtype
    words = [clip.encode_from_tokens_scheduled(clip.tokenize(text))[0][0] for text in ("a red rose", "a candle")]
    answers = [network(value.to(dtype), torch.tensor([500.0]), context=text.to(dtype)) for value, text in ((z, words[0]), (z, words[1]), (z + 1, words[0]))]
    assert all(answer.isfinite().all() for answer in answers) and not torch.equal(answers[0], answers[1]) and not torch.equal(answers[0], answers[2])
    patched = comfy.sd.load_lora_for_models(model, None, comfy.utils.load_torch_file(str(files / "lora.safetensors")), 1.0, 0)[0]
    assert len(patched.patches) == 32 and lora_notes(None, patched) == ()
