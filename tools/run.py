"""Run a workflow in a real ComfyUI from the command line.

Starts ComfyUI on a free local port, queues the workflow, shows a line per node, copies what it saved to --out and ends ComfyUI.
Interrupted or killed runs go on from their last checkpoint when the same command is given again.
"""

import argparse
import asyncio
import signal
import sys
import time
from pathlib import Path

import show
import workflow

DEFAULT = "text_to_4d_demo"
INTERRUPTED = 130


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="launch.py run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workflow", nargs="?", default=DEFAULT, help=f"path or name of an API-format workflow (default {DEFAULT})")
    parser.add_argument("--prompt", help='text for the node titled "Prompt"')
    parser.add_argument("--seed", type=int, help="seed for every node that has one")
    parser.add_argument("--set", action="append", default=[], metavar="TITLE.INPUT=VALUE", help="change one value; repeatable")
    parser.add_argument("--out", type=Path, default=Path("output"), help="folder for copies of the results (default output/)")
    parser.add_argument("--previews", action="store_true", help="also keep every preview picture, in OUT/previews")
    parser.add_argument("--keep", action="store_true", help="leave ComfyUI running afterwards, until Ctrl-C")
    return parser.parse_args()


def read_workflow(options: argparse.Namespace) -> dict:
    """The prompt with every change from the command line applied."""
    prompt = workflow.load(options.workflow)
    if options.prompt is not None:
        workflow.set_prompt(prompt, options.prompt)
    if options.seed is not None:
        workflow.set_seed(prompt, options.seed)
    for assignment in options.set:
        workflow.change(prompt, assignment)
    return prompt


class Interrupter:
    """Ctrl-C: once asks the host to interrupt the prompt, twice ends everything."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.pressed = asyncio.Event()
        signal.signal(signal.SIGINT, self._handle)

    def _handle(self, *_):
        if self.pressed.is_set():
            raise KeyboardInterrupt
        self.loop.call_soon_threadsafe(self.pressed.set)

    async def watch(self, connection, prompt_id: str):
        await self.pressed.wait()
        print("\nInterrupting; Ctrl-C again ends at once.", flush=True)
        await connection.interrupt(prompt_id)


class Previews:
    """Writes preview pictures as they arrive; without a folder it drops them."""

    def __init__(self, folder: Path | None):
        self.folder, self.count = folder, 0

    def take(self, event):
        if self.folder is None or event.kind != "preview":
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.count += 1
        ending = "png" if event.image.startswith(b"\x89PNG") else "jpg"
        (self.folder / f"{self.count:05}_node{event.data.get('node_id', '')}.{ending}").write_bytes(event.image)


async def follow(address: str, prompt: dict, options: argparse.Namespace, lines: show.Lines):
    """Queue the prompt, show it to its end, copy its files. Returns (finished run, paths of the copies)."""
    import client

    previews = Previews(options.out / "previews" if options.previews else None)
    interrupter = Interrupter()
    watcher = None
    async with client.Client(address) as connection:
        async def on_event(event, prompt_id):
            nonlocal watcher
            watcher = watcher or asyncio.create_task(interrupter.watch(connection, prompt_id))
            lines.handle(event)
            previews.take(event)

        try:
            run = await connection.run(prompt, on_event)
        finally:
            if watcher is not None:
                watcher.cancel()
        lines.finish()
        return run, [await copy(connection, file, options.out) for file in files_of(run.outputs)]


def files_of(outputs: dict) -> list[dict]:
    """Every file in the host's output folder that a node names in its result."""
    entries = [entry for node in outputs.values() for values in node.values() if isinstance(values, list) for entry in values]
    return [entry for entry in entries if isinstance(entry, dict) and entry.get("type") == "output" and entry.get("filename")]


async def copy(connection, file: dict, out: Path) -> Path:
    target = out / file.get("subfolder", "") / file["filename"]
    if not target.resolve().is_relative_to(out.resolve()):
        raise ValueError(f"the host named a file outside its folder: {file}")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    partial.write_bytes(await connection.view({"subfolder": "", **file}))
    partial.replace(target)
    return target


def texts_of(outputs: dict) -> list[tuple[str, str]]:
    """(node id, text) of every text that a node shows."""
    return [(node, text) for node, values in outputs.items() for text in values.get("text", []) if isinstance(text, str)]


def by_text(texts: list[tuple[str, str]], titles: dict) -> dict:
    """text -> titles of the nodes that show it: what several nodes say is printed once."""
    found = {}
    for node, text in texts:
        found.setdefault(text.strip(), []).append(titles.get(node, node))
    return found


def report(run, copies: list[Path], prompt: dict, lines: show.Lines, log: Path) -> int:
    """Print how the run ended; returns the exit code."""
    titles = {node: workflow.title(node, content) for node, content in prompt.items()}
    for text, names in by_text(texts_of(run.outputs), titles).items():
        print(f"{', '.join(names)}:\n  " + text.replace("\n", "\n  "))
    for path in copies:
        print(path)
    if run.status == "error":
        node = str(run.error["node_id"])
        print(f"Error in {titles.get(node, node)}: {first_line(run.error)}\nComfyUI's log: {log}", file=sys.stderr)
        return 1
    if run.status == "interrupted":
        print(f"Interrupted. The same command goes on from the last checkpoint: {same_command()}")
        return INTERRUPTED
    preview = f", first preview after {lines.first_preview:.1f} s" if lines.first_preview is not None else ""
    print(f"Done in {show.clock(lines.now() - lines.started)}{preview}.")
    return 0


def first_line(error: dict) -> str:
    message = error["exception_message"].strip() or error["exception_type"]
    return message.splitlines()[0]


def same_command() -> str:
    return "python3 launch.py run " + " ".join(f'"{word}"' if " " in word else word for word in sys.argv[1:])


def execute(options: argparse.Namespace, prompt: dict) -> int:
    import client
    import host

    began = time.monotonic()
    folder = host.data_folder()
    (folder / "host.log").unlink(missing_ok=True)
    print("Starting ComfyUI ...", flush=True)
    with host.Host(host.tree(), folder / "host.log", host.working_arguments(folder)) as running:
        print(f"ComfyUI answers at {running.url} after {time.monotonic() - began:.1f} s", flush=True)
        lines = show.Lines({node: workflow.title(node, content) for node, content in prompt.items()})
        try:
            run, copies = asyncio.run(follow(running.address, prompt, options, lines))
        except client.Rejected as refusal:
            print(f"The workflow was refused: {refusal}", file=sys.stderr)
            return 1
        except ConnectionError:
            print(f"ComfyUI ended in the middle of the run; its last words:\n{running.log_text()[-1500:]}\n"
                  f"The same command goes on from the last checkpoint: {same_command()}", file=sys.stderr)
            return 1
        code = report(run, copies, prompt, lines, running.log)
        if options.keep:
            wait_for_interrupt(running)
        return code


def wait_for_interrupt(running):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print(f"ComfyUI keeps running at {running.url}; Ctrl-C ends it.", flush=True)
    try:
        running.process.wait()
    except KeyboardInterrupt:
        print()


def main() -> int:
    options = arguments()
    try:
        prompt = read_workflow(options)
    except workflow.WorkflowError as error:
        print(error, file=sys.stderr)
        return 2
    import host

    try:
        return execute(options, prompt)
    except KeyboardInterrupt:
        print(f"\nEnded. The same command goes on from the last checkpoint: {same_command()}", file=sys.stderr)
        return INTERRUPTED
    except host.HostFailed as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
