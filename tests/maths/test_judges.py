"""The judge of 4D objects passes a real object that it never saw, and refuses every way to be wrong."""

from functools import cache

import judge_field
import judging
import pytest
import torch
from torch import Generator
from torch.nn import functional

from bloom4d.models.data.prompts import DEFAULT_PROMPTS
from bloom4d.models.data.styles import PHENOMENA, sample_style

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
