"""A prompt that the demo prior cannot follow is encoded all the same, and says so on its conditioning."""

import pytest


@pytest.fixture(scope="module")
def clip(comfy, tmp_path_factory):
    import importlib

    import prior_fixtures

    path = prior_fixtures.write_untrained_prior(tmp_path_factory.mktemp("prior") / "prior.safetensors")
    return importlib.import_module("bloom4d.nodes.host.prior").load_clip(str(path))


def note_of(clip, text: str) -> str:
    """As CLIPTextEncode encodes."""
    (_, values), = clip.encode_from_tokens_scheduled(clip.tokenize(text))
    return values.get("bloom4d_note", "")


def test_a_known_prompt_has_no_note(clip):
    assert note_of(clip, "a red rose blooming") == ""


def test_an_unknown_prompt_names_what_is_known(clip):
    note = note_of(clip, "a corgi on a skateboard")
    assert '"a corgi on a skateboard"' in note and "candle burning" in note and "real model" in note


def test_an_empty_prompt_says_what_will_come(clip):
    assert note_of(clip, " ").startswith("The prompt is empty: ")


def test_tokens_are_the_host_s_own(clip):
    import comfy.sd1_clip

    text = "a (red:1.2) rose"
    assert dict(clip.tokenize(text)) == comfy.sd1_clip.SD1Tokenizer().tokenize_with_weights(text)


def test_optimisers_collect_the_notes_of_positive_prompts_once(clip):
    from bloom4d.nodes.guidance import PriorSource
    from bloom4d.nodes.runner import notes_of

    text = {name: clip.encode_from_tokens_scheduled(clip.tokenize(name)) for name in ("a corgi", "a yellow banana rotting", "")}
    terms = [PriorSource(None, None, (text["a corgi"],), text[""]), PriorSource(None, None, (text["a yellow banana rotting"], text["a corgi"]), text[""])]
    notes = notes_of(tuple(terms))
    assert notes.count("a corgi") == 1 and "empty" not in notes
