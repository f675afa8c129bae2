"""Run the demos of 4D-fy, Dream-in-4D (from text, an image, a personal model) and of re-animation at full size for several prompts, judge each object, write docs/.

    COMFYUI_PATH=.host .venv/bin/python tools/make_recipe_sheets.py [RECIPE ...] [--only "candle burning"] [--seed 0]

Per recipe docs/NAME_<phenomenon>.png (rows views, columns times; the nearest real object beneath) and one docs/NAME.json: scores,
how much moves, the flicker of a film with more frames than the run's, where an asset was frozen its hash before and after, and where
a picture was given how well its view is kept. What the graph was given (a picture, a subject) stands above the sheet.
"""

import argparse
import asyncio
import io
import json
import os
import shlex
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import host  # noqa: E402
import judge_field  # noqa: E402
import judging  # noqa: E402
import psutil  # noqa: E402
import sheets  # noqa: E402
import torch  # noqa: E402
import workflow  # noqa: E402
from field_runs import make, texts_of  # noqa: E402
from PIL import Image  # noqa: E402

from bloom4d.models.data.prompts import DEFAULT_PROMPTS, prompt  # noqa: E402
from bloom4d.models.data.styles import ObjectStyle  # noqa: E402
from bloom4d.models.geometry.cameras import CameraPath  # noqa: E402
from bloom4d.models.metrics.motion import motion, second_difference  # noqa: E402
from bloom4d.models.optimize.scene_files import load_scene  # noqa: E402
from bloom4d.models.render.frames import render_frames  # noqa: E402
from bloom4d.models.render.volume import DEMO_RENDERER, VolumeRenderer  # noqa: E402

FROZEN = "Moving field"  # the node that says the hash of what it froze
SHOWN_TIMES = 64


@dataclass(frozen=True)
class Recipe:
    """workflow, and the prompt of every phenomenon; `assets`: for re-animation, the prompt of what is moved. `subjects`: species
    and colour that the graph is shown and never told in words. `given`: previews of what it was given, for the sheet."""

    workflow: str
    prompts: dict[str, str]
    assets: dict[str, str] = field(default_factory=dict)
    subjects: dict[str, tuple[str, str]] = field(default_factory=dict)
    given: tuple[str, ...] = ()

    def wanted(self, phenomenon: str) -> str:
        """A sentence that names what should come out."""
        if phenomenon not in self.subjects:
            return self.prompts[phenomenon]
        return prompt(ObjectStyle(phenomenon, *self.subjects[phenomenon]))


def defaults(*phenomena: str) -> dict[str, str]:
    return {name: DEFAULT_PROMPTS[name] for name in phenomena}


ASSETS = {"candle burning": "a purple pillar candle", "ice cream melting": "a pink ice cream with a cherry", "bread baking": "a golden loaf of bread"}
RECIPES = {
    "text_to_4d_4dfy": Recipe("text_to_4d_4dfy_demo", defaults("flower blooming", "candle burning", "bread baking")),
    "dream_in_4d": Recipe("text_to_4d_dream_in_4d_demo", defaults("ice cream melting", "candle burning", "bread baking", "flower blooming")),
    "reanimate": Recipe("reanimate_4d_demo", defaults(*ASSETS), ASSETS),
    "image_to_4d": Recipe("image_to_4d_demo", defaults("ice cream melting", "candle burning", "bread baking"), given=("See the picture", "See the reference view")),
    "personalised_4d": Recipe(
        "personalised_4d_demo", {"candle burning": "a sks candle burning", "ice cream melting": "a sks ice cream melting", "plant sprouting": "a sks plant sprouting"},
        subjects={"candle burning": ("saucer", "pink"), "ice cream melting": ("popsicle", "brown"), "plant sprouting": ("tomato", "purple")}, given=("See the subject",),
    ),
}  # fmt: skip


def graph(recipe: Recipe, phenomenon: str, options: argparse.Namespace) -> dict:
    """The workflow for one prompt with every change from the command line."""
    content = workflow.load(recipe.workflow)
    workflow.set_prompt(content, recipe.prompts[phenomenon])
    workflow.set_seed(content, options.seed)
    if phenomenon in recipe.assets:
        workflow.change(content, f"Prompt of the asset.text={recipe.assets[phenomenon]}")
    if phenomenon in recipe.subjects:
        for name, value in zip(("phenomenon", "species", "colour"), (phenomenon, *recipe.subjects[phenomenon])):
            workflow.change(content, f"Subject.{name}={value}")
    for entry in content.values():
        if "resume" in entry["inputs"]:
            entry["inputs"]["resume"] = "new"  # what is measured is this code, not a checkpoint of an earlier one
    for assignment in options.set:
        workflow.change(content, assignment)
    return content


def trained_frames(content: dict) -> int:
    """Frames of the video that the motion was learned from."""
    return next(entry["inputs"]["frames"] for node, entry in content.items() if workflow.title(node, entry) == "Video of one camera")


def film(path: Path, count: int) -> torch.Tensor:
    """A saved field from the front at `count` times: (T, 4, 96, 96) premultiplied RGBA."""
    cameras = CameraPath(frames=count, turns=0.0).cameras()
    frames = render_frames(load_scene(path).field, VolumeRenderer(DEMO_RENDERER), cameras, 96, 96, normals=False)
    return torch.cat([frames.rgb, frames.alpha[..., None]], -1).movedim(-1, 1).clamp(0, 1)


def between(sequence: torch.Tensor, frames: int) -> dict[str, float]:
    """Flicker of T times, mean |second difference| over white: near the i / (F - 1) where a film of `frames` frames has them (within
    a quarter of their distance), between those, and the second by the first.

    These are not the times of training, which draws (i + u) / F with a new u in [0, 1) in each step and so meets every time as
    often as any other. The ratio says whether a longer film shows more flicker at the times that a film of as many frames as
    the run's has not.
    """
    times = torch.arange(1, len(sequence) - 1) / (len(sequence) - 1)
    regular = torch.arange(frames) / (frames - 1)
    near = (times[:, None] - regular).abs().amin(1) < 0.25 / (frames - 1)
    second = second_difference(sequence).mean((-1, -2))
    return {"near i / (F - 1)": float(second[near].mean()), "between": float(second[~near].mean()), "ratio": float(second[~near].mean() / second[near].mean())}


def frozen_hash(path: Path) -> str | None:
    """Of the canonical field inside a saved one."""
    known = getattr(load_scene(path).field, "canonical_hash", None)
    return None if known is None else known()


def given(address: str, run, content: dict, titles: tuple[str, ...]) -> list[torch.Tensor]:
    """Pictures (4, H, W) that preview nodes of these titles show."""
    found = []
    for title in titles:
        node = next(node for node, entry in content.items() if workflow.title(node, entry) == title)
        for file in run.outputs[node]["images"]:
            query = urllib.parse.urlencode({key: file[key] for key in ("filename", "subfolder", "type")})
            with urllib.request.urlopen(f"http://{address}/view?{query}", timeout=30) as answer:
                image = Image.open(io.BytesIO(answer.read())).convert("RGBA")
            found.append(torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(image.height, image.width, 4).movedim(-1, 0) / 255)
    return found


def kept(run, content: dict) -> dict:
    """Scores of the view that a picture was given of, where there was one."""
    node = next((node for node, entry in content.items() if workflow.title(node, entry) == "Reference view: scores"), None)
    values = {} if node is None else run.outputs[node]["scores"][0]["values"]
    return {"reference view": {name: values[name] for name in ("PSNR", "SSIM")}} if values else {}


def judged(address: str, path: Path, run, content: dict, recipe: Recipe, name: str, phenomenon: str, options: argparse.Namespace) -> dict:
    """Scores and measurements of one field; writes its sheet."""
    wanted = recipe.wanted(phenomenon)
    judgement = judge_field.judge(judge_field.render_field(path, judge_field.SIZE), wanted, judging.recogniser())
    print(judge_field.table(judgement), flush=True)
    sheet = f"{name}_{phenomenon.replace(' ', '_')}.png"
    made = judge_field.sheet(judge_field.render_field(path, judge_field.SHOWN), judgement.nearest)
    shown = given(address, run, content, recipe.given)
    sheets.write(sheets.below(sheets.grid([shown], judge_field.SHOWN, ["given"]), made) if shown else made, options.out / sheet)
    sequence, frames = film(path, SHOWN_TIMES), trained_frames(content)
    result = {"prompt": recipe.prompts[phenomenon], "judged as": wanted, "sheet": sheet, "missed": [key for key, good in judgement.verdict.items() if not good], "scores": judgement.scores}
    result |= {"mean change from first to last": float(motion(sequence[[0, -1]])), f"flicker of {SHOWN_TIMES} times after {frames} frames": between(sequence, frames)}
    if (after := frozen_hash(path)) is not None:
        before = " ".join(texts_of(run, content, FROZEN))
        result["frozen asset"] = {"hash before": before.rpartition(" ")[2], "hash after": after, "equal": before.endswith(after)}
    return result | kept(run, content) | ({"asset": recipe.assets[phenomenon]} if recipe.assets else {})


def known(name: str) -> str:
    """The name of a recipe."""
    if name not in RECIPES:
        raise argparse.ArgumentTypeError(f'there is no recipe "{name}", only {", ".join(RECIPES)}')
    return name


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=list(RECIPES), type=known, metavar="RECIPE", help=f"of {', '.join(RECIPES)} (default all)")
    parser.add_argument("--only", nargs="*", metavar="PHENOMENON", help="these of the recipe's phenomena")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="TITLE.INPUT=VALUE", help="change one value; repeatable")
    parser.add_argument("--out", type=Path, default=judging.pack.ROOT / "docs")
    return parser.parse_args()


def command_of(name: str, options: argparse.Namespace) -> str:
    """What makes the same again, wherever it is written."""
    changes = [word for assignment in options.set for word in ("--set", assignment)]
    words = [name, *(["--only", *options.only] if options.only else []), *(["--seed", str(options.seed)] if options.seed else []), *changes]
    return f"python tools/make_recipe_sheets.py {shlex.join(words)}"


def cpu_seconds(process: psutil.Process) -> float:
    """Time that a process has computed, on all its threads: on a busy machine it says more than the clock."""
    return sum(process.cpu_times()[:2])


def run_recipe(running, name: str, options: argparse.Namespace, folder: Path) -> None:
    """All phenomena of a recipe; what an earlier run has written about others stays."""
    process = psutil.Process(running.process.pid)
    recipe, target = RECIPES[name], options.out / f"{name}.json"
    objects = json.loads(target.read_text(encoding="utf-8"))["objects"] if target.is_file() else {}
    command = command_of(name, options)
    for phenomenon in options.only or recipe.prompts:
        content, began, before = graph(recipe, phenomenon, options), time.monotonic(), cpu_seconds(process)
        path, run = asyncio.run(make(running.address, content, folder))
        spent = {"seconds": round(time.monotonic() - began), "CPU seconds": round(cpu_seconds(process) - before)}
        origin = {"command": command, "commit": judging.commit(), "seed": options.seed, **spent}
        objects[phenomenon] = {**judged(running.address, path, run, content, recipe, name, phenomenon, options), **origin}
        judging.write_json(target, {"workflow": recipe.workflow, "objects": objects})
        print(f"{name}, {phenomenon}: {json.dumps({key: value for key, value in judging.rounded(objects[phenomenon]).items() if key != 'scores'})}", flush=True)


def main() -> int:
    options = parse()
    base = host.data_folder()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, host.Host(host.tree(), base / "host.log", host.working_arguments(base)) as running:
        for name in options.recipes:
            run_recipe(running, name, options, Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
