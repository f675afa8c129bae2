"""A help page as the frontend shows it: title, table and picture."""

SELECT = """type => { window.app.rootGraph.clear(); const node = window.LiteGraph.createNode(type); window.app.rootGraph.add(node);
    node.pos = [300, 200]; window.app.canvas.selectNode(node); window.app.canvas.setDirty(true, true); }"""
DRAWN = """() => [...document.querySelectorAll('img')].some(image => image.src.includes('Bloom4DToyMotion.jpg') && image.complete && image.naturalWidth > 300)"""


def test_a_page_shows_its_picture(page, tmp_path):
    page.evaluate(SELECT, "Bloom4DToyMotion")
    page.locator('[data-testid="info-button"]').first.click()
    page.wait_for_function(DRAWN, timeout=30000)
    assert page.get_by_text("Coloured Gaussians that move exactly as a formula says").count() > 0
    page.screenshot(path=str(tmp_path / "help.png"))
    page.locator('[data-testid="info-button"]').first.click()
