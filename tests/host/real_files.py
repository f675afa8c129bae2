"""Synthetic files in the places that the real graphs name, and what makes those graphs small: true layouts, tiny widths."""

import shutil
from pathlib import Path

import demo_workflows as demo
from PIL import Image

MVDREAM = "tiny_mvdream.safetensors"  # the real one is a .pt
ZERO123 = "tiny_zero123.safetensors"  # the real one is a .ckpt
SIDE = 64  # pixels that the models get
FRAMES = 3


def lay_out(models: Path):
    """Write every file into a host's models folder. Import after the `comfy` fixture has run."""
    import checkpoints
    import checkpoints_video
    from graphs.model_files import SD21, SD21_BASE, ZEROSCOPE
    from graphs.personalised_4d import LORA

    for folder in ("checkpoints", "diffusion_models", "loras"):
        (models / folder).mkdir(parents=True, exist_ok=True)
    checkpoints.write_sd21(models / "checkpoints" / SD21_BASE.name)
    checkpoints.write_sd21(models / "checkpoints" / SD21.name, v=True, seed=10)
    checkpoints.write_mvdream_checkpoint(models / "checkpoints" / MVDREAM)
    checkpoints.write_zero123_checkpoint(models / "checkpoints" / ZERO123)
    checkpoints.write_sd21_lora(models / "loras" / LORA.name)
    written = checkpoints_video.write_zeroscope_files(models)
    shutil.copy(models / "diffusion_models" / written, models / "diffusion_models" / ZEROSCOPE.name)


def smoke(name: str, **titles) -> dict:
    """A real graph at smoke size; `titles`: further changes."""
    prompt = demo.load(name)
    changes = demo.smoke_changes(prompt)
    for title in demo.of_class(prompt, *(kind for kind in demo.classes(prompt) if kind.endswith("Guidance"))):
        changes[title]["model_size"] = SIDE
    changes |= {title: {"steps": 2, "preview_interval": 0} for title in demo.of_class(prompt, "Bloom4DHybridSDSOptimizer")}
    changes |= {title: {"frames": FRAMES} for title in demo.of_class(prompt, "Bloom4DCameraSampler") if prompt[demo.titled(prompt, title)]["inputs"]["frames"] > 1}
    changes |= {title: {"size": "demo"} for title in demo.of_class(prompt, "Bloom4DHashField", "Bloom4DDeformableField")}
    changes |= {title: {"checkpoint": MVDREAM} for title in demo.of_class(prompt, "Bloom4DMVDreamLoader")}
    changes |= {title: {"width": SIDE, "height": SIDE} for title in (*demo.of_class(prompt, "ImageScale"), *({demo.REFERENCE} & {node["_meta"]["title"] for node in prompt.values()}))}
    changes |= {title: {"checkpoint": ZERO123} for title in demo.of_class(prompt, "Bloom4DZero123Loader")}
    return without_big_files(demo.change(demo.change(prompt, changes), titles))


def without_big_files(prompt: dict) -> dict:
    """The host's background removal has one size only, a large one: a picture in front of one colour and its keyer stand in."""
    for title in demo.of_class(prompt, "RemoveBackground"):
        link = prompt[demo.titled(prompt, title)]["inputs"]["image"]
        values = {"image": link, "tolerance": 0.03, "softness": 0.1, "edge": 2, "holes": True}
        keyer = demo.titled(prompt, title)
        prompt[keyer] = {"class_type": "Bloom4DFlatBackgroundMask", "inputs": values, "_meta": {"title": title}}
        for node in prompt.values():
            for name, value in node["inputs"].items():
                if value == [keyer, 0]:
                    node["inputs"][name] = [keyer, 1]  # its second output is the mask
        del prompt[demo.titled(prompt, "Background removal")]
    return prompt


def put_picture(folder: Path):
    """A picture of a thing in front of one colour, under the name that Load Image begins with."""
    picture = Image.new("RGB", (96, 96), "white")
    picture.paste((200, 60, 40), (30, 24, 66, 80))
    folder.mkdir(exist_ok=True)
    picture.save(folder / "example.png")
