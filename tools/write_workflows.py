"""Write the shipped workflows: `python tools/write_workflows.py [NAME ...]` after any change in tools/graphs.

Each graph is opened in the real frontend of a real ComfyUI, which fills in defaults and serialises it; both formats are
written, and the browser's one is read back to prove that it queues the same prompt. Needs Chromium and playwright.
"""

import argparse
import json
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "web"), str(ROOT / "tests" / "host")]

import browser  # noqa: E402
import host  # noqa: E402
import real_host  # noqa: E402
from graphs.layout import arrange  # noqa: E402
from graphs.presets import PRESETS  # noqa: E402
from presets import by_node  # noqa: E402
from graphs.shipped import GRAPHS  # noqa: E402

SEEDS_STAY = """() => window.app.rootGraph.nodes.forEach(node => node.widgets?.forEach(widget => {
    if (widget.name === 'control_after_generate') widget.value = 'fixed'; }))"""


def canonical(prompt: dict) -> dict:
    """A prompt with its nodes in the order of their numbers."""
    return {name: prompt[name] for name in sorted(prompt, key=int)}


def serialised(page, graph) -> tuple[dict, dict]:
    """(prompt, browser's format without places) of a graph, as the frontend writes them."""
    page.evaluate("prompt => window.app.loadApiJson(prompt, 'workflow')", graph.nodes)
    page.evaluate(SEEDS_STAY)
    workflow = page.evaluate("() => JSON.stringify(window.app.rootGraph.serialize())")
    prompt = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    for entry in graph.nodes:
        missing = graph.nodes[entry]["inputs"].keys() - prompt[entry]["inputs"].keys()
        assert not missing, f"{graph.nodes[entry]['_meta']['title']}: the frontend knows no input {missing}"
    return canonical(prompt), json.loads(workflow)


def versions(page) -> dict:
    """The packs of the nodes: ours as pyproject.toml says, the host's own as it reports."""
    own = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = page.evaluate("async () => (await (await window.app.api.fetchApi('/system_stats')).json()).system.comfyui_version")
    return {"Bloom4D": (own["name"], own["version"]), "": ("comfy-core", core)}


def without_names(workflow: dict) -> dict:
    """Without what the frontend adds for the language of whoever saved the file."""
    for node in workflow["nodes"]:
        for socket in (*node["inputs"], *node["outputs"]):
            socket.pop("localized_name", None)
    return workflow


def write(page, name: str):
    graph = GRAPHS[name]()
    prompt, workflow = serialised(page, graph)
    workflow = without_names(arrange(workflow, graph, versions(page)))
    if name in PRESETS:
        workflow["extra"]["bloom4d_presets"] = by_node(prompt, PRESETS[name])
    again = canonical(browser.to_api(page, workflow))
    differing = {key: (again.get(key), prompt[key]) for key in prompt if again.get(key) != prompt[key]}
    assert not differing and again.keys() == prompt.keys(), f"{name}: the browser's format does not queue the same prompt: {differing}"
    for path, content in ((ROOT / "workflows" / "api" / f"{name}.json", prompt), (ROOT / "workflows" / f"{name}.json", workflow)):
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(path.relative_to(ROOT))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(GRAPHS), help=f"workflows to write (default all: {', '.join(GRAPHS)})")
    parser.add_argument("--screenshots", type=Path, help="folder for a picture of each workflow in the browser")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = real_host.start(host.tree(), real_host.prepare_base(Path(folder) / "base", ROOT))
        try:
            for name in options.names:  # a browser each: one that had another graph open keeps values of its nodes for those of the same number
                with browser.open_page(server.url, Path(folder) / name) as page:
                    write(page, name)
                    if options.screenshots:
                        page.wait_for_timeout(1000)
                        page.screenshot(path=str(options.screenshots / f"{name}.png"))
        finally:
            server.host.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
