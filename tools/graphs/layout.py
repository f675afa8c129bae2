"""Places on the canvas: groups side by side, columns in each, nodes in each column; a note in front."""

from .builder import Graph

GAP, HEAD, TITLE = 40, 60, 34  # between columns and groups; above a group's nodes; a node's title bar
FRAME = 20
NOTE_SIZE = [460, 640]
ROOM = {
    "PreviewImage": (300, 260), "SaveImage": (300, 220), "SaveVideo": (300, 300), "Bloom4DSaveField": (420, 170), "KSampler": (270, 230),
    "Bloom4DHybridSDSOptimizer": (420, 430), "Bloom4DPhotometricRefinement": (420, 430), "Bloom4DTrainingCurves": (640, 240), "Bloom4DDeformableField": (420, 110),
    "Bloom4DMetrics": (420, 240), "Preview3D": (420, 380), "PreviewAny": (420, 300), "Bloom4DAblationTable": (1100, 420),
    "Bloom4DGaussiansFromOrbitVideo": (440, 480), "Bloom4DGaussiansFromField": (440, 480), "Bloom4DPreview4D": (480, 260), "Bloom4DSave4D": (440, 190),
}  # fmt: skip
"""Least width, and height below the widgets, of nodes that will show a picture or a text."""


def arrange(workflow: dict, graph: Graph, versions: dict[str, tuple[str, str]]) -> dict:
    """Give a serialised graph places, groups, a note, and the pack of every node; returns the same dictionary.

    versions: start of a node type -> (registry id of its pack, version); the empty start is every other node.
    """
    nodes = {str(node["id"]): node for node in workflow["nodes"]}
    x = place_note(workflow, graph)
    for number, group in enumerate(graph.groups, start=1):
        x = place_group(workflow, group, nodes, x, number)
    for node in workflow["nodes"]:
        start = next(start for start in sorted(versions, key=len, reverse=True) if node["type"].startswith(start))
        node["properties"]["cnr_id"], node["properties"]["ver"] = versions[start]
        if offered := [file.entry() for file in graph.files.get(str(node["id"]), ()) if file.url]:
            node["properties"]["models"] = offered
    number_links(workflow)
    workflow["extra"] = {"ds": {"scale": 0.6, "offset": [FRAME, HEAD + FRAME]}}
    return workflow


def place_note(workflow: dict, graph: Graph) -> float:
    """The note that explains the graph, left of everything; returns where the groups begin."""
    workflow["last_node_id"] = number = len(graph.nodes) + 1
    workflow["nodes"].append({
        "id": number, "type": "MarkdownNote", "pos": [0, 0], "size": NOTE_SIZE, "flags": {}, "order": len(graph.nodes), "mode": 0, "inputs": [],
        "outputs": [], "title": "About", "properties": {}, "widgets_values": [graph.note()], "color": "#432", "bgcolor": "#000",
    })  # fmt: skip
    return NOTE_SIZE[0] + GAP


def place_group(workflow: dict, group, nodes: dict, left: float, number: int) -> float:
    """Stack the group's nodes column by column and frame them; returns where the next group begins."""
    x, bottom = left + FRAME, 0.0
    for column in group.columns:
        y, width = float(HEAD), 0.0
        for name in column:
            node = nodes[name]
            node["size"] = with_room(node)
            node["pos"] = [x, y + TITLE]
            y += TITLE + node["size"][1] + FRAME
            width = max(width, node["size"][0])
        x, bottom = x + width + GAP, max(bottom, y)
    bounds = [left, 0, x - GAP + FRAME - left, bottom]
    workflow["groups"].append({"id": number, "title": group.title, "bounding": bounds, "color": group.colour, "font_size": 24, "flags": {}})
    return left + bounds[2] + GAP


def with_room(node: dict) -> list[int]:
    """The node's size with room for what it will show."""
    width, height = (round(side) for side in node["size"])
    least, below = ROOM.get(node["type"], (0, 0))
    return [max(width, least), height + below]


def number_links(workflow: dict):
    """Links numbered from 1, whatever the page had open before."""
    new = {link[0]: number for number, link in enumerate(sorted(workflow["links"]), start=1)}
    for link in workflow["links"]:
        link[0] = new[link[0]]
    for node in workflow["nodes"]:
        for socket in node["inputs"]:
            if socket.get("link") is not None:
                socket["link"] = new[socket["link"]]
        for socket in node["outputs"]:
            if socket.get("links"):
                socket["links"] = [new[link] for link in socket["links"]]
    workflow["last_link_id"] = len(new)
