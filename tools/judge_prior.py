"""Judge a prior file: sample it in every role with held-out words and objects, compare with the real pictures, print, write.

    python tools/judge_prior.py [FILE] [--out FOLDER] [--scale 1]

Writes OUT/<name>.json and a sheet OUT/<name>.png. Half of the objects wear colours that their kind never wore in training.
Needs the recogniser and the tokenizer of a ComfyUI tree. Two to three minutes of one processor core.
"""

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import judging  # noqa: E402
import sheets  # noqa: E402
import torch  # noqa: E402
from prior_scenes import KINDS, Scenes, objects, picture_scenes, text_scenes  # noqa: E402
from train_prior import WEIGHTS, Tokeniser  # noqa: E402

from bloom4d.models.data.prior_dataset import COLOUR_NAMES, SPECIES_NAMES, PriorDataset, PriorDatasetConfig, build_dataset, species_name  # noqa: E402
from bloom4d.models.data.styles import PHENOMENA  # noqa: E402
from bloom4d.models.metrics import motion, nearest, pictures, views  # noqa: E402
from bloom4d.models.networks.joint_prior import alpha_bar  # noqa: E402
from bloom4d.models.networks.prior_conditioning import Frame  # noqa: E402
from bloom4d.models.networks.prior_file import load_prior  # noqa: E402
from bloom4d.models.networks.prior_sampling import PriorSampler  # noqa: E402

UNSEEN = PriorDatasetConfig(objects=28, seed=90210)  # pairs of training, objects and sentences of none
NEW_PAIRS = PriorDatasetConfig(objects=28, seed=90211, split="held_out")
BANK = 10
TARGETS = {  # role, score: (low, high)
    ("image", "phenomenon"): (0.95, 1.0),
    ("views", "phenomenon"): (0.95, 1.0),
    ("video", "phenomenon"): (0.95, 1.0),
    ("video", "time correlation"): (0.9, 1.0),
    ("grid", "time correlation"): (0.9, 1.0),
    ("video, relative time", "time correlation"): (0.85, 1.0),
    ("image", "fine detail"): (0.5, 1.6),
    ("views", "fine detail"): (0.5, 1.6),
    ("video", "fine detail"): (0.5, 1.6),
    ("views", "haze"): (0.0, 0.03),
    ("views", "gap"): (-1.0, 1.0),
    ("views", "hull"): (0.95, 1.0),
    ("image to views", "PSNR over copying"): (0.0, 99.0),
    ("image to video", "PSNR over copying"): (0.0, 99.0),
}


def roles(data: PriorDataset, scale: int) -> list[Scenes]:
    """Every role that is sampled. Objects 0-27 have pairs of training, 28-55 new ones."""
    both = lambda per_kind: objects(data, per_kind) + objects(data, per_kind, 4)  # noqa: E731
    ring, all_times = [0, 1, 2, 3], list(range(data.config.times))
    absent, absolute, relative = Frame.ABSENT, Frame.ABSOLUTE, Frame.RELATIVE
    return [
        text_scenes("image", data, both(4), [3], [0], absent, absent),
        text_scenes("views", data, both(2 * scale), [5], ring, absolute, absolute),
        text_scenes("video", data, both(scale), all_times, [0], absolute, absolute),
        text_scenes("video, relative time", data, both(scale), all_times, [1], absolute, relative),
        text_scenes("grid", data, objects(data, scale), [0, 2, 5, 7], ring, absolute, absolute),
        picture_scenes("image to views", data, both(2 * scale), [4], ring),
        picture_scenes("image to video", data, both(scale), all_times, [0]),
    ]


def judged_names(said, styles, frames: int) -> dict[str, float]:
    """Share of pictures with the right names."""
    label = lambda names, values: torch.tensor([names.index(value) for value in values]).repeat_interleave(frames)  # noqa: E731
    right = lambda probability, index: (probability.argmax(1) == index).float().mean().item()  # noqa: E731
    return {
        "phenomenon": right(said.phenomenon, label(PHENOMENA, [style.phenomenon for style in styles])),
        "species": right(said.species, label(SPECIES_NAMES, [species_name(style) for style in styles])),
        "colour": right(said.colour, label(COLOUR_NAMES, [style.colour for style in styles])),
    }


def scores(scenes: Scenes, sampled: torch.Tensor, recogniser) -> dict[str, float]:
    """Of the sampled pictures (S, V, 4, H, W) of one role; "real ..." is what the real pictures score."""
    free = slice(None) if scenes.views.clean is None else slice(1, None)  # given pictures are not judged
    made, real = sampled[:, free], scenes.truth[:, free]
    result = {}
    for prefix, shown in (("", made), ("real ", real)):
        said = recogniser.recognise(shown.flatten(0, 1))
        result |= {prefix + name: value for name, value in judged_names(said, scenes.styles, shown.shape[1]).items()}
        if scenes.layout[0] > 1:
            read, true = said.time.view(shown.shape[:2]), scenes.times[:, free]
            result[prefix + "time correlation"] = sum(motion.correlation(*pair) for pair in zip(read, true)) / len(read)
    result["fine detail"] = pictures.fine_detail(made.flatten(0, 1), real.flatten(0, 1))
    result["sharpness"] = pictures.sharpness(made.flatten(0, 1), real.flatten(0, 1))
    result["haze"] = pictures.haze(made)
    if scenes.views.clean is not None:
        result["PSNR"] = pictures.psnr(made, real).mean().item()
        result["PSNR over copying"] = result["PSNR"] - pictures.psnr(scenes.truth[:, :1], real).mean().item()
    if scenes.layout[1] > 1:
        result |= joint_scores(scenes, sampled)
    return result


def joint_scores(scenes: Scenes, sampled: torch.Tensor) -> dict[str, float]:
    """Whether the views of one time show one object: the common solid, and the agreement on one real instance."""
    names = ("hull", "together", "gap")
    found = {prefix + name: [] for prefix in ("", "real ") for name in names}
    for index, style in enumerate(scenes.styles):
        cameras = scenes.cameras(index)
        bank = judging.bank(style.phenomenon, style.species, style.colour, cameras, BANK)
        for first in range(0, scenes.views.frames, scenes.layout[1]):
            ring = slice(first, first + scenes.layout[1])
            for prefix, shown in (("", sampled[index, ring]), ("real ", scenes.truth[index, ring])):
                agreement = nearest.instance_agreement(shown, bank[:, ring])
                values = views.hull_agreement(shown[:, 3], cameras.select(ring)), agreement.together, agreement.gap
                for name, value in zip(names, values):
                    found[prefix + name].append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}


def probes(sampler: PriorSampler, data: PriorDataset) -> dict[str, float]:
    """One-step estimates: from pure noise what each way of telling brings, and errors by noise level and text."""
    chosen = objects(data, 3) + objects(data, 3, 4)
    told = {"image": picture_scenes("", data, chosen, [4], [0, 1, 2, 3]), "image and text": picture_scenes("", data, chosen, [4], [0, 1, 2, 3], text=True)}
    told["text"] = text_scenes("", data, chosen, [4], [0, 1, 2, 3], Frame.ABSOLUTE, Frame.ABSOLUTE)
    result = {}
    for name, scenes in told.items():
        guess = sampler.denoise_once(scenes.prompts, scenes.views, scenes.truth, 999)
        result[f"from noise, {name}, dB"] = pictures.psnr(guess[:, 1:], scenes.truth[:, 1:]).mean().item()
    scenes = told["text"]
    texts = {"right": scenes.prompts, "no": ("",) * len(chosen), "wrong": scenes.prompts[-7:] + scenes.prompts[:-7]}
    for level in (900, 500, 200, 50):
        for name, prompts in texts.items():
            guess = sampler.denoise_once(prompts, scenes.views, scenes.truth, level)
            result[f"error at {level}, {name} text"] = (guess - scenes.truth).square().mean().item()
            if name == "right":
                result[f"fine detail at {level}"] = pictures.fine_detail(guess.flatten(0, 1), scenes.truth.flatten(0, 1))
    decoded = sampler.codec.decode_rgba(sampler.codec.encode(scenes.truth.flatten(0, 1)))
    result["codec, dB"] = pictures.psnr(decoded, scenes.truth.flatten(0, 1)).mean().item()
    result["codec, fine detail"] = pictures.fine_detail(decoded, scenes.truth.flatten(0, 1))
    return result


def sheet(found: dict[str, tuple[Scenes, torch.Tensor]]):
    """Per phenomenon: from text, from the first picture, real. Columns: images (second row: of new pairs), four views, a video."""
    rows, words = [], []
    for kind, name in enumerate(PHENOMENA):
        first = {role: kind * (len(scenes.prompts) // 2 // KINDS) for role, (scenes, _) in found.items()}
        new = len(found["image"][0].prompts) // 2 + first["image"]
        made = lambda role, first=first: found[role][1][first[role]]  # noqa: E731
        real = lambda role, first=first: found[role][0].truth[first[role]]  # noqa: E731
        images = lambda values, start: [*values[start : start + 3, 0], None]  # noqa: E731
        rows.append([*images(found["image"][1], first["image"]), *made("views"), None, *made("video")])
        rows.append([*images(found["image"][1], new), *made("image to views"), None, *made("image to video")])
        rows.append([*images(found["image"][0].truth, first["image"]), *real("image to views"), None, *real("image to video")])
        words += [f"{name}: text", "new pairs | from 1st", "real"]
    top = ["images", "", "", "", "views", "", "", "", "", *(f"video {number + 1}" for number in range(8))]
    return sheets.grid(rows, 96, words, top)


def together(first: PriorDataset, second: PriorDataset) -> PriorDataset:
    """Two data sets in a row."""
    joined = {name: torch.cat([getattr(first, name), getattr(second, name)]) for name in ("pictures", "azimuth", "elevation", "times")}
    return PriorDataset(**joined, styles=first.styles + second.styles, config=first.config)


def judge(sampler, data: PriorDataset, recogniser, scale: int = 1, steps: int = 16) -> tuple[dict, dict]:
    """(scores by role, scenes and samples by role)."""
    found, result = {}, {}
    for scenes in roles(data, scale):
        sampled = sampler.sample(scenes.prompts, scenes.views, scenes.guidance, steps)
        found[scenes.role] = (scenes, sampled)
        result[scenes.role] = scores(scenes, sampled, recogniser)
    return result, found


def passed(result: dict) -> dict[str, bool]:
    return {f"{role}: {name}": low <= result[role][name] <= high for (role, name), (low, high) in TARGETS.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=WEIGHTS)
    parser.add_argument("--out", type=Path, default=judging.pack.ROOT / ".train" / "judged")
    parser.add_argument("--scale", type=int, default=1, help="multiplies the number of scenes, up to 2")
    parser.add_argument("--name", help="name of the files (default: the weight file's and its step)")
    parser.add_argument("--recogniser", type=Path, default=judging.RECOGNISER)
    parser.add_argument("--host", type=Path, default=Path(os.environ.get("COMFYUI_PATH", judging.pack.ROOT / ".host")))
    options = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    steps = judging.metadata(options.file).get("steps", "")  # read first: a training run may replace the file meanwhile
    denoiser, text, codec = load_prior(options.file)
    sampler = PriorSampler(denoiser, text, codec, Tokeniser(options.host), alpha_bar())
    quiet = lambda done, total: None  # noqa: E731
    data = together(*(build_dataset(config, options.out / "objects", quiet) for config in (UNSEEN, NEW_PAIRS)))
    result, found = judge(sampler, data, judging.recogniser(options.recogniser), options.scale)
    result["one step"] = probes(sampler, data)
    verdict = passed(result)
    name = options.name or f"{options.file.stem}_{steps}"
    judging.write_json(options.out / f"{name}.json", {"file": options.file.name, "steps": steps, "passed": verdict, "scores": result})
    sheets.write(sheet(found), options.out / f"{name}.png")
    for role, values in result.items():
        print(f"{role}: " + "  ".join(f"{key} {value:.3f}" for key, value in values.items()))
    print("missed: " + (", ".join(key for key, good in verdict.items() if not good) or "nothing"))
    print(f"{options.out / name}.json and .png after {time.process_time() - began:.0f} s of processor time")
    return 0


if __name__ == "__main__":
    sys.exit(main())
