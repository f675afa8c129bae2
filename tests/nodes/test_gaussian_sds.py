"""Score distillation into Gaussians with the shipped prior: the object appears.

The first stage of the shipped workflow with a Gaussian Field and a Splat Renderer in place of its field and renderer, and fewer
steps.
"""

import importlib
import json

import pytest
import torch
from test_oracle_recipe import GRAPH, Graph

STEPS = 40


def swapped() -> dict:
    """The workflow's graph with Gaussians."""
    nodes = json.loads(GRAPH.read_text())
    for title, kind, inputs in (
        ("Field", "Bloom4DGaussianField", {"count": 5000, "radius": 0.5, "degree": 0, "motion": {"motion": "demo"}, "seed": 0, "time": 0.0}),
        ("Renderer", "Bloom4DSplatRenderer", {"dilation": 0.3, "max_alpha": "auto"}),
    ):
        node = next(node for node in nodes.values() if node["_meta"]["title"] == title)
        node.update({"class_type": kind, "inputs": inputs})
    return nodes


@pytest.fixture(scope="module")
def scenes(comfy, tmp_path_factory):
    """The field before and after the stage."""
    import folder_paths
    import nodes as host_nodes

    before = folder_paths.get_output_directory()
    folder_paths.set_output_directory(str(tmp_path_factory.mktemp("output")))
    loader = importlib.import_module("bloom4d.nodes.prior").Bloom4DEmbeddedPriorLoader
    gaussians = importlib.import_module("bloom4d.nodes.gaussian_field").Bloom4DGaussianField
    try:
        with torch.inference_mode():
            model, clip, vae = loader.execute("embedded_prior.safetensors").result
            encode = lambda text: host_nodes.CLIPTextEncode().encode(clip, text)  # noqa: E731
            nodes = swapped()
            graph = Graph(nodes, {"Bloom4DEmbeddedPriorLoader": (model, clip, vae)}, {"Optimize stage 1": {"steps": STEPS, "preview_interval": 0.0}})
            graph.classes["Bloom4DGaussianField"] = gaussians
            for name, node in nodes.items():
                if node["class_type"] == "CLIPTextEncode":
                    graph.done[name] = encode(node["inputs"]["text"])
            by_title = {node["_meta"]["title"]: name for name, node in nodes.items()}
            yield graph.outputs(by_title["Field"])[0], graph.outputs(by_title["Optimize stage 1"])[0]
    finally:
        folder_paths.set_output_directory(before)


def seen(scene) -> torch.Tensor:
    """Four views (4, 4, 64, 64), premultiplied RGBA."""
    from bloom4d.models.geometry.cameras import view_time_grid
    from bloom4d.models.render.frames import render_frames
    from bloom4d.models.render.renderer import default_renderer

    with torch.inference_mode(False):
        frames = render_frames(scene.field.clone(), default_renderer(scene.field), view_time_grid(4, 1), 64, 64, normals=False)
    return torch.cat([frames.rgb, frames.alpha[..., None]], dim=-1).movedim(-1, 1)


def redness(scene) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean of red minus green (4,) in the upper and the lower half of the object, from four sides."""
    pictures = seen(scene)
    halves = (pictures[:, :, :32], pictures[:, :, 32:])
    return tuple((half[:, 0] - half[:, 1]).sum((1, 2)) / half[:, 3].sum((1, 2)) for half in halves)


def test_a_red_rose_appears_out_of_a_ball_of_gaussians(scenes):
    before, after = map(redness, scenes)
    assert after[0].min() > 0.08 and after[1].max() < -0.015  # a red head on a green stem, from every side
    assert max(half.abs().max() for half in before) < 0.01  # the control: a grey ball
    assert seen(scenes[1])[:, 3, :4].mean() < 0.01  # nothing hangs at the picture's border
