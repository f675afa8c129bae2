"""Key maps of published checkpoints: against the host's own network and table at true size, and on small files of every layout."""

import pytest
import torch

from bloom4d.models.formats.diffusers_names import ldm_names
from bloom4d.models.formats.model_files import CAMERA_EMBEDDING, MVDREAM, camera_embedding, check_unet, unet_names
from bloom4d.models.formats.unet_layout import STABLE_DIFFUSION_1, STABLE_DIFFUSION_2, UNetLayout, layout_of

ZERO123_UNET = UNetLayout(inputs=8, context=768, linear=False)


@pytest.fixture(scope="module")
def checkpoints(comfy):
    import checkpoints

    return checkpoints


def on_meta(shapes: dict) -> dict:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def host_unet(shapes: dict):
    """The host's UNet for tensors of these shapes, at true size and without memory."""
    import comfy.model_detection
    import comfy.ops

    from bloom4d.nodes.host.mvdream import MultiViewUNet

    config = comfy.model_detection.detect_unet_config(on_meta(shapes), "")
    heads = dict(num_heads=-1, num_head_channels=64) if config["use_linear_in_transformer"] else dict(num_heads=8, num_head_channels=-1)
    return MultiViewUNet(**config, **heads, dtype=torch.float32, device="meta", operations=comfy.ops.disable_weight_init), config


@pytest.mark.parametrize("layout", [STABLE_DIFFUSION_2, STABLE_DIFFUSION_1, ZERO123_UNET, UNetLayout(width=64, multiples=(1, 2), attention=(True, False), blocks=1)])
def test_the_list_of_tensors_is_the_hosts_network(comfy, layout):
    network, config = host_unet(layout.shapes())
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert layout.shapes() | camera_embedding(layout) == expected, "every tensor of the network, and nothing left over"
    assert layout_of(expected) == layout
    table = {name: ldm for name, ldm in comfy.utils.unet_to_diffusers(config).items() if ldm in expected}
    assert set(table.values()) | set(CAMERA_EMBEDDING) == set(expected)
    assert ldm_names(table) == table


def test_the_published_sizes(comfy):
    """865,910,724 weights is what Stable Diffusion 2.1's UNet is known to have; 686 tensors; MVDream adds four."""
    shapes = STABLE_DIFFUSION_2.shapes()
    count = lambda shapes: sum(torch.Size(shape).numel() for shape in shapes.values())  # noqa: E731
    assert (len(shapes), count(shapes)) == (686, 865_910_724)
    assert count(camera_embedding(STABLE_DIFFUSION_2)) == 16 * 1280 + 1280 + 1280 * 1280 + 1280
    assert count(STABLE_DIFFUSION_1.shapes()) == 859_520_964


@pytest.mark.parametrize("kind", ["ldm", "bare ldm", "diffusers", "one file of diffusers"])
def test_mvdream_at_true_size_in_every_layout(comfy, checkpoints, kind):
    shapes = STABLE_DIFFUSION_2.shapes() | camera_embedding(STABLE_DIFFUSION_2)
    unet = on_meta(shapes)
    others = on_meta({"first_stage_model.decoder.conv_in.weight": (512, 4, 3, 3), "cond_stage_model.model.positional_embedding": (77, 1024), "alphas_cumprod": (1000,)})
    diffusers = checkpoints.in_diffusers(unet, STABLE_DIFFUSION_2)
    parts = {name.replace("first_stage_model.", "vae.").replace("cond_stage_model.", "text_encoder."): value for name, value in others.items()}
    file = {
        "ldm": checkpoints.under("model.diffusion_model.", unet) | others,
        "bare ldm": unet,
        "diffusers": diffusers,
        "one file of diffusers": checkpoints.under("unet.", diffusers) | parts,
    }[kind]
    names = unet_names(file.keys())
    found = {ldm: tuple(file[name].shape) for name, ldm in names.items()}
    assert found == shapes
    assert check_unet("file", found, MVDREAM, camera_embedding, "there") == STABLE_DIFFUSION_2


def test_camera_embeddings_under_the_names_of_converters(comfy, checkpoints):
    unet = checkpoints.mvdream_unet(checkpoints.SMALLEST)
    for old in ("class_embedding.linear_{}", "camera_embedding.linear_{}"):
        renamed = {name.replace("camera_embed.0", old.format(1)).replace("camera_embed.2", old.format(2)): value for name, value in checkpoints.in_diffusers(unet, checkpoints.SMALLEST).items()}
        assert "camera_embed.0.weight" not in renamed
        assert set(unet_names(renamed).values()) == set(unet)


def write_every_layout(checkpoints, folder) -> dict:
    unet = checkpoints.mvdream_unet(checkpoints.SMALLEST)
    diffusers = checkpoints.in_diffusers(unet, checkpoints.SMALLEST)
    (folder / "unet").mkdir()
    return {
        "ldm": checkpoints.write(folder / "ldm.safetensors", checkpoints.under("model.diffusion_model.", unet)),
        "bare": checkpoints.write(folder / "bare.safetensors", unet),
        "diffusers": checkpoints.write(folder / "diffusers.safetensors", diffusers),
        "pipeline": checkpoints.write(folder / "pipeline.safetensors", checkpoints.under("unet.", diffusers)),
        "folder": checkpoints.write(folder / "unet" / "diffusion_pytorch_model.safetensors", diffusers),
        "pickled": save_pickled(folder / "sd-v2.1-base-4view.pt", checkpoints.under("model.diffusion_model.", unet)),
    }


def save_pickled(path, tensors):
    torch.save({"state_dict": tensors}, path)
    return path


def test_the_same_weights_in_every_layout_are_the_same_model(comfy, checkpoints, tmp_path):
    from bloom4d.nodes.host import mvdream

    answers = {}
    for kind, file in write_every_layout(checkpoints, tmp_path).items():
        network = mvdream.load_model(str(file)).model.diffusion_model
        z = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(1))
        answers[kind] = network(z, torch.full((4,), 300.0), context=torch.ones(4, 7, 1024), bloom4d_views=4, bloom4d_camera=torch.eye(4).reshape(1, 16).repeat(4, 1))
    assert all(torch.equal(answer, answers["ldm"]) for answer in answers.values()), answers.keys()


def refusal(unet: dict, file="a_file.safetensors") -> str:
    """The message about a file whose UNet tensors (ldm names) have these shapes."""
    with pytest.raises(ValueError) as failure:
        check_unet(file, unet, MVDREAM, camera_embedding, "/models/checkpoints")
    message = str(failure.value)
    assert "\n" not in message and message.startswith(file)
    for part in ("sd-v2.1-base-4view.pt", "CreativeML Open RAIL-M", "/models/checkpoints", "https://huggingface.co/MVDream/MVDream"):
        assert part in message
    return message


def test_wrong_and_partial_files_are_named():
    whole = STABLE_DIFFUSION_2.shapes() | camera_embedding(STABLE_DIFFUSION_2)
    without = lambda *starts: {name: shape for name, shape in whole.items() if not name.startswith(starts)}  # noqa: E731
    assert "is Stable Diffusion or a model of its kind, not MVDream: 4 tensors (camera_embed.0.weight, camera_embed.0.bias, camera_embed.2.weight and 1 more) are missing" in refusal(without("camera_embed"))
    assert "is not the whole of MVDream: of its 690 UNet tensors 1 (out.2.bias) is missing. Copy or download it again" in refusal(without("out.2.bias"))
    assert "of its 690 UNet tensors 12 (output_blocks.11.0.in_layers.0.weight," in refusal(without("output_blocks.11.0."))
    assert "is an image-conditioned variant of MVDream (ImageDream), which is not supported: 1 UNet tensor" in refusal(whole | {"middle_block.1.transformer_blocks.0.attn2.to_k_ip.weight": (1280, 1024)})
    assert "is no MVDream: camera_embed.0.weight is 1280 x 12, and 1280 x 16 is needed" in refusal(whole | {"camera_embed.0.weight": (1280, 12)})
    assert "holds no diffusion UNet of a kind that is known here" in refusal({"decoder.conv_in.weight": (512, 4, 3, 3)})
