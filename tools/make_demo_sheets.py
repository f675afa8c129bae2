"""Run the text-to-4D workflow for all seven prompts in one real ComfyUI, judge each object, write docs/text_to_4d*.

    COMFYUI_PATH=.host .venv/bin/python tools/make_demo_sheets.py [--only "candle burning"] [--seed 0] [--set "Title.input=value"]

Per phenomenon docs/text_to_4d_<phenomenon>.png (rows views, columns times; the nearest real object beneath), and one
docs/text_to_4d.json with scores, limits, command, seed and commit. Each object is also judged with its times in another order
and against another prompt, and the candle is made once more with guidance 30: these controls must fail.
"""

import argparse
import asyncio
import json
import os
import shlex
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import host  # noqa: E402
import judge_field  # noqa: E402
import judging  # noqa: E402
import sheets  # noqa: E402
import workflow  # noqa: E402
from field_runs import make  # noqa: E402

from bloom4d.models.data.prompts import DEFAULT_PROMPTS  # noqa: E402

WORKFLOW = "text_to_4d_demo"
PROMPTS = tuple(DEFAULT_PROMPTS)
RUINED = ("candle burning", 30.0)  # phenomenon, guidance scale


def graph(prompt: str, options: argparse.Namespace, guidance: float | None = None) -> dict:
    """The workflow for one prompt with every change from the command line."""
    content = workflow.load(WORKFLOW)
    workflow.set_prompt(content, prompt)
    workflow.set_seed(content, options.seed)
    for assignment in options.set:
        workflow.change(content, assignment)
    for node in content.values():
        if guidance is not None and "guidance_scale" in node["inputs"]:
            node["inputs"]["guidance_scale"] = guidance
    return content


def missed(judgement: judge_field.Judgement) -> list[str]:
    return [name for name, good in judgement.verdict.items() if not good]


def judged(path: Path, phenomenon: str, options: argparse.Namespace, recogniser) -> dict:
    """Scores and controls of one field; writes its sheet."""
    prompt = DEFAULT_PROMPTS[phenomenon]
    seen = judge_field.render_field(path, judge_field.SIZE)
    judgement = judge_field.judge(seen, prompt, recogniser)
    print(judge_field.table(judgement), flush=True)
    name = f"text_to_4d_{phenomenon.replace(' ', '_')}.png"
    sheets.write(judge_field.sheet(judge_field.render_field(path, judge_field.SHOWN), judgement.nearest), options.out / name)
    other = DEFAULT_PROMPTS[PROMPTS[(PROMPTS.index(phenomenon) + 1) % len(PROMPTS)]]
    controls = {
        "times in another order": missed(judge_field.judge(seen, prompt, recogniser, shuffle=True)),
        f"against \"{other}\"": missed(judge_field.judge(seen, other, recogniser)),
    }
    return {"prompt": prompt, "sheet": name, "missed": missed(judgement), "scores": judgement.scores, "controls miss": controls}


def ruined(path: Path, phenomenon: str, recogniser) -> dict:
    """What guidance 30 makes of it."""
    judgement = judge_field.judge(judge_field.render_field(path, judge_field.SIZE), DEFAULT_PROMPTS[phenomenon], recogniser)
    return {"prompt": DEFAULT_PROMPTS[phenomenon], "missed": missed(judgement), "scores": judgement.scores}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(PROMPTS), choices=PROMPTS, metavar="PHENOMENON")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="TITLE.INPUT=VALUE", help="change one value; repeatable")
    parser.add_argument("--no-control", action="store_true", help="leave out the run with guidance 30")
    parser.add_argument("--out", type=Path, default=judging.pack.ROOT / "docs")
    return parser.parse_args()


def run_all(address: str, options: argparse.Namespace, folder: Path, report: dict) -> None:
    recogniser, results = judging.recogniser(), report["objects"]
    for phenomenon in options.only:
        began = time.monotonic()
        path, _ = asyncio.run(make(address, graph(DEFAULT_PROMPTS[phenomenon], options), folder))
        seconds = time.monotonic() - began
        origin = {name: report[name] for name in ("command", "commit", "seed")}
        results[phenomenon] = {**judged(path, phenomenon, options, recogniser), "seconds": round(seconds), **origin}
        judging.write_json(options.out / "text_to_4d.json", report)
    if not options.no_control:
        phenomenon, guidance = RUINED
        path, _ = asyncio.run(make(address, graph(DEFAULT_PROMPTS[phenomenon], options, guidance), folder))
        report[f"control: guidance {guidance:g}"] = ruined(path, phenomenon, recogniser)
        judging.write_json(options.out / "text_to_4d.json", report)


def earlier(path: Path) -> dict:
    """What an earlier run, with other phenomena, has written; each object says itself which command and commit it is from."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    origin = {name: found.get(name) for name in ("command", "commit", "seed")}
    kept = {name: value for name, value in found.items() if name.startswith("control")}
    return {"objects": {name: {**origin, **result} for name, result in found.get("objects", {}).items()}, **kept}


def main() -> int:
    options = parse()
    limits = {name: [limit.low, limit.high, limit.meaning] for name, limit in judge_field.LIMITS.items()}
    command = "python tools/make_demo_sheets.py " + " ".join(map(shlex.quote, sys.argv[1:]))
    report = {"command": command.strip(), "commit": judging.commit(), "seed": options.seed, "limits": limits}
    report |= earlier(options.out / "text_to_4d.json")
    base = host.data_folder()
    with tempfile.TemporaryDirectory() as folder, host.Host(host.tree(), base / "host.log", host.working_arguments(base)) as running:
        run_all(running.address, options, Path(folder), report)
    for phenomenon in options.only:
        result = report["objects"][phenomenon]
        print(f"{phenomenon}: {'missed ' + ', '.join(result['missed']) if result['missed'] else 'passed'} after {result['seconds']} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
