"""Pictures of help pages: there, small, described, and drawn by the tool."""

import re

import pytest
from PIL import Image
from rooms import ROOT

FOLDER = ROOT / "web" / "docs"
PAGES = sorted(FOLDER.glob("*.md"))
PICTURE = re.compile(r"!\[(.*?)\]\((.*?)\)")
ONE, ALL = 60_000, 1_000_000  # bytes that users download with the pack


def shown() -> dict[str, list]:
    """Picture -> [(page, description)] over all help pages."""
    found = {}
    for page in PAGES:
        for words, name in PICTURE.findall(page.read_text(encoding="utf-8")):
            found.setdefault(name, []).append((page.stem, words))
    return found


def test_every_picture_is_shown_and_every_shown_one_is_there():
    files = {path.name for path in FOLDER.iterdir() if path.suffix != ".md"}
    assert files == set(shown()) and len(files) >= 12
    assert all(len(words) > 12 for uses in shown().values() for _, words in uses)  # for who can not see it


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.jpg")), ids=lambda path: path.stem)
def test_a_picture_is_small_and_shows_something(path):
    with Image.open(path) as picture:
        # the panel is about 220 pixels wide
        assert path.stat().st_size <= ONE and 300 <= picture.width <= 600 and picture.height <= 2000
        assert len(picture.convert("RGB").resize((64, 64)).getcolors(4096)) > 100


def test_all_together_are_small():
    assert sum(path.stat().st_size for path in FOLDER.glob("*.jpg")) <= ALL


def test_the_host_serves_them_beside_their_pages(server):
    import urllib.request

    for name in shown():
        with urllib.request.urlopen(f"{server.url}/extensions/bloom4d/docs/{name}", timeout=30) as answer:
            assert answer.read() == (FOLDER / name).read_bytes()
