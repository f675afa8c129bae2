"""Our script in the real frontend: it loads without noise, colours our links and shows why a node of ours failed."""

TOAST = ".p-toast-message"


def show_graph(page):
    page.evaluate("""prompt => window.app.loadApiJson(prompt, 'test')""", {
        "1": {"class_type": "Bloom4DEnvironment", "inputs": {}, "_meta": {"title": "Versions"}}})


def raise_in_node(page, node_type: str, message: str):
    """What the browser receives when a node raises; waits until every listener has run."""
    page.evaluate("() => window.app.extensionManager.toast.removeAll()")
    page.evaluate("""([node_type, exception_message]) => window.app.api.dispatchCustomEvent('execution_error', {
        node_id: '1', node_type, exception_message, exception_type: 'ValueError', traceback: [], prompt_id: 'x', executed: [],
        current_inputs: {}, current_outputs: {}, timestamp: 0 })""", [node_type, message])
    page.wait_for_timeout(300)


def test_nodes_are_in_the_menu_and_the_console_is_quiet(page):
    known = page.evaluate("() => Object.keys(window.LiteGraph.registered_node_types).filter(name => name.startsWith('Bloom4D'))")
    assert "Bloom4DEnvironment" in known
    assert page.problems == []


def test_our_links_have_their_colours(page):
    colours = page.evaluate("() => window.app.canvas.constructor.link_type_colors")
    assert colours["FIELD_4D"] == "#8fb573" and colours["MODEL"]  # the host's own stay
    blanked, given = page.evaluate("""() => { const colors = window.app.canvas.constructor.link_type_colors;
        colors.FIELD_4D = ''; const blanked = colors.FIELD_4D; colors.FIELD_4D = '#123456'; const given = colors.FIELD_4D;
        colors.FIELD_4D = ''; return [blanked, given]; }""")  # a palette without our types, and one with them
    assert (blanked, given) == ("#8fb573", "#123456")


def test_first_line_of_our_error_is_shown(page, tmp_path):
    show_graph(page)
    raise_in_node(page, "Bloom4DEnvironment", "3 cameras for 2 pictures: give one camera per picture.\nsecond line")
    text = page.locator(TOAST).all_inner_texts()
    page.screenshot(path=str(tmp_path / "toast.png"))
    assert any("Versions" in entry and "give one camera per picture." in entry and "second line" not in entry for entry in text)


def test_errors_of_other_packs_are_left_alone(page):
    show_graph(page)
    raise_in_node(page, "KSampler", "somebody else's reason")
    assert not any("somebody else's reason" in entry for entry in page.locator(TOAST).all_inner_texts())


def test_help_page_is_served(page, server):
    answer = page.request.get(f"{server.url}/extensions/bloom4d/docs/Bloom4DEnvironment.md")
    assert answer.ok and "# 4D Environment" in answer.text()


def test_running_from_the_browser_shows_the_report_on_the_node(page):
    import browser

    show_graph(page)
    kind, detail = browser.queue(page)
    assert kind == "execution_success", detail
    shown = page.locator("textarea[readonly]").input_value()
    assert shown.startswith("Bloom4D 0.") and "Device: " in shown


def test_a_shown_text_is_not_saved(page):
    saved = page.evaluate("() => window.app.rootGraph.serialize()")
    assert "Device: " not in str(saved)
