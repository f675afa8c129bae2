"""Nodes, links and groups of a workflow, before anybody gave them places on a canvas."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Node:
    """A node that was added; `node[0]` is the link to its first output."""

    id: str

    def __getitem__(self, slot: int) -> list:
        return [self.id, slot]


@dataclass
class Group:
    """A titled frame on the canvas: columns from left to right, node ids in each from top to bottom."""

    title: str
    colour: str
    columns: list = field(default_factory=lambda: [[]])


class Graph:
    """A workflow under construction. Inputs that are not given take the node's defaults."""

    def __init__(self, about: str):
        self.about = about
        self.nodes: dict[str, dict] = {}
        self.groups: list[Group] = []

    def group(self, title: str, colour: str):
        """Begin a group; nodes added from now on belong to it."""
        self.groups.append(Group(title, colour))

    def column(self):
        """Begin the next column of the group."""
        self.groups[-1].columns.append([])

    def add(self, class_type: str, title: str, **inputs) -> Node:
        """Add a node. `inputs`: values, and links such as `node[0]`; names with dots are children of dynamic inputs."""
        assert title not in {node["_meta"]["title"] for node in self.nodes.values()}, f"two nodes are titled {title}"
        name = str(len(self.nodes) + 1)
        self.nodes[name] = {"class_type": class_type, "inputs": inputs, "_meta": {"title": title}}
        self.groups[-1].columns[-1].append(name)
        return Node(name)
