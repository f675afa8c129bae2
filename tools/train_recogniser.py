"""`launch.py train recogniser`: train the small network that judges samples and distilled objects, on objects of its own."""

import argparse
import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import pack  # noqa: E402
import torch  # noqa: E402

pack.load_pack()
from bloom4d.models.data.prior_dataset import COLOUR_NAMES, SPECIES_NAMES, PriorDatasetConfig, build_dataset  # noqa: E402
from bloom4d.models.data.styles import PHENOMENA  # noqa: E402
from bloom4d.models.metrics.recogniser import Recogniser, RecogniserConfig, save_recogniser  # noqa: E402
from bloom4d.models.optimize.train_recogniser import RecogniserTrainingConfig, blur, train_recogniser  # noqa: E402

WEIGHTS = pack.ROOT / "models" / "weights" / "recogniser.safetensors"


def measure(network: Recogniser, data, softness: float = 0.0, count: int = 2000) -> dict[str, float]:
    """Accuracy of the three names and the mean time error on pictures of `data`, blurred by `softness` pixels."""
    batch = data.labelled(torch.Generator().manual_seed(99), count)
    said = network.recognise(blur(batch.pictures, softness))
    right = lambda probability, label: (probability.argmax(1) == label).float().mean().item()  # noqa: E731
    return {
        "phenomenon": right(said.phenomenon, batch.phenomenon),
        "species": right(said.species, batch.species),
        "colour": right(said.colour, batch.colour),
        "time error": (said.time - batch.times).abs().mean().item(),
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="launch.py train recogniser", description=__doc__)
    parser.add_argument("--steps", type=int, default=RecogniserTrainingConfig.steps)
    parser.add_argument("--objects", type=int, default=1400, help="objects to train on")
    parser.add_argument("--folder", type=Path, default=pack.ROOT / ".train" / "recogniser", help="data")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(7)
    config = PriorDatasetConfig(objects=options.objects, times=6, views=3, split="all", seed=2027)
    say = lambda done, total: print(f"pictures of {done} of {total} objects", flush=True)  # noqa: E731
    data = build_dataset(config, options.folder, say)
    unseen = build_dataset(replace(config, objects=210, seed=4049), options.folder / "unseen", say)
    network = Recogniser(RecogniserConfig(PHENOMENA, SPECIES_NAMES, COLOUR_NAMES))
    training = replace(RecogniserTrainingConfig(), steps=options.steps)
    report = lambda step, loss: step % 100 == 0 and print(f"step {step} of {training.steps}  loss {loss:.3f}", flush=True)  # noqa: E731
    train_recogniser(network, data.labelled, training, report)
    scores = {name: measure(network.eval(), unseen, softness) for name, softness in (("sharp", 0.0), ("blurred by 1 pixel", 1.0), ("by 1.5", 1.5))}
    card = {"license": "Apache-2.0", "training": json.dumps(asdict(training)), "data": json.dumps(asdict(config)), "unseen": json.dumps(scores)}
    save_recogniser(options.out, network, card)
    print(f"written: {options.out}\non unseen objects: {scores}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
