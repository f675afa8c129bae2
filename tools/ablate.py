"""Run the variants of a workflow that an ablation set names, score them against real objects, and write a table and sheets.

Sets are tools/ablations/NAME.json: a shipped workflow, changes for all rows, and rows with value changes, other terms or other
nodes. Every row runs with every seed in one ComfyUI. Finished runs are kept in --work: the same command goes on where it
stopped. Writes OUT/NAME.md (table, directions that were expected and how many seeds agree), OUT/NAME.json and a sheet a seed.
"""

import argparse
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import interrupt  # noqa: E402
from ablations.variants import AblationSet, SetError, build, load_set, names  # noqa: E402
from run import INTERRUPTED, seeds_of  # noqa: E402

DOCS = Path("docs") / "ablations"


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="launch.py ablate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help=f"a set ({', '.join(names())}) or the path of one")
    parser.add_argument("--seeds", type=seeds_of, metavar="0,1,2", help="seeds instead of the set's own")
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="these rows only; the first row of the set is always among them")
    parser.add_argument("--set", action="append", default=[], metavar="TITLE.INPUT=VALUE", help="change one value in all rows, for a quick look; repeatable")
    parser.add_argument("--out", type=Path, help=f"folder of the report (default {DOCS}; with --set, --work)")
    parser.add_argument("--work", type=Path, help="folder of the runs (default output/ablations/NAME)")
    parser.add_argument("--host", metavar="URL", help="use the ComfyUI that runs at this address instead of starting one")
    parser.add_argument("--report", action="store_true", help="run nothing, report what has finished")
    return parser.parse_args(words)


def chosen(made: AblationSet, options: argparse.Namespace) -> tuple[list[str], list[int]]:
    """Rows, the reference first, and seeds; SetError for a row that the set does not have."""
    unknown = [row for row in options.rows or () if row not in made.rows]
    if unknown:
        raise SetError(f'{made.name} has no row "{unknown[0]}". Its rows: {", ".join(made.rows)}.')
    rows = [row for row in made.rows if options.rows is None or row in options.rows or row == made.reference]
    return rows, options.seeds or list(made.seeds)


def rows_of(made: AblationSet, options: argparse.Namespace) -> list:
    """What is queued: seed by seed, so that rows which share their first stages follow each other and compute them once."""
    from batch.rows import make_row

    rows, seeds = chosen(made, options)
    points = [(row, seed) for seed in seeds for row in rows]
    return [make_row(number, build(made, row, seed, tuple(options.set)), {"row": row, "seed": seed}, f"{made.name}.json") for number, (row, seed) in enumerate(points, 1)]


def run(rows: list, work: Path, options: argparse.Namespace) -> list[dict]:
    """Manifest lines of the rows that have ended; runs what is missing unless only a report is wanted."""
    from batch.engine import run_rows
    from batch.manifest import NAME, Manifest

    if options.report:
        lines = {line["key"]: line for line in Manifest(work / NAME).lines}
        return [{**lines[row.key], "inputs": row.inputs} for row in rows if row.key in lines]
    with interrupt.Interrupter() as interrupter:
        return run_rows(rows, work, host=options.host, announce=lambda text: print(text, flush=True), interrupter=interrupter)


def field_of(line: dict, work: Path) -> Path:
    """The one field file of a finished row; SetError when its node saves something else."""
    found = [work / line["folder"] / name for name in line["outputs"] if name.endswith(".safetensors")]
    if len(found) != 1:
        raise SetError(f"The run {line['folder']} saved {len(found)} fields, and one is needed. Let the set's \"field\" be the title of a Save Field node.")
    return found[0]


def report(made: AblationSet, lines: list[dict], work: Path, options: argparse.Namespace) -> Path:
    """Score every finished row and write the page, the numbers and the sheets."""
    import judging
    import torch
    from ablations import report as pages
    from ablations.scoring import SHOWN, Judge, pictures

    torch.set_num_threads(1)  # small pictures: more threads only wait for each other
    judge, scores, shown = Judge(made.prompt), {}, {}
    for line in lines:
        if line["status"] != "success":
            continue
        path, row, seed = field_of(line, work), line["inputs"]["row"], line["inputs"]["seed"]
        scores.setdefault(row, {})[seed] = judge.scores(path)
        shown.setdefault(seed, {})[row] = pictures(path)
        print(f"scored {row}, seed {seed}: nearest PSNR {scores[row][seed]['nearest PSNR']:.2f} dB", flush=True)
    if options.set or options.rows or options.seeds:
        made = replace(made, reading=())  # it was written about the whole set
    command = f"python3 launch.py ablate {shlex.join(word for word in options.words if word != '--report')}"
    rows, seeds = chosen(made, options)
    origin = {"command": command, "commit": judging.commit(), "rows asked": rows, "seeds asked": seeds, "runs": [summary(line) for line in lines]}
    ordered = {row: scores[row] for row in made.rows if row in scores}
    images = {f"{made.name}_seed{seed}.png": pages.sheet(rows, judge.real(), SHOWN) for seed, rows in sorted(shown.items())}
    return pages.write(made, ordered, origin, images, options.out or (work if options.set else DOCS))


def summary(line: dict) -> dict:
    """What the report keeps of a manifest line."""
    return {name: line[name] for name in ("inputs", "status", "error", "seconds", "models", "hashes")}


def main(words: list[str]) -> int:
    options = arguments(words)
    options.words = words
    try:
        made = load_set(options.name)
        rows = rows_of(made, options)
    except SetError as error:
        print(error, file=sys.stderr)
        return 2
    import host
    from batch.manifest import ManifestError

    work = options.work or Path("output") / "ablations" / made.name
    try:
        lines = run(rows, work, options)
        if any(line["status"] == "success" for line in lines):
            print(report(made, lines, work, options))
    except (host.HostFailed, ManifestError, SetError) as error:
        print(error, file=sys.stderr)
        return 1
    return ended(lines, len(rows))


def ended(lines: list[dict], wanted: int) -> int:
    """The exit code; says which rows did not end well."""
    bad = [line for line in lines if line["status"] != "success"]
    for line in bad:
        print(f"{line['inputs']['row']}, seed {line['inputs']['seed']}: {line['status']} {line['error'] or ''}".rstrip(), file=sys.stderr)
    if len(lines) - len(bad) < wanted:
        print(f"{len(lines) - len(bad)} of {wanted} runs have finished. The same command goes on where it stopped.", file=sys.stderr)
    interrupted = any(line["status"] == "interrupted" for line in bad)
    return INTERRUPTED if interrupted else int(len(lines) - len(bad) < wanted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
