"""Nodes, links and groups of a workflow, before anybody gave them places on a canvas."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Node:
    """A node that was added; `node[0]` is the link to its first output."""

    id: str

    def __getitem__(self, slot: int) -> list:
        return [self.id, slot]


OFFERED = ("https://huggingface.co/", "https://civitai.com/")
SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pth", ".pt")
"""What ComfyUI's frontend offers to download when a file is missing."""


@dataclass(frozen=True)
class ModelFile:
    """A file that a graph needs and nobody ships with it. folder: below the host's models. size: in words. about: what it is for.

    url: where the browser can load it from, which it does from few hosts only (`OFFERED`); empty for a file that people make themselves.
    """

    name: str
    folder: str
    url: str
    size: str
    licence: str
    about: str

    def __post_init__(self):
        fits = self.url.startswith(OFFERED) and self.url.endswith(SUFFIXES) and self.name.endswith(SUFFIXES)
        assert fits or not self.url, f"{self.name}: ComfyUI's frontend offers files of {', '.join(OFFERED)} ending in {', '.join(SUFFIXES)} only, not {self.url}"

    def line(self) -> str:
        """What the graph's note says of it."""
        return f"- `{self.name}` in `models/{self.folder}`: {self.about}; {self.size}, {self.licence}." + (f" [Link]({self.url})" if self.url else "")

    def missing(self) -> str:
        """What the command line says when a host's loader does not have it, in one line."""
        return f"{self.name} is missing: {self.about}. Put it into models/{self.folder}, {self.details()}, and press R or run this again."

    def details(self) -> str:
        """Size, licence and link, for the middle of a sentence."""
        return f"{self.size}, licence: {self.licence}" + (f", from {self.url}" if self.url else "")

    def entry(self) -> dict:
        """What the browser reads in a node's properties, and offers when the file is missing."""
        return {"name": self.name, "url": self.url, "directory": self.folder}


@dataclass
class Group:
    """A titled frame on the canvas: columns from left to right, node ids in each from top to bottom."""

    title: str
    colour: str
    columns: list = field(default_factory=lambda: [[]])


class Graph:
    """A workflow under construction. Inputs that are not given take the node's defaults.

    values: title -> inputs that the node of this title gets beside its own: what variants of one graph differ in.
    """

    def __init__(self, about: str, values: dict[str, dict] | None = None):
        self.about, self.values = about, values or {}
        self.nodes: dict[str, dict] = {}
        self.groups: list[Group] = []
        self.files: dict[str, tuple[ModelFile, ...]] = {}

    def group(self, title: str, colour: str):
        """Begin a group; nodes added from now on belong to it."""
        self.groups.append(Group(title, colour))

    def column(self):
        """Begin the next column of the group."""
        self.groups[-1].columns.append([])

    def note(self) -> str:
        """The text of the graph's note: what it is, then the files that it needs."""
        files = {file.line(): None for files in self.files.values() for file in files}
        return "\n\n".join(filter(None, [self.about, "**Files** (nothing is ever downloaded by itself):\n" + "\n".join(files) if files else ""]))

    def add(self, class_type: str, title: str, models: tuple[ModelFile, ...] = (), **inputs) -> Node:
        """Add a node. `inputs`: values, and links such as `node[0]`; names with dots are children of dynamic inputs.

        models: the files that a loader's values name, for people and browsers that miss them.
        """
        assert title not in {node["_meta"]["title"] for node in self.nodes.values()}, f"two nodes are titled {title}"
        name, inputs = str(len(self.nodes) + 1), {**inputs, **self.values.get(title, {})}
        self.nodes[name] = {"class_type": class_type, "inputs": inputs, "_meta": {"title": title}}
        self.groups[-1].columns[-1].append(name)
        unnamed = [file.name for file in models if file.name not in inputs.values()]
        assert not unnamed, f"{title} loads no {unnamed}: the browser offers only files that a value names"
        if models:
            self.files[name] = tuple(models)
        return Node(name)
