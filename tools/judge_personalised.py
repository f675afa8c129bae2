"""Does a LoRA bring its subject into the object? Seven subjects, each with and without, judged by the recogniser; docs/personalised*.

    COMFYUI_PATH=.host .venv/bin/python tools/judge_personalised.py [--only "candle burning"] [--seed 0]

Every subject is of a kind and colour that the prior never saw together in its training. The demo graph learns its word from five
pictures and makes the still object, once with the LoRA at strength 1 and once at 0, same prompt, same seed. Motion changes
neither kind nor colour, so its stage is left out. A subject is seen when the recogniser names its colour or its kind (its shape);
both are counted, too. Writes docs/personalised.json and .md, and a picture per subject (two sides of it, three of the object with
the LoRA, three without). Cases of earlier runs are kept; `--only` without a name writes the table again.
"""

import argparse
import asyncio
import json
import os
import shlex
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import host  # noqa: E402
import judging  # noqa: E402
import sheets  # noqa: E402
import torch  # noqa: E402
import workflow  # noqa: E402
from field_runs import make  # noqa: E402
from torch import Generator, Tensor  # noqa: E402

from bloom4d.models.data.objects import render_object  # noqa: E402
from bloom4d.models.data.prior_dataset import species_name  # noqa: E402
from bloom4d.models.data.prompts import WORDS  # noqa: E402
from bloom4d.models.data.styles import HELD_OUT_PAIRS, PHENOMENA, sample_style  # noqa: E402
from bloom4d.models.geometry.cameras import view_time_grid  # noqa: E402
from bloom4d.models.metrics.recogniser import Recogniser  # noqa: E402
from bloom4d.models.optimize.scene_files import load_scene  # noqa: E402
from bloom4d.models.render.frames import render_frames  # noqa: E402
from bloom4d.models.render.volume import DEMO_RENDERER, VolumeRenderer  # noqa: E402

WORKFLOW, STILL, SAVE, IDENTIFIER = "personalised_4d_demo", "Optimize stage 1", "Save field", "sks"
VIEWS, SIZE, SHOWN = 8, 64, 96
STRENGTHS = {"with": 1.0, "without": 0.0}


@dataclass(frozen=True)
class Subject:
    """One thing that the prior never saw: the last held-out pair of its phenomenon."""

    phenomenon: str
    species: str
    colour: str

    @classmethod
    def of(cls, phenomenon: str) -> "Subject":
        return cls(phenomenon, *HELD_OUT_PAIRS[phenomenon][-1])

    @property
    def prompt(self) -> str:
        """With the identifier in front of the noun of its class, and no word for its kind or colour."""
        words = WORDS[self.phenomenon]
        return f"a {IDENTIFIER} {words.generic[0]} {words.verbs[0]}"

    def names(self) -> dict[str, str]:
        return {"kind": self.species, "colour": self.colour}


def graph(subject: Subject, strength: float, options: argparse.Namespace) -> dict:
    """The demo up to its still object, for one subject and LoRA strength."""
    content = workflow.load(WORKFLOW)
    workflow.set_prompt(content, subject.prompt)
    for name in ("phenomenon", "species", "colour"):
        workflow.change(content, f"Subject.{name}={getattr(subject, name)}")
    for assignment in (f"Personal model.strength_model={strength}", f"{STILL}.seed={options.seed}", *options.set):
        workflow.change(content, assignment)
    titled = {workflow.title(node, entry): node for node, entry in content.items()}
    content[titled[SAVE]]["inputs"]["field"] = [titled[STILL], 0]
    return behind(content, titled[SAVE])


def behind(content: dict, last: str) -> dict:
    """The node `last` and all that it depends on."""
    kept, waiting = {}, [last]
    while waiting:
        node = waiting.pop()
        kept[node] = content[node]
        waiting += [value[0] for value in content[node]["inputs"].values() if isinstance(value, list)]
    return kept


def look(path: Path, size: int) -> Tensor:
    """A saved field from all sides: (VIEWS, 4, size, size) premultiplied RGBA."""
    frames = render_frames(load_scene(path).field, VolumeRenderer(DEMO_RENDERER), view_time_grid(VIEWS, 1), size, size, normals=False)
    return torch.cat([frames.rgb, frames.alpha[..., None]], -1).movedim(-1, 1).clamp(0, 1)


def pictured(subject: Subject, content: dict) -> Tensor:
    """The subject itself as the graph draws it, from all sides: (VIEWS, 4, SHOWN, SHOWN)."""
    inputs = next(entry["inputs"] for node, entry in content.items() if workflow.title(node, entry) == "Subject")
    moment = next(entry["inputs"]["time_start"] for node, entry in content.items() if workflow.title(node, entry) == "Five sides")
    style = sample_style(subject.phenomenon, Generator().manual_seed(inputs["seed"]), subject.species, subject.colour, "all")
    cameras = view_time_grid(VIEWS, 1)
    cameras.times.fill_(moment)
    return render_object(style, cameras, SHOWN).rgba.movedim(-1, 1)


def read(pictures: Tensor, subject: Subject, recogniser: Recogniser) -> dict:
    """What the recogniser calls the object as a whole."""
    said, config = recogniser.recognise(pictures), recogniser.config
    kinds = {name: config.species.index(name) for name in config.species if name.startswith(subject.phenomenon)}
    kind = max(kinds, key=lambda name: float(said.species.mean(0)[kinds[name]])).removeprefix(f"{subject.phenomenon}: ")
    colour = config.colours[int(said.colour.mean(0).argmax())]
    phenomenon = float((said.phenomenon.argmax(1) == config.phenomena.index(subject.phenomenon)).float().mean())
    assert species_name(sample_style(subject.phenomenon, Generator(), subject.species, subject.colour, "all")) in kinds
    return {"kind": kind, "colour": colour, "phenomenon": phenomenon}


def case(address: str, subject: Subject, options: argparse.Namespace, folder: Path, recogniser: Recogniser) -> tuple[dict, list[Tensor]]:
    """One subject with and without its LoRA: what is read, and a row of pictures."""
    content, result, row = graph(subject, 1.0, options), {}, []
    truth = pictured(subject, content)
    row += [truth[0], truth[3]]
    for name, strength in STRENGTHS.items():
        began = time.monotonic()
        path, _ = asyncio.run(make(address, graph(subject, strength, options), folder))
        result[name] = {**read(look(path, SIZE), subject, recogniser), "seconds": round(time.monotonic() - began)}
        row += [None, *look(path, SHOWN)[[0, 3, 5]]]
    itself = read(torch.nn.functional.interpolate(truth, (SIZE, SIZE), mode="area"), subject, recogniser)
    return {"prompt": subject.prompt, "subject": subject.names(), "the subject itself": itself, **result}, row


def agreeing(case: dict, name: str) -> int:
    """How many of colour and kind are the subject's, with or without the LoRA."""
    return sum(case[name][key] == case["subject"][key] for key in ("colour", "kind"))


def table(report: dict) -> str:
    """Markdown: a line per case, then the counts."""
    cases, counts = report["cases"], report["counts"]
    lines = ["| prompt | subject | with the LoRA | seen | without | seen |", "|---|---|---|---|---|---|"]
    names = lambda entry: f"{entry['colour']} {entry['kind']}"  # noqa: E731
    told = lambda case, name: ("no", "one of both", "both")[agreeing(case, name)]  # noqa: E731
    lines += [
        f"| {case['prompt']} | {names(case['subject'])} | {names(case['with'])} | {told(case, 'with')} | {names(case['without'])} | {told(case, 'without')} |" for case in cases.values()
    ]
    made = sorted({f"`{case['command']}`, seed {case['seed']}, commit {case['commit']}" for case in cases.values()})
    summary = f"Colour or kind of the subject are seen with the LoRA in {counts['with']['seen']} of {counts['cases']} cases (both of them in {counts['with']['both']}), without it in {counts['without']['seen']} ({counts['without']['both']})."
    return "\n".join([*lines, "", summary, "", f"Made by {'; '.join(made)}. Pictures: `personalised_<phenomenon>.png`.", ""])


def counted(cases: dict) -> dict:
    """Cases in which the subject is seen, and those in which colour and kind both are."""
    count = lambda name, least: sum(agreeing(case, name) >= least for case in cases.values())  # noqa: E731
    return {"cases": len(cases), **{name: {"seen": count(name, 1), "both": count(name, 2)} for name in STRENGTHS}}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(PHENOMENA), choices=PHENOMENA, metavar="PHENOMENON")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="TITLE.INPUT=VALUE", help="change one value; repeatable")
    parser.add_argument("--out", type=Path, default=judging.pack.ROOT / "docs")
    return parser.parse_args()


def known(path: Path) -> dict:
    """The cases that earlier runs have written, in the order of the phenomena."""
    found = json.loads(path.read_text(encoding="utf-8"))["cases"] if path.is_file() else {}
    return {phenomenon: found[phenomenon] for phenomenon in PHENOMENA if phenomenon in found}


def write(options: argparse.Namespace, added: dict) -> dict:
    """The table with what is known and what was added."""
    path = options.out / "personalised.json"
    cases = known(path) | added
    report = {"workflow": WORKFLOW, "counts": counted(cases), "cases": {name: cases[name] for name in PHENOMENA if name in cases}}
    judging.write_json(path, report)
    path.with_suffix(".md").write_text(table(report), encoding="utf-8")
    return report


def run_all(address: str, options: argparse.Namespace, folder: Path) -> None:
    """Every case, written and drawn after each of them."""
    command, recogniser = ("python tools/judge_personalised.py " + " ".join(map(shlex.quote, sys.argv[1:]))).strip(), judging.recogniser()
    for phenomenon in options.only:
        result, row = case(address, Subject.of(phenomenon), options, folder, recogniser)
        write(options, {phenomenon: {**result, "command": command, "commit": judging.commit(), "seed": options.seed}})
        sheet = sheets.grid([row], SHOWN, [phenomenon], ["subject", "", "", "with the LoRA", "", "", "", "without", "", ""])
        sheets.write(sheet, options.out / f"personalised_{phenomenon.replace(' ', '_')}.png")
        print(json.dumps(result), flush=True)


def main() -> int:
    options, base = parse(), host.data_folder()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.only:
        with tempfile.TemporaryDirectory() as folder, host.Host(host.tree(), base / "host.log", host.working_arguments(base)) as running:
            run_all(running.address, options, Path(folder))
    print(table(write(options, {})))
    return 0


if __name__ == "__main__":
    sys.exit(main())
