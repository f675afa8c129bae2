"""The real graphs and their presets against the specification's numbers, which are written down here once more.

What a graph does at a step is derived here from its widgets, by formulas of this file: sizes, batches, noise levels, rates and
penalties. Steps are absolute, as the papers and their codes count them.
"""

import presets
import pytest
import workflow

FOURDFY, DREAM, IMAGE, PERSONAL, REANIMATE = "text_to_4d_4dfy", "text_to_4d_dream_in_4d", "image_to_4d", "personalised_4d", "reanimate_4d"
GRAPH = "as it comes"


class Recipe:
    """A real graph with presets applied, and what its widgets make of a step."""

    def __init__(self, name, *names):
        self.prompt = workflow.load(name)
        for preset in names:
            if preset != GRAPH:
                presets.apply(self.prompt, [preset], presets.of_workflow(name))
        self.nodes = {node["_meta"]["title"]: node["inputs"] for node in self.prompt.values()}

    def __call__(self, target):
        title, _, name = target.partition(".")
        return self.nodes[title][name]

    def source(self, title, name):
        """Title of the node behind an input."""
        return self.prompt[self.nodes[title][name][0]]["_meta"]["title"]

    def terms(self, stage):
        return [self.source(stage, name) for name in sorted(self.nodes[stage]) if name.startswith("terms.")]

    def size(self, title, step, steps):
        """(width, height, pictures) of a term's renders."""
        node = self.nodes[title]
        small, half = step < node["coarse_until"] * steps, step < node["half_until"] * steps
        factor, scenes = (node["coarse_factor"], node["coarse_scenes"]) if small else (0.5, node["half_scenes"]) if half else (1.0, 0)
        cameras = self.nodes[self.source(title, "cameras")]
        return round(node["width"] * factor), round(node["height"] * factor), (scenes or node["scenes"]) * cameras["views"] * cameras["frames"]

    def levels(self, title, step, steps):
        """The interval of a term's noise levels; one that is empty lies at its upper end."""
        node = self.nodes[title]
        start, end = node.get("anneal_from", 0.0) * steps, node["anneal_until"] * steps
        share = float(step >= end) if start == end else min(max((step - start) / (end - start), 0.0), 1.0)
        low, high = (node[f"t_{name}_start"] + share * (node[f"t_{name}_end"] - node[f"t_{name}_start"]) for name in ("min", "max"))
        return min(low, high), high

    def penalty(self, stage, name, step, steps):
        node = self.nodes[stage]
        text = node[f"{name}_schedule"]
        first, start, end = map(float, text.split(",")) if text else (0.0, 0.0, node["penalties_until"])
        share = float(step >= end * steps) if start == end else min(max((step / steps - start) / (end - start), 0.0), 1.0)
        return first + share * (node[name] - first)


def rates(static, dynamic, decoder, background):
    return {"rate_static": static, "rate_dynamic": dynamic, "rate_decoder": decoder, "rate_background": background}


# ---- 4D-fy, specification 1.1 to 1.5

STEPS = {"paper": (10_000, 10_000, 100_000), "code": (10_000, 25_000, 100_000), GRAPH: (10_000, 10_000, 100_000)}
SMALL_VIEWS = {  # (stage, step) -> width, height, pictures
    "paper": {(1, 0): (256, 256, 4), (1, 5000): (256, 256, 4), (2, 0): (256, 256, 4), (2, 5000): (256, 256, 4)},
    "code": {(1, 0): (64, 64, 8), (1, 4999): (64, 64, 8), (1, 5000): (256, 256, 4), (2, 0): (64, 64, 4), (2, 4999): (64, 64, 4), (2, 5000): (256, 256, 4)},
    GRAPH: {(1, 0): (64, 64, 8), (1, 4999): (64, 64, 8), (1, 5000): (256, 256, 4), (2, 0): (256, 256, 4)},
}
PAPER_LEVELS = {0: (0.02, 0.98), 2500: (0.02, 0.74), 5000: (0.02, 0.5), 9999: (0.02, 0.5)}
CODE_LEVELS = {0: (0.98, 0.98), 4000: (0.5, 0.74), 8000: (0.02, 0.5), 9999: (0.02, 0.5)}
VIEW_LEVELS = {"paper": PAPER_LEVELS, "code": CODE_LEVELS, GRAPH: CODE_LEVELS}
PICTURE_LEVELS = {
    "paper": {0: (0.02, 0.5), 5000: (0.02, 0.5)},
    "code": {0: (0.02, 0.98), 4999: (0.02, 0.98), 5000: (0.02, 0.5), 24_999: (0.02, 0.5)},
    GRAPH: {0: (0.02, 0.98), 4999: (0.02, 0.98), 5000: (0.02, 0.5)},
}


@pytest.fixture(params=("paper", "code", GRAPH))
def preset(request):
    return request.param


def test_4dfy_has_the_steps_shares_and_rates_of_its_three_stages(preset):
    recipe = Recipe(FOURDFY, preset)
    assert tuple(recipe(f"Optimize stage {stage}.steps") for stage in (1, 2, 3)) == STEPS[preset]
    shares = [[float(share) for share in recipe(f"Stage {stage}.probabilities").split(",") if share.strip()] for stage in (1, 2, 3)]
    assert shares == [[], [0.5, 0.5], [0.5, 0.25, 0.25]]
    assert [recipe.terms(f"Stage {stage}") for stage in (1, 2, 3)] == [
        ["Multi-view, stage 1"], ["Multi-view, stage 2", "Image, stage 2"], ["Multi-view, stage 3", "Image, stage 3", "Video, stage 3"]]
    for stage, static, dynamic in ((1, 1e-2, 0.0), (2, 1e-2, 0.0), (3, 1e-4, 1e-2)):
        expected = {**rates(static, dynamic, 1e-3, 1e-3), "warm_up": 0, "final_rate": 1.0, "weight_decay": 0.01, "random_background": 0.5, "halve_rates_at": ""}
        assert {name: recipe(f"Stage {stage}.{name}") for name in expected} == expected


def test_4dfy_renders_views_pictures_and_videos_in_their_sizes(preset):
    recipe = Recipe(FOURDFY, preset)
    for (stage, step), size in SMALL_VIEWS[preset].items():
        assert recipe.size(f"Multi-view, stage {stage}", step, STEPS[preset][stage - 1]) == size, (stage, step)
    for step in (0, 50_000):
        assert recipe.size("Multi-view, stage 3", step, 100_000) == (256, 256, 4)
        assert recipe.size("Image, stage 3", step, 100_000) == (256, 256, 1) == recipe.size("Image, stage 2", step // 10, STEPS[preset][1])
        assert recipe.size("Video, stage 3", step, 100_000) == (288, 160, 16)
    assert recipe("Renderer.samples") == 512 and recipe("Video of one camera.views") == 1


def test_4dfy_draws_noise_levels_from_the_published_ranges(preset):
    recipe = Recipe(FOURDFY, preset)
    for step, levels in VIEW_LEVELS[preset].items():
        assert recipe.levels("Multi-view, stage 1", step, 10_000) == pytest.approx(levels), step
    for step, levels in PICTURE_LEVELS[preset].items():
        assert recipe.levels("Image, stage 2", step, STEPS[preset][1]) == pytest.approx(levels), step
    for step in (0, 9_999):
        for title, levels in (("Multi-view, stage 2", (0.02, 0.5)), ("Multi-view, stage 3", (0.02, 0.5)), ("Image, stage 3", (0.02, 0.5)), ("Video, stage 3", (0.02, 0.98))):
            assert recipe.levels(title, step, 100_000) == pytest.approx(levels), title


def test_4dfy_weighs_and_guides_its_terms_as_published(preset):
    recipe = Recipe(FOURDFY, preset)
    for stage in (1, 2, 3):
        expected = {"guidance_scale": 50.0, "weight": 1.0, "weighting": "recon", "rescale": 0.5, "noise_level": "whole batch", "train_motion": False}
        assert {name: recipe(f"Multi-view, stage {stage}.{name}") for name in expected} == expected
    for stage in (2, 3):
        expected = {"guidance_scale": 7.5, "weight": 1.0, "weighting": "sds", "lora_rank": 4, "lora_rate": 1e-4, "phi_guidance": 1.0, "train_motion": False}
        assert {name: recipe(f"Image, stage {stage}.{name}") for name in expected} == expected
    expected = {"guidance_scale": 101.0, "weight": 0.1, "weighting": "sds", "train_motion": True}
    assert {name: recipe(f"Video, stage 3.{name}") for name in expected} == expected
    for title in ("Views of one instant", "Pictures of one instant", "Views at any time", "Pictures at any time", "Video of one camera"):
        assert [recipe(f"{title}.{name}") for name in ("elevation_min", "elevation_max", "fov_min", "fov_max", "distance_min", "distance_max")] == [0, 30, 15, 60, 2.5, 3.0]
    assert recipe("Video of one camera.frames") == 16 and recipe("Orbit through time.frames") == 64


def test_4dfy_pulls_to_empty_space_all_the_time_and_to_crisp_edges_from_step_10_000_on(preset):
    recipe = Recipe(FOURDFY, preset)
    late = 1000.0 if preset == "code" else 0.0  # only the code's second stage lasts that long
    for stage, steps in zip((1, 2, 3), STEPS[preset]):
        for step in (0, 1, 4000, 9_999, 10_000, steps - 1):
            assert recipe.penalty(f"Stage {stage}", "sparsity", step, steps) == 10.0
            expected = 0.0 if step < 10_000 else (0.0, late, 1000.0)[stage - 1]
            assert recipe.penalty(f"Stage {stage}", "opaque", step, steps) == expected, (stage, step)


def test_4dfys_field_is_the_published_one_and_its_ball_grows_over_50_000_steps(preset):
    recipe = Recipe(FOURDFY, preset)
    values = {"size": "4D-fy", "initial_density": "magic3d", "blob_radius": 0.5, "background": "network", "background.width": 16, "background_layers": 2}
    assert {name: recipe(f"Field.{name}") for name in values} == values
    assert [recipe(f"Stage 3.{name}") for name in ("blob_start", "blob_end", "blob_until")] == [0.5, 5.0, 0.5]


def test_a_shorter_stage_of_motion_is_the_beginning_of_the_long_one():
    recipe, long = Recipe(FOURDFY, "shorter motion"), Recipe(FOURDFY)
    ball = lambda graph, step, steps: 0.5 + (graph("Stage 3.blob_end") - 0.5) * min(step / (graph("Stage 3.blob_until") * steps), 1.0)  # noqa: E731
    for step in (0, 9_999, 10_000, 20_000, 39_999):
        assert recipe.penalty("Stage 3", "opaque", step, 40_000) == long.penalty("Stage 3", "opaque", step, 100_000)
        assert ball(recipe, step, 40_000) == pytest.approx(ball(long, step, 100_000))
    assert recipe("Optimize stage 3.steps") == 40_000


# ---- Dream-in-4D, specification 2.1 to 2.5 and 8

WEIGHTS = {"paper": (1.0, 1.0), "code": (1.0, 2.0), GRAPH: (1.0, 2.0)}  # pictures, views
BACKGROUND = {"paper": (64, 3), "code": (16, 2), GRAPH: (64, 3)}  # width, layers of the static stage
HEIGHT = {"paper": 72, "code": 80, GRAPH: 80}
HALVED = {"paper": [], "code": [8000, 9000], GRAPH: [8000, 9000]}


@pytest.mark.parametrize("name", (DREAM, PERSONAL))
def test_dream_in_4ds_static_stage(name, preset):
    recipe = Recipe(name, preset)
    both = ("Image, static", "Multi-view, static")
    assert tuple(recipe(f"{title}.weight") for title in both) == WEIGHTS[preset]
    assert [recipe(f"{title}.guidance_scale") for title in both] == [101.0, 50.0] and recipe("Stage 1.probabilities") == ""
    for title in both:
        assert [recipe.size(title, step, 10_000) for step in (0, 4999, 5000)] == [(64, 64, 8), (64, 64, 8), (256, 256, 4)]
    for step, levels in CODE_LEVELS.items():
        assert recipe.levels("Multi-view, static", step, 10_000) == pytest.approx(levels) and recipe.levels("Image, static", step, 10_000) == (0.2, 0.6)
    assert recipe.source(both[0], "cameras") == recipe.source(both[1], "cameras"), "both judge the same pictures"
    assert (recipe("Field.background.width"), recipe("Field.background_layers")) == BACKGROUND[preset]
    expected = {**rates(1e-2, 0.0, 1e-3, 1e-3), "weight_decay": 0.01, "final_rate": 1.0, "warm_up": 0}
    assert recipe("Optimize stage 1.steps") == 10_000 and {name: recipe(f"Stage 1.{name}") for name in expected} == expected
    cameras = {"elevation_min": 0, "elevation_max": 30, "fov_min": 15, "fov_max": 60, "distance_min": 0.8, "distance_max": 1.0, "relative_distance": True, "views": 4}
    assert {key: recipe(f"Four views.{key}") for key in cameras} == cameras


@pytest.mark.parametrize("name", (DREAM, PERSONAL, IMAGE, REANIMATE))
def test_dream_in_4ds_stage_of_motion(name, preset):
    recipe = Recipe(name, preset)
    assert recipe.size("Video, motion", 0, 10_000) == (144, HEIGHT[preset], 24) == recipe.size("Video, motion", 9_999, 10_000)
    for step, levels in {0: (0.99, 0.99), 5000: (0.595, 0.745), 10_000: (0.2, 0.5)}.items():
        assert recipe.levels("Video, motion", step, 10_000) == pytest.approx(levels)
    expected = {"guidance_scale": 101.0, "weight": 1.0, "weighting": "recon", "decoded_weight": 0.1, "train_motion": True}
    assert {key: recipe(f"Video, motion.{key}") for key in expected} == expected
    assert recipe("Smooth motion.weight") == 1000.0 and recipe("Smooth motion.normalise") is True
    halved = [float(share) * 10_000 for share in recipe("Stage 2.halve_rates_at").split(",") if share.strip()]
    assert recipe("Optimize stage 2.steps") == 10_000 and halved == HALVED[preset]
    expected = {**rates(0.0, 1e-3, 1e-3, 1e-3), "levels_every": 500, "weight_decay": 0.01, "final_rate": 1.0, "warm_up": 0}
    assert {key: recipe(f"Stage 2.{key}") for key in expected} == expected and round(recipe("Stage 2.dynamic_levels") * 12) == 4
    cameras = {"azimuth_min": -150, "azimuth_max": 150, "elevation_min": 0, "elevation_max": 45, "fov_min": 15, "fov_max": 60, "distance_min": 0.8, "distance_max": 1.0}
    cameras |= {"views": 1, "frames": 24, "time_window": 1.0, "window_shortest": 0.8, "window_times": "even", "relative_distance": True}
    assert {key: recipe(f"Video of one camera.{key}") for key in cameras} == cameras
    assert recipe("Moving field.size") == "Dream-in-4D" and recipe("Moving field.encoding") == "multi-resolution grid"
    scale = 1.5 if (name, preset) == (IMAGE, "code") else 1.0
    assert recipe("Moving field.deformation_scale") == scale


IMAGE_STEPS = {"paper": 10_000, "code": 2_000, GRAPH: 2_000}
IMAGE_SIZES = {
    "paper": {0: (64, 64, 8), 4_999: (64, 64, 8), 5_000: (256, 256, 4), 9_999: (256, 256, 4)},
    "code": {0: (64, 64, 12), 199: (64, 64, 12), 200: (128, 128, 4), 299: (128, 128, 4), 300: (256, 256, 2), 1_999: (256, 256, 2)},
}
IMAGE_SIZES[GRAPH] = IMAGE_SIZES["code"]
IMAGE_RATES = {"paper": (1e-2, 1e-3, 0.01), "code": (1e-2, 1e-2, 0.0), GRAPH: (1e-2, 1e-2, 0.0)}  # grid, networks, weight decay


def test_image_to_4ds_still_object(preset):
    recipe, steps = Recipe(IMAGE, preset), IMAGE_STEPS[preset]
    assert recipe("Optimize stage 1.steps") == steps
    for title, weight in (("Views from the picture", 0.1), ("Image, still", 0.1)):
        assert {step: recipe.size(title, step, steps) for step in IMAGE_SIZES[preset]} == IMAGE_SIZES[preset] and recipe(f"{title}.weight") == weight
    for step, levels in {0: (0.4, 0.85), 100: (0.3, 0.675), 200: (0.2, 0.5), steps - 1: (0.2, 0.5)}.items():
        assert recipe.levels("Views from the picture", step, steps) == pytest.approx(levels) and recipe.levels("Image, still", step, steps) == (0.02, 0.5)
    assert (recipe("Views from the picture.guidance_scale"), recipe("Image, still.guidance_scale")) == (3.0, 21.0)
    assert (recipe("Stage 1.rate_static"), recipe("Stage 1.rate_decoder"), recipe("Stage 1.weight_decay")) == IMAGE_RATES[preset]
    for step in (0, steps - 1):
        assert recipe.penalty("Stage 1", "opaque", step, steps) == recipe.penalty("Stage 1", "sparsity", step, steps) == 0.1
    picture = {"rgb_weight": 500, "mask_weight": 50, "azimuth": 0, "elevation": 0, "distance": 3.8, "fov": 20, "height": 512}
    assert {key: recipe(f"The picture, still.{key}") for key in picture} == picture
    assert [round(recipe(f"The picture, still.{key}") * steps) for key in ("quarter_until", "half_until")] == [200, 300]
    assert [recipe(f"Views.{key}") for key in ("elevation_min", "elevation_max", "azimuth_min", "azimuth_max")] == [-10, 80, -180, 180]


# ---- every setting is read, and presets do not depend on what was chosen before

ALWAYS = ("steps", "weight", "height", "scenes", "rate_decoder", "weight_decay", "halve_rates_at", "deformation_scale", "save_memory", "coarse_until", "half_until", "quarter_until", "opaque",
          "t_max_start", "t_min_start")  # fmt: skip


def is_read(recipe, target) -> bool:
    """Whether a widget of the graph, as its other widgets are, changes what the graph does."""
    title, _, name = target.partition(".")
    node = recipe.nodes[title]
    moving = any(node.get(f"t_{end}_start") != node.get(f"t_{end}_end") for end in ("min", "max"))
    return name in ALWAYS or {
        "block": lambda: bool(node["probabilities"].strip()),
        "opaque_schedule": lambda: node["opaque"] > 0,
        "blob_end": lambda: node["blob_start"] > 0,
        "blob_until": lambda: node["blob_start"] > 0 and node["blob_end"] > 0,
        "coarse_factor": lambda: node["coarse_until"] > 0,
        "coarse_scenes": lambda: node["coarse_until"] > 0,
        "half_scenes": lambda: node["half_until"] > node["coarse_until"],
        "anneal_from": lambda: moving,
        "anneal_until": lambda: moving,
        "background.width": lambda: node["background"] == "network",
        "background_layers": lambda: node["background"] == "network",
    }[name]()


def all_presets():
    return [(path.stem, preset) for path in sorted(workflow.FOLDER.parent.glob("*.json")) for preset in presets.of_workflow(path.stem)]


def settings(name, preset):
    prompt = workflow.load(name)
    return [f"{prompt[node]['_meta']['title']}.{entry}" for node, values in presets.of_workflow(name)[preset]["values"].items() for entry in values]


@pytest.mark.parametrize(("name", "preset"), [(name, preset) for name, preset in all_presets() if not name.endswith("_demo")])
def test_every_setting_of_a_preset_is_read(name, preset):
    recipe = Recipe(name, preset)
    assert [target for target in settings(name, preset) if not is_read(recipe, target)] == []


def test_a_block_on_a_stage_that_adds_its_terms_up_would_be_found():
    recipe = Recipe(DREAM)
    assert not is_read(recipe, "Stage 1.block") and is_read(Recipe(FOURDFY), "Stage 3.block")


@pytest.mark.parametrize("name", (FOURDFY, DREAM, IMAGE, PERSONAL, REANIMATE))
@pytest.mark.parametrize(("first", "second"), [("paper", "code"), ("code", "paper")])
def test_paper_and_code_do_the_same_whichever_was_chosen_before(name, first, second):
    alone, after = Recipe(name, second), Recipe(name, first, second)
    differing = [f"{title}.{key}" for title, node in after.nodes.items() for key in node if node[key] != alone.nodes[title][key]]
    assert [target for target in differing if is_read(after, target)] == []


@pytest.mark.parametrize("name", (FOURDFY, DREAM, IMAGE, PERSONAL, REANIMATE))
def test_every_real_graph_has_the_promised_presets_and_memory_ones_say_that_they_are_not_measured(name):
    carried = presets.of_workflow(name)
    assert {"paper", "code", "12 GB", "24 GB", "80 GB"} <= carried.keys()
    assert all("not measured" in carried[memory]["about"] for memory in ("12 GB", "24 GB", "80 GB"))
    assert Recipe(name, "paper").nodes != Recipe(name, "code").nodes
