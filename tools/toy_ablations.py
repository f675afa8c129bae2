"""The toy ablations of 4D-fy and Dream-in-4D: exact priors on a scene with a closed form, every row with three seeds.

    python tools/toy_ablations.py 4dfy          # writes docs/ablations/toy_4dfy.md, .json and a sheet for each seed
    python tools/toy_ablations.py dream_in_4d --seeds 0 --rows full "no 3D" --out /tmp/toys

Nothing is trained beforehand and no ComfyUI is needed: field, renderer, guidance and loop are the pack's, the priors are exact
posterior means. What the systems reach here is theirs; what is missing with a real prior is the prior's.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests")]

import pack  # noqa: E402

pack.load_pack()

import sheets  # noqa: E402
import torch  # noqa: E402
from ablations.report import spread, table  # noqa: E402
from toys import common, dream, fourdfy, scores  # noqa: E402

SYSTEMS = {"4dfy": fourdfy, "dream_in_4d": dream}
SHOWN = [(time, view) for view in (0, scores.AZIMUTHS // 2) for time in (0, scores.TIMES // 2, scores.TIMES - 1)]
SIDE = 96


def judge(system, rows: list[str], seed: int) -> tuple[dict[str, dict], list]:
    """Scores by row, and the pictures of the sheet."""
    real = scores.truth(common.SIZE)
    found, pictures = {}, []
    for row in rows:
        seen, found[row] = system.make(row, seed)
        pictures.append([seen[place] for place in SHOWN])
        print(f"seed {seed}, {row}: " + ", ".join(f"{name} {value:.3f}" for name, value in found[row].items()), flush=True)
    return found, [*pictures, [real[place] for place in SHOWN]]


def verdicts(system, found: dict[int, dict[str, dict]]) -> list[dict]:
    """Every expected direction with its differences to the first row, seed by seed."""
    made = []
    for entry in system.EXPECTED:
        pairs = [(rows[entry.row][entry.score], rows[entry.against][entry.score]) for rows in found.values() if entry.row in rows and entry.against in rows]
        differences = [one - other for one, other in pairs]
        agree = sum(difference > 0 if entry.direction == "up" else difference < 0 for difference in differences)
        made.append({**vars(entry), "differences": differences, "held": agree, "of": len(differences)})
    return made


def page(system, found: dict, directions: list[dict], told: dict, names: list[str]) -> str:
    """The report that people read."""
    rows = list(next(iter(found.values())))
    columns = list(next(iter(found.values()))[rows[0]])
    scored = table(["row", *columns], [[row, *(spread([found[seed][row][name] for seed in found]) for name in columns)] for row in rows])
    held = [[entry["row"], entry["score"], f"{entry['direction']} against {entry['against']}", ", ".join(f"{value:+.3f}" for value in entry["differences"]), f"{entry['held']} of {entry['of']}"] for entry in directions]
    parts = [f"# Toy ablation: {system.TITLE}", system.ABOUT, f"Seeds {', '.join(map(str, found))}, commit {told['commit']}: `{told['command']}`", "Mean ± standard deviation over seeds.", scored]
    parts += ["## Directions (score_distillation 4.2)", table(["row", "score", "expected", "seed by seed", "held"], held)]
    parts += ["## Rows", "\n".join(f"- **{row}**: {system.ROWS[row].about}" for row in rows), "## Reading", *system.READING]
    parts += ["## Sheets", "Three times from the front, three from behind; the last row is the truth.", *(f"![{name}]({name})" for name in names)]
    return "\n\n".join(parts) + "\n"


def again(system, options: argparse.Namespace) -> int:
    """The page from numbers that there are."""
    content = json.loads((options.out / f"toy_{options.system}.json").read_text(encoding="utf-8"))
    names = [f"toy_{options.system}_seed{seed}.png" for seed in content["scores"]]
    (options.out / f"toy_{options.system}.md").write_text(page(system, content["scores"], content["directions"], content, names), encoding="utf-8")
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=list(SYSTEMS))
    parser.add_argument("--seeds", default="0,1,2", help="numbers between commas")
    parser.add_argument("--rows", nargs="+", help="these rows only")
    parser.add_argument("--report", action="store_true", help="run nothing, write the page again from OUT/toy_SYSTEM.json")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "ablations")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    torch.set_num_threads(1)
    system = SYSTEMS[options.system]
    rows = options.rows or list(system.ROWS)
    if unknown := set(rows) - system.ROWS.keys():
        print(f"There is no row {', '.join(sorted(unknown))}. Rows: {', '.join(system.ROWS)}.", file=sys.stderr)
        return 1
    if options.report:
        return again(system, options)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    told = {"commit": commit, "command": " ".join(["python", "tools/toy_ablations.py", *sys.argv[1:]])}
    found, names = {}, []
    for seed in map(int, options.seeds.split(",")):
        found[seed], pictures = judge(system, rows, seed)
        names.append(f"toy_{options.system}_seed{seed}.png")
        sheets.write(sheets.grid(pictures, SIDE, [*rows, "truth"]), options.out / names[-1])
    directions = verdicts(system, found)
    content = {**told, "scores": found, "directions": directions}
    (options.out / f"toy_{options.system}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (options.out / f"toy_{options.system}.md").write_text(page(system, found, directions, told, names), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
