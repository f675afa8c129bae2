"""The shipped workflows in the real frontend: nothing is missing, the same prompt is queued, Run and Cancel work."""

import io

import browser
import demo_workflows as demo
import numpy
import pytest
import workflow_page
from PIL import Image

LONG = 240  # seconds; shared machines are slow


@pytest.fixture(scope="module")
def small(server):
    """What makes text to 4D small, and the host's folder has the small prior."""
    demo.give_prior(server.base)
    return demo.smoke_changes(demo.load("text_to_4d_demo"))


def colours(page, area: dict, path) -> int:
    """How many different colours a part of the page shows."""
    shot = page.screenshot(path=str(path), clip={key: max(value, 1) for key, value in area.items()})
    pixels = numpy.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).reshape(-1, 3)
    return len(numpy.unique(pixels, axis=0))


@pytest.mark.parametrize("name", demo.NAMES)
def test_a_shipped_workflow_opens_whole_and_queues_the_committed_prompt(page, name):
    page.problems.clear()
    prompt = browser.to_api(page, workflow_page.read(name))
    assert workflow_page.unknown_nodes(page) == []
    assert prompt == demo.load(name)
    assert page.locator('[data-testid="error-overlay"]').count() == 0
    assert page.problems == []


def test_run_shows_previews_while_it_works_and_the_video_afterwards(page, small, pictures):
    stage, large = demo.STAGES[0], {"width": 64, "height": 64}
    workflow_page.open_workflow(page, "text_to_4d_demo", {**small, "Field": {"seed": 51}, "Multi-view, one instant": large, stage: {"steps": 16, "preview_interval": 0.5}})
    workflow_page.look_at(page, stage)
    workflow_page.press_run(page)
    workflow_page.wait_for_preview(page, stage, LONG)
    assert page.evaluate("() => window.bloomSeen.end") == "", "the preview came before the end"
    page.wait_for_timeout(300)  # the canvas draws it
    page.screenshot(path=str(pictures / "running.png"))
    assert colours(page, workflow_page.picture_area(page, stage), pictures / "preview.png") > 20
    assert workflow_page.wait_for_end(page, LONG) == "execution_success"
    workflow_page.look_at(page, "Save video")
    page.wait_for_function("() => [...document.querySelectorAll('video')].some(video => video.src.includes('text_to_4d') && video.readyState >= 2)", timeout=LONG * 1000)
    page.screenshot(path=str(pictures / "result.png"))
    assert colours(page, page.locator("video").first.bounding_box(), pictures / "video.png") > 20


def test_cancel_stops_within_a_step_and_run_goes_on(page, small, pictures):
    stage, steps, large = demo.STAGES[0], 400, {"width": 96, "height": 96}
    workflow_page.open_workflow(page, "text_to_4d_demo", {**small, "Field": {"seed": 52}, "Multi-view, one instant": large, stage: {"steps": steps}})
    workflow_page.look_at(page, stage)
    workflow_page.press_run(page)
    workflow_page.wait_for_step(page, stage, 2, LONG)
    page.locator(workflow_page.CANCEL).click()
    asked = workflow_page.steps(page, stage)[-1]
    assert workflow_page.wait_for_end(page, LONG) == "execution_interrupted"
    done = workflow_page.steps(page, stage)[-1]
    assert done <= asked + 1 < steps
    page.screenshot(path=str(pictures / "interrupted.png"))

    workflow_page.press_run(page)
    workflow_page.wait_for_step(page, stage, done + 1, LONG)
    assert workflow_page.steps(page, stage)[0] > done, "it went on where it was stopped"
    page.locator(workflow_page.CANCEL).click()
    assert workflow_page.wait_for_end(page, LONG) == "execution_interrupted"
