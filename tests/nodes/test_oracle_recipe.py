"""The shipped recipe with a perfect prior: field, loop and renderer are then all that can go wrong (specification, third experiment).

The workflow's own graph is executed in this process with the oracle in the loader's place and fewer steps. The full length
gives 31 dB in 40 to 60 CPU seconds.
"""

import importlib
import json
from pathlib import Path

import pytest
import torch

GRAPH = Path(__file__).resolve().parent.parent.parent / "workflows" / "api" / "text_to_4d_demo.json"
STEPS = {"Optimize stage 1": 25, "Optimize stage 2": 12, "Optimize stage 3": 150}
TIMES, VIEWS = 4, 4


class Graph:
    """Executes nodes of an API graph on demand, each once."""

    def __init__(self, nodes: dict, given: dict, changes: dict):
        modules = [importlib.import_module(f"bloom4d.nodes.{name}") for name in ("field", "cameras", "render", "guidance", "optimize")]
        self.classes = {node.define_schema().node_id: node for module in modules for node in module.NODES}
        self.nodes, self.given, self.changes, self.done = nodes, given, changes, {}

    def outputs(self, name: str):
        if name not in self.done:
            node = self.nodes[name]
            kind, title = node["class_type"], node["_meta"]["title"]
            if kind in self.given:
                self.done[name] = self.given[kind]
            else:
                self.done[name] = self.classes[kind].execute(**self._inputs(node["inputs"] | self.changes.get(title, {}))).result
        return self.done[name]

    def _inputs(self, inputs: dict) -> dict:
        values = {}
        for key, value in inputs.items():
            value = self.outputs(value[0])[value[1]] if isinstance(value, list) else value
            group, _, child = key.partition(".")
            if child:
                values.setdefault(group, {})[child] = value
            elif group in ("size", "background"):
                values.setdefault(group, {})[group] = value
            else:
                values[group] = value
        return values


@pytest.fixture(scope="module")
def styles(comfy):
    from bloom4d.models.data.styles import sample_style

    return [sample_style("ice cream melting", torch.Generator().manual_seed(seed)) for seed in range(3)]


@pytest.fixture(scope="module")
def distilled(comfy, styles, tmp_path_factory):
    """The scene that the workflow's three stages make with the oracle."""
    import folder_paths
    import oracle

    before = folder_paths.get_output_directory()
    folder_paths.set_output_directory(str(tmp_path_factory.mktemp("output")))
    try:
        with torch.inference_mode():
            model, vae = oracle.oracle_prior(oracle.photograph(styles, azimuths=16, times=12))
            text = oracle.prompt(None, len(styles))
            nodes = json.loads(GRAPH.read_text())
            same_rig = {"elevation_min": 15.0, "elevation_max": 15.0}  # the oracle was photographed from one elevation
            changes = {node["_meta"]["title"]: same_rig for node in nodes.values() if node["class_type"] == "Bloom4DCameraSampler"}
            changes |= {title: {"steps": steps} for title, steps in STEPS.items()}
            graph = Graph(nodes, {"Bloom4DEmbeddedPriorLoader": (model, None, vae), "CLIPTextEncode": (text,)}, changes)
            last = next(name for name, node in nodes.items() if node["_meta"]["title"] == "Optimize stage 3")
            yield graph.outputs(last)[0]
    finally:
        folder_paths.set_output_directory(before)


def decibels(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * (a - b).square().mean().log10())


def over_white(rgba: torch.Tensor) -> torch.Tensor:
    return rgba[..., :3] + 1 - rgba[..., 3:]


def test_the_recipe_reaches_28_decibels(distilled, styles):
    from bloom4d.models.data.objects import render_object
    from bloom4d.models.geometry.cameras import view_time_grid
    from bloom4d.models.render.frames import over, render_frames
    from bloom4d.models.render.volume import VolumeRenderer

    cameras = view_time_grid(VIEWS, TIMES)
    with torch.inference_mode(False):
        frames = render_frames(distilled.field.clone(), VolumeRenderer(), cameras, 64, 64)
        seen = over(frames, (1.0, 1.0, 1.0))
    truth = [render_object(style, cameras, 64).rgba for style in styles]
    scores = [decibels(seen, over_white(rgba)) for rgba in truth]
    best = max(range(len(scores)), key=scores.__getitem__)
    assert scores[best] >= 28.0, scores
    empty = truth[best][..., 3] == 0
    assert float(frames.alpha[empty].mean()) < 0.005  # no fog
    change = seen.unflatten(0, (TIMES, VIEWS)).diff(dim=0).abs().mean() / over_white(truth[best]).unflatten(0, (TIMES, VIEWS)).diff(dim=0).abs().mean()
    assert 0.7 < float(change) < 1.4
    # negative controls: another object, and the right one with its times reversed, are not it
    assert sorted(scores)[-2] < 26.0
    backwards = seen.unflatten(0, (TIMES, VIEWS)).flip(0).flatten(0, 1)
    assert decibels(backwards, over_white(truth[best])) < 24.0
    assert [len(history) for history in distilled.history] == list(STEPS.values())
