"""The viewer's modules: a new release is never mixed with what a browser kept of an old one, and text never becomes markup."""

import re

import pytest
from rooms import ROOT

SCRIPT = ROOT / "web" / "bloom4d.js"
MODULES = sorted((ROOT / "web" / "viewer").glob("*.mjs"))
MARKUP = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "DOMParser", "srcdoc", "createContextualFragment")


def import_problems(text: str) -> list[str]:
    """Imports of modules of ours that do not carry the release."""
    imports = re.findall(r"import\s*\(.*?\)", text) + re.findall(r"^import .*$", text, re.MULTILINE)
    return [line for line in imports if ".mjs" in line and "${version}" not in line and "?v=${VERSION}" not in line]


def markup_problems(text: str) -> list[str]:
    return [word for word in MARKUP if word in text]


def test_the_release_is_the_packs():
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)[1]
    assert f'const VERSION = "{version}";' in SCRIPT.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", [SCRIPT, *MODULES], ids=lambda path: path.name)
def test_modules_carry_the_release_and_make_no_markup(path):
    text = path.read_text(encoding="utf-8")
    assert import_problems(text) == [] and markup_problems(text) == []


def test_breaches_are_found():
    assert import_problems('import { a } from "./a.mjs";') and import_problems('const a = await import("./a.mjs");')
    assert markup_problems("root.innerHTML = name;") == ["innerHTML"]


def test_the_script_that_every_page_loads_is_small():
    assert SCRIPT.stat().st_size < 8000 and "./viewer/" in SCRIPT.read_text(encoding="utf-8")
