"""The page in other languages: our nodes carry their titles, shipped graphs queue the same prompt, and the command line still finds nodes."""

import contextlib
import json

import browser
import demo_workflows as demo
import pytest
import workflow
import workflow_page
import write_locales

SHOWN = "() => window.app.extensionManager.setting.get('Comfy.Locale')"


@contextlib.contextmanager
def page_in(page, server, language: str, folder):
    """Another page of the same ComfyUI whose user has chosen a language."""
    choose(page, server, language)
    try:
        with browser.fresh_page(page, server.url, folder) as other:
            workflow_page.settle(other)
            yield other
    finally:
        choose(page, server, "en")


def choose(page, server, language: str):
    assert page.request.post(f"{server.url}/settings/Comfy.Locale", data=json.dumps(language), headers={"Content-Type": "application/json"}).ok


def title(language: str, node: str) -> str:
    return write_locales.read(language)[node]["display_name"]


def add_node(page, node: str) -> str:
    """Put a new node on an empty canvas, as a user does; the title that it shows."""
    return page.evaluate("""type => { window.app.rootGraph.clear(); const node = window.LiteGraph.createNode(type);
        window.app.rootGraph.add(node); return node.title; }""", node)


def search_library(page, text: str):
    """Open the node library and search."""
    page.keyboard.press("n")
    box = page.locator(".side-bar-panel input, [class*=sidebar] input").first
    box.wait_for(timeout=15000)
    box.fill(text)


@pytest.mark.parametrize("language", ["zh", "ja", "es"])
def test_nodes_carry_the_titles_of_the_users_language(page, server, language, tmp_path):
    with page_in(page, server, language, tmp_path / "profile") as other:
        assert other.evaluate(SHOWN) == language
        for node in ("Bloom4DHashField", "Bloom4DToyMotion"):
            assert add_node(other, node) == title(language, node)
        search_library(other, title(language, "Bloom4DToyMotion"))
        other.get_by_text(title(language, "Bloom4DToyMotion"), exact=True).first.wait_for(timeout=15000)
        prompt = workflow_page.queued_prompt(other)
        made, = prompt.values()
        assert made["class_type"] == "Bloom4DToyMotion" and made["_meta"]["title"] == title(language, "Bloom4DToyMotion")
        for name in (title(language, "Bloom4DToyMotion"), "Bloom4DToyMotion", next(iter(prompt))):
            workflow.change(prompt, f"{name}.parts=11")
            assert made["inputs"].pop("parts") == 11
            made["inputs"]["parts"] = 24
        assert browser.to_api(other, workflow_page.read("text_to_4d_demo")) == demo.load("text_to_4d_demo")
        assert other.problems == []


def test_german_shows_where_the_frontend_has_it_and_english_elsewhere(page, server, tmp_path):
    """The frontend that the host asks for has no German pages and falls back; our titles are served for those that have."""
    assert json.loads(server.get_text("/i18n"))["de"]["nodeDefs"]["Bloom4DHashField"]["display_name"] == title("de", "Bloom4DHashField") != title("en", "Bloom4DHashField")
    with page_in(page, server, "de", tmp_path / "profile") as other:
        shown = other.evaluate(SHOWN)
        assert shown in ("de", "en") and add_node(other, "Bloom4DHashField") == title(shown, "Bloom4DHashField")
        own = [line for line in other.problems if "visitGraphNodes" not in line]  # the fall-back itself walks a graph that is not there yet
        assert own == []
