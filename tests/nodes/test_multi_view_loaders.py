"""The loaders of MVDream and Zero123 with files that are not there, not theirs, not whole, or without all parts."""

import os

import pytest
import torch


@pytest.fixture
def folder(comfy, tmp_path, monkeypatch):
    """An empty checkpoints folder; nothing in diffusion_models and diffusers."""
    import folder_paths

    for name in ("checkpoints", "diffusion_models", "diffusers"):
        (tmp_path / name).mkdir()
        monkeypatch.setitem(folder_paths.folder_names_and_paths, name, ([str(tmp_path / name)], {".safetensors"}))
    return tmp_path / "checkpoints"


@pytest.fixture(scope="module")
def checkpoints(comfy):
    import checkpoints

    return checkpoints


def loaders():
    from bloom4d.nodes.multi_view_priors import Bloom4DMVDreamLoader, Bloom4DZero123Loader

    return {"mvdream": Bloom4DMVDreamLoader, "zero123": Bloom4DZero123Loader}


WANTED = {
    "mvdream": ("sd-v2.1-base-4view.pt", "four views of one object from a prompt", "CreativeML Open RAIL-M", "https://huggingface.co/MVDream/MVDream"),
    "zero123": ("zero123-xl.ckpt", "other views of a pictured object", "licence: MIT", "https://zero123.cs.columbia.edu", "stable_zero123.ckpt, non-commercial", "Stability AI Community License"),
}


@pytest.mark.parametrize("kind", ["mvdream", "zero123"])
def test_a_file_that_nobody_has_is_named_with_folder_licence_and_purpose(folder, kind):
    loader = loaders()[kind]
    options = loader.define_schema().inputs[0].options
    assert options == [f"none here, get {WANTED[kind][0]}"], "an empty list shows the file to get, and no graph's file seems to be there"
    assert loader.validate_inputs(options[0]) == loader.validate_inputs(WANTED[kind][0])
    for name in (WANTED[kind][0], "shared_by_a_friend.safetensors", "../../secret.safetensors"):
        answer = loader.validate_inputs(name)
        assert answer.startswith(f"There is no checkpoint {name}.") and "\n" not in answer
        assert all(part in answer for part in (*WANTED[kind], str(folder), "press R"))
        with pytest.raises(ValueError, match="^There is no checkpoint "):
            loader.execute(name, *(["Zero123-XL"] if kind == "zero123" else []))
    assert loader.validate_inputs(None) is True, "a connected value is known later"


def test_files_of_three_folders_are_listed(folder, checkpoints):
    from bloom4d.nodes.multi_view_priors import Bloom4DMVDreamLoader

    (folder.parent / "diffusers" / "mvdream" / "unet").mkdir(parents=True)
    for place in ("checkpoints/a.safetensors", "diffusion_models/b.safetensors", "diffusers/mvdream/unet/diffusion_pytorch_model.safetensors", "checkpoints/readme.txt"):
        (folder.parent / place).write_bytes(b"")
    listed = Bloom4DMVDreamLoader.define_schema().inputs[0].options
    assert listed == ["a.safetensors", "b.safetensors", os.path.join("mvdream", "unet", "diffusion_pytorch_model.safetensors")]
    assert all(Bloom4DMVDreamLoader.validate_inputs(name) is True for name in listed)


def unet_file(checkpoints, path):
    return checkpoints.write(path, checkpoints.mvdream_unet(checkpoints.SMALLEST))


def test_a_unet_alone_says_what_to_connect_in_the_place_of_what_it_lacks(folder, checkpoints):
    from comfy_execution.graph_utils import ExecutionBlocker

    unet_file(checkpoints, folder / "unet_only.safetensors")
    model, clip, vae = loaders()["mvdream"].execute("unet_only.safetensors").result
    assert type(model.model).__name__ == "MVDreamModel"
    assert isinstance(clip, ExecutionBlocker) and isinstance(vae, ExecutionBlocker)
    assert clip.message.startswith("unet_only.safetensors holds no text encoder. Connect the CLIP of Stable Diffusion 2.1")
    assert vae.message.startswith("unet_only.safetensors holds no VAE. Connect Stable Diffusion's")


def refusal(kind: str, name: str) -> str:
    loader = loaders()[kind]
    with pytest.raises(ValueError) as failure:
        loader.execute(name, *(["Zero123-XL"] if kind == "zero123" else []))
    message = str(failure.value)
    assert "\n" not in message and message.startswith(name)
    return message


def test_files_of_other_models_are_told_what_they_are(folder, checkpoints):
    from bloom4d.models.formats.model_files import projection

    layout = checkpoints.SMALLEST_ZERO123
    zero123 = checkpoints.under("model.diffusion_model.", checkpoints.zero123_unet(layout)) | checkpoints.random_tensors(projection(layout), 3)
    checkpoints.write(folder / "a_zero123.safetensors", zero123)
    unet_file(checkpoints, folder / "an_mvdream.safetensors")
    plain = {name: value for name, value in checkpoints.mvdream_unet(checkpoints.SMALLEST).items() if not name.startswith("camera_embed")}
    checkpoints.write(folder / "plain_sd.safetensors", plain)
    checkpoints.write(folder / "video.safetensors", checkpoints.under("unet.", {"transformer_in.norm.weight": torch.ones(2).half()}))
    checkpoints.write(folder / "lora.safetensors", {"lora_unet_something.lora_up.weight": torch.ones(2, 2).half()})
    assert "is Zero123: use Zero123 Loader" in refusal("mvdream", "a_zero123.safetensors")
    assert "is MVDream: use MVDream Loader" in refusal("zero123", "an_mvdream.safetensors")
    assert "is Stable Diffusion or a model of its kind, not MVDream: 4 tensors (camera_embed" in refusal("mvdream", "plain_sd.safetensors")
    assert "not Zero123-XL: 2 tensors (cc_projection.weight, cc_projection.bias) are missing" in refusal("zero123", "plain_sd.safetensors")
    for kind in ("mvdream", "zero123"):
        assert "is a video model: try Zeroscope Loader" in refusal(kind, "video.safetensors")
        assert "holds no diffusion UNet of a kind that is known here" in refusal(kind, "lora.safetensors")


def test_half_an_image_encoder_is_noticed(folder, checkpoints):
    from bloom4d.models.formats.model_files import projection

    layout = checkpoints.SMALLEST_ZERO123
    tensors = checkpoints.under("model.diffusion_model.", checkpoints.zero123_unet(layout)) | checkpoints.random_tensors(projection(layout), 3)
    tower = {f"cond_stage_model.model.visual.transformer.resblocks.{layer}.ln_1.weight": (1024,) for layer in range(20)}
    checkpoints.write(folder / "half.safetensors", tensors | tower)
    assert "of the 296 tensors of its image encoder 276 (class_embedding, positional_embedding, proj and 273 more) are missing" in refusal("zero123", "half.safetensors")


class Hostile:
    """What a pickle may carry besides weights."""

    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"\x08\x00\x00\x00\x00\x00\x00\x00{broken}"])
def test_damaged_files_end_in_one_line(folder, content):
    for name in ("damaged.safetensors", "damaged.ckpt"):
        (folder / name).write_bytes(content)
        for kind in ("mvdream", "zero123"):
            assert "cannot be read as a weight file" in refusal(kind, name)


def test_no_code_of_a_checkpoint_is_run(folder, checkpoints):
    torch.save({"state_dict": checkpoints.zero123_unet(checkpoints.SMALLEST_ZERO123), "callbacks": Hostile()}, folder / "hostile.ckpt")
    assert "cannot be read as a weight file" in refusal("zero123", "hostile.ckpt")


def test_a_replaced_file_is_loaded_again(folder, checkpoints):
    loader, file = loaders()["mvdream"], folder / "unet.safetensors"
    unet_file(checkpoints, file)
    first = loader.fingerprint_inputs("unet.safetensors")
    os.utime(file, (1, 1))
    assert loader.fingerprint_inputs("unet.safetensors") == first, "its age says nothing"
    checkpoints.write(file, checkpoints.mvdream_unet(checkpoints.SMALLEST, seed=1))
    assert loader.fingerprint_inputs("unet.safetensors") != first
