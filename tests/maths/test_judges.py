"""The judge of 4D objects passes a real object that it never saw, and refuses every way to be wrong."""

from argparse import Namespace
from dataclasses import replace
from functools import cache

import judge_field
import judge_prior
import judging
import prior_scenes
import pytest
import torch
import workflow
from torch import Generator
from torch.nn import functional

from bloom4d.models.data.prior_dataset import build_dataset
from bloom4d.models.data.prompts import DEFAULT_PROMPTS
from bloom4d.models.data.styles import PHENOMENA, sample_style
from bloom4d.models.fields.hash_field import DEMO_FIELD, HashField
from bloom4d.models.networks.prior_conditioning import Frame
from bloom4d.models.optimize.scene import Scene
from bloom4d.models.optimize.scene_files import save_scene

PROMPT = DEFAULT_PROMPTS["candle burning"]


@pytest.fixture(scope="module")
def recogniser():
    return judging.recogniser()


def drawn(prompt, seed=4711):
    """A real object of a prompt's name that is not in the bank: (T, V, 4, 64, 64)."""
    name = judging.named(prompt)
    style = sample_style(name.phenomenon, Generator().manual_seed(seed), name.species, name.colour, "all")
    return judging.pictures(style, judge_field.cameras()).unflatten(0, (judge_field.TIMES, judge_field.VIEWS))


@pytest.fixture(scope="module")
def candle():
    return drawn(PROMPT)


@cache
def bank(prompt):
    return judge_field.real_objects(prompt, 6)


def missed(seen, recogniser, prompt=PROMPT, **options):
    judgement = judge_field.judge(seen, prompt, recogniser, bank(prompt), **options)
    assert judgement.scores.keys() >= judgement.verdict.keys()
    return {name for name, good in judgement.verdict.items() if not good}


@pytest.mark.parametrize("phenomenon", PHENOMENA)
def test_a_real_object_passes(phenomenon, recogniser):
    prompt = DEFAULT_PROMPTS[phenomenon]
    assert missed(drawn(prompt), recogniser, prompt) == set()


def test_shuffled_times_fail(candle, recogniser):
    assert {"time correlation", "motion"} <= missed(candle, recogniser, shuffle=True)


def test_a_wrong_prompt_fails(candle, recogniser):
    assert {"phenomenon", "species", "colour", "nearest PSNR"} <= missed(candle, recogniser, DEFAULT_PROMPTS["bread baking"])
    assert {"colour"} <= missed(candle, recogniser, "a green pillar candle burning")
    assert {"species"} <= missed(candle, recogniser, "a purple taper candle burning")


def test_ruins_fail(candle, recogniser):
    blurred = functional.avg_pool2d(functional.pad(candle.flatten(0, 1), (2, 2, 2, 2)), 5, 1).view_as(candle)
    assert {"sharpness"} <= missed(blurred, recogniser)
    assert {"motion"} <= missed(candle[:1].expand_as(candle), recogniser)
    fog = candle + (1 - candle[:, :, 3:]) * 0.02
    assert missed(fog, recogniser) == {"background error"}, "white fog of two percent, invisible over white"


def test_a_face_on_every_side_fails(recogniser):
    prompt = DEFAULT_PROMPTS["flower withering"]
    rose = drawn(prompt)
    assert {"extra faces"} <= missed(rose[:, :1].expand_as(rose), recogniser, prompt)


def test_prompts_name_their_objects():
    assert judging.named("slow motion of a teal sunflower withering").colour == "turquoise"
    assert judging.named("two green bananas going bad").species == "pair"
    assert judging.named("a dark brown baguette baking").colour == "dark"
    assert judging.named("an ice cream melting").colour is None
    with pytest.raises(ValueError, match="none of the phenomena"):
        judging.named("a castle collapsing")


def test_pictures_are_read_from_a_folder(candle, tmp_path):
    from PIL import Image

    for time in range(judge_field.TIMES):
        for view in range(judge_field.VIEWS):
            straight = candle[time, view].clone()
            straight[:3] /= straight[3:].clamp_min(1e-6)
            pixels = (straight.clamp(0, 1) * 255).round().byte().movedim(0, -1).contiguous().numpy()
            Image.fromarray(pixels).save(tmp_path / f"view{view}_time{time}.png")
    assert torch.allclose(judge_field.read_pictures(tmp_path), candle, atol=1.5 / 255)


def test_a_saved_field_is_rendered_time_by_view(tmp_path):
    field = HashField(DEMO_FIELD, Generator().manual_seed(0))
    save_scene(Scene(field), tmp_path / "field.safetensors")
    seen = judge_field.render_field(tmp_path / "field.safetensors", 8)
    assert seen.shape == (judge_field.TIMES, judge_field.VIEWS, 4, 8, 8)
    assert (seen[0] - seen[5]).abs().mean() < 0.005, "a new field stands still, up to cells that occupancy found at one time only"
    assert seen[:, :, 3, 4, 4].min() > 2 * seen[:, :, 3, 0, 0].max(), "and is a ball in the middle"


def test_a_sheet_has_a_row_per_view_and_the_real_object_beneath(candle):
    image = judge_field.sheet(candle, candle)
    size = judge_field.SHOWN
    assert image.width >= size * judge_field.TIMES and image.height >= (size + size // 2) * judge_field.VIEWS
    assert "ok" in judge_field.table(judge_field.Judgement({"motion": 1.0, "haze": 0.0}, {"motion": True}, candle))


class Perfect:
    """A prior that answers with the real pictures, whatever it is asked."""

    def __init__(self, scenes):
        self.left = [scene.truth for scene in scenes]

    def sample(self, prompts, views, guidance, steps):
        return self.left.pop(0)


@pytest.fixture(scope="module")
def unseen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("objects")
    small = (replace(config, objects=config.objects // 2) for config in (judge_prior.UNSEEN, judge_prior.NEW_PAIRS))
    return judge_prior.together(*(build_dataset(config, folder, lambda *_: None) for config in small))


def test_scenes_pair_what_is_told_with_what_is_real(unseen):
    chosen = prior_scenes.objects(unseen, 1)
    assert [unseen.styles[index].phenomenon for index in chosen] == list(PHENOMENA)
    scenes = prior_scenes.picture_scenes("", unseen, chosen, [4], [0, 1, 2, 3])
    style, part = scenes.styles[3], scenes.part(slice(3, 4))
    drawn_again = judging.pictures(style, scenes.cameras(3))
    assert (drawn_again - scenes.truth[3]).abs().max() < 1 / 255 and torch.equal(part.truth[0], scenes.truth[3])
    assert scenes.views.clean[:, 0].all() and not scenes.views.clean[:, 1:].any() and set(scenes.prompts) == {""}


def test_a_perfect_prior_passes_and_one_that_mixes_objects_fails(unseen, recogniser, monkeypatch):
    monkeypatch.setattr(judge_prior, "BANK", 3)
    scenes = [judge_prior.text_scenes("views", unseen, prior_scenes.objects(unseen, 1), [5], [0, 1, 2, 3], Frame.ABSOLUTE, Frame.ABSOLUTE)]
    monkeypatch.setattr(judge_prior, "roles", lambda data, scale: scenes)
    good = judge_prior.judge(Perfect(scenes), unseen, recogniser)[0]["views"]
    assert good["phenomenon"] == 1.0 and good["fine detail"] == 1.0 and good["gap"] < 1.0 and good["hull"] > 0.95
    strangers = scenes[0].truth.clone()
    strangers[:, 1] = strangers[:, 1].roll(1, 0)
    bad = judge_prior.scores(scenes[0], strangers, recogniser)
    assert bad["phenomenon"] == 0.75 and bad["hull"] < good["hull"]
    mixed = torch.stack([sisters(scenes[0], number) for number in range(7)])
    assert judge_prior.joint_scores(scenes[0], mixed)["gap"] > 2.0, "each view is real, of another object of the same name"


def sisters(scenes, number):
    """The views of one scene, each of another real object of its name: (V, 4, H, W)."""
    style = scenes.styles[number]
    objects = judging.bank(style.phenomenon, style.species, style.colour, scenes.cameras(number), judge_prior.BANK)
    return objects[torch.arange(4) % judge_prior.BANK, torch.arange(4)]


@pytest.mark.parametrize("guidance", [None, 30.0])
def test_demo_runs_differ_in_prompt_seed_and_guidance_only(guidance):
    import field_runs
    import make_demo_sheets

    options = Namespace(seed=5, set=["Optimize stage 1.steps=7"])
    before, after = workflow.load(make_demo_sheets.WORKFLOW), make_demo_sheets.graph("a yellow banana rotting", options, guidance)
    values = {(name, old) for node in before for name, old in before[node]["inputs"].items() if not isinstance(old, list)
              and after[node]["inputs"][name] != old}
    asked = {"text", "seed", "steps"} | ({"guidance_scale"} if guidance else set())
    assert {name for name, _ in values} == asked
    assert field_runs.SAVE in {workflow.title(*entry) for entry in after.items()}


def test_demo_results_of_an_earlier_run_stay_with_their_commit(tmp_path):
    import make_demo_sheets

    path = tmp_path / "text_to_4d.json"
    assert make_demo_sheets.earlier(path) == {"objects": {}}
    judging.write_json(path, {"command": "first", "commit": "abc", "seed": 1, "objects": {"bread baking": {"missed": []}}, "control: guidance 30": {}})
    kept = make_demo_sheets.earlier(path)
    assert kept["objects"]["bread baking"] == {"command": "first", "commit": "abc", "seed": 1, "missed": []} and "control: guidance 30" in kept
