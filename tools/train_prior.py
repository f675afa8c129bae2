"""`launch.py train prior`: draw the procedural pictures, fit the patch codec, train the joint prior, write the weight file.

One process uses one thread, and a GPU where there is one. Several GPUs or machines: `accelerate launch tools/train_prior.py`.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import pack  # noqa: E402
import torch  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

pack.load_pack()
from bloom4d.models.data.prior_dataset import PriorDatasetConfig, build_dataset  # noqa: E402
from bloom4d.models.data.prompt_dataset import LABEL_SIZES, sample_prompts  # noqa: E402
from bloom4d.models.networks.joint_prior import JointPrior, JointPriorConfig  # noqa: E402
from bloom4d.models.networks.patch_codec import PatchCodec  # noqa: E402
from bloom4d.models.networks.prior_conditioning import condition_size  # noqa: E402
from bloom4d.models.networks.prior_file import load_prior, save_prior  # noqa: E402
from bloom4d.models.networks.text_encoder import END_TOKEN, TextEncoder, TextEncoderConfig  # noqa: E402
from bloom4d.models.optimize.distributed import accelerator  # noqa: E402
from bloom4d.models.optimize.prior_batches import PriorTrainingConfig  # noqa: E402
from bloom4d.models.optimize.train_prior import PriorNetworks, new_state, train_prior  # noqa: E402
from bloom4d.models.optimize.train_text import TextTrainingConfig, train_text  # noqa: E402
from bloom4d.models.optimize.training_files import load_training, save_training  # noqa: E402

WEIGHTS = pack.ROOT / "models" / "weights" / "embedded_prior.safetensors"
START_TOKEN, LENGTH = 49406, 77


class Tokeniser:
    """Prompts to the host's CLIP token ids (S, 77), with the tokenizer files of the host's own tree."""

    def __init__(self, host: Path):
        from transformers import CLIPTokenizer

        folder = host / "comfy" / "sd1_tokenizer"
        self._tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
        self._known = {}

    def __call__(self, prompts) -> torch.Tensor:
        return torch.stack([self._known.get(text) if text in self._known else self._encode(text) for text in prompts])

    def _encode(self, text: str) -> torch.Tensor:
        ids = self._tokenizer(text)["input_ids"][1:-1][: LENGTH - 2]
        row = torch.full((LENGTH,), END_TOKEN)
        row[: len(ids) + 1] = torch.tensor([START_TOKEN, *ids])
        self._known[text] = row
        return row


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="launch.py train prior", description=__doc__)
    parser.add_argument("--steps", type=int, default=PriorTrainingConfig.steps, help="optimiser steps in all")
    parser.add_argument("--objects", type=int, default=PriorDatasetConfig.objects, help="procedural objects to draw")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another value of a training setting, or of the network as denoiser.NAME (repeatable)")
    parser.add_argument("--processes", type=int, default=1, help="processes that draw pictures, then prepare batches beside the training (1: none beside it)")
    parser.add_argument("--start", type=Path, help="a prior file whose weights, codec and shape to start from (a checkpoint in --folder goes first)")
    parser.add_argument("--compile", action="store_true", help="compile the networks first: takes minutes, pays on a GPU")
    parser.add_argument("--minutes", type=float, default=None, help="stop after so many minutes; the next call goes on")
    parser.add_argument("--anneal", action="store_true", help="bring the learning rate down within --minutes and write the weight file then")
    parser.add_argument("--folder", type=Path, default=pack.ROOT / ".train" / "prior", help="data and checkpoints")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="weight file to write when all steps are done")
    parser.add_argument("--host", type=Path, default=Path(os.environ.get("COMFYUI_PATH", pack.ROOT / ".host")), help="the ComfyUI tree (for its tokenizer)")
    options = parser.parse_args(arguments)
    if options.anneal and options.minutes is None:
        parser.error("--anneal brings the learning rate down within --minutes: say how many.")
    if options.processes > 1 and "fork" not in multiprocessing.get_all_start_methods():
        parser.error("--processes above 1 needs Linux or macOS: leave it out here.")
    known = [*vars(PriorTrainingConfig()), *(f"denoiser.{name}" for name in vars(JointPriorConfig()))]
    for assignment in options.set:
        name, _, value = assignment.partition("=")
        if options.start and name.startswith("denoiser."):
            parser.error(f"--set {assignment}: with --start the network's shape is the file's. Leave one of the two out.")
        if name not in known:
            parser.error(f'--set {assignment}: there is no "{name}". There are: {", ".join(known)}.')
        try:
            json.loads(value)
        except json.JSONDecodeError:
            parser.error(f"--set {assignment}: NAME=VALUE is needed, with a number or a list such as [2,1] as the value.")
    return options


def settings(assignments: list[str], prefix: str = "") -> dict:
    """The values of `--set` whose name begins with `prefix`, without it."""
    pairs = (assignment.partition("=") for assignment in assignments)
    values = {name: json.loads(value) for name, _, value in pairs if name.startswith(prefix) and "." not in name[len(prefix) :]}
    return {name[len(prefix) :]: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def build_networks(codec: PatchCodec, changes: dict) -> PriorNetworks:
    text = TextEncoder(TextEncoderConfig())
    config = JointPriorConfig(latent_channels=codec.config.channels, condition_size=condition_size(text.config.width), **changes)
    return PriorNetworks(JointPrior(config, codec.variance), text)


def started(path: Path) -> tuple[PriorNetworks, PatchCodec]:
    """The networks of a prior file, to be trained further."""
    denoiser, text, codec = load_prior(path)
    return PriorNetworks(denoiser, text).requires_grad_(True).train(), codec


def origin(path: Path) -> dict[str, str]:
    """What a prior file says of its own training."""
    with safe_open(path, "pt") as file:
        return {name: value for name, value in file.metadata().items() if name in ("steps", "data", "training", "start")}


def teach_text(encoder: TextEncoder, tokenise: Tokeniser, path: Path) -> None:
    """The text encoder's first lessons, or what `path` keeps of them."""
    if path.is_file():
        encoder.load_state_dict(load_file(path))
        return
    config = TextTrainingConfig()
    report = lambda step, loss: step % 100 == 0 and print(f"text: step {step} of {config.steps}  loss {loss:.3f}", flush=True)  # noqa: E731
    right = train_text(encoder, LABEL_SIZES, sample_prompts, tokenise, config, report)
    print("text: right answers " + ", ".join(f"{name} {share:.3f}" for name, share in right.items()), flush=True)
    save_file(encoder.state_dict(), path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)


class Log:
    """Prints a line and saves a checkpoint now and then; appends the losses to a file."""

    def __init__(self, folder: Path, config: PriorTrainingConfig, codec: PatchCodec, interval: float = 120.0):
        self.folder, self.config, self.codec, self.interval = folder, config, codec, interval
        self.since, self.saved, self.losses = time.time(), time.time(), []

    def __call__(self, state, loss: torch.Tensor, rate: float) -> None:
        self.losses.append(loss)
        now = time.time()
        if now - self.since < 20 and state.step < self.config.steps:
            return
        mean = torch.stack(self.losses).mean().item()  # waits for the device, so only now
        seconds = (time.time() - self.since) / len(self.losses)
        line = {"step": state.step, "loss": round(mean, 4), "rate": round(rate, 6), "seconds_per_step": round(seconds, 3)}
        print(f"step {state.step} of {self.config.steps}  loss {mean:.4f}  rate {rate:.2e}  {seconds:.3f} s a step", flush=True)
        with open(self.folder / "log.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")
        self.since, self.losses = now, []
        if now - self.saved > self.interval:
            self.save(state)
            self.saved = now

    def save(self, state) -> None:
        if int(os.environ.get("RANK", "0")) == 0:
            save_training(self.folder / "state.safetensors", state.networks, state.average, state.optimizer, state.step)
            save_prior(self.folder / "latest.safetensors", state.average.denoiser, state.average.text, self.codec, {"steps": str(state.step)})


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    torch.set_num_threads(1)
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)  # the initial weights; every step draws from a generator of its own
    config = replace(PriorTrainingConfig(), steps=options.steps, **settings(options.set))
    say = lambda done, total: print(f"pictures of {done} of {total} objects", flush=True)  # noqa: E731
    data = build_dataset(PriorDatasetConfig(objects=options.objects), options.folder, say, processes=options.processes)
    checkpoint, tokenise = options.folder / "state.safetensors", Tokeniser(options.host)
    if options.start:
        (networks, codec), (average, _) = (started(options.start) for _ in range(2))
    else:
        stride = max(len(data.styles) // 400, 1)
        codec = PatchCodec.fit(data.pictures[::stride, ::3, 0].flatten(0, 1).float() / 255)
        networks, average = (build_networks(codec, settings(options.set, "denoiser.")) for _ in range(2))
        if not checkpoint.is_file():
            teach_text(networks.text, tokenise, options.folder / "text_lessons.safetensors")
    device = accelerator().device
    layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format  # what its convolutions want
    state = new_state(networks.to(device, memory_format=layout), average.to(device, memory_format=layout), config)
    if checkpoint.is_file():
        state.step = load_training(checkpoint, networks, average, state.optimizer)
        print(f"going on after step {state.step}", flush=True)
    if options.compile:
        networks.denoiser.compile(dynamic=False)
        networks.text.compile(dynamic=False)
    log = Log(options.folder, config, codec)
    until = None if options.minutes is None else time.time() + 60 * options.minutes
    annealed = options.anneal and until is not None
    train_prior(state, codec, data.to(device), tokenise, config, log, until, options.processes - 1, annealed)
    log.save(state)
    if state.step >= config.steps or annealed:
        card = {"license": "Apache-2.0", "steps": str(state.step), "data": json.dumps(vars(data.config)), "training": json.dumps(config.as_dict())}
        if options.start:
            card["start"] = json.dumps(origin(options.start))
        save_prior(options.out, state.average.denoiser, state.average.text, codec, card)
        print(f"written: {options.out}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
