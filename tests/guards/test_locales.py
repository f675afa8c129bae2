"""Node titles in five languages: all nodes, no others, and none that the browser could not show."""

import json
import unicodedata

import pytest
import write_locales
from rooms import ROOT

LANGUAGES = ("en", *write_locales.TRANSLATED)
SCRIPTS = {"zh": "CJK UNIFIED", "ja": ("HIRAGANA", "KATAKANA", "CJK UNIFIED")}
WIDEST = 32  # columns; the head of a node at its usual width shows about as many
SYNTAX = set("@{}|$")  # of the browser's message format


@pytest.fixture(scope="module")
def infos(comfy):
    from node_infos import node_infos

    return node_infos()


def width(text: str) -> int:
    """Columns of a text; Chinese and Japanese characters take two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def title_problems(language: str, titles: dict) -> list[str]:
    """Titles that are empty, too wide, doubled, not of the language's script, or read as something else by the browser."""
    found, names = [], [entry.get("display_name", "") for entry in titles.values()]
    for node, name in zip(titles, names):
        if not name.strip() or name != name.strip():
            found.append(f"{language} {node}: empty or padded")
        if width(name) > WIDEST:
            found.append(f"{language} {node}: {name} takes {width(name)} columns of {WIDEST}")
        if SYNTAX & set(name):
            found.append(f"{language} {node}: {name} has a letter of the message format")
        if language in SCRIPTS and not any(unicodedata.name(letter, "").startswith(SCRIPTS[language]) for letter in name):
            found.append(f"{language} {node}: {name} is not translated")
    return found + [f"{language}: {name} stands for two nodes" for name in {name for name in names if names.count(name) > 1}]


def test_there_are_five_languages_in_the_hosts_layout():
    assert sorted(path.relative_to(ROOT / "locales").as_posix() for path in (ROOT / "locales").rglob("*") if path.is_file()) == sorted(
        f"{language}/nodeDefs.json" for language in LANGUAGES)


def test_english_is_what_the_schemas_say(infos):
    """It overrides the schemas' names in the browser, so that it must never differ."""
    assert write_locales.read("en") == write_locales.english(infos), "run .venv/bin/python tools/write_locales.py"


@pytest.mark.parametrize("language", write_locales.TRANSLATED)
def test_every_node_has_a_title(language, infos):
    absent = write_locales.missing(language, infos)
    assert absent == [], f"add to locales/{language}/nodeDefs.json: {', '.join(absent)}"
    assert set(write_locales.read(language)) == set(infos), "run .venv/bin/python tools/write_locales.py"


@pytest.mark.parametrize("language", LANGUAGES)
def test_titles_can_be_shown(language):
    assert title_problems(language, write_locales.read(language)) == []


@pytest.mark.parametrize("language", ("de", "es"))
def test_most_titles_differ_from_the_english_ones(language):
    english, other = write_locales.read("en"), write_locales.read(language)
    same = [node for node in english if english[node] == other.get(node)]
    assert len(same) <= len(english) // 10, same


@pytest.mark.parametrize(("language", "name"), [("de", ""), ("de", " Feld"), ("de", "x" * 33), ("zh", "场" * 17), ("de", "a | b"), ("de", "{x}"),
                                                ("zh", "Hash Field"), ("ja", "Hash Field")])
def test_a_bad_title_is_found(language, name):
    assert title_problems(language, {"A": {"display_name": name}})


def test_a_doubled_title_is_found():
    assert len(title_problems("de", {"A": {"display_name": "Feld"}, "B": {"display_name": "Feld"}})) == 1


def test_a_node_without_a_title_is_named(infos, monkeypatch, tmp_path):
    monkeypatch.setattr(write_locales, "FOLDER", tmp_path)
    assert write_locales.missing("de", infos)[:1] == [f"{name} ({info['display_name']})" for name, info in infos.items()][:1]
    (tmp_path / "de").mkdir()
    titles = {name: {"display_name": "x"} for name in infos if name != "Bloom4DToyMotion"}
    (tmp_path / "de" / "nodeDefs.json").write_text(json.dumps(titles))
    assert write_locales.missing("de", infos) == ["Bloom4DToyMotion (Toy Motion)"]


def test_the_host_serves_them(server):
    served = server.get("/i18n")
    for language in LANGUAGES:
        assert write_locales.read(language).items() <= served[language]["nodeDefs"].items()
