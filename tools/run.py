"""Run a workflow in a real ComfyUI from the command line.

Starts ComfyUI on a free local port, queues the workflow, shows a line per node, copies what it saved to --out and ends ComfyUI.
Interrupted or killed runs go on from their last checkpoint when the same command is given again.

A prompts file runs a workflow many times on one ComfyUI: a prompt a line (.txt), columns named Title.input, prompt or seed (.csv),
or objects with such keys (.jsonl). " | " between values of a csv cell, or a list in jsonl, is a grid. Each row gets a folder in
--out and a line in OUT/manifest.jsonl; `launch.py table OUT` shows scores.
"""

import argparse
import asyncio
import signal
import sys
import time
from pathlib import Path

import interrupt
import presets
import show
import workflow
from results import files_of, inside

DEFAULT = "text_to_4d_demo"
INTERRUPTED = 130


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="launch.py run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workflow", nargs="?", default=DEFAULT, help=f"path or name of an API-format workflow (default {DEFAULT})")
    parser.add_argument("--prompt", help='text for the node titled "Prompt"')
    parser.add_argument("--seed", type=int, help="seed for every node that has one")
    parser.add_argument("--preset", action="append", default=[], metavar="NAME", help="values that the workflow brings under this name; repeatable, before --set")
    parser.add_argument("--set", action="append", default=[], metavar="TITLE.INPUT=VALUE", help="change one value; repeatable")
    parser.add_argument("--out", type=Path, default=Path("output"), help="folder for copies of the results (default output/)")
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="run every row of a .txt, .csv or .jsonl file; finished rows are skipped")
    parser.add_argument("--seeds", type=seeds_of, default=[], metavar="0,1,2", help="with --prompts: every row with each of these seeds")
    parser.add_argument("--host", metavar="URL", help="use the ComfyUI that runs at this address instead of starting one")
    parser.add_argument("--ray", metavar="ADDRESS", help="with --prompts: on a Ray cluster: local (this machine), auto, or host:port; see `launch.py node --help`")
    parser.add_argument("--cores-per-host", type=cores_of, default=0, metavar="N", help="with --ray, where there is no GPU: a ComfyUI for each N cores (default: one a machine)")
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
    if options.preset:
        presets.apply(prompt, options.preset, presets.of_workflow(options.workflow))
    for assignment in options.set:
        workflow.change(prompt, assignment)
    return prompt


def read_rows(options: argparse.Namespace, prompt: dict) -> list | None:
    """The rows of --prompts, None without it; options that exclude one another are a WorkflowError."""
    if options.keep and options.host is not None:
        raise workflow.WorkflowError("--keep does not go together with --host: a server that runs already stays as it is.")
    if options.prompts is None:
        if options.ray is not None:
            raise workflow.WorkflowError("--ray needs --prompts FILE: a single run has nothing to spread over a cluster.")
        if options.seeds:
            raise workflow.WorkflowError("--seeds needs --prompts FILE: for a single run use --seed.")
        return None
    from batch import rows

    if options.ray is not None and options.host is not None:
        raise workflow.WorkflowError("--ray does not go together with --host: a cluster starts its own ComfyUIs.")
    given = {"--seed": options.seed is not None and options.seeds, "--previews": options.previews, "--keep": options.keep}
    for name, present in given.items():
        if present:
            raise workflow.WorkflowError(f"{name} does not go together with {'--seeds' if name == '--seed' else '--prompts'}: leave one of them away.")
    return rows.read_rows(options.prompts, prompt, options.seeds)


def cores_of(text: str) -> int:
    """A whole number above zero."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f'"{text}" are no cores: write a whole number from 1 on')
    return int(text)


def seeds_of(text: str) -> list[int]:
    """The whole numbers of "0,1,2"."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f'"{text}" are no seeds: write whole numbers with commas between them, as in 0,1,2') from None


def execute_batch(options: argparse.Namespace, rows: list) -> int:
    """All rows; prints a table at the end."""
    from batch import engine, summary

    with interrupt.Interrupter() as interrupter:
        lines = engine.run_rows(rows, options.out, host=options.host, ray=options.ray, cores=options.cores_per_host, announce=lambda text: print(text, flush=True), interrupter=interrupter)
    print(summary.table(lines))
    if interrupter.pressed or any(line["status"] == "interrupted" for line in lines):
        print(f"Interrupted. The same command goes on where it stopped: {same_command()}")
        return INTERRUPTED
    failed = sum(line["status"] != "success" for line in lines)
    print(f"{len(lines) - failed} of {len(rows)} rows ended well; manifest: {options.out / 'manifest.jsonl'}")
    return 1 if failed else 0


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

    async def on_event(event, prompt_id):
        lines.handle(event)
        previews.take(event)

    with interrupt.Interrupter() as interrupter:
        async with client.Client(address) as connection:
            run = await interrupt.run(connection, prompt, on_event, interrupter)
            lines.finish()
            return run, [await copy(connection, file, options.out) for file in files_of(run.outputs)]


async def copy(connection, file: dict, out: Path) -> Path:
    target = inside(out, file)
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


def report(run, copies: list[Path], prompt: dict, lines: show.Lines, log: str) -> int:
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
    """One run on a ComfyUI of our own."""
    import host

    began = time.monotonic()
    folder = host.data_folder()
    (folder / "host.log").unlink(missing_ok=True)
    print("Starting ComfyUI ...", flush=True)
    with host.Host(host.tree(), folder / "host.log", host.working_arguments(folder)) as running:
        print(f"ComfyUI answers at {running.url} after {time.monotonic() - began:.1f} s", flush=True)
        code = run_on(running.address, options, prompt, str(running.log), lambda: f"its last words:\n{running.log_text()[-1500:]}")
        if options.keep and code is not None:
            wait_for_interrupt(running)
        return 1 if code is None else code


def execute_on_server(options: argparse.Namespace, prompt: dict) -> int:
    """One run on the running server that --host names."""
    from batch import places

    with places.GivenServer(options.host) as server:
        server.check([prompt])
        print(f"ComfyUI answers at {server.where}", flush=True)
        code = run_on(server.address, options, prompt, f"on the server {server.where}", lambda: "see its own log.")
        return 1 if code is None else code


def run_on(address: str, options: argparse.Namespace, prompt: dict, log: str, last_words) -> int | None:
    """The exit code of a run; None when it was refused or the host ended."""
    import client
    from batch import executor

    lines = show.Lines({node: workflow.title(node, content) for node, content in prompt.items()})
    try:
        run, copies = asyncio.run(follow(address, prompt, options, lines))
    except client.Rejected as refusal:
        print(f"The workflow was refused: {refusal}", file=sys.stderr)
        return None
    except executor.LOST:
        print(f"ComfyUI ended in the middle of the run; {last_words()}\n"
              f"The same command goes on from the last checkpoint: {same_command()}", file=sys.stderr)
        return None
    return report(run, copies, prompt, lines, log)


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
        rows = read_rows(options, prompt)
    except workflow.WorkflowError as error:
        print(error, file=sys.stderr)
        return 2
    import host
    from batch import manifest

    try:
        if rows is not None:
            return execute_batch(options, rows)
        return execute(options, prompt) if options.host is None else execute_on_server(options, prompt)
    except KeyboardInterrupt:
        print(f"\nEnded. The same command goes on from the last checkpoint: {same_command()}", file=sys.stderr)
        return INTERRUPTED
    except (host.HostFailed, manifest.ManifestError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
