"""Weight files of Zeroscope, ModelScope and DeepFloyd IF: recognised by their names, their networks at true size without memory."""

import pytest
import torch

from bloom4d.models.formats import modelscope
from bloom4d.models.formats.foreign_unets import DEEPFLOYD, ZEROSCOPE, check_tensors, count, deepfloyd_config, recognise, zeroscope_config
from bloom4d.models.networks.deepfloyd import build_deepfloyd, deepfloyd_skeleton
from bloom4d.models.networks.foreign_unet import PLAIN
from bloom4d.models.networks.zeroscope import build_zeroscope, zeroscope_skeleton


@pytest.fixture(scope="module")
def files(comfy):
    import checkpoints_video

    return checkpoints_video


@pytest.fixture(scope="module")
def video(files):
    return files.video_unet(files.TRUE_VIDEO, "meta").state_dict()


@pytest.fixture(scope="module")
def pixel(files):
    return files.pixel_unet(files.TRUE_PIXEL, "meta").state_dict()


def shapes(state: dict) -> dict:
    return {name: tuple(value.shape) for name, value in state.items()}


def test_networks_of_true_size_are_read_off_their_tensors(video, pixel):
    zeroscope = zeroscope_skeleton(zeroscope_config(video, "f"))
    assert shapes(zeroscope.state_dict()) == shapes(video)
    assert sum(value.numel() for value in video.values()) == 1_411_233_860  # the 1411 M of Zeroscope's UNet
    stage_one = deepfloyd_skeleton(deepfloyd_config(pixel, "f"))
    assert shapes(stage_one.state_dict()) == shapes(pixel)
    assert round(sum(value.numel() for value in pixel.values()) / 1e9, 1) == 4.3  # IF-I-XL's 4.3 billion


@pytest.mark.parametrize(("base", "billions"), [(192, 0.4), (320, 0.9)])
def test_the_smaller_sizes_of_deepfloyd_too(files, base, billions):
    sizes = {**files.STAGE_I, "block_out_channels": tuple(base * step for step in (1, 2, 3, 4)), "cross_attention_dim": 4 * base}
    state = files.pixel_unet(sizes, "meta").state_dict()
    config = deepfloyd_config(state, "f")
    assert shapes(deepfloyd_skeleton(config).state_dict()) == shapes(state)
    assert round(sum(value.numel() for value in state.values()) / 1e9, 1) == billions


@pytest.mark.parametrize("family", ["video", "pixel"])
def test_every_layer_is_of_the_given_operations(request, family, comfy):
    """So that the host moves, casts and patches each of them; nothing is left on the meta device or of torch's own."""
    import comfy.ops

    state = request.getfixturevalue(family)
    read, build = {"video": (zeroscope_config, build_zeroscope), "pixel": (deepfloyd_config, build_deepfloyd)}[family]
    network = build(read(state, "f"), comfy.ops.manual_cast, device="meta", dtype=torch.float16)
    layers = [part for part in network.modules() if part._parameters]
    managed = [part for part in layers if hasattr(part, "comfy_cast_weights")]
    assert {type(part).__name__ for part in layers if part not in managed} <= {"AttentionPooling"}  # one vector of DeepFloyd's own
    assert {value.dtype for value in network.state_dict().values()} == {torch.float16} and not any(value.requires_grad for value in network.parameters())
    assert shapes(network.state_dict()) == shapes(state) and not network.training
    assert not any(type(part) in vars(PLAIN).values() for part in network.modules())


def test_modelscopes_own_names_give_each_tensor_once(files, video):
    names = files.original_names()
    assert set(names) == set(video) and len(set(names.values())) == len(names) == 1480
    assert {modelscope.renamed_key(old): new for new, old in names.items()} == {new: new for new in names}
    original = {f"model.diffusion_model.{old}": video[new] for new, old in names.items()}
    assert modelscope.is_original(original) and not modelscope.is_original(video)
    assert shapes(modelscope.to_diffusers(original)) == shapes(video)
    wrong = modelscope.renamed_key("input_blocks.4.0.in_layers.0.weight", per_level=4)  # a control: other levels, other names
    assert wrong == "down_blocks.0.resnets.3.norm1.weight" != modelscope.renamed_key("input_blocks.4.0.in_layers.0.weight")


def test_a_file_that_was_cut_off_names_what_is_missing(video):
    part = {name: value for name, value in video.items() if not name.startswith("up_blocks.3.temp_convs")}
    with pytest.raises(ValueError) as caught:
        check_tensors(part, video, ZEROSCOPE, "half.safetensors")
    gone = [name for name in video if name not in part]
    assert len(gone) == 48  # three parts of four convolutions, each with a norm
    line = str(caught.value)
    assert line.startswith(f"half.safetensors lacks 48 of the 1480 tensors of Zeroscope v2 or ModelScope text-to-video ({gone[0]}, ")
    for words in ("models/diffusion_models", "CC-BY-NC-4.0", "huggingface.co/cerspense", "zeroscope_v2_576w"):
        assert words in line
    assert "\n" not in line


def test_shapes_that_do_not_fit_are_named(video):
    bent = {**video, "conv_out.bias": torch.empty(9, device="meta")}
    with pytest.raises(ValueError, match="conv_out.bias is 9 and should be 4"):
        check_tensors(bent, video, ZEROSCOPE, "f")
    thin = {**video, "down_blocks.1.resnets.0.conv1.weight": torch.empty(7, 320, 3, 3, device="meta")}
    with pytest.raises(ValueError, match="blocks of 320, 7, 1280, 1280 channels do not fit attention heads of 64"):
        zeroscope_config(thin, "f")


@pytest.mark.parametrize(("names", "what"), [
    (["model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.decoder.conv_in.weight"], "a whole checkpoint of the Stable Diffusion family"),
    (["time_embedding.linear_1.weight", "conv_in.weight"], "a picture UNet of the Stable Diffusion family"),
    (["text_model.embeddings.token_embedding.weight"], "a CLIP text encoder"), (["decoder.conv_in.weight"], "a VAE"),
    (["encoder.block.0.layer.0.SelfAttention.q.weight"], "a T5 text encoder"), (["transformer.resblocks.0.ln_1.weight"], "an OpenCLIP text encoder"),
    (["unet.down_blocks.0.attentions.0.to_q.lora_A.weight"], "a LoRA"), (["lora_unet_x.lora_up.weight"], "a LoRA"), ([], "a file of something else"),
])  # fmt: skip
def test_other_files_are_told_apart(names, what):
    tensors = {name: torch.empty(1, device="meta") for name in names}
    assert recognise(tensors) == what
    for read, wanted in ((zeroscope_config, ZEROSCOPE), (deepfloyd_config, DEEPFLOYD)):
        with pytest.raises(ValueError) as caught:
            read(tensors, "x.safetensors")
        assert str(caught.value).startswith(f"x.safetensors is {what} and not {wanted.title}: it has no ") and wanted.licence in str(caught.value)


def test_each_family_refuses_the_other_and_later_stages(video, pixel):
    with pytest.raises(ValueError, match="is a DeepFloyd IF UNet and not Zeroscope"):
        zeroscope_config(pixel, "f")
    with pytest.raises(ValueError, match="is Zeroscope v2 or ModelScope text-to-video and not DeepFloyd IF stage I"):
        deepfloyd_config(video, "f")
    with pytest.raises(ValueError, match="a later stage of DeepFloyd IF, which enlarges pictures: its first layer takes 6 channels"):
        deepfloyd_config({**pixel, "conv_in.weight": torch.empty(704, 6, 3, 3, device="meta")}, "f")


def test_parts_are_counted_without_gaps_and_no_more_than_are_there():
    assert count(["a.0.x", "a.1.x", "a.3.x"], "a") == 2 and count([], "a") == 0
    assert count(["a.999999999999.x", "a.0.y"], "a") == 1, "a huge number in a file builds nothing"
    with pytest.raises(ValueError, match="conv_in.weight is missing"):
        zeroscope_config({"transformer_in.proj_in.weight": torch.empty(512, 320, device="meta")}, "f")


@pytest.mark.parametrize("family", ["video", "pixel"])
def test_the_hosts_memory_estimate_covers_a_forward_of_true_size(files, family, comfy):
    """Two noisy samples in half precision: 16 frames of 320 x 576, or pictures of 64 x 64."""
    from live_memory import peak_of

    from bloom4d.nodes.host import foreign

    known, sizes, shape = {"video": (foreign.VIDEO, files.TRUE_VIDEO, (2, 4, 16, 40, 72)), "pixel": (foreign.PIXEL, files.TRUE_PIXEL, (2, 3, 64, 64))}[family]
    network = known.build(sizes, device="meta", dtype=torch.float16)
    x = torch.empty(shape, device="meta", dtype=torch.float16)
    text = torch.empty(2, 77, 1024 if family == "video" else 4096, device="meta", dtype=torch.float16)
    peak = peak_of(lambda: network(x, torch.empty(2, device="meta"), text))
    area = x[:, 0].numel()
    estimate = area * 2 * 0.01 * known.memory * 2**20  # comfy.model_base.BaseModel.memory_required, on a GPU
    assert 1.2 * peak < estimate < 2 * peak


def test_live_memory_is_the_peak_of_what_is_held():
    from live_memory import peak_of

    x = torch.empty(1000, device="meta")

    def forward():
        y = x * 2
        for _ in range(5):
            y = y + 1  # the old one is let go
        return y[:10].view(2, 5)  # no new memory

    assert peak_of(forward) == 8000
    kept = []
    assert peak_of(lambda: kept.extend(x * 2 for _ in range(5))) == 20000


@pytest.mark.parametrize("family", ["zeroscope", "deepfloyd"])
def test_without_diffusers_the_error_says_what_to_install(family, monkeypatch):
    import sys
    from importlib import import_module

    network = import_module(f"bloom4d.models.networks.{family}")
    network._network_class.cache_clear()
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ValueError, match='This model needs the package diffusers: install it with "pip install diffusers"'):
        getattr(network, f"build_{family}")({})
