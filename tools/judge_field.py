"""Judge a 4D object by its pictures: which it is, whether it moves in order, how sharp, how clean, the same from all sides.

    python tools/judge_field.py FIELD.safetensors --prompt "a red rose blooming" [--out FOLDER]
    python tools/judge_field.py FOLDER --prompt "..."     pictures view<V>_time<T>.png, premultiplied or over white

Four views and six times of the default rig, compared with real objects of the name in the prompt. Writes OUT/<name>.png (rows
views, columns times; the nearest real object beneath) and OUT/<name>.json; ends with 1 when a limit is missed. Controls that
must fail: --shuffle (the same pictures in another order of time), --against "another prompt".
"""

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import judging  # noqa: E402
import sheets  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from torch import Tensor  # noqa: E402

from bloom4d.models.geometry.cameras import view_time_grid  # noqa: E402
from bloom4d.models.metrics.field_scores import LIMITS, field_scores, verdict  # noqa: E402
from bloom4d.models.metrics.motion import scrambled  # noqa: E402
from bloom4d.models.metrics.nearest import nearest_instance  # noqa: E402
from bloom4d.models.metrics.recogniser import Recogniser  # noqa: E402
from bloom4d.models.optimize.scene_files import load_scene  # noqa: E402
from bloom4d.models.render.frames import render_frames  # noqa: E402
from bloom4d.models.render.volume import DEMO_RENDERER, VolumeRenderer  # noqa: E402

VIEWS, TIMES, SIZE, SHOWN, BANK = 4, 6, 64, 160, 24
VIEW_NAMES = ("front", "right", "back", "left")


@dataclass(frozen=True)
class Judgement:
    """Scores, which limits hold, the real object nearest to it (T, V, 4, H, W)."""

    scores: dict[str, float]
    verdict: dict[str, bool]
    nearest: Tensor

    @property
    def passed(self) -> bool:
        return all(self.verdict.values())


def cameras():
    """Of the whole grid, time slowest."""
    return view_time_grid(VIEWS, TIMES)


def render_field(path: Path, size: int) -> Tensor:
    """A saved field on the grid: (T, V, 4, size, size) premultiplied RGBA."""
    frames = render_frames(load_scene(path).field, VolumeRenderer(DEMO_RENDERER), cameras(), size, size, normals=False)
    return torch.cat([frames.rgb, frames.alpha[..., None]], -1).movedim(-1, 1).unflatten(0, (TIMES, VIEWS)).clamp(0, 1)


def read_pictures(folder: Path) -> Tensor:
    """(T, V, 4, H, W) of view<V>_time<T>.png; a picture without alpha lies on white, which is taken for nothing."""
    return torch.stack([torch.stack([_picture(folder / f"view{view}_time{time}.png") for view in range(VIEWS)]) for time in range(TIMES)])


def _picture(path: Path) -> Tensor:
    image = Image.open(path)
    values = torch.frombuffer(bytearray(image.convert("RGBA").tobytes()), dtype=torch.uint8).view(image.height, image.width, 4)
    colours, alpha = values.float().div(255).movedim(-1, 0).split((3, 1))
    if "A" not in image.getbands():
        alpha = ((1 - colours.amin(0, keepdim=True)) * 20).clamp(max=1)
    return torch.cat([colours * alpha, alpha])


def real_objects(prompt: str, count: int = BANK) -> Tensor:
    """`count` real objects of the name in a prompt on the grid: (count, T, V, 4, SIZE, SIZE)."""
    name = judging.named(prompt)
    return judging.bank(name.phenomenon, name.species, name.colour, cameras(), count, SIZE).unflatten(1, (TIMES, VIEWS))


def judge(seen: Tensor, prompt: str, recogniser: Recogniser, bank: Tensor | None = None, shuffle: bool = False) -> Judgement:
    """seen (T, V, 4, SIZE, SIZE) of the grid of `cameras`; `bank` of `real_objects`, drawn when not given."""
    bank = real_objects(prompt) if bank is None else bank
    seen = seen[scrambled(TIMES)] if shuffle else seen
    scores = field_scores(seen, bank, cameras().select(slice(0, VIEWS)), judging.recogniser_name(judging.named(prompt)), recogniser)
    return Judgement(scores, verdict(scores), bank[nearest_instance(seen, bank).index])


def sheet(seen: Tensor, nearest: Tensor) -> Image.Image:
    """Rows views, columns times; the nearest real object beneath."""
    top = [f"t = {time / (TIMES - 1):.1f}" for time in range(TIMES)]
    rows = lambda pictures: sheets.rows_of(pictures.transpose(0, 1))  # noqa: E731
    made = sheets.grid(rows(seen), SHOWN, list(VIEW_NAMES), top)
    real = sheets.grid(rows(nearest), SHOWN // 2, [f"real, {name}" for name in VIEW_NAMES])
    return sheets.below(made, real)


def table(judgement: Judgement) -> str:
    """A line per score: value, limits, verdict, meaning."""
    lines = []
    for name, value in judgement.scores.items():
        limit = LIMITS.get(name)
        bounds = "" if limit is None else f"{limit.low:g} to {limit.high:g}"
        mark = "" if limit is None else "ok" if judgement.verdict[name] else "MISSED"
        lines.append(f"{name:<40} {value:>8.3f}  {bounds:<14} {mark:<7}{'' if limit is None else limit.meaning}")
    return "\n".join(line.rstrip() for line in lines)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="file written by Save Field, or a folder of pictures")
    parser.add_argument("--prompt", required=True, help="the prompt it was made from")
    parser.add_argument("--against", help="judge against another prompt: must fail")
    parser.add_argument("--shuffle", action="store_true", help="judge with its times in another order: must fail")
    parser.add_argument("--out", type=Path, default=judging.pack.ROOT / ".train" / "judged")
    parser.add_argument("--recogniser", type=Path, default=judging.RECOGNISER)
    return parser.parse_args()


def main() -> int:
    options = parse()
    torch.set_num_threads(1)
    from_folder = options.source.is_dir()
    seen = read_pictures(options.source) if from_folder else render_field(options.source, SIZE)
    judgement = judge(seen, options.against or options.prompt, judging.recogniser(options.recogniser), shuffle=options.shuffle)
    name = options.out / options.source.stem
    shown = seen if from_folder else render_field(options.source, SHOWN)
    sheets.write(sheet(shown, judgement.nearest), name.with_suffix(".png"))
    judging.write_json(name.with_suffix(".json"), {"prompt": options.prompt, "passed": judgement.verdict, "scores": judgement.scores})
    print(table(judgement))
    print("passed" if judgement.passed else "missed: " + ", ".join(key for key, good in judgement.verdict.items() if not good))
    return 0 if judgement.passed else 1


if __name__ == "__main__":
    sys.exit(main())
