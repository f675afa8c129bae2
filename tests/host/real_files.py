"""Synthetic files in the places that the real graphs name, and what makes those graphs small: true layouts, tiny widths."""

import shutil
from pathlib import Path

import demo_workflows as demo

MVDREAM = "tiny_mvdream.safetensors"  # the real one is a .pt
SIDE = 64  # pixels that the models get
FRAMES = 3


def lay_out(models: Path):
    """Write every file into a host's models folder. Import after the `comfy` fixture has run."""
    import checkpoints
    import checkpoints_video
    import synthetic
    from graphs.model_files import SD21, SD21_BASE, ZEROSCOPE

    for folder in ("checkpoints", "diffusion_models"):
        (models / folder).mkdir(parents=True, exist_ok=True)
    synthetic.write_sd21_checkpoint(models / "checkpoints" / SD21_BASE.name)
    (models / "checkpoints" / SD21.name).symlink_to(SD21_BASE.name)
    checkpoints.write_mvdream_checkpoint(models / "checkpoints" / MVDREAM)
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
    return demo.change(demo.change(prompt, changes), titles)
