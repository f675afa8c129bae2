"""Run a paper's prompts with real models and put the CLIP text scores beside the published ones.

    python3 launch.py evaluate 4dfy --clip clip-vit-base-patch32.safetensors
    python3 launch.py evaluate dream_in_4d --clip ... --seeds 0,1 --set "Optimize stage 2.steps=2000"

Sets are tools/evaluations/NAME.json: prompts, the values that the paper gives each, the orbit that the score is taken on. The
workflow needs its model files; a missing one is named with its folder. Each run is one row of a batch: finished ones are kept in
--out, and the same command goes on where it stopped. Writes OUT/NAME.md and OUT/NAME.json.
"""

import argparse
import json
import os
import shlex
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import evaluations  # noqa: E402
import interrupt  # noqa: E402
import workflow  # noqa: E402
from evaluations import JUDGE, NO_CLIP, Evaluation, EvaluationError  # noqa: E402
from run import INTERRUPTED, seeds_of  # noqa: E402

COLUMNS = ("CLIP", "absolute sharpness", "haze")
CLIP_FILE = "the CLIPModel file of openai/clip-vit-base-patch32 (MIT)"


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="launch.py evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help=f"one of: {', '.join(evaluations.names())}")
    parser.add_argument("--clip", help=f'{CLIP_FILE} by its name below the model folder clip_vision; "{NO_CLIP}" measures everything else')
    parser.add_argument("--workflow", help="another workflow with the same titles, such as the demo's")
    parser.add_argument("--seeds", type=seeds_of, default=[0], metavar="0,1,2", help="seeds (default 0)")
    parser.add_argument("--prompts", nargs="+", metavar="PROMPT", help="these prompts instead of the paper's, with the workflow's own values")
    parser.add_argument("--set", action="append", default=[], metavar="TITLE.INPUT=VALUE", help="change one value in all runs; repeatable")
    parser.add_argument("--out", type=Path, help="folder of runs and report (default output/evaluations/NAME)")
    parser.add_argument("--host", metavar="URL", help="use the ComfyUI that runs at this address instead of starting one")
    return parser.parse_args(words)


def chosen(options: argparse.Namespace) -> Evaluation:
    """The evaluation with the changes of the command line; EvaluationError with what to do."""
    made = evaluations.load(options.name)
    if options.clip is None:
        raise EvaluationError(f'The text score needs {CLIP_FILE}: put it into the model folder clip_vision and name it by --clip, or write --clip {NO_CLIP}.')
    cases = tuple(evaluations.Case(text, {}) for text in options.prompts) if options.prompts else made.prompts
    return evaluations.replace(made, prompts=cases, workflow=options.workflow or made.workflow)


def rows_of(made: Evaluation, options: argparse.Namespace) -> list:
    """A row for every prompt and seed."""
    from batch.rows import make_row

    points = [(case, seed) for case in made.prompts for seed in options.seeds]
    return [
        make_row(number, evaluations.build(made, case, seed, options.clip, options.set), {"prompt": case.prompt, "seed": seed}, f"{made.name}.json")
        for number, (case, seed) in enumerate(points, 1)
    ]


def report(made: Evaluation, lines: list[dict], command: str) -> tuple[dict, str]:
    """The numbers and the page."""
    found = [{**line["inputs"], "seconds": line["seconds"], "scores": line["scores"].get(JUDGE, {})} for line in lines if line["status"] == "success"]
    clip = [entry["scores"]["CLIP"] for entry in found if entry["scores"].get("CLIP") is not None]
    mean = statistics.mean(clip) if clip else None
    content = {"evaluation": made.name, "workflow": made.workflow, "command": command, "orbit": made.orbit, "ours": found, "mean CLIP": mean, "published": list(made.published)}
    ours = [[f"ours: {entry['prompt']} (seed {entry['seed']})", *(number(entry["scores"].get(name)) for name in COLUMNS), "measured here"] for entry in found]
    total = [[f"ours: mean of {len(clip)}", number(mean), "", "", "measured here"]] if clip else []
    theirs = [[entry["what"], number(entry["CLIP"]), "", "", f"theirs: {entry['source']}"] for entry in made.published]
    rows = [["result", *COLUMNS, "whose number"], ["---"] * 5, *ours, *total, *theirs]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    warning = "Numbers of others were measured on their pictures, with their prompts and cameras: they are beside ours for orientation and not as a comparison under equal conditions."
    return content, "\n\n".join([f"# Evaluation: {made.name}", made.about, f"Workflow `{made.workflow}`, `{command}`", table, warning]) + "\n"


def number(value) -> str:
    return "-" if value is None else f"{value:.2f}"


def write(made: Evaluation, lines: list[dict], command: str, out: Path) -> Path:
    """OUT/NAME.json and NAME.md; returns the page."""
    content, text = report(made, lines, command)
    (out / f"{made.name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    page = out / f"{made.name}.md"
    page.write_text(text, encoding="utf-8")
    return page


def main(words: list[str]) -> int:
    options = arguments(words)
    try:
        made = chosen(options)
        rows = rows_of(made, options)
    except (EvaluationError, workflow.WorkflowError) as error:
        print(error, file=sys.stderr)
        return 2
    import host
    from batch.engine import run_rows
    from batch.manifest import ManifestError

    out = options.out or Path("output") / "evaluations" / made.name
    try:
        with interrupt.Interrupter() as interrupter:
            lines = run_rows(rows, out, host=options.host, announce=lambda text: print(text, flush=True), interrupter=interrupter)
    except (host.HostFailed, ManifestError) as error:
        print(error, file=sys.stderr)
        return 1
    failed = [line for line in lines if line["status"] != "success"]
    for line in failed:
        print(f"{line['inputs']['prompt']}, seed {line['inputs']['seed']}: {line['status']} {line['error'] or ''}".rstrip(), file=sys.stderr)
    if len(failed) < len(lines):
        print(write(made, lines, f"python3 launch.py evaluate {shlex.join(words)}", out))
    return INTERRUPTED if interrupter.pressed else int(bool(failed) or len(lines) < len(rows))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
    sys.exit(main(sys.argv[1:]))
