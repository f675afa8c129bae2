"""Write the subgraph blueprints: `python tools/write_blueprints.py` after any change in tools/graphs/blueprints.py or of a node.

Each block is built in the real frontend of a real ComfyUI: its graph is opened, the nodes of the block become a subgraph, the
chosen widgets are shown on it, and the block alone is written to subgraphs/NAME.json. Needs Chromium and playwright.
"""

import json
import re
import sys
import tempfile
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "web"), str(ROOT / "tests" / "host")]

import browser  # noqa: E402
import host  # noqa: E402
import real_host  # noqa: E402
import write_workflows  # noqa: E402
from graphs.blueprints import BLUEPRINTS, INSIDE, Blueprint  # noqa: E402
from graphs.layout import arrange  # noqa: E402

CONVERT = """([name, titles, widgets]) => {
    const graph = window.app.rootGraph, chosen = graph.nodes.filter(node => titles.includes(node.title));
    const { subgraph, node } = graph.convertToSubgraph(new Set(chosen));
    subgraph.name = node.title = name;
    for (const input of [...subgraph.inputs].filter(input => input.name === 'seed')) subgraph.removeInput(input);
    for (const [title, widget, shown] of widgets) {
        const inside = subgraph.nodes.find(candidate => candidate.title === title);
        const socket = inside.getSlotFromWidget(inside.widgets.find(candidate => candidate.name === widget));
        subgraph.addInput(shown, socket.type).connect(socket, inside);
    }
    node.setSize(node.computeSize());
    return JSON.stringify(graph.serialize());
}"""
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def names_of(widgets: tuple) -> list[tuple[str, str, str]]:
    """(title, widget, name on the block): the widget's own name, with the title before it where two are equal."""
    names = [widget for _, widget in widgets]
    return [(title, widget, widget if names.count(widget) == 1 else f"{title.lower()} {widget}") for title, widget in widgets]


def alone(workflow: dict, blueprint: Blueprint) -> dict:
    """The block without the graph around it."""
    definition, = workflow["definitions"]["subgraphs"]
    node = next(node for node in workflow["nodes"] if node["type"] == definition["id"])
    for socket in node["inputs"]:
        socket["link"] = None
    for socket in node["outputs"]:
        socket["links"] = []
    node.update(id=1, pos=[0, 0], order=0)
    definition.update(description=blueprint.about, category="4d")
    extra = {"BlueprintDescription": blueprint.about, "BlueprintSearchAliases": list(blueprint.aliases)}
    return {"revision": 0, "last_node_id": 1, "last_link_id": 0, "nodes": [node], "links": [], "version": 0.4, "definitions": {"subgraphs": [definition]}, "extra": extra}


def plain(value):
    """Without empty entries, and without what the frontend adds for the language of whoever saved the file."""
    if isinstance(value, dict):
        return {name: plain(entry) for name, entry in value.items() if name == "link" or entry is not None and name != "localized_name"}
    return [plain(entry) for entry in value] if isinstance(value, list) else value


def same_ids(text: str, name: str) -> str:
    """The frontend's random ids replaced by ones that follow from the name and their order."""
    for number, found in enumerate(dict.fromkeys(UUID.findall(text))):
        text = text.replace(found, str(uuid.uuid5(uuid.NAMESPACE_URL, f"bloom4d/{name}/{number}")))
    return text


def build(page, blueprint: Blueprint) -> str:
    """The blueprint's file."""
    _, workflow = write_workflows.serialised(page, blueprint.graph)
    workflow = write_workflows.without_names(arrange(workflow, blueprint.graph, write_workflows.versions(page)))
    page.evaluate("workflow => window.app.loadGraphData(workflow, true, true, 'blueprint')", workflow)
    inside, = (group for group in blueprint.graph.groups if group.title == INSIDE)
    titles = [blueprint.graph.nodes[name]["_meta"]["title"] for column in inside.columns for name in column]
    made = json.loads(page.evaluate(CONVERT, [blueprint.name, titles, names_of(blueprint.widgets)]))
    return same_ids(json.dumps(plain(alone(made, blueprint)), indent=1, ensure_ascii=False) + "\n", blueprint.name)


def main() -> int:
    (ROOT / "subgraphs").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        server = real_host.start(host.tree(), real_host.prepare_base(Path(folder) / "base", ROOT))
        try:
            with browser.open_page(server.url, Path(folder) / "profile") as page:
                for blueprint in BLUEPRINTS.values():
                    path = ROOT / "subgraphs" / f"{blueprint.name}.json"
                    path.write_text(build(page, blueprint), encoding="utf-8")
                    print(path.relative_to(ROOT))
        finally:
            server.host.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
