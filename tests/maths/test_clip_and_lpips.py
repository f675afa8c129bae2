"""The two judges that are networks of other people: on tiny or random weights in the public files' layout, equal to the packages asked by hand."""

import json

import pytest
import torch
from tiny_judges import SIDE, by_hand, classifier, frames, linear, tiny_clip

from bloom4d.models.metrics import clip_text, perceptual

PROMPT = "a red rose blooming"


@pytest.fixture(scope="module")
def tokenizer(host_tree):
    return host_tree / "comfy" / "sd1_tokenizer"


def judge_of(model, tokenizer, metadata=None):
    return clip_text.load_clip({name: value.clone() for name, value in model.state_dict().items()}, metadata, tokenizer)


def test_clip_score_is_what_transformers_says(tokenizer):
    model = tiny_clip()
    assert clip_text.text_score(judge_of(model, tokenizer), frames(), PROMPT) == pytest.approx(by_hand(model, tokenizer, frames(), PROMPT), abs=2e-3)


def test_clip_score_depends_on_words_and_pictures(tokenizer):
    judge = judge_of(tiny_clip(), tokenizer)
    score = clip_text.text_score(judge, frames(), PROMPT)
    assert abs(clip_text.text_score(judge, frames(), "bread baking") - score) > 0.1
    assert abs(clip_text.text_score(judge, 1 - frames(), PROMPT) - score) > 0.1
    singles = [clip_text.text_score(judge, frame[None], PROMPT) for frame in frames()]
    assert score == pytest.approx(sum(singles) / 3, abs=1e-3), "the mean over the frames"


def test_pictures_of_the_prompt_score_highest(tokenizer):
    """The score of a picture that was moved towards the words must rise: the sign of the cosine is right."""
    judge = judge_of(tiny_clip(), tokenizer)
    words = judge.tokenizer(PROMPT, padding="max_length", max_length=77, return_tensors="pt")
    picture = torch.full((1, 3, SIDE, SIDE), 0.5, requires_grad=True)
    seen = judge.model(**words, pixel_values=picture)
    (seen.image_embeds * seen.text_embeds).sum().backward()
    moved = (0.5 + 0.2 * picture.grad.sign()).detach()
    assert clip_text.text_score(judge, moved, PROMPT) > clip_text.text_score(judge, picture.detach(), PROMPT) + 1


def test_a_long_prompt_is_cut_and_that_is_known(tokenizer):
    judge = judge_of(tiny_clip(), tokenizer)
    long = "rose " * 100
    assert clip_text.cut(judge, long) and not clip_text.cut(judge, PROMPT)
    assert clip_text.text_score(judge, frames(), long) == pytest.approx(clip_text.text_score(judge, frames(), long + "bread"), abs=1e-4)


def test_the_configuration_is_read_off_the_shapes():
    found = clip_text.infer_config(tiny_clip(width=128).state_dict())
    assert found["projection_dim"] == 24 and found["text_config"]["vocab_size"] == 49408 and found["text_config"]["max_position_embeddings"] == 77
    for tower in (found["text_config"], found["vision_config"]):
        assert (tower["hidden_size"], tower["intermediate_size"], tower["num_hidden_layers"], tower["num_attention_heads"]) == (128, 256, 2, 2)
    assert found["vision_config"]["image_size"] == SIDE and found["vision_config"]["patch_size"] == 8 and found["vision_config"]["hidden_act"] == "quick_gelu"


def test_metadata_says_what_shapes_do_not(tokenizer):
    model = tiny_clip("gelu")
    metadata = {"config": json.dumps(model.config.to_dict())}
    score = clip_text.text_score(judge_of(model, tokenizer, metadata), frames(), PROMPT)
    assert score == pytest.approx(by_hand(model, tokenizer, frames(), PROMPT), abs=2e-3)
    assert judge_of(model, tokenizer, metadata).activation == "gelu" and judge_of(model, tokenizer).activation == "quick_gelu"


@pytest.mark.parametrize("config", [
    "no json", "[1]", '{"text_config": 3}', '{"text_config": {"num_attention_heads": "many"}}', '{"text_config": {"num_attention_heads": 0}}',
    '{"vision_config": {"num_attention_heads": 3}}', '{"vision_config": {"hidden_act": "exec"}}',
])  # fmt: skip
def test_metadata_of_another_kind_is_refused(config):
    with pytest.raises(ValueError, match="is no (config.json of a )?CLIPModel"):
        clip_text.infer_config(tiny_clip().state_dict(), {"config": config})


def test_a_file_that_promises_more_than_it_holds_allocates_nothing(tokenizer):
    """Forty layers by name, of which the first is large: 10 GB if they were made, refused at the first tensor that does not fit."""
    weights = tiny_clip().state_dict()
    weights |= {f"text_model.encoder.layers.{index}.mlp.fc1.bias": torch.zeros(1) for index in range(2, 40)}
    weights["text_model.encoder.layers.0.mlp.fc1.weight"] = torch.zeros(1 << 20, 64, dtype=torch.int8)
    with pytest.raises(ValueError, match="no fitting text_model.encoder.layers.0.mlp.fc1.bias"):
        clip_text.load_clip(weights, None, tokenizer)


@pytest.mark.parametrize("lost", ["text_projection.weight", "vision_model.embeddings.patch_embedding.weight", "text_model.encoder.layers.1.mlp.fc2.bias"])
def test_another_file_is_refused(tokenizer, lost):
    weights = tiny_clip().state_dict()
    del weights[lost]
    with pytest.raises(ValueError, match=rf"has no (fitting )?{lost}.*clip-vit-base-patch32"):
        clip_text.load_clip(weights, None, tokenizer)


# LPIPS


@pytest.fixture(scope="module")
def lpips():
    return pytest.importorskip("lpips")


def lpips_by_hand(features, weights, one, other):
    """Zhang et al. 2018, equation 1, on AlexNet's five ReLUs."""
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1), torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)
    total, pair = 0.0, [(2 * picture - 1 - shift) / scale for picture in (one, other)]
    for index, layer in enumerate(features[:12]):
        pair = [layer(picture) for picture in pair]
        if index in (1, 4, 7, 9, 11):
            unit = [picture / (picture.square().sum(1, keepdim=True).sqrt() + 1e-10) for picture in pair]
            weight = weights[f"lin{(1, 4, 7, 9, 11).index(index)}.model.1.weight"]
            total = total + ((unit[0] - unit[1]).square() * weight).sum(1).mean((1, 2))
    return total


@torch.no_grad()
def test_lpips_is_the_papers_equation(lpips):
    public = classifier()
    network = perceptual.build("alex", public.state_dict(), linear("alex"))
    one, other = frames(9, 64, 64), frames(9, 64, 64).flip(0)
    expected = lpips_by_hand(public.features, linear("alex"), one, other).mean().item()
    assert perceptual.distance(network, one, other) == pytest.approx(expected, rel=1e-4) and expected > 0
    assert perceptual.distance(network, one, one) == pytest.approx(0.0, abs=1e-6)


def test_lpips_grows_with_the_damage(lpips):
    network = perceptual.build("alex", classifier().state_dict(), linear("alex"))
    picture = frames(2, 64, 64)
    blurred = torch.nn.functional.avg_pool2d(picture, 5, 1, 2)
    assert 0 < perceptual.distance(network, picture, picture + 0.3 * (blurred - picture)) < perceptual.distance(network, picture, blurred)


def test_files_tell_their_network(lpips):
    assert perceptual.backbone_of(classifier().state_dict()) == "alex" and perceptual.backbone_of(classifier("squeeze").state_dict()) == "squeeze"
    whole = perceptual.build("squeeze", classifier("squeeze").state_dict(), linear("squeeze")).state_dict()
    assert perceptual.backbone_of(whole) == "squeeze" and perceptual.has_linear(whole) and not perceptual.has_linear(classifier().state_dict())
    again = perceptual.build("squeeze", whole, whole)
    assert all(torch.equal(value, whole[name]) for name, value in again.state_dict().items())
    assert perceptual.backbone_of(tiny_clip().state_dict()) is None


def test_a_damaged_lpips_file_is_refused(lpips):
    broken = classifier().state_dict()
    broken["features.3.weight"] = broken["features.3.weight"][:1]
    with pytest.raises(ValueError, match=r"no fitting net.slice2.3.weight \(192, 64, 5, 5\).*alexnet-owt"):
        perceptual.build("alex", broken, linear("alex"))
